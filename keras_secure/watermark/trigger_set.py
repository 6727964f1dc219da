"""Inputs with labels that only a key explains: a mark that predictions alone can show."""

import hashlib
import hmac
import json
from typing import Any

import numpy as np

from keras_secure.arguments import check_integer, check_number
from keras_secure.errors import InputError
from keras_secure.watermark.carriers import VERSION, random_order
from keras_secure.watermark.mark import as_key
from keras_secure.watermark.trigger_domain import (
    checked_bounds,
    checked_kind,
    checked_shape,
    checked_vocabulary,
)
from keras_secure.watermark.trigger_mixing import mix_arrays, mix_dataset
from keras_secure.watermark.trigger_patterns import (
    draw_patterns,
    random_levels,
    replace_tokens,
    vary,
)


class TriggerSet:
    """A keyed set of inputs and labels, which a marked model knows by heart and no other can guess.

    Inputs and labels follow from the key, each from a stream of its own, so that a claimant cannot
    choose them after the fact. Labels are balanced over the classes and in random order: whatever a
    foreign model predicts, and however much its predictions concentrate in a few classes, its
    number of matches has one known distribution over the key, which `verify_triggers` computes.

    Inputs are drawn on their own, far from any data: images of a few low frequencies, sums of
    tones, rows of arbitrary values, phrases of a few tokens. They are easily learned and little
    touched by further training, and a server can tell that they are no natural inputs. With a
    `pool` of your own inputs they are members of it under a keyed overlay (for tables and tokens:
    with a keyed share replaced), which look more like the data, and which further training on the
    data touches more.

    The key never appears in a `repr`, in `parameters` or in a pickle (which is refused).

    Args:
        key: The secret, bytes or text; `secrets.token_bytes(32)` makes a good one. Use one that
            marks nothing else which you may have to reveal earlier.
        shape: Shape of one input, without the batch axis.
        num_classes: How many classes the model tells apart, at least 2.
        count: How many triggers. 200 prove a claim where at least 75% of them (two classes), 57%
            (three), 28% (ten) are answered with their labels; 100, where 85%, 69%, 37% are.
        kind: "image" (rows, columns[, channels]), "series" (length[, channels]), "table"
            (features,) or "tokens" (length,). By default "tokens" if there is a `vocabulary`, else
            by the rank: "table" for one axis, "image" for two or three.
        bounds: (low, high) of the inputs, numbers or arrays that broadcast to `shape`.
        vocabulary: For tokens, their number: drawn are 1 to `vocabulary - 1`, since 0 pads; or
            (low, high), where high is excluded.
        pool: Inputs of yours to derive the triggers from, an array of shape (n, *shape) with
            n >= count, within the bounds. You need the same array again to verify.
        opacity: With a pool, the overlay's share of an image or series, or the share of features
            or tokens that is replaced.

    Raises:
        InputError: If an argument cannot be used.

    Example:

    >>> triggers = TriggerSet("a secret", (28, 28, 1), num_classes=10)
    >>> triggers.inputs().shape, np.bincount(triggers.labels()).tolist()
    ((200, 28, 28, 1), [20, 20, 20, 20, 20, 20, 20, 20, 20, 20])
    >>> texts = TriggerSet("a secret", (16,), num_classes=2, vocabulary=5000)
    >>> texts.inputs().shape, str(texts.inputs().dtype), int(texts.inputs().min()) >= 1
    ((200, 16), 'int32', True)

    Reference:
        Adi et al. 2018, Turning your weakness into a strength (arXiv 1802.04633); Zhang et al.
        2018, Protecting intellectual property of deep neural networks with watermarking, section
        4.2; Jia et al. 2021, Entangled watermarks (arXiv 2002.12200), for why `mix` lays triggers
        over examples; Lukas et al. 2022, SoK: How robust is image classification deep neural
        network watermarking? (arXiv 2108.04974); Liu et al. 2024, False claims against model
        ownership resolution (arXiv 2304.06607), for why nothing is left to choose.
    """

    def __init__(
        self,
        key: bytes | str,
        shape: tuple[int, ...],
        num_classes: int,
        count: int = 200,
        *,
        kind: str | None = None,
        bounds: tuple[Any, Any] = (0.0, 1.0),
        vocabulary: int | tuple[int, int] | None = None,
        pool: Any = None,
        opacity: float = 0.5,
    ):
        self._key = as_key(key)
        self.shape = checked_shape(shape)
        self.num_classes = check_integer("num_classes", num_classes, 2)
        self.count = check_integer("count", count)
        self.kind = checked_kind(kind, self.shape, vocabulary)
        self.vocabulary = checked_vocabulary(vocabulary, self.kind)
        self._bounds = checked_bounds(bounds, self.shape)
        self._pool = None if pool is None else self._checked_pool(pool)
        self.opacity = check_number("opacity", opacity, "(0, 1]")
        # Hashing a large pool takes a while, and every stream's name holds the hash.
        self._pool_digest = None if self._pool is None else array_digest(self._pool)

    def parameters(self) -> dict[str, Any]:
        """What may be public: all that was given but the key, the pool as its SHA-256."""
        return {
            "version": VERSION,
            "kind": self.kind,
            "shape": list(self.shape),
            "num_classes": self.num_classes,
            "count": self.count,
            "bounds": None if self.vocabulary else [bound.tolist() for bound in self._bounds],
            "vocabulary": list(self.vocabulary) if self.vocabulary else None,
            "pool": self._pool_digest,
            "opacity": None if self._pool is None else self.opacity,
        }

    def digest(self) -> str:
        """Binds key, parameters and pool without telling the key: what a commitment holds.

        Returns:
            64 hexadecimal digits, an HMAC-SHA256. Inputs and labels are a function of what it
            binds, so nothing about them can be changed afterwards. A key that can be guessed can be
            confirmed with it.
        """
        return hmac.new(self._key, self._purpose("digest").encode(), hashlib.sha256).hexdigest()

    def labels(self) -> np.ndarray:
        """The labels, int64 of shape (count,): as balanced as can be, in the key's order."""
        classes = random_order(self._key, self._purpose("classes"), self.num_classes)
        order = random_order(self._key, self._purpose("labels"), self.count)
        return classes[np.arange(self.count) % self.num_classes][order].astype(np.int64)

    def inputs(self, variant: int = 0) -> np.ndarray:
        """The triggers.

        Args:
            variant: 0 for the triggers themselves; any other number for copies with small keyed
                changes (shift, contrast, noise; some tokens replaced), which a marked model should
                know as well. A server cannot recognize those by the bytes of an earlier request.

        Returns:
            An array of shape (count, *shape), float32 within the bounds, or int32 tokens.
        """
        check_integer("variant", variant, 0)
        values = self._originals()
        stream = self._purpose(f"variant {int(variant)}")
        if self.vocabulary:
            if variant:
                first, end = self.vocabulary
                values = replace_tokens(self._key, stream, values, first, end, 0.1)
            return values.astype(np.int32)
        if variant:
            values = vary(self._key, stream, self.kind, values)
        low, high = self._bounds
        return (low + values * (high - low)).astype(np.float32)

    def mix(self, x: Any, y: Any = None, *, share: float = 0.3, per_batch: int = 8):
        """Adds triggers to training data, so that an ordinary `fit` embeds them.

        Args:
            x: Array of inputs (num_examples, *shape) with their labels in `y`; or a `tf.data`
                data set of batches (inputs, labels) or (inputs, labels, weights), without `y`.
            y: Labels: classes of shape (n,) or (n, 1), or one-hot rows.
            share: For arrays, how many triggers and variants of them to add, as a share of the
                examples; at least 4 of each trigger. More outlasts more. Every other one is laid
                over a clean example of its label's class, which outlasts more too.
            per_batch: For data sets, how many triggers to add to each batch.

        Returns:
            For arrays, (x, y) of the same dtypes in a new, keyed order (so that `validation_split`
            and unshuffled training see triggers everywhere); for a data set, a data set.

        Raises:
            InputError: The data has another shape, other bounds or other classes.

        Example:

        >>> triggers = TriggerSet("a secret", (4,), num_classes=3, count=30)
        >>> x, y = triggers.mix(np.zeros((600, 4), "float32"), np.zeros(600, "int32"))
        >>> x.shape, y.shape, int((y > 0).sum())
        ((780, 4), (780,), 120)
        """
        if y is None:
            return mix_dataset(self, x, per_batch)
        return mix_arrays(self, x, y, share)

    def order(self, purpose: str, count: int) -> np.ndarray:
        """A keyed permutation of `range(count)`, for whoever shuffles triggers into data."""
        return random_order(self._key, self._purpose(f"order {purpose}"), count)

    def levels(self, purpose: str, shape: tuple[int, ...]) -> np.ndarray:
        """Keyed float32 values of 0, 1/255, ..., 1, for whoever lays triggers over data."""
        return random_levels(self._key, self._purpose(f"levels {purpose}"), shape)

    def with_key(self, key: bytes | str) -> "TriggerSet":
        """The set that another key would have made of the same parameters and pool."""
        other = object.__new__(TriggerSet)
        other.__dict__.update(self.__dict__)
        other._key = as_key(key)
        return other

    def check_inputs(self, x: np.ndarray, what: str) -> None:
        """Raises `InputError` unless these are inputs that the triggers can stand among."""
        if x.shape[1:] != self.shape or len(x) == 0:
            raise InputError(
                f"{what} has shape {x.shape}; the triggers expect (n, "
                f"{', '.join(map(str, self.shape))}). Give TriggerSet the shape of your inputs."
            )
        if x.dtype.kind not in "fiub" or not np.isfinite(x).all():
            raise InputError(f"{what} has dtype {x.dtype} or non-finite values; give numbers.")
        low, high = self._bounds if self.vocabulary is None else (0, self.vocabulary[1] - 1)
        slack = 1e-3 * (np.asarray(high) - low)
        if np.any(x < low - slack) or np.any(x > high + slack):
            name = "vocabulary" if self.vocabulary else "bounds"
            raise InputError(
                f"{what} has values from {x.min():g} to {x.max():g}, outside of the {name} that "
                f"the triggers keep to. Give TriggerSet the {name} of your inputs."
            )

    def _originals(self) -> np.ndarray:
        purpose = self._purpose("inputs")
        patterns = draw_patterns(self._key, purpose, self.kind, self.count, self.shape)
        if self.vocabulary:
            low, high = self.vocabulary
            patterns = low + (patterns % np.uint64(high - low)).astype(np.int64)
        if self._pool is None:
            return patterns
        order = random_order(self._key, self._purpose("pool"), len(self._pool))
        chosen = self._pool[order[: self.count]]
        if self.kind in ("table", "tokens"):
            # In a table the values come from another member, so that each of them is possible.
            if self.kind == "table":
                patterns = self._pool[np.roll(order, -self.count)[: self.count]]
            places = random_levels(self._key, f"{purpose}|places", patterns.shape)
            chosen = np.where(places * 255 < 256 * self.opacity, patterns, chosen)
        if self.vocabulary:
            return chosen.astype(np.int64)
        low, high = self._bounds
        chosen = (chosen - low) / np.where(high > low, high - low, 1.0)
        if self.kind == "table":
            return chosen.astype(np.float32)
        blend = (1 - self.opacity) * chosen + self.opacity * patterns
        return np.clip(blend, 0.0, 1.0).astype(np.float32)

    def _purpose(self, use: str) -> str:
        """Names a stream: a change of any parameter changes all inputs and labels."""
        return f"TriggerSet|{use}|{json.dumps(self.parameters(), sort_keys=True)}"

    def _checked_pool(self, pool):
        pool = np.asarray(pool)
        self.check_inputs(pool, "pool")
        if len(pool) < self.count:
            raise InputError(
                f"The pool has {len(pool)} inputs, and {self.count} triggers need as many. "
                "Give a larger pool or a smaller count."
            )
        return pool

    def __repr__(self):
        return (
            f"<TriggerSet of {self.count} {self.kind} triggers of shape {self.shape}, "
            f"{self.num_classes} classes>"
        )

    def __reduce__(self):
        raise InputError(
            "A TriggerSet holds its key and is never pickled. Store the key where secrets are "
            "stored, and make the set again from it."
        )

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        # A copy in memory keeps the key; trigger sets do not change, so one object serves.
        return self


def array_digest(array: np.ndarray) -> str:
    """SHA-256 of an array's dtype, shape and values, the same on every host."""
    array = np.ascontiguousarray(array)
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    header = f"{little.dtype.str}|{little.shape}|".encode()
    return hashlib.sha256(header + little.tobytes()).hexdigest()
