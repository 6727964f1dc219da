"""Digests of files by shards of 1 MiB: one pass over the bytes, on every core, in constant memory.

A digest per shard costs no more than one per file, and tells where in a file the damage is.
"""

import hashlib
import os
import stat
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from keras_secure.errors import InputError, IntegrityError

SHARD_SIZE = 2**20

_READ_SIZE = 2**20
# What a thread takes at a time: long enough that opening the file again costs nothing.
_STRETCH = 16 * 2**20
_BYTES_PER_THREAD = 4 * 2**20
_ALGORITHMS: dict[str, Callable[[], Any]] = {"sha256": hashlib.sha256, "blake2b": hashlib.blake2b}
_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    # A pipe put in the place of a file would otherwise keep us waiting for a writer.
    | getattr(os, "O_NONBLOCK", 0)
)


class FileDigests(NamedTuple):
    """What hashing saw of one file.

    Args:
        size: Length in bytes.
        digests: Hexadecimal digest of each shard in order; none for an empty file.
    """

    size: int
    digests: list[str]


class _Stretch(NamedTuple):
    file: int
    first: int
    start: int
    end: int


def hash_file(path: str | os.PathLike) -> list[str]:
    """Hashes a file by shards.

    Args:
        path: A plain file.

    Returns:
        Hexadecimal SHA-256 of each shard of `SHARD_SIZE` bytes, the last of which may be shorter;
        an empty list for an empty file.

    Raises:
        InputError: The file cannot be read.
        IntegrityError: It is a link, a folder or a special file, or it changed meanwhile.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "weights")
    ...     with open(path, "wb") as file:
    ...         _ = file.write(bytes(2**20) + b"a")
    ...     digests = hash_file(path)
    >>> len(digests), digests[1] == hashlib.sha256(b"a").hexdigest()
    (2, True)
    """
    return digest_files([path])[0].digests


def hash_files(paths: Iterable[str | os.PathLike]) -> dict[str, list[str]]:
    """Hashes many files by shards, with all of them sharing the threads.

    Args:
        paths: Plain files.

    Returns:
        For each path, as text and in the order given, what `hash_file` returns.

    Raises:
        InputError: A file cannot be read.
        IntegrityError: One is a link, a folder or a special file, or it changed meanwhile.

    Example:

    >>> hash_files([])
    {}
    """
    names = [os.fspath(path) for path in paths]
    return {name: file.digests for name, file in zip(names, digest_files(names), strict=True)}


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

    >>> digest_files([], shard_size=None)
    []
    """
    if algorithm not in _ALGORITHMS:
        raise InputError(
            f"Files cannot be hashed by {algorithm!r}; expected {' or '.join(_ALGORITHMS)}."
        )
    names = [os.fspath(path) for path in paths]
    sizes = [_size_of(name) for name in names]
    ends = sizes if lengths is None else [min(pair) for pair in zip(sizes, lengths, strict=True)]
    results = [
        FileDigests(size, [""] * _number_of_shards(end, shard_size))
        for size, end in zip(sizes, ends, strict=True)
    ]
    stretches = _stretches(ends, shard_size)
    lock = threading.Lock()

    def take() -> _Stretch | None:
        with lock:
            return next(stretches, None)

    def work() -> None:
        buffer = memoryview(bytearray(_READ_SIZE))
        while (stretch := take()) is not None:
            try:
                index = stretch.file
                digests = _hash_stretch(
                    names[index], stretch, sizes[index], shard_size, algorithm, buffer
                )
            except BaseException:
                # The others find nothing left to do.
                with lock:
                    stretches.close()
                raise
            results[index].digests[stretch.first : stretch.first + len(digests)] = digests

    num_threads = min(_num_cores(), sum(ends) // _BYTES_PER_THREAD)
    if num_threads < 2:
        work()
        return results
    with ThreadPoolExecutor(num_threads) as pool:
        running = [pool.submit(work) for _ in range(num_threads)]
    for future in running:
        future.result()
    return results


def shard_bounds(size: int, shard_size: int = SHARD_SIZE) -> Iterator[tuple[int, int]]:
    """Yields (start, end) of each shard of a file of `size` bytes.

    Example:

    >>> list(shard_bounds(5, 2))
    [(0, 2), (2, 4), (4, 5)]
    """
    for start in range(0, size, shard_size):
        yield start, min(start + shard_size, size)


def _hash_stretch(
    name: str,
    stretch: _Stretch,
    size: int,
    shard_size: int | None,
    algorithm: str,
    buffer: memoryview,
) -> list[str]:
    new, digests = _ALGORITHMS[algorithm], []
    step = shard_size or max(stretch.end, 1)
    try:
        descriptor = os.open(name, _FLAGS)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _not_plain(name)
            file.seek(stretch.start)
            for start in range(stretch.start, max(stretch.end, stretch.start + 1), step):
                digest, left = new(), min(step, stretch.end - start)
                while left:
                    count = file.readinto(buffer[: min(left, _READ_SIZE)])
                    if not count:
                        raise _changed(name)
                    digest.update(buffer[:count])
                    left -= count
                digests.append(digest.hexdigest())
            if stretch.end == size and file.read(1):
                raise _changed(name)
    except OSError as error:
        raise _unreadable(name, error) from error
    return digests


def _stretches(sizes: list[int], shard_size: int | None) -> Generator[_Stretch, None, None]:
    for index, size in enumerate(sizes):
        if shard_size is None:
            yield _Stretch(index, 0, 0, size)
            continue
        length = max(_STRETCH // shard_size, 1) * shard_size
        for start in range(0, size, length):
            yield _Stretch(index, start // shard_size, start, min(start + length, size))


def _number_of_shards(size: int, shard_size: int | None) -> int:
    return 1 if shard_size is None else -(-size // shard_size)


def _size_of(name: str) -> int:
    try:
        status = os.lstat(name)
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise _not_plain(name)
    return status.st_size


def _num_cores() -> int:
    # A container may be given fewer cores than the machine has.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _not_plain(name: str) -> IntegrityError:
    return IntegrityError(
        f"{name} is a link, a folder or a special file; expected a plain file, whose bytes can be "
        "hashed. Replace it by one."
    )


def _changed(name: str) -> IntegrityError:
    return IntegrityError(
        f"{name} changed its length while it was hashed. Keep writers away from it, and try again."
    )


def _unreadable(name: str, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or error
    return InputError(f"{name} cannot be read: {reason}. Check its name and its permissions.")
