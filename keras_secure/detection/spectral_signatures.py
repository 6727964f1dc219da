"""Poisoned training examples by their trace in the spectrum of a class's features."""

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
from keras_secure.detection.two_groups import two_groups
from keras_secure.errors import InputError

METHODS = ("whitened", "plain")
_RIDGE = 0.01
_CLEAR_MINORITY = 0.25


class SpectralSignatures(PoisonDetector):
    """Finds poisoned examples as the second group along a direction of their class's features.

    `method="plain"` is the published score: features of one class are centred, and an example's
    score is its squared projection on the top singular direction. It needs the poison to be a
    small part of the class and the largest part of its variance: at 10% of MNIST the target class
    is half poison, both halves lie equally far from their mean, and the score tells nothing.

    `method="whitened"` (the default) keeps the spectrum and mends both: features are whitened by
    the covariance within classes, averaged over all classes, of which the poison distorts one or
    few; from several top directions the split into two groups that stand farthest apart is sought;
    and scores are signed, from the clean group's centre towards the other group, in the clean
    group's standard deviations. The clean group is the larger one; where the smaller has more than
    a quarter of the class, it is the one that spreads less across the other directions, since
    poison is gathered from several classes.

    What is promised. With `trusted` examples: a clean example of the same distribution is flagged
    with probability at most `false_positive_rate`, whatever the distribution. Without them nothing
    can be promised without assumptions; two are made, and each class must pass both. A class is
    searched only if its separation stands out among the classes, which happens to a clean
    training set with probability at most `class_false_positive_rate` if log separations are
    normal. In it, at most `false_positive_rate` of the clean examples are flagged if clean scores
    are no heavier on the poison's side of their centre than on the other side or than a normal
    distribution, whichever is heavier.

    Args:
        layer: Name of the layer whose outputs are looked at; None for the penultimate features.
        method: `"whitened"` or `"plain"`.
        directions: Singular directions from which the split is sought, at least 1.
        false_positive_rate: Share of the clean examples that may be flagged, in (0, 1).
        class_false_positive_rate: Probability that any class of a clean set is searched, in (0, 1].
        min_separation: Ashman's D below which no class is searched, however much it stands out.
            Chosen by experience: classes that are two groups by nature (the ones of MNIST, upright
            and slanted) reach 6 there, poisoned ones 12 and more.

    Raises:
        InputError: If an argument cannot be used.

    Example:

    Six classes of which the last is one sixth poison:

    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(1800) % 6
    >>> features = rng.normal(size=(1800, 8)) + labels[:, None]
    >>> poisoned = (labels == 5) & (np.arange(1800) % 36 == 5)
    >>> features[poisoned, 2] -= 15
    >>> report = SpectralSignatures().inspect_features(features, labels)
    >>> bool(report.flagged[poisoned].all()), bool(report.flagged[~poisoned].mean() < 0.01)
    (True, True)

    Reference: Tran, Li & Madry 2018, "Spectral signatures in backdoor attacks", arXiv 1811.00636,
        algorithm 1. Whitening before the spectrum: Hayase et al. 2021, arXiv 2104.11315.
    """

    def __init__(
        self,
        layer=None,
        *,
        method="whitened",
        directions=5,
        false_positive_rate=0.01,
        class_false_positive_rate=0.05,
        min_separation=8.0,
    ):
        super().__init__(layer, false_positive_rate=false_positive_rate)
        if method not in METHODS:
            raise InputError(f"method={method!r} is not known: use one of {', '.join(METHODS)}.")
        check_number("class_false_positive_rate", class_false_positive_rate, "(0, 1]")
        self.method = method
        self.directions = check_integer("directions", directions)
        check_number("min_separation", min_separation, "[0, inf)")
        self.class_false_positive_rate = float(class_false_positive_rate)
        self.min_separation = float(min_separation)

    def inspect_features(self, features, y, *, trusted=None):
        """See `PoisonDetector.inspect_features`."""
        features, labels = checked_features(features, y)
        trusted = None if trusted is None else checked_features(*trusted)
        if self.method == "plain":
            return self._plain(features, labels, trusted)
        return self._whitened(features, labels, trusted)

    def _plain(self, features, labels, trusted):
        scores = np.zeros(len(labels))
        thresholds, separations = {}, {}
        for label in np.unique(labels):
            here = labels == label
            centre = features[here].mean(axis=0)
            centred = features[here] - centre
            values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
            projected = centred @ vectors[:, -1]
            scores[here] = projected**2
            separations[label] = values[-1] / max(values.sum(), 1e-300)
            if trusted is not None:
                clean = (trusted[0][trusted[1] == label] - centre) @ vectors[:, -1]
                thresholds[label] = trusted_threshold(clean**2, self.false_positive_rate, label)
            else:
                middle = np.median(projected)
                deviation = 1.4826 * np.median(np.abs(projected - middle))
                reach = NormalDist().inv_cdf(1 - self.false_positive_rate / 2)
                thresholds[label] = (abs(middle) + reach * deviation) ** 2
        promise = (
            _TRUSTED
            if trusted is not None
            else "holds if projections of clean examples are normal and poison is a small part"
        )
        return self._report(labels, scores, thresholds, separations, None, promise)

    def _whitened(self, features, labels, trusted):
        names = np.unique(labels)
        whiten = _whitening(features, labels, names)
        scores = np.zeros(len(labels))
        thresholds, separations = {}, {}
        for label in names:
            here = labels == label
            points = features[here] @ whiten
            groups = two_groups(points, self.directions)
            if groups is None:
                thresholds[label], separations[label] = math.inf, 1.0
                continue
            centre = points.mean(axis=0)
            projected = (points - centre) @ groups.direction
            if trusted is None:
                clean = _clean_group(points, groups)
            else:
                reference = (trusted[0][trusted[1] == label] @ whiten - centre) @ groups.direction
                clean = int(np.argmin(np.abs(groups.means - np.median(reference))))
            sign = 1.0 if groups.means[1 - clean] > groups.means[clean] else -1.0

            def standard(values, sign=sign, mean=groups.means[clean], of=groups.deviations[clean]):
                return sign * (values - mean) / of

            scores[here] = standard(projected)
            separations[label] = groups.separation
            if trusted is None:
                thresholds[label] = _mirrored_threshold(scores[here], self.false_positive_rate)
            else:
                thresholds[label] = trusted_threshold(
                    standard(reference), self.false_positive_rate, label
                )
        if trusted is not None:
            return self._report(labels, scores, thresholds, separations, None, _TRUSTED)
        found = np.log([separations[label] for label in names])
        p_values = dict(zip(names, outlier_p_values(found), strict=True))
        for label, p_value in p_values.items():
            standing_out = p_value <= self.class_false_positive_rate
            if not standing_out or separations[label] < self.min_separation:
                thresholds[label] = math.inf
        promise = (
            "holds if log separations of clean classes are normal, and clean scores no heavier "
            "towards the poison than away from it"
        )
        return self._report(labels, scores, thresholds, separations, p_values, promise)


