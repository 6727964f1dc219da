"""`scan`: starts the process that reads, gathers what it finds, and judges how it ended."""

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from keras_secure.errors import InputError
from keras_secure.findings import SEVERITIES, Finding, Severity
from keras_secure.integrity.scan.limits import ScanLimits
from keras_secure.integrity.scan.report import ScanReport
from keras_secure.integrity.scan.rules import RULES

GRACE = 1.0
"""Seconds that the process has to end by itself when its time is over."""

# The packages stand in their places without what their `__init__` would import: a process that
# reads hostile bytes needs little, and starts several times faster so.
_START = """
import json, os, sys, types
sys.path[:] = json.loads(sys.argv[1]) + sys.path
folder = sys.argv[2]
for name in ("keras_secure.integrity.scan", "keras_secure.integrity", "keras_secure"):
    package = sys.modules[name] = types.ModuleType(name)
    package.__path__ = [folder]
    folder = os.path.dirname(folder)
from keras_secure.integrity.scan.worker import main
main()
"""
_ENVIRONMENT = {
    "HDF5_PLUGIN_PRELOAD": "::",
    "HDF5_PLUGIN_PATH": os.devnull,
    "HDF5_USE_FILE_LOCKING": "FALSE",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
}
_KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR", "TEMP", "TMP")


def scan(
    path: str | os.PathLike, *, allow: Collection[str] = (), limits: ScanLimits | None = None
) -> ScanReport:
    """Tells whether opening a model file is safe, without opening it.

    Neither Keras nor TensorFlow is imported, nothing in the file is executed, no link is followed.
    The file is read in a process of its own, under limits of time and memory; a file that kills
    this process is reported like any other finding. What a file is, is told from its contents.

    A report without findings says that none of the known ways to harm whoever loads the model was
    found in it. It says nothing of what the model computes.

    Args:
        path: A `.keras`, `.h5`, `.weights.h5`, `.npz` or `.npy` file, a SavedModel, or a folder
            with such files.
        allow: Names that you vouch for: classes and functions as `"module>Name"` or by the name
            they are registered under (`"package>Name"`), and operations of TensorFlow.
        limits: What the file may ask of the scan; the defaults when it is not given.

    Returns:
        A `ScanReport`; its `ok` is true where no finding is of medium severity or worse.

    Raises:
        InputError: There is nothing at `path`, or an argument cannot be used.

    Example:

    >>> import io, tempfile, zipfile
    >>> config = '{"class_name": "Lambda", "module": "keras.layers", "config": {}}'
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "model.keras")
    ...     with zipfile.ZipFile(file, "w") as archive:
    ...         archive.writestr("config.json", config)
    ...     report = scan(file)
    >>> report.ok, report.findings[0].id
    (False, 'scan.keras.lambda')

    Reference:
        CVE-2024-3660, CVE-2025-1550, CVE-2025-8747, CVE-2025-9905, CVE-2025-9906, CVE-2025-12058,
        CVE-2025-12060, CVE-2025-49655, CVE-2026-0897, CVE-2026-1462 and CVE-2026-1669, for what
        files have done to users of Keras.
    """
    limits = ScanLimits() if limits is None else limits
    if not isinstance(limits, ScanLimits):
        raise InputError(f"limits is a {type(limits).__name__}; expected a ScanLimits.")
    if isinstance(allow, str) or not all(isinstance(name, str) for name in allow):
        raise InputError(f"allow is {allow!r}; expected a list of names, such as ['my>Layer'].")
    path = Path(path)
    started = time.monotonic()
    try:
        size = _size(path, limits.files)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"{path} cannot be scanned: {reason}. Give the path of a model file or folder."
        ) from error
    seconds = limits.wall_clock(size)
    request = {
        "path": os.path.abspath(path),
        "allow": sorted(allow),
        "limits": limits.to_dict(),
        "seconds": seconds,
    }
    output, ending = _run_worker(request, seconds + GRACE)
    findings, done, current = _gather(output)
    if done is None:
        findings.append(_death(ending, current, seconds))
    findings.sort(key=lambda finding: -SEVERITIES.index(finding.severity))
    done = done or {}
    return ScanReport(
        path=os.fspath(path),
        format=str(done.get("format", "malformed")),
        findings=tuple(findings),
        files=int(done.get("files", 0)),
        bytes=int(done.get("bytes", 0)),
        seconds=time.monotonic() - started,
    )


def _size(path: Path, most: int) -> int:
    if not path.is_dir():
        if not path.is_file() and path.exists():
            raise ValueError("it is neither a file nor a folder")
        return _on_disk(path.stat())
    total = count = 0
    for folder, _, names in os.walk(path):
        for name in names:
            count += 1
            with contextlib.suppress(OSError):
                total += _on_disk(os.lstat(os.path.join(folder, name)))
        if count > most:
            break
    return total


def _on_disk(status: os.stat_result) -> int:
    """The bytes that a file takes up: a hole of any size costs its author nothing."""
    blocks = getattr(status, "st_blocks", None)
    return status.st_size if blocks is None else min(status.st_size, 512 * blocks)


def _run_worker(request: dict[str, Any], timeout: float) -> tuple[bytes, int | None]:
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    command = [sys.executable, "-I", "-S", "-c", _START, json.dumps(_search_path())]
    command.append(os.path.dirname(os.path.abspath(__file__)))
    process = subprocess.Popen(
        [*command, json.dumps(request)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment | _ENVIRONMENT,
        close_fds=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout)
        return output, process.returncode
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        return output, None
    except BaseException:
        process.kill()
        process.communicate()
        raise


def _search_path() -> list[str]:
    """Where the libraries that files are read with are installed, and nowhere else.

    The current folder may be the very one that holds the hostile files.
    """
    folders = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    for name in ("numpy", "h5py"):
        found = importlib.util.find_spec(name)
        if found is not None and found.origin:
            folders.append(os.path.dirname(os.path.dirname(found.origin)))
    protobuf = importlib.util.find_spec("google.protobuf")
    if protobuf is not None and protobuf.origin:
        folders.append(str(Path(protobuf.origin).parents[2]))
    return list(dict.fromkeys(os.path.abspath(folder) for folder in folders))


def _gather(output: bytes) -> tuple[list[Finding], dict[str, Any] | None, str]:
    findings: list[Finding] = []
    done, current = None, "."
    for line in output.splitlines():
        try:
            message = json.loads(line)
        except ValueError:
            # The process died within a line.
            continue
        if "finding" in message:
            findings.append(Finding(**message["finding"]))
        current = message.get("enter", current)
        done = message.get("done", done)
    return findings, done, current


def _death(ending: int | None, current: str, seconds: float) -> Finding:
    rule, severity = "scan.file.crash", RULES["scan.file.crash"].severity
    if ending is None or ending == -getattr(signal, "SIGXCPU", 0):
        rule = "scan.limits.time"
        statement = f"The file took more than {seconds:.1f} s, and its reader was ended."
    elif ending < 0:
        name = signal.Signals(-ending).name if -ending in set(signal.Signals) else str(-ending)
        statement = f"The process that read the file was killed by {name}."
    else:
        statement = f"The process that read the file failed (exit code {ending})."
    return _finding(rule, severity, statement, current)


def _finding(rule: str, severity: Severity, statement: str, file: str) -> Finding:
    return Finding(rule, severity, statement, {"file": file, "place": ""}, RULES[rule].remedy)
