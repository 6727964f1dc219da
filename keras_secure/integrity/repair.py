"""Repair: damaged shards are found by their signed digests, and come back from signed parity."""

import os
from pathlib import Path
from typing import Any

from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity.damage import DamagedFile, find_damage
from keras_secure.integrity.recovery import Recovery
from keras_secure.integrity.repair_report import RepairReport
from keras_secure.integrity.signature_file import SIGNATURE_SUFFIX, read_signature, signature_path
from keras_secure.integrity.statement import Statement
from keras_secure.integrity.structure import misplaced, obstacle, restore_structure
from keras_secure.integrity.tensor_places import LostTensors, lost_tensors
from keras_secure.integrity.tensor_places.lost import index_of
from keras_secure.integrity.times import now
from keras_secure.integrity.tree import WHOLE, location
from keras_secure.integrity.trust import as_trust
from keras_secure.integrity.verify import verify


def repair(
    path: str | os.PathLike,
    trust: Any,
    *,
    signature: str | os.PathLike | None = None,
    dry_run: bool = False,
) -> RepairReport:
    """Rebuilds what is damaged, missing, cut off or lengthened of a folder or file signed with
    parity.

    Each damaged file is rebuilt beside itself, held against its signed digests and renamed, so
    whatever interrupts the work, every file is the old one or the whole new one; run it again
    then. Folders, links and permission bits are put back too. What nobody signed is left alone, and
    named by the verification at the end.

    Where there is not enough parity, nothing is changed at all, and the report names the tensors
    that are lost, by HDF5 dataset, npz entry or checkpoint key. Only bytes with signed digests are
    read to find that out.

    Args:
        path: What was signed, with `parity=...`. Of a single file the signature and the parity are
            looked for beside it, even if the file itself is gone.
        trust: Whom to believe, as for `verify`.
        signature: Where the signature is, if not at its usual place.
        dry_run: Whether only to look.

    Returns:
        A `RepairReport`.

    Raises:
        InputError: A file or key cannot be used, or something cannot be written.
        IntegrityError: The signature does not hold, so nobody knows what the bytes should be; or a
            file changes meanwhile.

    Example:

    >>> import tempfile
    >>> from keras_secure.integrity import generate_key_pair, sign
    >>> private_key, public_key = generate_key_pair()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     weights = Path(folder, "weights")
    ...     _ = weights.write_bytes(bytes(3 * 2**20))
    ...     _ = sign(folder, private_key, parity=1)
    ...     _ = weights.write_bytes(bytes(2**20) + b"!" + bytes(2**20))
    ...     report = repair(folder, public_key, dry_run=True)
    ...     report.damaged[0].describe(), report.problem
    ("'weights' is truncated at bytes 1048576-3145728",
     '2 shards are damaged, and of 1 parity shards 1 are intact')

    Reference:
        The erasure code is that of `keras_secure.integrity.parity`.
    """
    root = Path(os.path.abspath(path))
    place = _signature_place(root, signature)
    statement = _believed(root, place, trust)
    if root.exists() and root.is_dir() == (WHOLE in statement.files):
        raise InputError(
            f"{root} is {'a folder' if root.is_dir() else 'a file'}, and the other was signed. "
            "Move it away, and try again."
        )
    damage = find_damage(root, statement)
    damaged = tuple(damage.values())
    if damaged and not statement.own:
        lost = tuple(LostTensors(file.name, (), False) for file in damaged)
        problem = "it was signed by model-signing, which knows no parity"
        return RepairReport(str(root), damaged, lost=lost, problem=problem)
    recovery = Recovery(root, statement, damage)
    if problem := obstacle(root, statement):
        return RepairReport(str(root), damaged, problem=problem)
    if recovery.plan.hopeless:
        return RepairReport(
            str(root), damaged, lost=_lost(root, statement, recovery), problem=_shortage(recovery)
        )
    if dry_run:
        return RepairReport(str(root), damaged, problem=_pending(root, statement, damaged))
    try:
        recovery.remove_leftovers()
        recovery.run()
        others = restore_structure(root, statement)
    except OSError as error:
        raise InputError(
            f"{root} cannot be repaired: {error.strerror or error} ({error.filename}). Every file "
            "is the old one or the whole new one; make room or permissions, and try again."
        ) from error
    return RepairReport(
        str(root),
        damaged,
        repaired=(*damage, *others),
        num_rebuilt=len(recovery.plan.missing),
        verification=verify(root, trust, signature=place),
    )


def _signature_place(root: Path, signature: str | os.PathLike | None) -> Path:
    if signature is None and not root.exists():
        beside = root.with_name(root.name + SIGNATURE_SUFFIX)
        if beside.is_file():
            return beside
    return signature_path(root, signature)


def _believed(root: Path, place: Path, trust: Any) -> Statement:
    seen = read_signature(place, as_trust(trust), now())
    if seen.statement is None:
        reasons = "; ".join(finding.statement for finding in seen.findings)
        raise IntegrityError(
            f"{root} cannot be repaired, since its signature cannot be believed: {reasons}. "
            f"Get {place.name} again from its publisher."
        )
    return seen.statement


def _lost(root: Path, statement: Statement, recovery: Recovery) -> tuple[LostTensors, ...]:
    names = {recovery.plan.shards[index].name for index in recovery.plan.hopeless}
    lost = []
    for name in sorted(names):
        index = index_of(name)
        intact_index = index in statement.files and index not in recovery.damage
        is_file = WHOLE in statement.files
        lost.append(
            lost_tensors(
                location(root, name, is_file),
                recovery.damage[name],
                location(root, str(index), is_file) if intact_index else None,
            )
        )
    return tuple(lost)


def _shortage(recovery: Recovery) -> str:
    plan, table = recovery.plan, recovery.table
    if table is None:
        return f"{len(plan.missing)} shards are damaged, and it was signed without parity"
    return (
        f"{len(plan.missing)} shards are damaged, and of {len(table.digests)} parity shards "
        f"{len(plan.intact)} are intact"
    )


def _pending(root: Path, statement: Statement, damaged: tuple[DamagedFile, ...]) -> str:
    others = misplaced(root, statement)
    count = len(damaged) + len(others)
    return f"{count} things can be put right, and nothing was changed yet" if count else ""
