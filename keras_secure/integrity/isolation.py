"""Trying in another process, under limits, what may be a bomb: loading a model file.

The limits hold what only takes too much: memory, time, written files. They are no sandbox: code
that a model file brings along would run with the rights of the user. That none is brought along is
what the scan and Keras' safe mode are for.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from keras_secure.arguments import is_number
from keras_secure.errors import InputError, IntegrityError

_START = """
import json, sys
request = json.loads(sys.argv[1])
sys.path[:] = request["search"]
from keras_secure.integrity.isolation import restrict_process
restrict_process(request["limits"])
from keras_secure.integrity.load import load_in_isolation
load_in_isolation(request)
"""
_KEPT = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "KERAS_BACKEND")
_MARK = "keras_secure.isolation "
_MAX_OUTPUT = 4000


@dataclass(frozen=True)
class LoadLimits:
    """What loading may take in the process that tries it first.

    Args:
        memory: Bytes of address space, of which TensorFlow itself takes about 2 GiB.
        seconds: Time, by the clock and of the processor.
        files: Files that are open at once.
        file_size: Bytes that any one file may be written to.

    Raises:
        InputError: A limit is not a positive number.

    Example:

    >>> LoadLimits(memory=16 * 2**30).seconds
    300
    """

    memory: int = 8 * 2**30
    seconds: float = 300
    files: int = 256
    file_size: int = 2**20

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if not is_number(value) or not 1 <= value < 2**60:
                raise InputError(
                    f"The limit {field.name} is {value!r}; expected a number of at least 1."
                )


def try_in_isolation(
    path: str, custom_objects: Mapping[str, Any], compile: bool, limits: LoadLimits
) -> None:
    """Loads a model file in a process of its own, and throws the model away.

    Args:
        path: The file, already verified and scanned.
        custom_objects: Classes and functions by name; the other process imports them.
        compile: Whether to compile the model too.
        limits: What it may take.

    Raises:
        IntegrityError: It did not load, or took more than it may.
        InputError: The system has no limits, or a custom object cannot be imported by name.
    """
    try:
        import resource  # noqa: F401
    except ImportError as error:
        raise InputError(
            "This system cannot limit what a process takes. Load with isolate=False, or in a "
            "container that has limits."
        ) from error
    request = {
        "path": path,
        "custom_objects": {n: _reference(n, thing) for n, thing in custom_objects.items()},
        "compile": compile,
        "limits": asdict(limits),
        "search": [os.path.abspath(folder) for folder in sys.path if folder],
    }
    with tempfile.TemporaryDirectory() as home:
        code, output = _run(request, home, limits.seconds)
    if code == 0 and output.rstrip().endswith(_MARK + "loaded"):
        return
    raise IntegrityError(
        f"The model did not load in a process of its own: {_cause(code, output, limits)}. It was "
        "not loaded here. If you trust it to be so large, give it larger limits."
    )


def restrict_process(limits: Mapping[str, Any]) -> None:
    """Sets limits on this process that it cannot lift again."""
    import resource

    seconds = int(limits["seconds"])
    for name, bound in {
        "RLIMIT_CORE": 0,
        "RLIMIT_AS": int(limits["memory"]),
        "RLIMIT_CPU": seconds * (os.cpu_count() or 1) + 2,
        "RLIMIT_NOFILE": int(limits["files"]),
        "RLIMIT_FSIZE": int(limits["file_size"]),
    }.items():
        number = getattr(resource, name, None)
        if number is None:
            continue
        _, hard = resource.getrlimit(number)
        value = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        with contextlib.suppress(ValueError, OSError):  # some systems know no RLIMIT_AS
            resource.setrlimit(number, (value, value))


def report(text: str) -> None:
    """Tells the other process, on a line of its own, how loading ended."""
    print(f"\n{_MARK}{text}", flush=True)


def _run(request: dict[str, Any], home: str, seconds: float) -> tuple[int | None, str]:
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environment |= {
        "CUDA_VISIBLE_DEVICES": "-1",
        "HOME": home,
        "TMPDIR": home,
        "KERAS_HOME": home,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "HDF5_PLUGIN_PRELOAD": "::",
        "HDF5_USE_FILE_LOCKING": "FALSE",
    }
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", _START, json.dumps(request)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=home,
        env=environment,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=seconds)
        return process.returncode, output.decode(errors="replace")
    except subprocess.TimeoutExpired:
        return None, ""
    finally:
        # Whatever it started, too.
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _cause(code: int | None, output: str, limits: LoadLimits) -> str:
    if code is None or code == -signal.SIGXCPU:
        return f"it took more than {limits.seconds:g} s"
    if code == -signal.SIGXFSZ:
        return f"it wrote a file of more than {limits.file_size} bytes"
    told = output.rpartition(_MARK)[2].strip()[:_MAX_OUTPUT] if _MARK in output else ""
    if not told:
        ending = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        told = f"it was ended by {ending}"
    return f"{told} (it may use {limits.memory / 2**30:.3g} GiB of memory)"


def _reference(name: str, thing: Any) -> tuple[str, str]:
    module, path = getattr(thing, "__module__", None), getattr(thing, "__qualname__", "<none>")
    if module in (None, "__main__") or "<" in path:
        raise InputError(
            f"The custom object {name!r} cannot be imported by another process: it is defined in "
            "a script or within a function. Move it to a module, or load with isolate=False."
        )
    return module, path
