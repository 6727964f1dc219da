"""Two groups in a cloud of points: the direction along which it falls apart most."""

from dataclasses import dataclass

import numpy as np

_BINS = 256
_FEWEST = 10
_RIDGE = 0.01


@dataclass(frozen=True)
class TwoGroups:
    """A cloud of points split along one direction.

    Attributes:
        direction: Unit vector of shape (features,).
        means: The two centres along it, relative to the mean of the cloud.
        deviations: The two standard deviations along it.
        shares: The shares of the two groups.
        second: Float array of shape (points,): probability of belonging to the second group.
        separation: Ashman's D: the distance of the centres over the root mean square of the
            deviations. Below 2 the groups run into each other.
    """

    direction: np.ndarray
    means: np.ndarray
    deviations: np.ndarray
    shares: np.ndarray
    second: np.ndarray
    separation: float


def two_groups(points, directions=5, starts=(0.1, 0.5, 0.9), rounds=4):
    """Splits points into two groups as far apart as can be found.

    From each of the top singular directions the projections are split in two: by a mixture of two
    normal distributions, and by a plain cut. The direction is then turned to the linear
    discriminant of the two groups, and both steps are repeated. The split with the largest
    separation is returned.

    Args:
        points: Array of shape (points, features).
        directions: How many singular directions to start from.
        starts: Quantiles at which the projections are first cut.
        rounds: How often the direction is turned.

    Returns:
        A `TwoGroups`, or None where the points fall into no two groups of ten or more.

    Example:

    >>> points = np.random.default_rng(0).normal(size=(400, 3))
    >>> points[:40, 1] += 12
    >>> groups = two_groups(points)
    >>> groups.separation > 8, sorted(groups.shares.round(2).tolist())
    (True, [0.1, 0.9])

    Reference: Tran, Li & Madry 2018, arXiv 1811.00636, for the singular directions; Ashman, Bird &
        Zepf 1994, Astronomical Journal 108, for the separation; Otsu 1979, IEEE Transactions on
        Systems, Man and Cybernetics 9, for the cut.
    """
    centred = points - points.mean(axis=0)
    scatter = centred.T @ centred / len(centred)
    _, vectors = np.linalg.eigh(scatter)
    best = None
    for start in vectors.T[::-1][:directions]:
        for quantile in (*starts, None):
            direction, second = start, None
            for _ in range(rounds + 1):
                if quantile is None:
                    groups = _cut(centred, direction)
                else:
                    groups = _split(centred, direction, second, quantile)
                if groups is None:
                    break
                if best is None or groups.separation > best.separation:
                    best = groups
                second = groups.second
                direction = _discriminant(centred, scatter, second)
    return best


def _split(centred, direction, second, quantile):
    # The mixture is fitted to a histogram, since thousands of points say no more.
    projected = centred @ direction
    counts, edges = np.histogram(projected, _BINS)
    middles = (edges[1:] + edges[:-1]) / 2
    place = np.clip(np.searchsorted(edges, projected) - 1, 0, _BINS - 1)
    if second is None:
        belongs = (middles > np.quantile(projected, quantile)).astype("float64")
    else:
        belongs = np.bincount(place, second, _BINS) / np.maximum(counts, 1)
    smallest = (edges[1] - edges[0]) / 2
    for _ in range(40):
        weights = counts * np.stack([1 - belongs, belongs])
        sizes = weights.sum(axis=1)
        if sizes.min() < _FEWEST:
            return None
        means = weights @ middles / sizes
        offsets = middles - means[:, None]
        deviations = np.sqrt((weights * offsets**2).sum(axis=1) / sizes + smallest**2)
        scaled = offsets / deviations[:, None]
        density = np.log(sizes / deviations)[:, None] - 0.5 * scaled**2
        belongs = 1 / (1 + np.exp(np.clip(density[0] - density[1], -500, 500)))
    separation = np.sqrt(2) * abs(means[1] - means[0]) / np.sqrt((deviations**2).sum())
    shares = sizes / sizes.sum()
    return TwoGroups(direction, means, deviations, shares, belongs[place], float(separation))


def _cut(centred, direction):
    # A wide normal distribution may take the tail of a narrow one into its group, however far apart
    # the two are; a cut, where the centres are farthest apart for the spread within, does not.
    projected = centred @ direction
    ordered = np.sort(projected)
    sizes = np.arange(_FEWEST, len(ordered) - _FEWEST + 1)
    if not len(sizes):
        return None
    sums = np.cumsum(ordered)[sizes - 1]
    others = len(ordered) - sizes
    apart = (ordered.sum() - sums) / others - sums / sizes
    size = sizes[np.argmax(sizes * others * apart**2)]
    second = projected > (ordered[size - 1] + ordered[size]) / 2
    shares = np.array([1 - second.mean(), second.mean()])
    if shares.min() * len(ordered) < _FEWEST:
        return None
    means = np.array([projected[~second].mean(), projected[second].mean()])
    deviations = np.array([projected[~second].std(), projected[second].std()])
    deviations += 1e-9 * (ordered[-1] - ordered[0])
    separation = np.sqrt(2) * abs(means[1] - means[0]) / np.sqrt((deviations**2).sum())
    return TwoGroups(
        direction, means, deviations, shares, second.astype("float64"), float(separation)
    )


def _discriminant(centred, scatter, second):
    share = second.mean()
    apart = second @ centred / second.sum() - (1 - second) @ centred / (1 - second).sum()
    within = scatter - share * (1 - share) * np.outer(apart, apart)
    within += _RIDGE * np.trace(within) / len(within) * np.eye(len(within))
    direction = np.linalg.solve(within, apart)
    return direction / np.linalg.norm(direction)
