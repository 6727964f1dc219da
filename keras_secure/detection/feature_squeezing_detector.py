"""Adversarial inputs by how much the answer changes when the input is squeezed."""

import keras
from keras import ops

from keras_secure.arguments import check_channels_last
from keras_secure.detection.input_detector import InputDetector
from keras_secure.detection.squeezers import BitDepth, Median
from keras_secure.errors import InputError
from keras_secure.logits import classification_logits


class FeatureSqueezingDetector(InputDetector):
    """Compares the model's answer with its answers to squeezed copies of the input.

    The score is the largest l1 distance between the probabilities on the input and on its squeezed
    copies: clean inputs lose little by rounding and smoothing, many adversarial ones turn back.
    `fit` needs no labels. It chooses the threshold so that the expected false-positive rate on new
    clean inputs of the same distribution is at most the one given, whatever the distribution; see
    `calibration`.

    A hurdle, not a defence: an attack that knows the detector goes around it. `DetectedModel` lets
    every attack of this library do so.

    Args:
        model: Classifier, called with `training=False`.
        squeezers: Keras layers that return inputs of the same shape. None for the paper's: bit
            depth (1 bit for images of one channel, 5 bits otherwise) and, for images, the median of
            2 x 2 pixels.
        bounds: Smallest and largest value of an input, for the default squeezers.
        from_logits: See `keras_secure.logits.classification_logits`.

    Raises:
        InputError: If a squeezer is no layer.

    Example:

    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(),
    ...     keras.layers.Dense(3, activation="softmax")])
    >>> x = np.random.default_rng(0).uniform(size=(40, 8, 8, 1)).astype("float32")
    >>> detector = FeatureSqueezingDetector(model).fit(x, false_positive_rate=0.05)
    >>> int(detector.flag(x).sum()), round(detector.calibration.expected_rate, 3)
    (1, 0.049)

    Reference: Xu, Evans & Qi 2018, "Feature squeezing", arXiv 1704.01155, sections III and V.
    """

    def __init__(self, model, squeezers=None, *, bounds=(0.0, 1.0), from_logits=None):
        super().__init__(model)
        if squeezers is not None:
            squeezers = list(squeezers)
            wrong = [one for one in squeezers if not isinstance(one, keras.layers.Layer)]
            if wrong or not squeezers:
                raise InputError(
                    f"squeezers={squeezers!r} cannot be used: give one Keras layer or more, for "
                    "example layers.FeatureSqueezing(bit_depth=1)."
                )
        self._own = squeezers is not None
        self.squeezers = squeezers
        self.bounds = bounds
        self.from_logits = from_logits

    def learn(self, x_clean, y):
        """Checks that the default squeezers fit the inputs; see `InputDetector.learn`."""
        low, high = self.bounds
        lowest, highest = x_clean.min(initial=low), x_clean.max(initial=high)
        if not self._own and (lowest < low - 1e-6 or highest > high + 1e-6):
            raise InputError(
                f"x_clean goes from {lowest:.6g} to {highest:.6g}, outside bounds=({low:g}, "
                f"{high:g}), between which inputs are rounded. Give the detector the bounds of "
                "your inputs."
            )
        return x_clean

    def score(self, x):
        """See `InputDetector.score`: the largest l1 distance of probabilities, from 0 to 2."""
        x = ops.convert_to_tensor(x)
        if self.squeezers is None:
            self.squeezers = self._usual(x.shape)
        # One call for all copies: one larger batch is cheaper than several small ones.
        copies = [x, *(ops.cast(squeezer(x), x.dtype) for squeezer in self.squeezers)]
        together = ops.concatenate(copies, axis=0)
        probabilities = ops.softmax(classification_logits(self.model, together, self.from_logits))
        parts = ops.split(probabilities, len(copies), axis=0)
        distances = [ops.sum(ops.abs(part - parts[0]), axis=-1) for part in parts[1:]]
        return ops.max(ops.stack(distances), axis=0)

    def _usual(self, shape):
        image = len(shape) == 4
        if image:
            check_channels_last("FeatureSqueezingDetector", keras.config.image_data_format())
        bits = 1 if image and shape[-1] == 1 else 5
        return [BitDepth(bits, self.bounds), *([Median(2)] if image else [])]
