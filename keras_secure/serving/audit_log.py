"""A trail of what was asked and answered, in which nothing can be changed unnoticed."""

import contextlib
import hashlib
import os
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from keras_secure.arguments import is_integer
from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity.atomic import sync_folder, write_atomically
from keras_secure.integrity.key_files import load_private_key
from keras_secure.integrity.keys import fingerprint
from keras_secure.integrity.strict_json import parse_json
from keras_secure.serving.audit_record import FIRST, HEAD_SUFFIX, hash_of, seal_record, sign_record

_BLOCK = 2**16


class AuditLog:
    """Writes a log of JSON lines, each of which holds the hash of the one before.

    A line is handed to the operating system before `append` returns, so it outlives the process.
    Signed checkpoints fix everything before them; each is also kept in `PATH.head`, and with it the
    file is written through to the disk. What a killed process left of a last line is removed when
    the log is opened again, and the removal is recorded.

    Args:
        path: The file; made if it is not there, else continued.
        private_key: What checkpoints are signed with.
        checkpoint_every: Lines after which there is one.
        checkpoint_seconds: Seconds after which `tick` makes one.
        max_bytes: Size from which a new file is begun, while the old one gets its last number as
            suffix; None for never. The chain goes on from file to file.

    Raises:
        InputError: The file cannot be written, or another process writes to it.
        IntegrityError: Its last line is not what was written.

    Example:

    >>> import tempfile
    >>> from keras_secure.integrity import generate_key_pair
    >>> from keras_secure.serving import verify_audit_log
    >>> private_key, public_key = generate_key_pair()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = AuditLog(f"{folder}/audit.jsonl", private_key)
    ...     _ = log.append("request", {"identity": "alice"})
    ...     log.close()
    ...     verify_audit_log(f"{folder}/audit.jsonl", public_key).ok
    True

    Reference:
        Schneier and Kelsey 1999, "Secure Audit Logs to Support Computer Forensics", for the chain.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        private_key: Any,
        *,
        checkpoint_every: int = 256,
        checkpoint_seconds: float = 1.0,
        max_bytes: int | None = None,
    ):
        if max_bytes is not None and not (is_integer(max_bytes) and max_bytes >= 1):
            raise InputError(f"max_bytes is {max_bytes!r}; expected a number of bytes, at least 1.")
        self.path = Path(path)
        self._key = load_private_key(private_key)
        self._fingerprint = fingerprint(self._key.public_key())
        self._every, self._seconds = checkpoint_every, checkpoint_seconds
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._syncing = ThreadPoolExecutor(1, "audit-log")
        self._seq, self._previous, self._log_id = 0, FIRST, secrets.token_hex(16)
        self._unsigned, self._signed_at = 0, time.monotonic()
        self._file = -1
        torn = self._open()
        self.append("start", {"log": self._log_id, "key": self._fingerprint, **torn})
        self.checkpoint()

    @property
    def seq(self) -> int:
        """The number of the next line."""
        return self._seq

    def append(self, kind: str, fields: dict[str, Any]) -> int:
        """Writes a line.

        Args:
            kind: What it tells of.
            fields: What it tells, JSON-serializable.

        Returns:
            Its number.

        Raises:
            OSError: It cannot be written.
        """
        with self._lock:
            number = self._append(kind, fields)
            if self._unsigned >= self._every:
                self._checkpoint()
            return number

    def tick(self) -> None:
        """Makes a checkpoint if the last one is old and there are lines after it."""
        with self._lock:
            if self._unsigned and time.monotonic() - self._signed_at >= self._seconds:
                self._checkpoint()

    def checkpoint(self) -> None:
        """Signs all lines so far.

        Raises:
            OSError: It cannot be written.
        """
        with self._lock:
            self._checkpoint()

    def close(self) -> None:
        """Signs all lines, and writes them through to the disk."""
        with self._lock:
            if self._file < 0:
                return
            try:
                self._append("stop", {})
                self._checkpoint(last=True)
            finally:
                self._syncing.shutdown(wait=True)
                os.close(self._file)
                self._file = -1

    def _append(self, kind: str, fields: dict[str, Any], sign: bool = False) -> int:
        if self._file < 0:
            raise OSError("the audit log is closed")
        record = {
            **fields,
            "kind": kind,
            "seq": self._seq,
            "prev": self._previous,
            "time": time.time(),
        }
        line, digest = seal_record(sign_record(record, self._key) if sign else record)
        self._write(line)
        self._seq += 1
        self._previous = digest
        self._size += len(line)
        self._unsigned += 1
        if sign:
            self._unsigned, self._signed_at = 0, time.monotonic()
            self._syncing.submit(self._sync, self._file_now(), line)
        return record["seq"]

    def _checkpoint(self, last: bool = False) -> None:
        self._append("checkpoint", {"log": self._log_id, "key": self._fingerprint}, sign=True)
        # The line that a new file begins with would be signed by nobody.
        if not last and self._max_bytes is not None and self._size >= self._max_bytes:
            self._rotate()

    def _write(self, line: bytes) -> None:
        """Writes the whole line or nothing, so that one failure spoils no later line."""
        if os.fstat(self._file).st_nlink == 0:
            # What is written to it is gone with this process.
            raise OSError(f"{self.path} was deleted; restart to begin a new log")
        written = 0
        try:
            while written < len(line):
                written += os.write(self._file, line[written:])
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise

    def _file_now(self) -> int:
        return os.dup(self._file)

    def _sync(self, descriptor: int, line: bytes) -> None:
        with contextlib.suppress(OSError):
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            write_atomically(self.path.with_name(self.path.name + HEAD_SUFFIX), line)

    def _open(self) -> dict[str, Any]:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
        try:
            self._file = os.open(self.path, flags, 0o600)
        except OSError as error:
            raise InputError(
                f"The audit log {self.path} cannot be written: {error.strerror}."
            ) from error
        try:
            _lock(self._file, self.path)
            return self._continue()
        except BaseException:
            os.close(self._file)
            self._file = -1
            raise

    def _continue(self) -> dict[str, Any]:
        self._size = os.fstat(self._file).st_size
        last, end = _last_line(self._file, self._size)
        torn = os.pread(self._file, self._size - end, end)
        if last:
            what = f"The last line of the audit log {self.path}"
            record = parse_json(last, what)
            if not isinstance(record, dict) or record.get("hash") != hash_of(record):
                raise IntegrityError(
                    f"{what} is not what was written. Keep the file as evidence, see what "
                    "`keras-secure audit-log verify` says, and begin another log."
                )
            self._seq, self._previous = record["seq"] + 1, record["hash"]
            self._log_id = self._first_line()["log"]
        if not torn:
            return {}
        os.ftruncate(self._file, end)
        self._size = end
        return {"torn_bytes": len(torn), "torn_sha256": hashlib.sha256(torn).hexdigest()}

    def _first_line(self) -> dict[str, Any]:
        data = os.pread(self._file, _BLOCK, 0).partition(b"\n")[0]
        record = parse_json(data, f"The first line of the audit log {self.path}")
        if not isinstance(record, dict) or not isinstance(record.get("log"), str):
            raise IntegrityError(f"{self.path} does not begin as an audit log. Begin another one.")
        return record

    def _rotate(self) -> None:
        self._syncing.submit(int).result()
        os.rename(self.path, self.path.with_name(f"{self.path.name}.{self._seq - 1:012d}"))
        old = self._file
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
        self._file = os.open(self.path, flags, 0o600)
        os.close(old)
        _lock(self._file, self.path)
        self._size = 0
        sync_folder(self.path.parent)
        self._append("continue", {"log": self._log_id, "key": self._fingerprint})


def _last_line(file: int, size: int) -> tuple[bytes, int]:
    """The last whole line, and where it ends."""
    tail, start = b"", size
    while start and tail.count(b"\n") < 2:
        step = min(_BLOCK, start)
        start -= step
        tail = os.pread(file, step, start) + tail
    end = tail.rfind(b"\n") + 1
    if not end:
        return b"", 0
    return tail[tail.rfind(b"\n", 0, end - 1) + 1 : end - 1], start + end


def _lock(file: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows has no such locks
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise InputError(
            f"Another process writes to the audit log {path}. Give each server its own."
        ) from error