_TRUSTED = "holds for every clean example exchangeable with the trusted ones of its class"


def _whitening(features, labels, names):
    within = sum(np.cov(features[labels == label].T) for label in names) / len(names)
    within = np.atleast_2d(within)
    within = within + (_RIDGE * np.trace(within) / len(within) + 1e-12) * np.eye(len(within))
    return np.linalg.inv(np.linalg.cholesky(within)).T


def _clean_group(points, groups):
    smaller = int(np.argmin(groups.shares))
    if groups.shares[smaller] < _CLEAR_MINORITY:
        return 1 - smaller
    member = groups.second > 0.5
    centres = [points[member == bool(group)].mean(axis=0) for group in (0, 1)]
    apart = (centres[1] - centres[0]) / np.linalg.norm(centres[1] - centres[0])
    spreads = []
    for group in (0, 1):
        offsets = points[member == bool(group)] - centres[group]
        offsets = offsets - np.outer(offsets @ apart, apart)
        spreads.append(np.median((offsets**2).sum(axis=1)))
    return int(np.argmin(spreads))


def _mirrored_threshold(scores, false_positive_rate):
    # Behind the centre of the clean group there is no poison; what lies there shows its tail.
    behind = np.sort(-scores[scores < 0])
    rank = math.ceil((len(behind) + 1) * (1 - false_positive_rate))
    tail = behind[rank - 1] if rank <= len(behind) else (behind[-1] if len(behind) else 0.0)
    return max(float(tail), NormalDist().inv_cdf(1 - false_positive_rate))
