"""Predictions that say what a client needs and little more."""

import math

import keras

from keras_secure.errors import InputError
from keras_secure.registration import component


@component("layers")
class OutputGuard(keras.layers.Layer):
    """Coarsens class probabilities before they leave a served model.

    Exact confidences are what model extraction and membership inference feed on. The guard rounds
    them, keeps only the best classes, or gives the label alone. This raises the number of queries
    an attacker needs: a hurdle, not a guarantee. Attacks that use labels only remain
    (Choquette-Choo et al. 2021, arXiv 2007.14321); training with differential privacy is the
    defence that bounds what a prediction can reveal about one example.

    The predicted class never changes: the first of the most probable classes before the guard is
    the only most probable class after rounding. Where rounding would tie it with another class, it
    is placed one rounding unit above. With a single output (binary classification by a sigmoid)
    the decision `p > 0.5` is what never changes. A prediction with a NaN or an infinity becomes
    zeros, which no valid prediction is. Rounding has no gradient: put the guard on the model that
    is served, and measure robustness without it.

    Args:
        round_to: `None` (the default), or the number of decimal places to keep, an int from 0
            to 6.
        top_k: `None` (the default), or how many of the most probable classes keep their
            probability. The others become 0, and nothing is renormalized: what is kept stays true.
        labels_only: If True, the predicted class becomes 1 and all others 0. Defaults to False.
        from_logits: If True, inputs are logits and go through a softmax (a sigmoid for a single
            output) first. Defaults to False: inputs are probabilities, and are clipped to [0, 1].
        **kwargs: Keyword arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Floating point tensor of shape (batch, ..., classes).

    Returns:
        A finite tensor of the same shape, in float32 (float64 for float64 inputs): half precision
        could not hold the rounded values apart.

    Raises:
        InputError: If an argument is out of its range, if `labels_only` is combined with
            `round_to` or `top_k`, or if the number of classes is not known.

    Example:

    >>> guard = OutputGuard(round_to=2, top_k=2)
    >>> guarded = guard(keras.ops.array([[0.4612, 0.0776, 0.4612], [0.7216, 0.2, 0.0784]]))
    >>> [[f"{value:.3f}" for value in row] for row in guarded.numpy()]
    [['0.470', '0.000', '0.460'], ['0.720', '0.200', '0.000']]

    Reference:
        Shokri et al. 2017, Membership Inference Attacks against Machine Learning Models,
        arXiv 1610.05820, section VIII.A (top k, coarse prediction vectors).
    """

    def __init__(self, round_to=None, top_k=None, labels_only=False, from_logits=False, **kwargs):
        super().__init__(autocast=False, **kwargs)
        if round_to is not None and (isinstance(round_to, bool) or round_to not in range(7)):
            raise InputError(
                f"OutputGuard got round_to={round_to!r}; expected None or a number of decimal "
                "places from 0 to 6."
            )
        if top_k is not None and (
            isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1
        ):
            raise InputError(
                f"OutputGuard got top_k={top_k!r}; expected None or an int of at least 1."
            )
        if labels_only and not (round_to is None and top_k is None):
            raise InputError(
                f"OutputGuard got labels_only=True with round_to={round_to} and top_k={top_k}; a "
                "label leaves nothing to round or to select. Leave both out."
            )
        self.round_to = None if round_to is None else int(round_to)
        self.top_k = None if top_k is None else int(top_k)
        self.labels_only = bool(labels_only)
        self.from_logits = bool(from_logits)
        self.supports_masking = True

    def call(self, inputs):
        """Returns the coarsened probabilities; see the class."""
        ops = keras.ops
        classes = self._classes(inputs.shape)
        values = ops.cast(inputs, self._output_dtype(inputs.dtype))
        if self.from_logits:
            values = ops.sigmoid(values) if classes == 1 else ops.softmax(values, axis=-1)
        valid = ops.all(ops.isfinite(values), axis=-1, keepdims=True)
        # The sigmoid of an infinity is a number, so what came in is judged too; a softmax may be
        # given -inf for classes that are impossible.
        if classes == 1:
            valid = valid & ops.isfinite(inputs)
        values = ops.where(valid, values, 0.0)
        guarded = self._one(values) if classes == 1 else self._many(values, classes)
        return ops.where(valid, guarded, 0.0)

    def compute_output_shape(self, input_shape):
        """The shape of the inputs."""
        return input_shape

    def compute_output_spec(self, inputs):
        """The shape of the inputs, in the dtype of the outputs."""
        self._classes(inputs.shape)
        return keras.KerasTensor(inputs.shape, dtype=self._output_dtype(inputs.dtype))

    def get_config(self):
        """The arguments that rebuild this layer."""
        return {
            **super().get_config(),
            "round_to": self.round_to,
            "top_k": self.top_k,
            "labels_only": self.labels_only,
            "from_logits": self.from_logits,
        }

    def _many(self, values, classes):
        """Guards a distribution over two or more classes."""
        ops = keras.ops
        winner = self._winner(values, classes)
        if self.labels_only:
            return winner
        values = ops.clip(values, 0.0, 1.0)
        if self.top_k is not None and self.top_k < classes:
            _, kept = ops.top_k(values, self.top_k)
            values = values * ops.sum(ops.one_hot(kept, classes, dtype=values.dtype), axis=-2)
        if self.round_to is not None:
            # In whole units of the last decimal place, where adding one unit is exact.
            units = ops.round(values * 10.0**self.round_to)
            # `initial` lets a batch of no examples through.
            runner_up = ops.max(units * (1.0 - winner), axis=-1, keepdims=True, initial=0.0)
            units = ops.where(winner > 0, ops.maximum(units, runner_up + 1.0), units)
            values = units / 10.0**self.round_to
        return values

    def _winner(self, values, classes):
        """1 for the first of the most probable classes, 0 for the others."""
        ops = keras.ops
        # `argmax` looks at the sign of zeros through their bits, which other formats cannot hold.
        places = ops.arange(classes, dtype="int32")
        best = values == ops.max(values, axis=-1, keepdims=True, initial=-math.inf)
        first = ops.min(ops.where(best, places, classes), axis=-1, keepdims=True, initial=classes)
        return ops.cast(places == first, values.dtype)

    def _one(self, values):
        """Guards the probability of the positive class."""
        ops = keras.ops
        positive = values > 0.5
        if self.labels_only:
            return ops.cast(positive, values.dtype)
        values = ops.clip(values, 0.0, 1.0)
        if self.round_to is not None:
            units = ops.round(values * 10.0**self.round_to)
            half = 10.0**self.round_to // 2
            units = ops.where(positive, ops.maximum(units, half + 1.0), ops.minimum(units, half))
            values = units / 10.0**self.round_to
        return values

    def _classes(self, shape):
        """The number of classes, or a refusal where it is not known."""
        if len(shape) < 2 or shape[-1] is None:
            raise InputError(
                f"OutputGuard {self.name!r} got inputs of shape {tuple(shape)}; expected "
                "(batch, ..., classes) with a known number of classes. Put the guard behind the "
                "layer that gives one value for each class."
            )
        return shape[-1]

    def _output_dtype(self, dtype):
        return "float64" if keras.backend.standardize_dtype(dtype) == "float64" else "float32"
