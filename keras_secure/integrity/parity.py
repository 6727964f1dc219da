"""Parity files: what a damaged model is rebuilt from, beside a file or inside a folder.

A parity file is nothing but its parity shards, one behind the other. What they belong to and their
digests stand in a table that is signed with the rest, so bytes of a parity file that somebody
changed are never used.
"""

import contextlib
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from io import RawIOBase
from pathlib import Path
from typing import Any

from keras_secure.arguments import is_integer, is_number
from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity.atomic import temporary_name
from keras_secure.integrity.erasure.stripes import (
    MAX_PARITY_OF_STRIPE,
    Shard,
    Stripe,
    data_shards,
    deal_stripes,
    parity_length,
)
from keras_secure.integrity.shards import SHARD_SIZE, digest_files
from keras_secure.integrity.tree import WHOLE, location, survey

PARITY_NAME = "model.parity"
PARITY_SUFFIX = ".parity"

_CODE = "cauchy-gf65536"
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ParityTable:
    """What is signed about a parity file.

    Args:
        name: Name of the parity file, in the folder or beside the file that it protects.
        num_data: Number of data shards, over all files in the order of their names' bytes.
        length: Bytes of a parity shard.
        digests: Hexadecimal SHA-256 of each parity shard.
    """

    name: str
    num_data: int
    length: int
    digests: tuple[str, ...]

    @property
    def shards(self) -> list[Shard]:
        """The parity shards as pieces of the parity file."""
        starts = range(0, len(self.digests) * self.length, self.length)
        return [Shard(self.name, start, start + self.length) for start in starts]

    @property
    def stripes(self) -> list[Stripe]:
        """The shards that protect each other."""
        return deal_stripes(self.num_data, len(self.digests))

    def to_dict(self) -> dict[str, Any]:
        """Returns the table as a JSON-serializable dictionary."""
        return {"code": _CODE, **asdict(self), "digests": list(self.digests)}

    @classmethod
    def from_dict(cls, table: Any) -> "ParityTable":
        """Reads what `to_dict` returned.

        Args:
            table: The dictionary.

        Returns:
            The table.

        Raises:
            IntegrityError: It is not well formed, or of a code that this version does not know.
        """
        fields = {"code", "name", "num_data", "length", "digests"}
        if not isinstance(table, dict) or set(table) != fields or table["code"] != _CODE:
            raise _malformed(f"it does not have exactly the fields of code {_CODE!r}")
        name, digests = table["name"], table["digests"]
        if not isinstance(name, str) or name in ("", ".", "..") or set(name) & set("/\\\0"):
            raise _malformed("its name is not the plain name of a file")
        if not isinstance(digests, list) or not digests:
            raise _malformed("it lists no parity shard")
        if not all(isinstance(digest, str) and _DIGEST.fullmatch(digest) for digest in digests):
            raise _malformed("its digests are not SHA-256 in hexadecimal")
        num_data, length = table["num_data"], table["length"]
        if not is_integer(num_data) or num_data < 1:
            raise _malformed("its number of data shards is not a positive integer")
        if not is_integer(length) or not 0 < length <= SHARD_SIZE or length % 128:
            raise _malformed("the length of its shards is not a multiple of 128 up to 1 MiB")
        return cls(name, num_data, length, tuple(digests))


