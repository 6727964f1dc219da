"""Damaged files rebuilt beside themselves, and put in place only when every byte is as signed."""

import contextlib
import os
from collections.abc import Mapping
from io import RawIOBase
from pathlib import Path

from keras_secure.errors import IntegrityError
from keras_secure.integrity.atomic import remove_leftovers, sync_folder, temporary_name
from keras_secure.integrity.damage import DamagedFile, joined
from keras_secure.integrity.erasure.stripes import Stripe
from keras_secure.integrity.parity import ParityTable, encode, write_all
from keras_secure.integrity.recovery_plan import make_plan
from keras_secure.integrity.shards import SHARD_SIZE, digest_files
from keras_secure.integrity.statement import Statement
from keras_secure.integrity.tree import WHOLE, location

_COPY_SIZE = 64 * 2**20


class Recovery:
    """The work on one signed folder or file.

    Args:
        root: The folder or file.
        statement: What was signed.
        damage: What `find_damage` found.

    Raises:
        IntegrityError: The signed parity table does not fit the signed files.
    """

    def __init__(self, root: Path, statement: Statement, damage: Mapping[str, DamagedFile]):
        self.root = root.resolve() if WHOLE in statement.files else root
        self.statement = statement
        self.damage = damage
        self.table = None if statement.parity is None else ParityTable.from_dict(statement.parity)
        self._rebuilt: dict[str, Path] = {}
        self.plan = make_plan(self.root, statement, damage, self.table)

    @property
    def parity_is_damaged(self) -> bool:
        """Whether the parity file itself has to be computed again."""
        return self.table is not None and self.table.name in self.damage

    def run(self) -> None:
        """Rebuilds, checks and puts in place.

        Raises:
            IntegrityError: What was rebuilt is not what was signed; nothing was changed.
            OSError: Something cannot be written; each file is the old one or the whole new one.
        """
        names = [name for name in self.damage if not self._is_parity(name)]
        try:
            for name in names:
                self._copy_intact(name)
            if self.plan.missing:
                self._fill_missing()
            self._check(names)
            if self.parity_is_damaged:
                self._encode_parity()
            self._put_in_place()
        finally:
            for path in self._rebuilt.values():
                with contextlib.suppress(OSError):
                    path.unlink()

    def remove_leftovers(self) -> None:
        """Removes what a repair that was killed has left beside the signed files."""
        remove_leftovers(map(self._signed_place, self.statement.files), "repair")

    def _is_parity(self, name: str) -> bool:
        return self.table is not None and name == self.table.name

    def _signed_place(self, name: str) -> Path:
        return location(self.root, name, WHOLE in self.statement.files)

    def _place(self, name: str) -> Path:
        """Where a file is to be read from: rebuilt, or as it lies."""
        return self._rebuilt.get(name) or self._signed_place(name)

    def _begin(self, name: str) -> Path:
        place = self._signed_place(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        path = temporary_name(place, "repair")
        self._rebuilt[name] = path
        return path

    def _copy_intact(self, name: str) -> None:
        file = self.damage[name]
        source = self._signed_place(name)
        with self._begin(name).open("xb", buffering=0) as target:
            target.truncate(file.size)
            if file.kind in ("missing", "replaced"):
                return
            with source.open("rb", buffering=0) as reader:
                position = 0
                for start, end in [*joined(file.ranges), (file.size, file.size)]:
                    _copy(reader, target, position, start)
                    position = end

    def _fill_missing(self) -> None:
        # NumPy is loaded only where there is something to compute.
        from keras_secure.integrity.erasure.rebuild import rebuild
        from keras_secure.integrity.erasure.stripe_sums import ShardReader

        assert self.table is not None
        shards = self.plan.shards
        with ShardReader(self._place) as data, ShardReader(self._place) as parity:
            for stripe in self.table.stripes:
                lost = sorted(self.plan.missing & set(stripe.data))
                if not lost:
                    continue
                chosen = self._choose(stripe, len(lost))
                for index, offset, piece in rebuild(
                    data, shards, parity, self.table.shards, stripe, lost, chosen
                ):
                    shard = shards[index]
                    piece = piece[: max(shard.end - shard.start - offset, 0)]
                    with self._rebuilt[shard.name].open("r+b", buffering=0) as target:
                        target.seek(shard.start + offset)
                        write_all(target, piece)

    def _choose(self, stripe: Stripe, count: int) -> list[int]:
        return sorted(self.plan.intact & set(stripe.parity))[:count]

    def _check(self, names: list[str]) -> None:
        """Holds every rebuilt byte against its signed digest, as it is on the disk."""
        found = digest_files([self._rebuilt[name] for name in names])
        for name, file in zip(names, found, strict=True):
            record = self.statement.files[name]
            if (file.size, tuple(file.digests)) != (record.size, record.digests):
                raise IntegrityError(
                    f"{name!r} was rebuilt, and is not what was signed: a file changed meanwhile, "
                    "or the disk fails. Nothing was changed. Keep writers away and try again."
                )

    def _encode_parity(self) -> None:
        assert self.table is not None
        path = self._begin(self.table.name)
        length = self.table.length
        encode(self._place, self.plan.shards, len(self.table.digests), length, path)
        if tuple(digest_files([path], length)[0].digests) != self.table.digests:
            raise IntegrityError(
                "The parity file was computed again, and is not what was signed: a file changed "
                "meanwhile, or the disk fails. Nothing was changed. Try again."
            )

    def _put_in_place(self) -> None:
        for name, path in self._rebuilt.items():
            with path.open("r+b") as file:
                os.fsync(file.fileno())
            mode = self.statement.files[name].mode
            os.chmod(path, 0o644 if mode is None else mode)
        for name, path in self._rebuilt.items():
            os.replace(path, self._signed_place(name))
        for folder in {path.parent for path in self._rebuilt.values()}:
            sync_folder(folder)


def _copy(source: RawIOBase, target: RawIOBase, start: int, end: int) -> None:
    """Copies a range of bytes to the same place, inside the kernel where that can.

    A source that ends early leaves zeros, which the check of the digests finds.
    """
    while start < end:
        try:
            count = os.copy_file_range(
                source.fileno(), target.fileno(), min(end - start, _COPY_SIZE), start, start
            )
        except (AttributeError, OSError):
            source.seek(start)
            target.seek(start)
            data = source.read(min(end - start, SHARD_SIZE)) or b""
            write_all(target, data)
            count = len(data)
        if not count:
            return
        start += count
