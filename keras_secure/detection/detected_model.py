"""A classifier and its detector as one model that may abstain."""

import keras
from keras import ops

from keras_secure.errors import InputError
from keras_secure.logits import classification_logits
from keras_secure.registration import component


@component("detection")
class DetectedModel(keras.Model):
    """A classifier that abstains where its detector raises an alarm, differentiable as a whole.

    The outputs are the logits of the classifier and, as the last column, the abstention: the
    largest logit, raised by the detector's margin times the spread of the logits. It wins exactly
    where the detector flags the input. Every attack of this library that is run on this model is
    thus an adaptive attack on the detector: it has to change the answer and stay below the
    threshold.

    Args:
        model: Classifier with one output.
        detector: Fitted `FeatureSqueezingDetector` or `MahalanobisDetector`, or any object with a
            traceable `margin(x)`, positive where an input is flagged.
        from_logits: See `keras_secure.logits.classification_logits`.
        **kwargs: Keyword arguments of `keras.Model`.

    Call arguments:
        inputs: Batch of inputs of the classifier.

    Returns:
        A float32 tensor of logits, of shape (batch, num_classes + 1).

    Raises:
        InputError: If the detector was not fitted.

    Example:

    >>> import numpy as np
    >>> from keras_secure.detection import MahalanobisDetector
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    >>> x = np.random.default_rng(0).normal(size=(200, 4)).astype("float32")
    >>> detected = DetectedModel(model, MahalanobisDetector(model).fit(x))
    >>> ops.argmax(detected(np.full((1, 4), 99.0, "float32")), -1).numpy().tolist()
    [3]

    Reference: Carlini & Wagner 2017, "Adversarial examples are not easily detected", arXiv
        1705.07263, section 3.2. Their abstention, (margin + 1) times the largest logit, presumes
        that this one is positive; shifting all logits so that the smallest is zero makes it so and
        gives the formula used here.
    """

    abstains = True

    def __init__(self, model, detector, *, from_logits=None, **kwargs):
        super().__init__(**kwargs)
        if not callable(getattr(detector, "margin", None)):
            raise InputError(
                f"A {type(detector).__name__} cannot be used as detector: it has no `margin`. Give "
                "a detector of keras_secure.detection, or an object with margin(x)."
            )
        if getattr(detector, "calibration", True) is None:
            raise InputError(
                f"The {type(detector).__name__} has no threshold yet: call fit(x_clean) first."
            )
        self.model = model
        self.detector = detector
        self.from_logits = from_logits
        # Compiled so that everybody reads the outputs as logits, with XLA only if the model is.
        self.compile(
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=bool(getattr(model, "jit_compile", False)),
        )

    def call(self, inputs):
        """Returns the logits and the abstention; see the class."""
        logits = classification_logits(self.model, inputs, self.from_logits)
        largest = ops.max(logits, axis=-1)
        # Equal logits have no spread, and the sign of the margin must decide all the same.
        spread = ops.maximum(largest - ops.min(logits, axis=-1), 1e-3)
        abstention = largest + ops.cast(self.detector.margin(inputs), logits.dtype) * spread
        return ops.concatenate([logits, ops.expand_dims(abstention, -1)], axis=-1)

    def get_config(self):
        """Refuses: a detector holds the model that it watches, and is fitted in this process."""
        raise InputError(
            "A DetectedModel cannot be saved: it stands in front of a model for one evaluation. "
            "Save the inner `model`, and fit the detector again where it is loaded."
        )
