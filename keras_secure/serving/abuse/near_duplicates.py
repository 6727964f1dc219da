"""Queries nearly the same as earlier ones: the mark of a search for an adversarial input."""

import hashlib
import secrets
from collections import Counter, deque
from functools import partial
from typing import Any

import numpy as np

from keras_secure.arguments import check_integer, check_number
from keras_secure.errors import InputError
from keras_secure.findings import Finding
from keras_secure.serving.abuse.detector import Memory


class NearDuplicates:
    """Finds black-box attacks by the likeness of their queries, whoever sends them.

    An attack that sees answers only asks for small changes of one input, hundreds of times. Each
    input is quantized, every window of it hashed with a secret key, and the `kept` largest hashes
    are its fingerprint; an input that shares `threshold` of them with one that came before,
    whoever sent that, is a near duplicate. An alarm is raised when `repeats` of the last `recent`
    inputs of an identity are. Only hashes are kept, never inputs, and nobody without the key,
    which is drawn anew for each process, can choose inputs that collide or that avoid it.

    The very same input again (a retry) is not counted. Honest inputs that differ little (frames of
    a video) look like an attack; do not use this detector where they are to be expected. Who sends
    fewer than `repeats` inputs from each of many accounts is not noticed.

    Args:
        bounds: Range of the inputs; integers (tokens) are taken as they are. Defaults to (0, 1).
        levels: Into how many levels the range is cut. Defaults to 6.
        window: Values in a window. Defaults to 20.
        kept: Hashes in a fingerprint. Defaults to 50.
        threshold: Share of the fingerprint that makes a near duplicate. Defaults to 0.5.
        repeats: Near duplicates that raise the alarm. Defaults to 10.
        recent: Inputs of an identity among which they count. Defaults to 50.
        memory: Inputs that are remembered, of all identities together. Defaults to 20,000.
        max_identities: Identities that are remembered. Defaults to 10,000.

    Raises:
        InputError: An argument is out of its range.

    Example:

    >>> detector = NearDuplicates(repeats=3)
    >>> rng = np.random.default_rng(0)
    >>> x = rng.uniform(size=(1, 100))
    >>> for _ in range(5):
    ...     noisy = x + rng.normal(scale=0.001, size=x.shape)
    ...     finding = detector.observe("anybody", noisy, np.ones((1, 1)))
    >>> finding.id
    'abuse.near_duplicates'

    Reference:
        Li et al. 2022, Blacklight: scalable defense for neural networks against query-based
        black-box attacks (USENIX Security), section 4. Lemire and Kaser 2014, Strongly universal
        string hashing is fast, for the hash.
    """

    def __init__(
        self,
        bounds: tuple[float, float] = (0.0, 1.0),
        levels: int = 6,
        window: int = 20,
        kept: int = 50,
        threshold: float = 0.5,
        repeats: int = 10,
        recent: int = 50,
        memory: int = 20_000,
        max_identities: int = 10_000,
    ):
        for name, value in (
            ("levels", levels), ("window", window), ("kept", kept), ("repeats", repeats),
            ("recent", recent), ("memory", memory),
        ):  # fmt: skip
            check_integer(name, value)
        if not bounds[0] < bounds[1]:
            raise InputError(f"bounds is {bounds!r}; a pair (low, high) was expected.")
        self.bounds, self.levels, self.window, self.kept = bounds, levels, window, kept
        self.threshold, self.repeats = check_number("threshold", threshold, "(0, 1]"), repeats
        self._key = np.frombuffer(secrets.token_bytes(8 * (window + 1)), np.uint64)
        self._secret = secrets.token_bytes(16)
        self._queries: deque[tuple[np.ndarray, bytes]] = deque()
        self._by_identity = Memory(partial(deque, maxlen=recent), max_identities)
        self._exact: Counter[bytes] = Counter()
        self._holders: dict[int, deque[int]] = {}
        self._memory, self._first = memory, 0

    def observe(self, identity: str, inputs: Any, outputs: Any = None) -> Finding | None:
        """Takes one request; see `Detector.observe`."""
        inputs = np.ascontiguousarray(inputs)
        recent, most = self._by_identity.of(identity), 0
        for row, levels in zip(inputs, self._quantized(inputs), strict=True):
            exact = hashlib.blake2b(row.tobytes(), digest_size=8, key=self._secret).digest()
            recent.append(self._add(self._fingerprint(levels), exact))
            most = max(most, sum(recent))
        if most < self.repeats:
            return None
        return Finding(
            "abuse.near_duplicates",
            "high",
            f"{most} of {len(recent)} inputs in a row of {identity!r} are nearly the same as "
            "earlier ones, as in a search for an adversarial input.",
            {"identity": identity, "near_duplicates": most, "inputs": len(recent)},
            "Throttle or stop this identity, and answer it with labels only.",
        )

    def _quantized(self, inputs: np.ndarray) -> np.ndarray:
        rows = inputs.reshape(len(inputs), -1)
        if rows.dtype.kind == "f":
            low, high = self.bounds
            unit = np.clip(np.nan_to_num((rows - low) / (high - low)), 0.0, 1.0)
            rows = np.minimum(unit * self.levels, self.levels - 1)
        return rows.astype(np.uint32).astype(np.uint64)

    def _fingerprint(self, levels: np.ndarray) -> np.ndarray:
        """The largest of the keyed hashes of all windows, int64 of shape (at most kept,)."""
        window = min(self.window, len(levels))
        windows = np.lib.stride_tricks.sliding_window_view(levels, window)
        hashes = np.unique((windows @ self._key[:window] + self._key[-1]) >> np.uint64(32))
        return hashes[-self.kept :].astype(np.int64)

    def _add(self, fingerprint: np.ndarray, exact: bytes) -> bool:
        """Remembers a query, and tells whether it is nearly the same as one that came before."""
        number = self._first + len(self._queries)
        hashes = fingerprint.tolist()
        shared = Counter(holder for each in hashes for holder in self._holders.get(each, ()))
        best = max(shared.values(), default=0)
        near = best >= self.threshold * len(hashes) and not self._exact[exact]
        self._exact[exact] += 1
        for each in hashes:
            self._holders.setdefault(each, deque(maxlen=8)).append(number)
        self._queries.append((fingerprint, exact))
        if len(self._queries) > self._memory:
            self._forget()
        return near

    def _forget(self) -> None:
        fingerprint, exact = self._queries.popleft()
        self._exact[exact] -= 1
        if not self._exact[exact]:
            del self._exact[exact]
        for each in fingerprint.tolist():
            holders = self._holders[each]
            if holders[0] == self._first:
                holders.popleft()
            if not holders:
                del self._holders[each]
        self._first += 1
