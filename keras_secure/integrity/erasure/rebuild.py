"""Lost shards of one stripe, solved for from its parity."""

from collections.abc import Iterator, Sequence

import numpy as np

from keras_secure.integrity.erasure import cauchy
from keras_secure.integrity.erasure.bit_slices import multiply_matrix
from keras_secure.integrity.erasure.stripe_sums import ShardReader, stripe_sums
from keras_secure.integrity.erasure.stripes import Shard, Stripe


def rebuild(
    data: ShardReader,
    shards: list[Shard],
    parity: ShardReader,
    parity_shards: list[Shard],
    stripe: Stripe,
    missing: Sequence[int],
    intact: Sequence[int],
) -> Iterator[tuple[int, int, bytes]]:
    """Yields the bytes of lost data shards, a segment at a time.

    What parity says and what the sums of the shards that are there say differ by what is lost; the
    inverse of a small Cauchy matrix turns these differences back into shards.

    Args:
        data: Reads the data shards.
        shards: All data shards.
        parity: Reads the parity shards.
        parity_shards: All parity shards.
        stripe: The stripe.
        missing: Indices of its lost data shards.
        intact: Indices of its parity shards to use, as many.

    Yields:
        `(index, offset, segment)`: bytes of data shard `index` from `offset` in the shard on,
        zeros behind its end included.
    """
    rows = [stripe.parity.index(index) for index in intact]
    matrix = cauchy.solution(rows, [stripe.data.index(i) for i in missing], stripe.width)
    length = parity_shards[0].end - parity_shards[0].start
    for offset, sums, spare in stripe_sums(data, shards, stripe, length, frozenset(missing)):
        stored = np.empty_like(sums[:, 0])
        for row, index in zip(rows, intact, strict=True):
            parity.read(parity_shards[index], offset, stored)
            sums[:, row] ^= stored
        solved = spare[:, : len(missing)]
        multiply_matrix(matrix, [sums[:, row] for row in rows], solved)
        for row, index in enumerate(missing):
            yield index, offset, solved[:, row].tobytes()
