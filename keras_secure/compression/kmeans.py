"""The levels that stand for many numbers with the least squared error."""

import numpy as np

_ROUNDS = 100


def centroids_of(values: np.ndarray, count: int, initial: str = "linear") -> np.ndarray:
    """Lloyd's k-means of numbers.

    Args:
        values: Array of finite numbers.
        count: How many centroids.
        initial: Where they start: `"linear"`, evenly from the least to the largest value;
            `"density"`, each over the same number of values.

    Returns:
        float32 array of `count` ascending centroids.

    Example:

    >>> centroids_of(np.float32([0, 1, 2, 10, 11, 12]), 2).tolist()
    [1.0, 11.0]

    Reference:
        Han, Mao and Dally 2016, Deep compression (arXiv 1510.00149), section 3.1 and 3.2.
    """
    ordered = np.sort(np.asarray(values, np.float64), axis=None)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    if initial == "linear":
        centroids = np.linspace(ordered[0], ordered[-1], count)
    else:
        centroids = np.quantile(ordered, (np.arange(count) + 0.5) / count)
    for _ in range(_ROUNDS):
        # Values are sorted, so a cluster is what lies between two midpoints.
        borders = np.searchsorted(ordered, (centroids[1:] + centroids[:-1]) / 2)
        borders = np.concatenate([[0], borders, [len(ordered)]])
        sizes = np.diff(borders)
        means = np.diff(sums[borders]) / np.maximum(sizes, 1)
        moved = np.where(sizes > 0, means, centroids)
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    return np.sort(centroids).astype(np.float32)
