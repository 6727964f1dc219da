"""Files hashed piece by piece: one pass over the bytes, on every core, in constant memory."""

import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from keras_secure.errors import InputError, IntegrityError

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


class Job(NamedTuple):
    """A file to hash.

    Args:
        name: A plain file.
        shard_size: Bytes of a shard; None for one digest of all.
        algorithm: `"sha256"` or `"blake2b"`.
        length: No more than so many bytes are read.
    """

    name: str
    shard_size: int | None
    algorithm: str = "sha256"
    length: int = 2**63


class FileDigests(NamedTuple):
    """What hashing saw of one file.

    Args:
        size: Length in bytes.
        digests: Hexadecimal digest of each shard in order; none for an empty file.
    """

    size: int
    digests: list[str]


class _Stretch(NamedTuple):
    job: int
    first: int
    start: int
    end: int


def run_jobs(jobs: Sequence[Job]) -> list[FileDigests]:
    """Hashes files, with all of them sharing the threads.

    Args:
        jobs: What to hash; a file may stand there several times.

    Returns:
        Size and digests for each job.

    Raises:
        InputError: A file cannot be read, or an algorithm is unknown.
        IntegrityError: One is a link, a folder or a special file, or it changed meanwhile.

    Example:

    >>> run_jobs([])
    []
    """
    for job in jobs:
        if job.algorithm not in _ALGORITHMS:
            raise InputError(
                f"Files cannot be hashed by {job.algorithm!r}; expected {' or '.join(_ALGORITHMS)}."
            )
    sizes = [_size_of(job.name) for job in jobs]
    ends = [min(size, job.length) for size, job in zip(sizes, jobs, strict=True)]
    results = [
        FileDigests(size, [""] * _number_of_shards(end, job.shard_size))
        for size, end, job in zip(sizes, ends, jobs, strict=True)
    ]
    stretches = iter(_stretches(jobs, ends))
    lock, stopped = threading.Lock(), threading.Event()

    def take() -> _Stretch | None:
        with lock:
            return None if stopped.is_set() else next(stretches, None)

    def work() -> None:
        buffer = memoryview(bytearray(_READ_SIZE))
        while (stretch := take()) is not None:
            try:
                digests = _hash_stretch(jobs[stretch.job], stretch, sizes[stretch.job], buffer)
            except BaseException:
                # The others find nothing left to do.
                stopped.set()
                raise
            results[stretch.job].digests[stretch.first : stretch.first + len(digests)] = digests

    num_threads = min(_num_cores(), sum(ends) // _BYTES_PER_THREAD)
    if num_threads < 2:
        work()
        return results
    with ThreadPoolExecutor(num_threads) as pool:
        running = [pool.submit(work) for _ in range(num_threads)]
    for future in running:
        future.result()
    return results


def _hash_stretch(job: Job, stretch: _Stretch, size: int, buffer: memoryview) -> list[str]:
    new, digests = _ALGORITHMS[job.algorithm], []
    step = job.shard_size or max(stretch.end, 1)
    try:
        descriptor = os.open(job.name, _FLAGS)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _not_plain(job.name)
            file.seek(stretch.start)
            for start in range(stretch.start, max(stretch.end, stretch.start + 1), step):
                digest, left = new(), min(step, stretch.end - start)
                while left:
                    count = file.readinto(buffer[: min(left, _READ_SIZE)])
                    if not count:
                        raise _changed(job.name)
                    digest.update(buffer[:count])
                    left -= count
                digests.append(digest.hexdigest())
            if stretch.end == size and file.read(1):
                raise _changed(job.name)
    except OSError as error:
        raise _unreadable(job.name, error) from error
    return digests


def _stretches(jobs: Sequence[Job], ends: Sequence[int]) -> Iterator[_Stretch]:
    # A whole file cannot be divided: the longest come first, lest one thread ends with them alone.
    whole = [index for index, job in enumerate(jobs) if job.shard_size is None]
    for index in sorted(whole, key=lambda index: -ends[index]):
        yield _Stretch(index, 0, 0, ends[index])
    for index, (job, end) in enumerate(zip(jobs, ends, strict=True)):
        if job.shard_size is not None:
            length = max(_STRETCH // job.shard_size, 1) * job.shard_size
            for start in range(0, end, length):
                yield _Stretch(index, start // job.shard_size, start, min(start + length, end))


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
