"""Which shards protect each other: data and parity dealt out to stripes, so that a burst is spread.

Up to 128 parity shards stand in one stripe, where any of them make up for as many lost shards
wherever these are. More are dealt out in turn: neighbours go to different stripes, and a burst of
damage costs each stripe its share.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from keras_secure.errors import InputError
from keras_secure.integrity.shards import SHARD_SIZE, shard_bounds

MAX_PARITY_OF_STRIPE = 128
PACKET_SIZE = 16384
SEGMENT_SIZE = 16 * PACKET_SIZE

_MAX_DATA_OF_STRIPE = 2**16 - MAX_PARITY_OF_STRIPE
# Sixteen packets of whole 64-bit words.
_GRAIN = 16 * 8


class Shard(NamedTuple):
    """A piece of a file.

    Args:
        name: Path of the file, relative to the folder it is signed in.
        start: Offset of its first byte.
        end: Offset behind its last byte.
    """

    name: str
    start: int
    end: int


class Stripe(NamedTuple):
    """Shards that protect each other.

    Args:
        data: Indices of its data shards.
        parity: Indices of its parity shards.
    """

    data: range
    parity: range

    @property
    def width(self) -> int:
        """Number of parity points of the code, the next power of two."""
        return 1 << (len(self.parity) - 1).bit_length()


def data_shards(sizes: Mapping[str, int]) -> list[Shard]:
    """Cuts files into shards, in the order of their names' bytes.

    Args:
        sizes: Length in bytes of each file.

    Returns:
        The shards; an empty file has none.

    Example:

    >>> data_shards({"b": 3, "a": 2**20 + 1})
    [Shard(name='a', start=0, end=1048576), Shard(name='a', start=1048576, end=1048577),
     Shard(name='b', start=0, end=3)]
    """
    names = sorted(sizes, key=lambda name: name.encode(errors="surrogateescape"))
    return [Shard(name, start, end) for name in names for start, end in shard_bounds(sizes[name])]


def deal_stripes(num_data: int, num_parity: int) -> list[Stripe]:
    """Deals shards out to as few stripes as the code allows.

    Args:
        num_data: Number of data shards, at least 1.
        num_parity: Number of parity shards, at least 1.

    Returns:
        The stripes.

    Raises:
        InputError: There are too few parity shards for so many data shards.

    Example:

    >>> [len(stripe.parity) for stripe in deal_stripes(5000, 300)]
    [100, 100, 100]
    """
    count = max(-(-num_parity // MAX_PARITY_OF_STRIPE), -(-num_data // _MAX_DATA_OF_STRIPE))
    if num_parity < count:
        raise InputError(
            f"{num_parity} parity shards cannot protect {num_data} shards; at least {count} are "
            "needed."
        )
    return [
        Stripe(range(first, num_data, count), range(first, num_parity, count))
        for first in range(count)
    ]


def parity_length(shards: list[Shard]) -> int:
    """Bytes of a parity shard: those of the longest data shard, rounded up to whole packets."""
    longest = max(shard.end - shard.start for shard in shards)
    return min(-(-longest // _GRAIN) * _GRAIN, SHARD_SIZE)


def segments(length: int) -> Iterator[tuple[int, int]]:
    """Yields (offset, size) of the pieces of a shard that are coded at a time.

    Example:

    >>> list(segments(2**18 + 256))
    [(0, 262144), (262144, 256)]
    """
    for offset in range(0, length, SEGMENT_SIZE):
        yield offset, min(SEGMENT_SIZE, length - offset)
