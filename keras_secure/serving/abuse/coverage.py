"""How much of the model's world a client has seen, and how much of it was never asked naturally."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_secure.arguments import check_number, is_integer
from keras_secure.errors import InputError
from keras_secure.findings import Finding
from keras_secure.serving.abuse.detector import Memory, as_rows


@dataclass
class _Seen:
    cells: set[int] = field(default_factory=set)
    queries: int = 0
    outside: int = 0


class Coverage:
    """Says what share of the input space a client has covered, and when its inputs are unnatural.

    The owner's data is cut into cells (k-means). An input lies outside when it is farther from
    every centre than `natural` of the owner's data are from theirs. Two things are found: a
    client whose inputs lie outside more often than chance allows, as noise and other data do, and
    one that has reached `share` of all cells, the point from which a copy of the model gets good.
    The second is a measure, not proof of intent: an honest client with many inputs gets there.

    Args:
        data: The owner's inputs, shape (n, ...), such as validation data.
        cells: Number of cells. Defaults to 100.
        share: Covered share that is reported. Defaults to 0.9.
        natural: Share of the owner's data that counts as natural. Defaults to 0.99.
        p_value: Probability below which too many inputs outside are no chance. It is tested at
            each request, so it is small. Defaults to 1e-6.
        max_identities: Identities that are remembered. Defaults to 10,000.
        seed: Of k-means. Defaults to 0.

    Raises:
        InputError: An argument is out of its range, or there is too little data.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> detector = Coverage(rng.normal(size=(500, 8)), cells=10)
    >>> detector.observe("honest", rng.normal(size=(5, 8)), None) is None
    True
    >>> detector.observe("stranger", 9 * rng.normal(size=(20, 8)), None).id
    'abuse.unnatural_inputs'

    Reference:
        Kesarwani et al. 2018, Model extraction warning in MLaaS paradigm (ACSAC), for coverage as
        a warning.
    """

    def __init__(
        self,
        data: Any,
        cells: int = 100,
        share: float = 0.9,
        natural: float = 0.99,
        p_value: float = 1e-6,
        max_identities: int = 10_000,
        seed: int = 0,
    ):
        from sklearn.cluster import MiniBatchKMeans

        rows = as_rows(data)
        if not is_integer(cells) or not 1 < cells <= len(rows) // 2:
            raise InputError(
                f"cells is {cells!r} for {len(rows)} examples; an integer from 2 to half their "
                "number was expected."
            )
        self.share = check_number("share", share, "(0, 1]")
        self.p_value = check_number("p_value", p_value, "(0, 1]")
        self.natural = check_number("natural", natural, "(0, 1]")
        # Centres see one half, distances the other: data lies closer to centres made from it.
        order = np.random.default_rng(seed).permutation(len(rows))
        half = len(rows) // 2
        means = MiniBatchKMeans(cells, random_state=seed, n_init=3).fit(rows[order[:half]])
        self._centres = means.cluster_centers_.astype(np.float32)
        self._limit = float(np.quantile(self._nearest(rows[order[half:]])[1], self.natural))
        self._seen = Memory(_Seen, max_identities)

    def observe(self, identity: str, inputs: Any, outputs: Any = None) -> Finding | None:
        """Takes one request; see `Detector.observe`."""
        from scipy.stats import binom

        rows = as_rows(inputs)
        if rows.shape[1] != self._centres.shape[1]:
            return None  # for another model than that of the data
        cells, distances = self._nearest(rows)
        seen, outside = self._seen.of(identity), distances > self._limit
        seen.cells.update(cells[~outside].tolist())
        seen.queries += len(cells)
        seen.outside += int(outside.sum())
        p_value = float(binom.sf(seen.outside - 1, seen.queries, 1 - self.natural))
        covered = len(seen.cells) / len(self._centres)
        evidence = {"identity": identity, "queries": seen.queries, "outside": seen.outside,
                    "p_value": p_value, "covered": covered}  # fmt: skip
        if p_value < self.p_value:
            return Finding(
                "abuse.unnatural_inputs",
                "medium",
                f"{seen.outside} of the {seen.queries} inputs of {identity!r} lie where the "
                "owner's data does not.",
                evidence,
                "Look at what this identity sends: other data, noise, or a data set to steal with.",
            )
        if covered >= self.share:
            return Finding(
                "abuse.coverage",
                "low",
                f"{identity!r} has seen {covered:.0%} of the input space with {seen.queries} "
                "inputs: enough to train a copy.",
                evidence,
                "Bound the query budget of this identity, or give coarser answers.",
            )
        return None

    def _nearest(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The nearest centre of each row, and how far it is."""
        centres = self._centres
        squared = (rows**2).sum(1)[:, None] - 2 * rows @ centres.T + (centres**2).sum(1)
        cells = squared.argmin(axis=1)
        return cells, np.sqrt(np.maximum(squared[np.arange(len(rows)), cells], 0.0))
