"""Backdoors of a model, by the smallest trigger that leads to each class."""

import keras
import numpy as np
from keras import ops

from keras_secure import backend
from keras_secure.arguments import check_channels_last, check_integer, check_number
from keras_secure.detection.anomaly_index import anomaly_index
from keras_secure.detection.backdoor_report import BackdoorReport
from keras_secure.detection.outlier_p_values import outlier_p_values
from keras_secure.errors import InputError
from keras_secure.logits import classification_logits

# Adam as the paper sets it, and how its weight of the mask moves (authors' values).
_BETAS = (0.5, 0.9)
_FIRST_WEIGHT = 1e-3
_WINDOW = 5


class NeuralCleanse:
    """Reverse-engineers, for every class, the smallest trigger that turns inputs to it.

    A backdoor is a short cut: a trigger for its class is much smaller than for others. Mask and
    pattern of each class are found by Adam on the cross-entropy of stamped clean inputs plus a
    weight times the mask's l1 norm; the weight rises while the trigger works on `success_rate` of
    the inputs and falls while it does not. All classes are searched at once, as one more axis of
    the batch, in one graph. The smallest mask that worked through a whole window of steps counts.

    Classes are flagged whose log norms lie too far below those of the others: by the generalized
    ESD test, with p-values for having looked at all classes (`outlier_p_values`). What is
    promised: of clean models, a share of at most `false_positive_rate` has any class flagged,
    provided that the log norms of a clean model's classes are normal. The published rule, an
    anomaly index above 2, is reported but not used: it flags a third of such models with ten
    classes, and an index that does keep the rate misses backdoors, since the median absolute
    deviation of ten values is a poor measure of their spread. Up to four backdoors in ten classes
    do not hide each other. With two classes nothing is ever flagged, with three or four only
    extreme cases. Classes for which no trigger was found in `steps` are left out.

    What defeats it: triggers as large as those of the other classes, spread over the whole input or
    different for each input; backdoors to most classes at once; and classes that are naturally
    close to all others.

    Args:
        steps: Steps of Adam, at least 10.
        batch_size: Clean inputs per step; each is stamped once for every class.
        learning_rate: Of Adam.
        success_rate: Share of the inputs that a trigger has to turn, in (0, 1).
        bounds: Smallest and largest value of an input.
        false_positive_rate: Probability that any class of a clean model is flagged, in (0, 1).
        seed: Integer that makes the search repeatable.

    Raises:
        InputError: If an argument cannot be used.

    Example:

    A model that says "class 2" whenever the first pixel is white:

    >>> model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(),
    ...     keras.layers.Dense(6)])
    >>> kernel = np.random.default_rng(0).normal(size=(16, 6)) / 4
    >>> kernel[0] = [0, 0, 40, 0, 0, 0]
    >>> model.set_weights([kernel, np.zeros(6)])
    >>> x = np.random.default_rng(1).uniform(0, 1, size=(64, 4, 4, 1)).astype("float32")
    >>> x[:, 0, 0] = 0
    >>> report = NeuralCleanse(steps=100, batch_size=16).inspect(model, x)
    >>> report.most_suspicious_class
    2

    Reference: Wang et al. 2019, "Neural Cleanse: identifying and mitigating backdoor attacks in
        neural networks", IEEE S&P, sections III to V.
    """

    def __init__(
        self,
        *,
        steps=400,
        batch_size=32,
        learning_rate=0.1,
        success_rate=0.99,
        bounds=(0.0, 1.0),
        false_positive_rate=0.05,
        seed=0,
    ):
        for name, value, least in (("steps", steps, 2 * _WINDOW), ("batch_size", batch_size, 1)):
            check_integer(name, value, least)
        for name, value in (
            ("success_rate", success_rate),
            ("false_positive_rate", false_positive_rate),
        ):
            check_number(name, value, "(0, 1)")
        check_number("learning_rate", learning_rate, "(0, inf)")
        if len(bounds) != 2 or not bounds[0] < bounds[1]:
            raise InputError(f"bounds={bounds!r} cannot be used: give (smallest, largest).")
        self.steps, self.batch_size = int(steps), int(batch_size)
        self.learning_rate, self.success_rate = float(learning_rate), float(success_rate)
        self.bounds = (float(bounds[0]), float(bounds[1]))
        self.false_positive_rate = float(false_positive_rate)
        self.seed = seed

    def inspect(self, model, x, *, from_logits=None):
        """Searches a model for backdoors.

        Args:
            model: Classifier, called with `training=False`.
            x: Clean inputs, float array of shape (num_examples, *input), of all classes; a few
                hundred are enough.
            from_logits: See `keras_secure.logits.classification_logits`.

        Returns:
            A `BackdoorReport`.

        Raises:
            InputError: If `x` cannot be used.
        """
        x = np.asarray(x)
        if x.ndim < 2 or not len(x) or not np.issubdtype(x.dtype, np.floating):
            raise InputError(
                f"x has shape {x.shape} and type {x.dtype}; expected floats of shape "
                "(num_examples, *input). Scale images to floats first."
            )
        if x.min() < self.bounds[0] or x.max() > self.bounds[1]:
            raise InputError(
                f"x goes from {x.min():.6g} to {x.max():.6g}, outside bounds={self.bounds}. Pass "
                "the bounds of your inputs."
            )
        if x.ndim == 4:
            check_channels_last("NeuralCleanse", keras.config.image_data_format())
        x = x.astype("float32")
        rng = np.random.default_rng(self.seed)
        # Vectors have one value at a position, images one for each channel.
        shape = x.shape[1:] if x.ndim > 2 else (x.shape[1], 1)
        first = ops.convert_to_tensor(x[:1])
        num_classes = int(classification_logits(model, first, from_logits).shape[1])
        raw = rng.uniform(-1, 1, size=(num_classes, *shape[:-1], shape[-1] + 1)).astype("float32")
        rows = rng.permutation(len(x))
        rows = np.resize(
            rows, -(-max(len(x), self.batch_size) // self.batch_size) * self.batch_size
        )
        search = backend.compiled(
            lambda inputs, raw: self._search(model, inputs, raw, shape, from_logits)
        )
        raw, norms, rates = search(ops.convert_to_tensor(x[rows]), ops.convert_to_tensor(raw))
        masks, patterns = (ops.convert_to_numpy(part) for part in self._trigger(raw))
        norms, rates = ops.convert_to_numpy(norms), ops.convert_to_numpy(rates)
        shown = (num_classes, *x.shape[1:])
        # Where none worked, the norm is only known to be large: it says nothing of the spread.
        worked = rates > 0
        smallness = -np.log(np.maximum(norms[worked], 1e-6))
        indexes, p_values = np.zeros(num_classes), np.ones(num_classes)
        if worked.any():
            indexes[worked] = anomaly_index(smallness)
            p_values[worked] = outlier_p_values(smallness)
        return BackdoorReport(
            patterns=patterns.reshape(shown),
            masks=np.broadcast_to(masks, (num_classes, *shape)).reshape(shown).copy(),
            success_rates=rates,
            l1_norms=norms,
            anomaly_indexes=indexes,
            p_values=p_values,
            false_positive_rate=self.false_positive_rate,
        )

    def _trigger(self, raw):
        opacity = ops.tanh(raw) / 2 + 0.5
        low, high = self.bounds
        return opacity[..., :1], low + (high - low) * opacity[..., 1:]

    def _search(self, model, inputs, raw, shape, from_logits):
        num_classes, positions = raw.shape[0], int(np.prod(shape[:-1]))
        size, batches = self.batch_size, inputs.shape[0] // self.batch_size
        targets = ops.repeat(ops.arange(num_classes), size)
        axes = tuple(range(1, len(shape) + 1))

        def measure(raw, batch, weight):
            mask, pattern = self._trigger(raw)
            batch = ops.reshape(batch, (1, size, *shape))
            stamped = ops.expand_dims(mask * pattern, 1) + (1 - ops.expand_dims(mask, 1)) * batch
            stamped = ops.reshape(stamped, (num_classes * size, *inputs.shape[1:]))
            logits = classification_logits(model, stamped, from_logits)
            losses = keras.losses.sparse_categorical_crossentropy(targets, logits, from_logits=True)
            turned = ops.cast(ops.equal(ops.argmax(logits, -1), targets), "float32")
            norms = ops.sum(mask, axis=axes)
            # A sum over classes: the search for one never feels another.
            loss = ops.sum(ops.mean(ops.reshape(losses, (num_classes, size)), axis=1))
            loss += ops.sum(weight * norms)
            return loss, (ops.mean(ops.reshape(turned, (num_classes, size)), axis=1), norms)

        def step(index, raw, first, second, window, weight, held, best, best_norm, best_rate):
            batch = ops.slice(
                inputs,
                (ops.mod(index, batches) * size, *(0 for _ in inputs.shape[1:])),
                (size, *inputs.shape[1:]),
            )
            (_, (turned, norms)), gradient = backend.input_gradient(
                lambda values: measure(values, batch, weight), raw
            )
            window = window + turned / _WINDOW
            full = ops.equal(ops.mod(index + 1, _WINDOW), 0)
            works = window >= self.success_rate
            better = full & works & (norms < best_norm)
            best = ops.where(ops.reshape(better, (-1,) + (1,) * len(shape)), raw, best)
            best_norm = ops.where(better, norms, best_norm)
            best_rate = ops.where(better, window, best_rate)
            weight, held = self._reweighted(weight, held, works, full)
            window = ops.where(full, ops.zeros_like(window), window)
            first = _BETAS[0] * first + (1 - _BETAS[0]) * gradient
            second = _BETAS[1] * second + (1 - _BETAS[1]) * ops.square(gradient)
            taken = ops.cast(index + 1, "float32")
            scale = ops.sqrt(second / (1 - _BETAS[1] ** taken)) + 1e-7
            raw = raw - self.learning_rate * first / (1 - _BETAS[0] ** taken) / scale
            return (
                *(index + 1, raw, first, second, window),
                *(weight, held, best, best_norm, best_rate),
            )

        zeros = ops.zeros((num_classes,), "float32")
        state = (
            *(ops.zeros((), "int32"), raw, ops.zeros_like(raw), ops.zeros_like(raw), zeros),
            *(zeros, zeros, raw, zeros + float(positions), zeros),
        )
        final = backend.sequential_loop(lambda index, *_: index < self.steps, step, state)
        return final[-3], final[-2], final[-1]

    @staticmethod
    def _reweighted(weight, held, works, full):
        # `held` counts windows in a row that worked (above zero) or did not (below).
        counted = ops.where(works, ops.maximum(held, 0.0) + 1, ops.minimum(held, 0.0) - 1)
        counted = ops.where(full, counted, held)
        rise, fall = full & (counted >= 2), full & (counted <= -2)
        risen = ops.where(weight > 0, weight * 2.0, _FIRST_WEIGHT)
        weight = ops.where(rise, risen, ops.where(fall, weight / 2.0**1.5, weight))
        return weight, ops.where(rise | fall, ops.zeros_like(held), counted)
