"""Whether the answers still look like those on the data that the model was judged by."""

from typing import Any

import numpy as np

from keras_secure.arguments import check_integer, check_number
from keras_secure.errors import InputError
from keras_secure.findings import Finding


class Drift:
    """Compares the answers of the last requests with those on the owner's own data.

    Every `window` answers, of all identities together, the probability of each class is compared
    with the reference by a two-sample test (Kolmogorov and Smirnov), at `p_value` over the number
    of classes. Rounded answers have ties, which make the test cautious.

    Args:
        reference: The model's answers on the owner's data, shape (n, classes), as the served
            model gives them: through the output guard.
        window: Answers in a comparison. Defaults to 500.
        p_value: Probability of an alarm per window without drift. Defaults to 0.001.

    Raises:
        InputError: An argument is out of its range.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> detector = Drift(rng.dirichlet([1, 1, 1], 1000), window=200)
    >>> detector.observe("anybody", None, rng.dirichlet([1, 1, 1], 200)) is None
    True
    >>> detector.observe("anybody", None, rng.dirichlet([3, 1, 1], 200)).id
    'abuse.drift'

    Reference:
        Rabanser et al. 2019, Failing loudly: an empirical study of methods for detecting dataset
        shift (NeurIPS), sections 3.1 and 3.2 (black box shift detection by softmax outputs).
    """

    def __init__(self, reference: Any, window: int = 500, p_value: float = 1e-3):
        self._reference = np.asarray(reference, np.float64)
        if self._reference.ndim != 2 or len(self._reference) < 50:
            raise InputError(
                f"reference has shape {self._reference.shape}; at least 50 answers, shape "
                "(n, classes), were expected."
            )
        self.window = check_integer("window", window, 20)
        self.p_value = check_number("p_value", p_value, "(0, 1]")
        self._waiting: list[np.ndarray] = []

    def observe(self, identity: str, inputs: Any, outputs: Any) -> Finding | None:
        """Takes one request; see `Detector.observe`. The finding is about all clients."""
        rows = np.asarray(outputs, np.float64).reshape(len(outputs), -1)
        if rows.shape[1] != self._reference.shape[1]:
            return None  # of another model than that of the reference
        self._waiting.extend(rows)
        found = None
        while len(self._waiting) >= self.window:
            block = np.stack(self._waiting[: self.window])
            del self._waiting[: self.window]
            found = self._compare(block) or found
        return found

    def _compare(self, block: np.ndarray) -> Finding | None:
        from scipy.stats import ks_2samp

        classes = self._reference.shape[1]
        values = [ks_2samp(self._reference[:, c], block[:, c]).pvalue for c in range(classes)]
        worst = int(np.argmin(values))
        if values[worst] * classes >= self.p_value:
            return None
        return Finding(
            "abuse.drift",
            "medium",
            f"The answers to the last {self.window} inputs differ from those on the owner's data, "
            f"most for class {worst}.",
            {"class": worst, "p_value": float(min(1.0, values[worst] * classes)),
             "window": self.window},
            "Measure the accuracy anew on recent, labelled data, and train again if it fell.",
        )  # fmt: skip
