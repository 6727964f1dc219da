"""What of a damaged folder or file can be rebuilt, and from which parity."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from keras_secure.errors import IntegrityError
from keras_secure.integrity.damage import DamagedFile
from keras_secure.integrity.erasure.stripes import Shard, data_shards, parity_length
from keras_secure.integrity.parity import ParityTable
from keras_secure.integrity.shards import digest_files
from keras_secure.integrity.statement import Statement
from keras_secure.integrity.tree import WHOLE, location


@dataclass(frozen=True)
class Plan:
    """What has to be rebuilt, and from what.

    Args:
        shards: All data shards.
        missing: Indices of those that are damaged.
        intact: Indices of the parity shards that are as they were signed.
        hopeless: Indices of damaged shards in stripes with too little parity left.
    """

    shards: list[Shard]
    missing: frozenset[int]
    intact: frozenset[int]
    hopeless: frozenset[int]


def make_plan(
    root: Path,
    statement: Statement,
    damage: Mapping[str, DamagedFile],
    table: ParityTable | None,
) -> Plan:
    """Decides what can be rebuilt.

    Args:
        root: The signed folder or file.
        statement: What was signed.
        damage: What `find_damage` found.
        table: The signed parity table; None where there is no parity.

    Returns:
        The `Plan`.

    Raises:
        IntegrityError: The signed parity table does not fit the signed files.
    """
    parity = None if table is None else table.name
    sizes = {name: record.size or 0 for name, record in statement.files.items() if name != parity}
    shards = data_shards(sizes)
    damaged = {(name, start) for name, file in damage.items() for start, _ in file.ranges}
    missing = frozenset(
        index for index, shard in enumerate(shards) if (shard.name, shard.start) in damaged
    )
    if table is None:
        return Plan(shards, missing, frozenset(), missing)
    if len(shards) != table.num_data or parity_length(shards) != table.length:
        raise IntegrityError(
            f"The signed parity table is for {table.num_data} shards, and the signed "
            f"files have {len(shards)}. Sign again with parity."
        )
    place = location(root, table.name, WHOLE in statement.files)
    intact = frozenset(_intact_parity(place, table, damage.get(table.name)))
    hopeless: set[int] = set()
    for stripe in table.stripes:
        lost = missing & set(stripe.data)
        if len(lost) > len(intact & set(stripe.parity)):
            hopeless |= lost
    return Plan(shards, missing, intact, frozenset(hopeless))


def _intact_parity(place: Path, table: ParityTable, damage: DamagedFile | None) -> Iterable[int]:
    if damage is None:
        return range(len(table.digests))
    if damage.kind in ("missing", "replaced"):
        return ()
    lengths = [table.length * len(table.digests)]
    found = digest_files([place], table.length, lengths=lengths)
    pairs = enumerate(zip(found[0].digests, table.digests, strict=False))
    return [index for index, (digest, signed) in pairs if digest == signed]
