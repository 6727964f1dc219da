"""Which correlations of noise over steps serve prefix sums best, at the cost of independent noise.

DP-FTRL releases A x + s A C^-1 z for the lower triangular matrix A of ones: the weights follow the
prefix sums of the gradients x. C is here a lower triangular Toeplitz matrix whose columns hold
`bands` coefficients and have norm one. Two columns that lie `bands` or more apart do not overlap,
so an example whose k steps lie that far apart moves C x by at most sqrt(k) clips: as much as under
independent noise, which is C = I. But the errors of the prefix sums cancel in part.
"""

import numpy as np

# A longer run changes the coefficients no further.
_LONGEST = 20_000


def square_root_coefficients(bands):
    """Returns the first coefficients of the matrix whose square is A, with norm one.

    Args:
        bands: Positive number of coefficients.

    Returns:
        float64 array of shape (bands,).

    Example:

    >>> square_root_coefficients(2).round(3).tolist()
    [0.894, 0.447]

    Reference: Kalinin and Lampert 2024, Banded Square Root Matrix Factorization (arXiv 2405.13763).
    """
    ratios = (2.0 * np.arange(1, bands) - 1.0) / (2.0 * np.arange(1, bands))
    coefficients = np.concatenate([[1.0], np.cumprod(ratios)])
    return coefficients / np.linalg.norm(coefficients)


def prefix_error(coefficients, steps):
    """Returns the mean squared error of the prefix sums at noise one, per coordinate.

    Args:
        coefficients: Array of shape (bands,), the first nonzero.
        steps: Number of steps of the run.

    Returns:
        float; `(steps + 1) / 2` for independent noise. Coefficients of another norm than one are
        charged for it.

    Example:

    >>> prefix_error([1.0], steps=9)
    5.0
    """
    return _error_and_gradient(np.asarray(coefficients, dtype="float64"), steps)[0]


def banded_coefficients(bands, steps):
    """Returns the coefficients that minimize the error of the prefix sums, with norm one.

    Args:
        bands: Positive number of coefficients; 1 is independent noise.
        steps: Number of steps that the run will have.

    Returns:
        float64 array of shape (bands,).

    Example:

    >>> c = banded_coefficients(8, steps=100)
    >>> bool(prefix_error(c, 100) < prefix_error(square_root_coefficients(8), 100) < 50.5 / 2)
    True

    Reference: McKenna 2024, Scaling up the Banded Matrix Factorization Mechanism, section 4
    (arXiv 2405.15913); Choquette-Choo et al. 2023 (arXiv 2306.08153).
    """
    from scipy import optimize

    start = square_root_coefficients(bands)
    if bands == 1:
        return start
    steps = min(max(int(steps), bands), _LONGEST)

    def objective(tail):
        error, gradient = _error_and_gradient(np.concatenate([[1.0], tail]), steps)
        return np.log(error), gradient[1:] / error

    # The first coefficient is one: only ratios matter until the norm is fixed.
    found = optimize.minimize(objective, start[1:] / start[0], jac=True, method="L-BFGS-B")
    best = np.concatenate([[1.0], found.x])
    best /= np.linalg.norm(best)
    return best if prefix_error(best, steps) < prefix_error(start, steps) else start


def _error_and_gradient(coefficients, steps):
    from scipy import signal

    impulse = np.zeros(steps)
    impulse[0] = 1.0
    # The columns of A C^-1 all hold the same values, shifted: the impulse response of 1/(1-z)/C(z).
    response = signal.lfilter([1.0], np.convolve(coefficients, [1.0, -1.0]), impulse)
    weights = 1.0 - np.arange(steps) / steps
    total = float(np.sum(weights * response**2))
    norm = float(np.sum(coefficients**2))
    # The derivative of the response by coefficient k is minus itself through 1/C(z), k steps later.
    slope = signal.lfilter([1.0], coefficients, response)
    gradient = np.array(
        [
            -2.0 * np.sum((weights * response)[lag:] * slope[: steps - lag])
            for lag in range(len(coefficients))
        ]
    )
    return norm * total, norm * gradient + 2.0 * coefficients * total
