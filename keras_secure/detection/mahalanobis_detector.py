"""Adversarial inputs by how far their features lie from those of every class."""

import numpy as np
from keras import ops

from keras_secure.arguments import check_number
from keras_secure.detection.features import feature_model
from keras_secure.detection.input_detector import InputDetector
from keras_secure.errors import InputError
from keras_secure.logits import classification_logits


class MahalanobisDetector(InputDetector):
    """Measures the Mahalanobis distance of features to the nearest class, layer by layer.

    Features of each layer are modelled as one normal distribution for each class with a covariance
    that all share. The score of a layer is the squared distance to the nearest class, and those of
    several layers are added, each divided by its median on the data it was fitted to. (The paper
    weighs layers by a regression on adversarial examples; none are needed here.)

    `fit` learns means and covariance on one part of the clean data and chooses the threshold on
    the other, so that the expected false-positive rate on new clean inputs of the same distribution
    is at most the one given, whatever the distribution; see `calibration`.

    A hurdle, not a defence: an attack that knows the detector keeps its features near a class.
    `DetectedModel` lets every attack of this library do so.

    Args:
        model: Sequential or functional classifier.
        layers: Names of the layers to look at; None for all layers with weights but the last.
            Feature maps are averaged over their positions; name a flattening layer to see these.
        shrinkage: Weight of the scaled identity in the covariance, in [0, 1], which makes it
            invertible.
        calibration_split: Share of the clean data that the threshold is chosen on, in (0, 1).
        from_logits: See `keras_secure.logits.classification_logits`.
        seed: Integer that decides which examples those are.

    Raises:
        InputError: If an argument cannot be used.

    Example:

    >>> import keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    >>> x = np.random.default_rng(0).normal(size=(200, 4)).astype("float32")
    >>> detector = MahalanobisDetector(model).fit(x, false_positive_rate=0.05)
    >>> detector.flag(np.full((1, 4), 9.0, "float32")).tolist()
    [True]

    Reference: Lee et al. 2018, "A simple unified framework for detecting out-of-distribution
        samples and adversarial attacks", arXiv 1807.03888, section 2. The sum over layers without
        regression: Kamoi & Kobayashi 2020, arXiv 2003.00402.
    """

    def __init__(
        self,
        model,
        layers=None,
        *,
        shrinkage=0.01,
        calibration_split=0.5,
        from_logits=None,
        seed=0,
    ):
        super().__init__(model)
        check_number("shrinkage", shrinkage, "[0, 1]")
        check_number("calibration_split", calibration_split, "(0, 1)")
        self.layers = layers
        self.shrinkage = float(shrinkage)
        self.calibration_split = float(calibration_split)
        self.from_logits = from_logits
        self.seed = seed
        hidden = [layer.name for layer in model.layers if layer.weights][:-1]
        self._features = feature_model(model, (hidden or None) if layers is None else layers)
        self._normals = None

    def learn(self, x_clean, y):
        """Fits the normal distributions; see `InputDetector.learn`."""
        order = np.random.default_rng(self.seed).permutation(len(x_clean))
        count = round(len(x_clean) * (1 - self.calibration_split))
        fitted, rest = order[:count], order[count:]
        if y is None:
            labels = self._answers(x_clean[fitted])
        else:
            labels = y[fitted] if y.ndim == 1 else y[fitted].argmax(axis=1)
        classes = np.unique(labels)
        if len(fitted) <= len(classes):
            raise InputError(
                f"{len(fitted)} clean examples are too few to fit {len(classes)} classes to; give "
                "several for each."
            )
        found = self._features.predict(x_clean[fitted], batch_size=256, verbose=0)
        normals = []
        for features in found if isinstance(found, list) else [found]:
            normals.append(_normals(np.asarray(features, "float64"), labels, classes, self))
        self._normals = normals
        return x_clean[rest]

    def score(self, x):
        """See `InputDetector.score`: the sum of scaled squared distances, 1 a layer if typical."""
        if self._normals is None:
            raise InputError("This MahalanobisDetector knows no classes yet: call fit(x_clean).")
        found = self._features(x, training=False)
        total = 0.0
        for features, (*normals, median) in zip(
            found if isinstance(found, (list, tuple)) else [found], self._normals, strict=True
        ):
            total = total + _distances(ops.cast(features, "float32"), *normals) / median
        return total

    def _answers(self, x):
        return np.concatenate(
            [
                ops.convert_to_numpy(
                    classification_logits(self.model, x[start : start + 256], self.from_logits)
                ).argmax(axis=1)
                for start in range(0, len(x), 256)
            ]
        )


def _normals(features, labels, classes, detector):
    means = np.stack([features[labels == label].mean(axis=0) for label in classes])
    centred = features - means[np.searchsorted(classes, labels)]
    covariance = centred.T @ centred / len(centred)
    size = len(covariance)
    level = np.trace(covariance) / size
    covariance = (1 - detector.shrinkage) * covariance
    covariance += (detector.shrinkage * level + 1e-8 * level + 1e-12) * np.eye(size)
    # Whitened means beside whitened features: distances without a product for every class.
    whiten = np.linalg.inv(np.linalg.cholesky(covariance)).T
    # From the middle of the means, so that float32 holds the differences.
    middle = means.mean(axis=0)
    means, whiten, middle = (
        part.astype("float32") for part in ((means - middle) @ whiten, whiten, middle)
    )
    typical = _distances(ops.convert_to_tensor(features.astype("float32")), means, whiten, middle)
    median = max(float(np.median(ops.convert_to_numpy(typical))), 1e-6)
    return means, whiten, middle, median


def _distances(features, means, whiten, middle):
    points = ops.matmul(features - middle, whiten)
    differences = ops.expand_dims(points, 1) - means
    return ops.min(ops.sum(ops.square(differences), axis=-1), axis=-1)