def write_parity(
    path: str | os.PathLike,
    parity: float | int = 0.1,
    sizes: Mapping[str, int] | None = None,
) -> ParityTable:
    """Writes parity of a file or of a folder's files, from which as many lost shards come back.

    Any `m` damaged shards of 1 MiB, among data and parity, are made up for by `m` parity shards,
    where these are 128 or fewer; beyond that the shards are dealt out to stripes with up to 128
    each. Memory stays below 100 MB for files of any size.

    Args:
        path: A file, whose parity is written beside it as `FILE.parity`, or a folder, whose parity
            is written into it as `model.parity`.
        parity: A share of the data shards, as a float from 0 to 1 (at least one parity shard is
            written), or a number of parity shards, as an integer: at most as many as there are
            data shards, or 128.
        sizes: The length of each file to protect by its relative path with `/`, or by `"."` for a
            single file; by default all plain files but the parity file and `model.sig`.

    Returns:
        The table to sign; without it the file is of no use.

    Raises:
        InputError: `parity` is out of range, there is not a byte to protect, or a file cannot be
            read or written.
        IntegrityError: A file changed its length meanwhile.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "weights").write_bytes(bytes(1000))
    ...     table = write_parity(folder, 2)
    ...     Path(folder, "model.parity").stat().st_size == 2 * table.length
    True

    Reference:
        I. S. Reed, G. Solomon, Polynomial Codes over Certain Finite Fields (1960); the construction
        is that of `erasure/cauchy.py`.
    """
    path = Path(os.path.abspath(path))
    name = parity_name(path)
    is_file = not path.is_dir()
    sizes = _sizes_of(path) if sizes is None else sizes
    shards = data_shards(sizes)
    if not shards:
        raise InputError(f"{path} holds not a byte, so there is nothing to protect by parity.")
    num_parity = _num_parity(parity, len(shards))
    length = parity_length(shards)
    target = location(path, name, is_file)
    temporary = temporary_name(target)

    def locate(name: str) -> Path:
        place = location(path, name, is_file)
        return place.resolve() if name == WHOLE else place

    try:
        encode(locate, shards, num_parity, length, temporary)
        if any(locate(name).lstat().st_size != size for name, size in sizes.items()):
            raise IntegrityError(
                f"{path} changed while its parity was computed. Keep writers away and try again."
            )
        digests = digest_files([temporary], length)[0].digests
        os.replace(temporary, target)
    except OSError as error:
        raise InputError(
            f"The parity of {path} cannot be written to {target}: {error.strerror or error}."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return ParityTable(name, len(shards), length, tuple(digests))


def encode(
    locate: Callable[[str], Path], shards: list[Shard], num_parity: int, length: int, target: Path
) -> None:
    """Computes all parity shards into a new file, and writes it through to the disk.

    Args:
        locate: Tells where the file of a name is.
        shards: All data shards.
        num_parity: Number of parity shards.
        length: Bytes of each.
        target: The file to create.

    Raises:
        OSError: A file cannot be read or written.
    """
    # NumPy is loaded only where there is something to compute.
    from keras_secure.integrity.erasure.stripe_sums import ShardReader, stripe_sums

    with target.open("xb", buffering=0) as file, ShardReader(locate) as reader:
        for stripe in deal_stripes(len(shards), num_parity):
            for offset, sums, _ in stripe_sums(reader, shards, stripe, length):
                for row, index in enumerate(stripe.parity):
                    file.seek(index * length + offset)
                    write_all(file, sums[:, row].tobytes())
        os.fsync(file.fileno())


def write_all(file: RawIOBase, data: bytes) -> None:
    """Writes all of `data`, in as many pieces as the system takes."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def parity_name(path: Path) -> str:
    """The name of a parity file: inside a folder, or beside a file."""
    return PARITY_NAME if path.is_dir() else path.name + PARITY_SUFFIX


def _num_parity(parity: float | int, num_data: int) -> int:
    most = max(num_data, MAX_PARITY_OF_STRIPE)
    if is_integer(parity) and parity >= 1:
        if parity > most:
            raise InputError(
                f"parity={parity} was given for {num_data} shards of data; at most {most} parity "
                "shards were expected here: as many as there are data, or 128."
            )
        return int(parity)
    if is_number(parity) and not is_integer(parity) and 0 < parity <= 1:
        # A product such as 0.1 * 30 lies a rounding error above the integer meant.
        return max(1, math.ceil(parity * num_data - 1e-9))
    raise InputError(
        f"parity={parity!r} was given; a share above 0 and up to 1.0 as a float, or a positive "
        "number of shards as an integer, was expected."
    )


def _sizes_of(path: Path) -> dict[str, int]:
    tree = survey(path, skip=(PARITY_NAME, "model.sig"))
    return {name: size for name, (size, _) in tree.files.items()}


def _malformed(reason: str) -> IntegrityError:
    return IntegrityError(
        f"The parity table of the signature cannot be used: {reason}. Sign again with parity."
    )
