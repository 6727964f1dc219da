"""Weights in memory: digests of named arrays, all held or a rotating part of their bytes."""

import hashlib
import random
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from keras_secure.arguments import is_number
from keras_secure.errors import InputError, IntegrityError

_CHUNK_SIZE = 2**16
# Reaching an array costs as much as hashing so many bytes; small arrays would be cheap otherwise.
_REACH = 2**14


class _Chunk(NamedTuple):
    name: str
    start: int
    end: int


class WeightDigests:
    """Digests of arrays that must not change, by chunks of 64 KiB.

    `check` hashes everything. `check_part` hashes a share of the bytes. Each round of `1 / share`
    calls sees every byte, in an order that is drawn anew from the operating system's entropy, so
    that nobody can know which ones are next; a change is found within two rounds.

    It finds what changes weights behind the program's back: failing memory, a bit flipped on
    purpose, a library that writes where it should not. Who can change the weights and this
    object's digests too is not found out.

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
    """

    def __init__(self, sources: Mapping[str, Callable[[], Any]]):
        if not sources:
            raise InputError("There are no weights to watch; build the model first.")
        self._sources = dict(sources)
        self._order = random.SystemRandom()
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
                self._digests[chunk] = _digest(data, chunk)
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
            share: From 0 to 1; 0 checks nothing. What does not fill a chunk is saved for later
                calls.

        Returns:
            The names of the arrays that were found to have changed.
        """
        self._credit += check_share(share) * self._cost
        by_name: dict[str, list[_Chunk]] = {}
        while self._digests:
            if not self._pending:
                self._pending = list(self._digests)
                self._order.shuffle(self._pending)
            if _cost_of(self._pending[-1]) > self._credit:
                break
            chunk = self._pending.pop()
            self._credit -= _cost_of(chunk)
            by_name.setdefault(chunk.name, []).append(chunk)
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

    def _differs(self, name: str, chunks: list[_Chunk]) -> bool:
        return self._array_differs(name, self._sources[name](), chunks)

    def _array_differs(self, name: str, array: Any, chunks: list[_Chunk]) -> bool:
        if (array.shape, array.dtype) != self._kinds[name]:
            return True
        data = _bytes_of(array)
        return any(_digest(data, chunk) != self._digests[chunk] for chunk in chunks)


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


def _digest(data: memoryview, chunk: _Chunk) -> bytes:
    return hashlib.sha256(data[chunk.start : chunk.end]).digest()
