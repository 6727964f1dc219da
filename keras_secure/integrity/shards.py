"""Digests of files by shards of 1 MiB.

A digest per shard costs no more than one per file, and tells where in a file the damage is.
"""

import os
from collections.abc import Iterable, Iterator

from keras_secure.integrity.hashing import FileDigests, Job, run_jobs

SHARD_SIZE = 2**20


def digest_files(
    paths: Iterable[str | os.PathLike],
    shard_size: int | None = SHARD_SIZE,
    algorithm: str = "sha256",
    lengths: Iterable[int] | None = None,
) -> list[FileDigests]:
    """Hashes files by shards of any size, and tells the sizes that it saw.

    Args:
        paths: Plain files.
        shard_size: Bytes of a shard; None for one digest per file, which an empty file has too.
        algorithm: `"sha256"` or `"blake2b"`.
        lengths: Of each file no more than so many bytes are read; all of it when not given.

    Returns:
        Size and digests of each file, in the order given.

    Raises:
        InputError: A file cannot be read, or the algorithm is unknown.
        IntegrityError: One is a link, a folder or a special file, or it changed meanwhile.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "weights")
    ...     with open(path, "wb") as file:
    ...         _ = file.write(bytes(2**20) + b"a")
    ...     (weights,) = digest_files([path])
    >>> weights.size, len(weights.digests)
    (1048577, 2)
    """
    jobs = [Job(os.fspath(path), shard_size, algorithm) for path in paths]
    if lengths is not None:
        jobs = [job._replace(length=length) for job, length in zip(jobs, lengths, strict=True)]
    return run_jobs(jobs)


def digest_files_twice(paths: Iterable[str | os.PathLike]) -> tuple[list[FileDigests], list[str]]:
    """Hashes files by shards and as a whole, side by side.

    Args:
        paths: Plain files.

    Returns:
        What `digest_files` returns, and the hexadecimal SHA-256 of each whole file.

    Raises:
        InputError: A file cannot be read.
        IntegrityError: One is a link, a folder or a special file, or it changed meanwhile.

    Example:

    >>> digest_files_twice([])
    ([], [])
    """
    names = [os.fspath(path) for path in paths]
    jobs = [Job(name, size) for size in (SHARD_SIZE, None) for name in names]
    found = run_jobs(jobs)
    return found[: len(names)], [file.digests[0] for file in found[len(names) :]]


def shard_bounds(size: int, shard_size: int = SHARD_SIZE) -> Iterator[tuple[int, int]]:
    """Yields (start, end) of each shard of a file of `size` bytes.

    Example:

    >>> list(shard_bounds(5, 2))
    [(0, 2), (2, 4), (4, 5)]
    """
    for start in range(0, size, shard_size):
        yield start, min(start + shard_size, size)
