"""Poisoned training examples as one of two clusters of a class's activations."""

import math
from statistics import NormalDist

import numpy as np

from keras_secure.arguments import check_integer, check_number
from keras_secure.detection.outlier_p_values import outlier_p_values
from keras_secure.detection.poison_detector import (
    PoisonDetector,
    checked_features,
    trusted_threshold,
)

_SILHOUETTE_SAMPLE = 1000


class ActivationClustering(PoisonDetector):
    """Splits each class in two by 2-means and judges the split by relative size and silhouette.

    The activations of a class are reduced to a few principal components of unit variance and
    clustered. (The paper uses independent components: those are a rotation of these, and 2-means
    does not see rotations.) The score of an example says how far it lies on the smaller cluster's
    side: the difference of its distances to the larger and to the smaller centre.

    A class is suspicious if its smaller cluster is at most `max_relative_size` of it, and its
    silhouette stands out among the classes. In it, examples nearer to the smaller cluster are
    flagged, but at a score high enough for `false_positive_rate`.

    What is promised. With `trusted` examples: a clean example of the same distribution is flagged
    with probability at most `false_positive_rate`, whatever the distribution. Without them: no
    class of a clean set is suspicious with probability at least 1 - `class_false_positive_rate`
    if the silhouettes of clean classes are normal, and in a suspicious class at most
    `false_positive_rate` of the clean examples are flagged if the scores of the larger cluster are
    normal. Clusters of equal size (poison that doubles its class) are never suspicious.

    Args:
        layer: Name of the layer whose outputs are looked at; None for the penultimate features.
        components: Principal components that are kept, at least 1.
        max_relative_size: Share of a class above which no cluster counts as poison, in (0, 0.5].
        false_positive_rate: Share of the clean examples that may be flagged, in (0, 1).
        class_false_positive_rate: Probability that any class of a clean set is suspicious.
        seed: Integer that makes clustering repeatable.

    Raises:
        InputError: If an argument cannot be used.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(1800) % 6
    >>> features = rng.normal(size=(1800, 8)) + labels[:, None]
    >>> poisoned = (labels == 5) & (np.arange(1800) % 24 == 5)
    >>> features[poisoned] -= 9
    >>> report = ActivationClustering().inspect_features(features, labels)
    >>> bool(report.flagged[poisoned].all()), bool(report.flagged[~poisoned].mean() < 0.01)
    (True, True)

    Reference: Chen et al. 2018, "Detecting backdoor attacks on deep neural networks by activation
        clustering", arXiv 1811.03728, sections 4 and 5.
    """

    def __init__(
        self,
        layer=None,
        *,
        components=10,
        max_relative_size=0.4,
        false_positive_rate=0.01,
        class_false_positive_rate=0.05,
        seed=0,
    ):
        super().__init__(layer, false_positive_rate=false_positive_rate)
        check_integer("components", components)
        check_number("max_relative_size", max_relative_size, "(0, 0.5]")
        check_number("class_false_positive_rate", class_false_positive_rate, "(0, 1]")
        self.components = int(components)
        self.max_relative_size = float(max_relative_size)
        self.class_false_positive_rate = float(class_false_positive_rate)
        self.seed = seed

    def inspect_features(self, features, y, *, trusted=None):
        """See `PoisonDetector.inspect_features`."""
        features, labels = checked_features(features, y)
        trusted = None if trusted is None else checked_features(*trusted)
        names = np.unique(labels)
        scores = np.zeros(len(labels))
        thresholds, separations, sizes = {}, {}, {}
        for label in names:
            here = labels == label
            reduce, score, sizes[label], separations[label] = self._cluster(features[here])
            scores[here] = score(reduce(features[here]))
            if trusted is None:
                thresholds[label] = _larger_cluster_threshold(
                    scores[here], self.false_positive_rate
                )
            else:
                clean = score(reduce(trusted[0][trusted[1] == label]))
                thresholds[label] = trusted_threshold(clean, self.false_positive_rate, label)
        if trusted is not None:
            promise = (
                "holds for every clean example exchangeable with the trusted ones of its class"
            )
            return self._report(labels, scores, thresholds, separations, None, promise)
        found = [separations[label] for label in names]
        p_values = dict(zip(names, outlier_p_values(found), strict=True))
        for label, p_value in p_values.items():
            if p_value > self.class_false_positive_rate or sizes[label] > self.max_relative_size:
                thresholds[label] = math.inf
        promise = (
            "holds if silhouettes of clean classes, and scores in the larger cluster, are normal"
        )
        return self._report(labels, scores, thresholds, separations, p_values, promise)

    def _cluster(self, features):
        from sklearn.cluster import KMeans
        from sklearn.metrics import silhouette_score

        centre = features.mean(axis=0)
        if (features == features[0]).all():
            # Equal features are one group, and no point lies nearer to another.
            return (lambda points: points), (lambda points: np.zeros(len(points))), 0.0, 0.0
        values, vectors = np.linalg.eigh(np.cov((features - centre).T).reshape(2 * (len(centre),)))
        # Directions without variance would be noise blown up.
        kept = min(self.components, int((values > 1e-9 * max(values[-1], 1e-300)).sum()))
        kept = max(kept, 1)
        scale = vectors[:, -kept:] / np.sqrt(np.maximum(values[-kept:], 1e-300))

        def reduce(points):
            return (points - centre) @ scale

        reduced = reduce(features)
        clusters = KMeans(2, n_init=5, random_state=self.seed).fit(reduced)
        members = np.bincount(clusters.labels_, minlength=2)
        small = int(np.argmin(members))
        large_centre, small_centre = clusters.cluster_centers_[[1 - small, small]]

        def score(points):
            return np.linalg.norm(points - large_centre, axis=1) - np.linalg.norm(
                points - small_centre, axis=1
            )

        silhouette = silhouette_score(
            reduced,
            clusters.labels_,
            sample_size=min(_SILHOUETTE_SAMPLE, len(reduced)),
            random_state=self.seed,
        )
        return reduce, score, members[small] / members.sum(), float(silhouette)


def _larger_cluster_threshold(scores, false_positive_rate):
    # Scores are negative in the larger cluster; its middle and spread come from ranks.
    larger = scores[scores < 0]
    if not len(larger):
        return math.inf
    middle = np.median(larger)
    deviation = 1.4826 * np.median(np.abs(larger - middle))
    return max(0.0, float(middle + NormalDist().inv_cdf(1 - false_positive_rate) * deviation))
