"""The frame of detectors of poisoned training examples."""

import math

import numpy as np

from keras_secure.arguments import check_number
from keras_secure.detection.features import layer_features
from keras_secure.detection.poison_report import InspectedClass, PoisonReport
from keras_secure.errors import InputError

_FEWEST = 20


class PoisonDetector:
    """Base of the detectors of poisoned data: class by class, on features of the trained model.

    A subclass writes `inspect_features`.

    Args:
        layer: Name of the layer whose outputs are looked at; None for the penultimate features.
        false_positive_rate: Share of the clean examples that may be flagged, in (0, 1).
    """

    def __init__(self, layer=None, *, false_positive_rate=0.01):
        check_number("false_positive_rate", false_positive_rate, "(0, 1)")
        self.layer = layer
        self.false_positive_rate = float(false_positive_rate)

    def inspect(self, model, x, y, *, trusted=None, batch_size=512):
        """Searches the training set of a model.

        Args:
            model: The Sequential or functional classifier that was trained on `x` and `y`.
            x: Training inputs, shape (num_examples, ...).
            y: Their labels, integers of shape (num_examples,) or one-hot rows.
            trusted: (x, y) known to be clean and not trained on, or None. With them the
                false-positive rate is calibrated without assumptions on the clean data.
            batch_size: Examples per forward pass.

        Returns:
            A `PoisonReport`.

        Raises:
            InputError: If features or labels cannot be used.
        """
        features = layer_features(model, x, self.layer, batch_size)
        if trusted is not None:
            trusted_x, trusted_y = trusted
            trusted = layer_features(model, trusted_x, self.layer, batch_size), trusted_y
        return self.inspect_features(features, y, trusted=trusted)

    def inspect_features(self, features, y, *, trusted=None):
        """As `inspect`, for features that were computed before.

        Args:
            features: Array of shape (num_examples, features).
            y: Labels, integers of shape (num_examples,) or one-hot rows.
            trusted: (features, y) of clean examples, or None.

        Returns:
            A `PoisonReport`.
        """
        raise NotImplementedError(f"{type(self).__name__} must write `inspect_features`.")

    def _report(self, labels, scores, thresholds, separations, p_values, promise):
        flagged = np.zeros(len(labels), bool)
        classes = []
        for label, threshold in thresholds.items():
            here = labels == label
            flagged |= here & (scores > threshold)
            p_value = None if p_values is None else float(p_values[label])
            classes.append(
                InspectedClass(
                    int(label),
                    int(here.sum()),
                    int(flagged[here].sum()),
                    float(separations[label]),
                    p_value,
                    float(threshold),
                )
            )
        return PoisonReport(
            type(self).__name__,
            scores,
            flagged,
            tuple(classes),
            self.false_positive_rate,
            promise,
        )


def checked_features(features, y):
    """Returns features in float64 and integer labels, or says why they cannot be searched.

    Args:
        features: Array of shape (num_examples, features).
        y: Integers of shape (num_examples,) or one-hot rows.

    Returns:
        (features, labels).

    Raises:
        InputError: If they do not fit together, are not finite, or a class is too small.

    Example:

    >>> features, labels = checked_features(np.ones((40, 2)), np.arange(40) % 2)
    >>> features.dtype, labels[:3].tolist()
    (dtype('float64'), [0, 1, 0])
    """
    features = np.asarray(features, "float64")
    labels = np.asarray(y)
    if labels.ndim == 2:
        labels = labels.argmax(axis=1) if labels.shape[1] > 1 else labels[:, 0]
    if features.ndim != 2 or labels.shape != (len(features),):
        raise InputError(
            f"Features of shape {features.shape} and labels of shape {np.shape(y)} do not fit: "
            "expected (num_examples, features) and (num_examples,)."
        )
    if not np.isfinite(features).all():
        raise InputError("Features hold NaN or infinity; train the model until they do not.")
    names, sizes = np.unique(labels, return_counts=True)
    if not len(sizes) or sizes.min() < _FEWEST:
        few = [] if not len(sizes) else names[sizes < _FEWEST].tolist()
        raise InputError(
            f"Classes {few} have fewer than {_FEWEST} examples, too few to see two groups in. "
            "Inspect more data, or leave those classes out."
        )
    return features, labels


def trusted_threshold(scores, false_positive_rate, label):
    """The order statistic of trusted scores that new clean ones rarely exceed.

    Args:
        scores: Scores of clean examples of one class.
        false_positive_rate: How often a new one may exceed it.
        label: The class, named in the error.

    Returns:
        A float: a new exchangeable score exceeds it with at most that probability.

    Raises:
        InputError: If there are too few.

    Example:

    >>> trusted_threshold(np.arange(99.0), 0.01, 3)
    98.0
    """
    rank = math.ceil((len(scores) + 1) * (1 - false_positive_rate) - 1e-9)
    if rank > len(scores):
        needed = math.ceil(1 / false_positive_rate - 1 - 1e-9)
        raise InputError(
            f"Class {label} has {len(scores)} trusted examples; a false-positive rate of "
            f"{false_positive_rate:g} needs {needed}. Give more, allow a higher rate, or pass "
            "trusted=None to calibrate on the training data itself."
        )
    return float(np.sort(scores)[rank - 1])
