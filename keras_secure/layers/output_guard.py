"""Predictions that say what a client needs and little more."""

import math

import keras

from keras_secure.arguments import is_number
from keras_secure.errors import InputError
from keras_secure.registration import component

_SMALLEST = 2.0**-126
# What is clearly smaller than a number, also in single precision.
_BELOW = 1.0 - 2.0**-22


@component("layers")
class OutputGuard(keras.layers.Layer):
    """Coarsens class probabilities before they leave a served model.

    Exact confidences are what model extraction and membership inference feed on. The guard rounds
    them, keeps only the best classes, or gives the label alone; it evens out confidences by a
    temperature, and abstains where the best is too small to say anything. This raises the number
    of queries an attacker needs: a hurdle, not a guarantee. Attacks that use labels only remain
    (Choquette-Choo et al. 2021, arXiv 2007.14321); training with differential privacy is the
    defence that bounds what a prediction can reveal about one example.

    The predicted class never changes: the first of the most probable classes before the guard is
    the only most probable class after rounding. Where rounding would tie it with another class, it
    is placed one rounding unit above. With a single output (binary classification by a sigmoid)
    the decision `p > 0.5` is what never changes. A prediction with a NaN or an infinity becomes
    zeros, which no valid prediction of several classes is, and so does an abstention; `release`
    tells them apart. Rounding has no gradient: put the guard on the model that
    is served, and measure robustness without it.

    Args:
        round_to: `None` (the default), or the number of decimal places to keep, an int from 0
            to 6.
        top_k: `None` (the default), or how many of the most probable classes keep their
            probability. The others become 0, and nothing is renormalized: what is kept stays true.
        labels_only: If True, the predicted class becomes 1 and all others 0. Defaults to False.
        temperature: Number above 0 that logits are divided by, also where only probabilities are
            known: above 1 confidences become more even, and calibrated where it was fitted for
            that. Defaults to 1.0.
        min_confidence: `None` (the default), or the probability in (0, 1] that the best class must
            have, after the temperature and before anything else; otherwise the guard abstains. With
            a single output, the probability of the decision.
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

    >>> OutputGuard(min_confidence=0.5)(keras.ops.array([[0.4, 0.3, 0.3]])).numpy().tolist()
    [[0.0, 0.0, 0.0]]

    Reference:
        Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv 1706.04599 (temperature).
        Shokri et al. 2017, Membership Inference Attacks against Machine Learning Models,
        arXiv 1610.05820, section VIII.A (top k, coarse prediction vectors).
    """

    def __init__(
        self,
        round_to=None,
        top_k=None,
        labels_only=False,
        from_logits=False,
        temperature=1.0,
        min_confidence=None,
        **kwargs,
    ):
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
        if not is_number(temperature) or not 0 < temperature < math.inf:
            raise InputError(
                f"OutputGuard got temperature={temperature!r}; expected a finite number above 0."
            )
        if min_confidence is not None and not (
            is_number(min_confidence) and 0 < min_confidence <= 1
        ):
            raise InputError(
                f"OutputGuard got min_confidence={min_confidence!r}; expected None or a "
                "probability, above 0 and at most 1."
            )
        self.round_to = None if round_to is None else int(round_to)
        self.top_k = None if top_k is None else int(top_k)
        self.labels_only = bool(labels_only)
        self.from_logits = bool(from_logits)
        self.temperature = float(temperature)
        self.min_confidence = None if min_confidence is None else float(min_confidence)
        self.supports_masking = True

    def call(self, inputs):
        """Returns the coarsened probabilities; see the class."""
        ops = keras.ops
        scores, _, valid = self._judged(inputs)
        # Replaced before all else: a NaN would spoil the gradient.
        guarded, _, confident = self.release(ops.where(valid, scores, 0.0))
        told = valid if confident is None else valid & confident
        return ops.where(told, guarded, 0.0)

    def release(self, inputs):
        """Does all that the guard does, for a graph that is served.

        Args:
            inputs: Tensor of shape (batch, ..., classes).

        Returns:
            The coarsened probabilities; a boolean tensor of shape (batch, ..., 1), True where the
            inputs held neither NaN nor, in probabilities, an infinity; and one that is True where
            the guard does not abstain, or None without `min_confidence`. Where either is False, the
            probabilities mean nothing.
        """
        ops = keras.ops
        classes = self._classes(inputs.shape)
        scores, values, valid = self._judged(inputs)
        if classes == 1:
            positive = scores > (0.0 if self.from_logits else 0.5)
            guarded, best = self._one(values, positive), ops.maximum(values, 1.0 - values)
        else:
            # What a temperature evens out is told apart before.
            winner = self._winner(values if self.temperature == 1 else scores, classes)
            guarded = self._many(values, winner, classes)
            best = values
        confident = None
        if self.min_confidence is not None:
            best = ops.max(best, axis=-1, keepdims=True, initial=0.0)
            confident = best >= self.min_confidence
        return guarded, valid, confident

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
            "temperature": self.temperature,
            "min_confidence": self.min_confidence,
        }

    def _judged(self, inputs):
        """Inputs and probabilities in the dtype of the outputs, and where they are numbers."""
        ops = keras.ops
        classes = self._classes(inputs.shape)
        scores = ops.cast(inputs, self._output_dtype(inputs.dtype))
        values = self._probabilities(scores, classes)
        # The sigmoid of an infinity is a number, so there what came in is judged; a softmax may be
        # given -inf for classes that are impossible. A number that is not finite spoils the sum.
        judged = values if self.from_logits and classes > 1 else scores
        return scores, values, ops.isfinite(ops.sum(judged, axis=-1, keepdims=True))

    def _probabilities(self, scores, classes):
        """Probabilities at the temperature."""
        ops = keras.ops
        if self.from_logits:
            scores = scores if self.temperature == 1 else scores / self.temperature
            return ops.sigmoid(scores) if classes == 1 else ops.softmax(scores, axis=-1)
        values = ops.clip(scores, 0.0, 1.0)
        if self.temperature == 1:
            return values
        if classes == 1:
            values = ops.concatenate([values, 1.0 - values], axis=-1)
        # Relative to the best, whose power is 1 then, so that not all of them can vanish.
        best = ops.max(values, axis=-1, keepdims=True, initial=0.0)
        ratios = values / ops.where(best > 0, best, 1.0)
        # Zero stays zero; the slope of a root there is infinite, and never asked for.
        there = ratios > 0
        powers = ops.power(ops.where(there, ratios, 1.0), 1.0 / self.temperature)
        powers = ops.where(there, powers, 0.0)
        values = powers / ops.maximum(ops.sum(powers, axis=-1, keepdims=True), _SMALLEST)
        return values[..., :1] if classes == 1 else values

    def _many(self, values, winner, classes):
        """Guards a distribution over two or more classes."""
        ops = keras.ops
        if self.labels_only:
            return winner
        if self.temperature != 1:
            top = ops.sum(values * winner, axis=-1, keepdims=True)
            values = ops.where(winner > 0, values, ops.minimum(values, top * _BELOW))
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

    def _one(self, values, positive):
        """Guards the probability of the positive class."""
        ops = keras.ops
        if self.labels_only:
            return ops.cast(positive, values.dtype)
        if self.round_to is not None:
            units = ops.round(values * 10.0**self.round_to)
            half = 10.0**self.round_to // 2
            units = ops.where(positive, ops.maximum(units, half + 1.0), ops.minimum(units, half))
            return units / 10.0**self.round_to
        if self.temperature != 1:
            above = ops.maximum(values, 0.5 / _BELOW)
            return ops.where(positive, above, ops.minimum(values, 0.5))
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
