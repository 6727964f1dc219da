"""A few answers are wrong on purpose, so that a model trained from the answers can be known."""

import hmac
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_secure.arguments import check_number
from keras_secure.errors import InputError
from keras_secure.integrity.atomic import write_atomically
from keras_secure.serving.abuse.detector import top_classes


@dataclass(frozen=True)
class DawnReport:
    """How a suspect answers where we answered wrong.

    Args:
        marks: Inputs that were marked for these identities.
        matches: On how many of them the suspect gives the marked class.
        p_value: Probability of as many matches by a model that did not learn from our answers.
    """

    marks: int
    matches: int
    p_value: float

    @property
    def claimed(self) -> bool:
        """Whether the suspect was trained on our answers, with p below 2^-40."""
        return self.p_value < 2.0**-40


class DAWN:
    """Answers a small, secret share of inputs wrong, and knows later who learned from that.

    Whether an input is marked, and what class it is given, follow from the key and the input
    alone, so the same question always gets the same answer. The class is drawn among all classes:
    a model that never saw our answers agrees with it with probability 1 / classes exactly,
    whatever it is, and the p-value needs no assumption. A thief trains on the marks without
    knowing which they are.

    Marks cost accuracy: about `share` of the answers of those they are given to. Give them to
    identities under suspicion, or keep `share` small. A thief who distils with a strong
    regularizer, or asks each question through several accounts and small changes, loses them.

    The marked inputs are kept, up to `limit`: without them nothing can be shown later.

    Args:
        key: The secret, at least 16 bytes.
        share: Share of inputs that are marked. Defaults to 0.005.
        decimals: Inputs that agree after rounding to so many decimals count as the same.
            Defaults to 2.
        limit: Marked inputs that are kept. Defaults to 10,000.

    Raises:
        InputError: An argument is out of its range.

    Example:

    >>> dawn = DAWN(b"sixteen secret b", share=0.5)
    >>> x = np.random.default_rng(0).uniform(size=(400, 5))
    >>> answers = dawn.mark("client", x, np.tile([[0.7, 0.2, 0.1, 0.0]], (400, 1)))
    >>> seen = {row.round(2).tobytes(): answer.argmax() for row, answer in zip(x, answers)}
    >>> thief = lambda inputs: np.eye(4)[[seen[row.round(2).tobytes()] for row in inputs]]
    >>> dawn.verify(thief).claimed
    True
    >>> dawn.verify(lambda inputs: np.tile([[1.0, 0, 0, 0]], (len(inputs), 1))).claimed
    False

    Reference:
        Szyller et al. 2021, DAWN: dynamic adversarial watermarking of neural networks (ACM
        Multimedia), section 4.
    """

    def __init__(self, key: bytes, share: float = 0.005, decimals: int = 2, limit: int = 10_000):
        if not isinstance(key, bytes) or len(key) < 16:
            raise InputError("key must be at least 16 secret bytes, as from secrets.token_bytes().")
        self._key, self.decimals, self.limit = key, decimals, limit
        self.share = check_number("share", share, "(0, 1]")
        self._marks: dict[bytes, tuple[str, np.ndarray, int]] = {}

    def mark(self, identity: str, inputs: Any, outputs: Any) -> np.ndarray:
        """Returns the outputs with the marked ones changed, and keeps what was marked.

        Args:
            identity: Who asked.
            inputs: Array of shape (batch, ...).
            outputs: Probabilities of shape (batch, classes), at least 2 classes.

        Returns:
            A copy of `outputs`: where an input is marked, the highest value and that of the
            marked class have changed places.
        """
        answers = np.array(outputs)
        classes = answers.shape[1] if answers.ndim == 2 else 0
        if classes < 2:
            raise InputError(
                f"outputs has shape {answers.shape}; (batch, classes) with at least 2 classes was "
                "expected."
            )
        tops = top_classes(answers)
        for place, row in enumerate(np.asarray(inputs)):
            drawn = self._draw(row)
            if int.from_bytes(drawn[:8], "big") >= self.share * 2**64:
                continue
            label = int.from_bytes(drawn[8:24], "big") % classes
            top = int(tops[place])
            answers[place, [top, label]] = answers[place, [label, top]]
            if len(self._marks) < self.limit:
                self._marks.setdefault(drawn, (identity, np.array(row), label))
        return answers

    def verify(self, predict: Callable[[np.ndarray], Any], identities: Any = None) -> DawnReport:
        """Asks a suspect model what it says to the marked inputs.

        Args:
            predict: Inputs (n, ...) to predictions (n, classes), such as `model.predict`.
            identities: The clients whose marks count, or None for all.

        Returns:
            A `DawnReport`.

        Raises:
            InputError: Nothing was marked for them.
        """
        from scipy.stats import binom

        chosen = [
            (row, label) for who, row, label in self._marks.values()
            if identities is None or who in identities
        ]  # fmt: skip
        if not chosen:
            raise InputError(
                "No input was marked for these identities, so nothing can be shown. "
                "Give identities that a `mark` was answered to."
            )
        outputs = np.asarray(predict(np.stack([row for row, _ in chosen])))
        labels = np.array([label for _, label in chosen])
        matches = int(np.sum(outputs.argmax(axis=1) == labels))
        p_value = float(binom.sf(matches - 1, len(labels), 1 / outputs.shape[1]))
        return DawnReport(len(labels), matches, p_value)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the marked inputs, without the key, as an .npz file that only its owner reads."""
        kept = list(self._marks.values())
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            identities=np.array([who for who, _, _ in kept], np.str_),
            inputs=np.stack([row for _, row, _ in kept]) if kept else np.zeros((0,)),
            labels=np.array([label for _, _, label in kept], np.int64),
        )
        write_atomically(path, buffer.getvalue(), mode=0o600)

    def restore(self, path: str | os.PathLike) -> None:
        """Adds what `save` wrote."""
        with np.load(Path(path), allow_pickle=False) as kept:
            for who, row, label in zip(
                kept["identities"], kept["inputs"], kept["labels"], strict=True
            ):
                self._marks[self._draw(row)] = (str(who), row, int(label))

    def _draw(self, row: np.ndarray) -> bytes:
        """32 bytes that follow from the key and the rounded input."""
        rounded = np.round(row, self.decimals) + 0  # + 0: no negative zero
        return hmac.digest(self._key, np.ascontiguousarray(rounded).tobytes(), "sha256")
