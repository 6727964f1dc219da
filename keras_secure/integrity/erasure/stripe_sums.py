"""Parity of one stripe, computed as a stream: a segment of every shard at a time."""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from keras_secure.integrity.erasure import additive_fft
from keras_secure.integrity.erasure.stripes import SEGMENT_SIZE, Shard, Stripe, segments


class ShardReader:
    """Reads segments of shards into rows of packets; bytes behind a shard's end count as zeros.

    Args:
        locate: Tells where the file of a name is.
    """

    def __init__(self, locate: Callable[[str], Path]):
        self._locate = locate
        self._name: str | None = None
        self._file: BinaryIO | None = None
        self._scratch = np.zeros(SEGMENT_SIZE, np.uint8)

    def __enter__(self) -> "ShardReader":
        return self

    def __exit__(self, *_: Any) -> None:
        self._close()

    def read(self, shard: Shard, offset: int, packets: np.ndarray) -> None:
        """Fills `packets`, shape (16, words), with the shard's bytes from `offset` on."""
        piece = self._scratch[: packets.size * 8]
        wanted = max(min(piece.size, shard.end - shard.start - offset), 0)
        view, count = memoryview(piece.data)[:wanted], 0
        if wanted:
            file = self._open(shard.name)
            file.seek(shard.start + offset)
            while count < wanted and (got := file.readinto(view[count:])):
                count += got
        piece[count:] = 0
        packets[:] = piece.view(np.uint64).reshape(packets.shape)

    def _open(self, name: str) -> Any:
        # Neighbours lie in one file nearly always.
        if name != self._name:
            self._close()
            self._file = self._locate(name).open("rb", buffering=0)
            self._name = name
        return self._file

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._name = self._file = None


def stripe_sums(
    reader: ShardReader,
    shards: list[Shard],
    stripe: Stripe,
    length: int,
    missing: Collection[int] = (),
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Computes what the parity of a stripe is while the missing shards are taken for zeros.

    Args:
        reader: Reads the data shards.
        shards: All data shards.
        stripe: The stripe.
        length: Bytes of a parity shard.
        missing: Indices of data shards that are not to be read.

    Yields:
        `(offset, sums, spare)` for each segment: an array of shape (16, width, words) of uint64,
        whose row `j` belongs to the stripe's `j`-th parity shard, and one of the same shape to
        write to. Both are overwritten afterwards.
    """
    width = stripe.width
    memory = np.empty((2, 16 * width * min(length, SEGMENT_SIZE) // 128), np.uint64)
    for offset, size in segments(length):
        shape = (16, width, size // 128)
        sums, rows = memory[:, : 16 * width * shape[2]].reshape(2, *shape)
        sums[:] = 0
        for first in range(0, len(stripe.data), width):
            block = stripe.data[first : first + width]
            for row in range(width):
                if row < len(block) and block[row] not in missing:
                    reader.read(shards[block[row]], offset, rows[:, row])
                else:
                    rows[:, row] = 0
            additive_fft.interpolate(rows, width + first)
            np.bitwise_xor(sums, rows, out=sums)
        additive_fft.evaluate(sums, 0)
        yield offset, sums, rows
