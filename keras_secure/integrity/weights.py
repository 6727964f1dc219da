"""Weights in memory: digests of named arrays, all held or a rotating part of their bytes.

The digests are tags of GMAC under a key that nobody but this object has: on processors with
carry-less multiplication it is some ten times as fast as SHA-256, and just reading weights that are
in no cache takes longer. No tag ever leaves the object, so one nonce serves all of them.
"""

import os
import random
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from keras_secure.arguments import is_number
from keras_secure.errors import InputError, IntegrityError

_CHUNK_SIZE = 2**18
# Reaching an array costs as much as hashing so many bytes; small arrays would be cheap otherwise.
_REACH = 2**17
# What parts add up to before they are looked at, at the latest after so many calls: the first array
# that is reached after a model ran costs several times as much as the next.
_LOOK = 2**19
_CALLS = 8
_KEY_BITS = 128
_NONCE = bytes(12)


class _Chunk(NamedTuple):
    name: str
    start: int
    end: int


class WeightDigests:
    """Digests of arrays that must not change, by chunks of 256 KiB.

    `check` hashes everything. `check_part` hashes a share of the bytes. Each round of `1 / share`
    calls sees every byte, in an order that is drawn anew from the operating system's entropy, so
    that nobody can know which ones are next; a change is found within two rounds and ten calls.

    It finds what changes weights behind the program's back: failing memory, a bit flipped on
    purpose, a library that writes where it should not. A change that was made without knowing the
    key passes with a probability of at most 2^-113. Who can read this object's key, or change its
    digests too, is not found out. Several threads may call it.

    Args:
        sources: For each name a function that returns the array, zero-copy if that is possible: it
            is called each time.

    Raises:
        InputError: There is no source.

    Example:

    >>> import numpy as np
    >>> kernel = np.ones((4, 4), "float32")
    >>> digests = WeightDigests({"kernel": lambda: kernel})
    >>> digests.check()
    ()
    >>> kernel.view("uint8")[0, 3] ^= 64
    >>> digests.check()
    ('kernel',)

    Reference:
        NIST SP 800-38D, section 6.4 (GHASH).
    """

    def __init__(self, sources: Mapping[str, Callable[[], Any]]):
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if not sources:
            raise InputError("There are no weights to watch; build the model first.")
        self._sources = dict(sources)
        self._order = random.SystemRandom()
        self._cipher = AESGCM(os.urandom(_KEY_BITS // 8))
        self._lock = threading.Lock()
        self.record()

    def record(self) -> None:
        """Takes the arrays as they are now for what they should be."""
        self._kinds: dict[str, tuple[Any, Any]] = {}
        self._digests: dict[_Chunk, bytes] = {}
        for name in self._sources:
            array = self._sources[name]()
            self._kinds[name] = (array.shape, array.dtype)
            data = _bytes_of(array)
            for start in range(0, len(data), _CHUNK_SIZE):
                chunk = _Chunk(name, start, min(start + _CHUNK_SIZE, len(data)))
                self._digests[chunk] = self._digest(data, chunk)
        self._cost = sum(_cost_of(chunk) for chunk in self._digests)
        self._pending: list[_Chunk] = []
        self._credit = 0.0

    def check(self) -> tuple[str, ...]:
        """Hashes everything.

        Returns:
            The names of the arrays that changed, in their order.
        """
        by_name: dict[str, list[_Chunk]] = {name: [] for name in self._sources}
        for chunk in self._digests:
            by_name[chunk.name].append(chunk)
        return tuple(name for name, chunks in by_name.items() if self._differs(name, chunks))

    def check_part(self, share: float = 0.01) -> tuple[str, ...]:
        """Hashes a share of the bytes, others at each call.

        Args:
            share: From 0 to 1; 0 checks nothing. Small shares are saved, and looked at together
                once in some calls.

        Returns:
            The names of the arrays that were found to have changed.
        """
        with self._lock:
            by_name = self._next_chunks(check_share(share) * self._cost)
        return tuple(name for name, chunks in by_name.items() if self._differs(name, chunks))

    def matches(self, name: str, array: Any) -> bool:
        """Whether an array is what was recorded under a name; for copies to restore from.

        Args:
            name: The name.
            array: The array.

        Returns:
            True or False.
        """
        return not self._array_differs(name, array, [c for c in self._digests if c.name == name])

    def _next_chunks(self, credit: float) -> dict[str, list[_Chunk]]:
        """The chunks whose turn it is, by the names of their arrays."""
        chosen: dict[str, list[_Chunk]] = {}
        self._credit += credit
        if not credit or self._credit < min(_LOOK, _CALLS * credit, self._cost):
            return chosen
        while self._digests:
            if not self._pending:
                self._pending = list(self._digests)
                self._order.shuffle(self._pending)
            if _cost_of(self._pending[-1]) > self._credit:
                break
            chunk = self._pending.pop()
            self._credit -= _cost_of(chunk)
            chosen.setdefault(chunk.name, []).append(chunk)
        return chosen

    def _differs(self, name: str, chunks: list[_Chunk]) -> bool:
        return self._array_differs(name, self._sources[name](), chunks)

    def _array_differs(self, name: str, array: Any, chunks: list[_Chunk]) -> bool:
        if (array.shape, array.dtype) != self._kinds[name]:
            return True
        data = _bytes_of(array)
        return any(self._digest(data, chunk) != self._digests[chunk] for chunk in chunks)

    def _digest(self, data: memoryview, chunk: _Chunk) -> bytes:
        return self._cipher.encrypt(_NONCE, b"", data[chunk.start : chunk.end])


def check_share(share: Any) -> float:
    """A share of bytes, if it is one.

    Raises:
        InputError: It is no number from 0 to 1.

    Example:

    >>> check_share(0.01)
    0.01
    """
    if not is_number(share) or not 0 <= share <= 1:
        raise InputError(
            f"{share!r} of the weights' bytes were asked to be checked at each call; expected a "
            "number from 0 to 1, such as 0.01."
        )
    return float(share)


def raise_changed(names: tuple[str, ...], where: str) -> None:
    """Refuses weights that changed.

    Args:
        names: The arrays that did.
        where: Whose they are.

    Raises:
        IntegrityError: Always.
    """
    raise IntegrityError(
        f"Weights of {where} changed in memory: {', '.join(names)}. Do not use its results; load "
        "it again from its signed file, and test the machine's memory."
    )


def _cost_of(chunk: _Chunk) -> int:
    return chunk.end - chunk.start + _REACH


def _bytes_of(array: Any) -> memoryview:
    # By way of uint8, as bfloat16 and its kin have no buffers of their own.
    return memoryview(array.reshape(-1).view("uint8"))
