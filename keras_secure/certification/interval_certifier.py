"""The largest linf ball in which interval bounds prove a prediction."""

import math

import keras
import numpy as np
from keras import ops

from keras_secure import backend
from keras_secure.arguments import check_integer, check_number, is_number
from keras_secure.certification.certificate import Certificate
from keras_secure.certification.interval import Arithmetic
from keras_secure.certification.interval_margins import worst_margins
from keras_secure.errors import InputError
from keras_secure.logits import logits_of, outputs_are_logits

# Attacks are held to epsilon * (1 + 1e-6), so that much and more is proven.
_SLACK = 2e-6
# So much must be between two logits that a softmax in float32 does not answer both alike.
_SOFTMAX_MARGIN = 1e-5
# Halvings of the largest epsilon, if no tolerance is given.
_HALVINGS = 14


class IntervalCertifier:
    """Proves predictions by interval bound propagation.

    The proof holds for the model as it computes in float32, not only on paper: margins for its
    rounding, and for that of the bounds, are part of it (see `Arithmetic`), and each ball is taken
    (1 + 2e-6) times as large. An example without proof may be robust all the same: interval bounds
    are loose for models that were not trained for them
    (`keras_secure.objectives.IntervalBoundPropagation`).

    Args:
        model: A Sequential or functional classifier with one input and one output, of layers that
            are covered: Dense, convolutions (also depthwise and separable), BatchNormalization,
            monotone activations, pooling, padding, reshaping, Rescaling, merging layers, and what
            `register_interval_rule` adds. Others are refused by name.
        bounds: Smallest and largest value that an input may have; no ball reaches beyond.
        norm: `"linf"`, the norm that intervals speak of. An l2 or l1 ball lies within the linf ball
            of its radius, so the radii hold for these as well.

    Raises:
        InputError: If an argument cannot be used.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, use_bias=False)])
    >>> model.set_weights([np.array([[1.0, 0.0], [0.0, 1.0]])])
    >>> certificate = IntervalCertifier(model).certify(np.array([[0.8, 0.2]], "float32"))
    >>> certificate.prediction, certificate.radius.round(3)  # the classes meet at a half
    (array([0]), array([0.3]))

    Reference: Gowal et al. 2018 (arXiv 1810.12715), section 3.
    """

    def __init__(self, model, bounds=(0.0, 1.0), norm="linf"):
        if not isinstance(model, keras.Model):
            raise InputError(f"model is a {type(model).__name__}; give a keras.Model.")
        if norm != "linf":
            raise InputError(
                f"norm={norm!r} is not what interval bounds speak of: use 'linf'. The l2 and l1 "
                "balls of the same radius lie inside; for larger ones use RandomizedSmoothing."
            )
        if (
            not isinstance(bounds, (tuple, list))
            or len(bounds) != 2
            or not all(is_number(bound) and math.isfinite(bound) for bound in bounds)
            or bounds[0] >= bounds[1]
        ):
            raise InputError(
                f"bounds={bounds!r} cannot be used: give the smallest and the largest value of an "
                "input as two finite numbers, for example bounds=(0.0, 1.0)."
            )
        self.model, self.norm = model, norm
        self.bounds = (float(bounds[0]), float(bounds[1]))
        arithmetic = Arithmetic(reduced_products=backend.has_accelerator())

        def proven(x, labels, epsilon):
            centre = ops.cast(x, "float64")
            reach = ops.reshape(epsilon * (1.0 + _SLACK), (-1,) + (1,) * (len(x.shape) - 1))
            low, high = self.bounds
            ends = ops.maximum(centre - reach, low), ops.minimum(centre + reach, high)
            margins = worst_margins(model, *ends, labels, arithmetic)
            own = ops.one_hot(labels, margins.shape[1], dtype="bool")
            # Comparisons with NaN are false, so what overflowed is not proven.
            return ops.all(ops.logical_or(own, margins > _SOFTMAX_MARGIN), axis=1)

        def answered(x):
            outputs = model(x, training=False)
            if len(outputs.shape) == 2 and outputs.shape[1] == 1:
                if not hasattr(outputs, "_keras_logits") and not outputs_are_logits(model):
                    raise InputError(
                        "The model ends in one linear unit, but its loss takes that for a "
                        "probability. Give the last layer a sigmoid, or the loss from_logits=True."
                    )
                return logits_of(outputs, model)
            return outputs

        self._proven = backend.compiled(proven)
        self._answered = backend.compiled(answered)

    def certify(self, x, y=None, epsilon=None, tolerance=None, batch_size=128):
        """Finds, for each example, the largest epsilon at which its prediction is proven.

        Args:
            x: Floating point array of shape (num, ...), inside `bounds`.
            y: None, or class indices or one-hot rows: then no work is spent on examples that are
                answered wrongly, and their radius is 0.
            epsilon: The largest radius to look for, which is tried first; the range of inputs if
                None.
            tolerance: How far below the largest provable radius the one found may be;
                `epsilon / 2**14` if None. `epsilon` itself for a plain yes or no at `epsilon`.
            batch_size: Examples per step.

        Returns:
            A `Certificate`. Its radii were proven as they stand: closed balls, in which no input is
            answered otherwise. A prediction is -1 only where the model answers NaN.

        Raises:
            InputError: If an argument cannot be used, or a layer is not covered.
        """
        x = np.asarray(x)
        low, high = self.bounds
        if not np.issubdtype(x.dtype, np.floating) or not x.size:
            raise InputError(
                f"x has the dtype {x.dtype} and the shape {x.shape}. Give at least one example of "
                "floating point numbers; scale integer images first."
            )
        if not ((x >= low) & (x <= high)).all():
            raise InputError(
                f"x has values outside bounds=({low}, {high}), or NaN. Scale the inputs, or give "
                "the range they have."
            )
        epsilon = high - low if epsilon is None else epsilon
        check_number("epsilon", epsilon, "(0, inf)")
        tolerance = epsilon * 2.0**-_HALVINGS if tolerance is None else tolerance
        check_number("tolerance", tolerance, "(0, inf)")
        check_integer("batch_size", batch_size)
        prediction = np.concatenate(self._in_batches(self._predict, batch_size, x))
        radius = np.zeros(len(x))
        pending = prediction >= 0
        if y is not None:
            given = Certificate(prediction, radius, self.norm)
            pending &= given.correct(y)
        rows = np.flatnonzero(pending)

        def proven(rows, epsilons):
            parts = self._in_batches(self._prove, batch_size, x[rows], prediction[rows], epsilons)
            return np.concatenate(parts) if parts else np.zeros(0, bool)

        holds = proven(rows, np.full(len(rows), float(epsilon)))
        radius[rows[holds]] = epsilon
        rows = rows[~holds]
        lower, upper = np.zeros(len(rows)), np.full(len(rows), float(epsilon))
        for _ in range(max(0, math.ceil(math.log2(epsilon / tolerance)))):
            middle = (lower + upper) / 2
            holds = proven(rows, middle)
            lower, upper = np.where(holds, middle, lower), np.where(holds, upper, middle)
        radius[rows] = lower
        return Certificate(prediction, radius, self.norm, {"epsilon": float(epsilon)})

    def _predict(self, x):
        outputs = ops.convert_to_numpy(self._answered(x))
        return np.where(np.isnan(outputs).any(axis=1), -1, outputs.argmax(axis=1))

    def _prove(self, x, labels, epsilons):
        return ops.convert_to_numpy(self._proven(x, ops.cast(labels, "int32"), epsilons))

    def _in_batches(self, function, batch_size, *arrays):
        """Calls a function on batches of one size, so that it is traced once."""
        found = []
        for start in range(0, len(arrays[0]), batch_size):
            parts = [array[start : start + batch_size] for array in arrays]
            count = len(parts[0])
            filling = [np.repeat(part[:1], batch_size - count, axis=0) for part in parts]
            padded = [np.concatenate(pair) for pair in zip(parts, filling, strict=True)]
            found.append(function(*map(ops.convert_to_tensor, padded))[:count])
        return found
