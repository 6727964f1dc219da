"""The child process of a scan: reads hostile bytes under limits, and tells what it finds at once.

Run by `run.py` as `python -I -S`, with a JSON request as its last argument. Each line that it
prints is a JSON object: `{"enter": file}`, `{"finding": {...}}` and at the end `{"done": {...}}`.
"""

import contextlib
import json
import os
import sys
import time
from pathlib import Path

from keras_secure.findings import Finding
from keras_secure.integrity.scan.collector import Collector, OutOfTime
from keras_secure.integrity.scan.inspection import inspect_path
from keras_secure.integrity.scan.limits import ScanLimits
from keras_secure.integrity.scan.place import Place


def main() -> None:
    """Runs the request that the last argument holds."""
    started = time.monotonic()
    request = json.loads(sys.argv[-1])
    limits = ScanLimits(**request["limits"])
    output = os.fdopen(os.dup(1), "w", encoding="ascii", buffering=1)
    # Nothing that a library prints may pass for a finding.
    os.dup2(2, 1)
    restrict_process(limits, request["seconds"])

    def emit(finding: Finding) -> None:
        send({"finding": finding.to_dict()})

    def send(message: dict) -> None:
        output.write(json.dumps(message, allow_nan=True) + "\n")

    collector = Collector(emit, limits, request["allow"], started + request["seconds"])
    current = "."

    def enter(name: str) -> None:
        nonlocal current
        current = name
        send({"enter": name})

    kind = "unknown"
    try:
        kind = inspect_path(Path(request["path"]), collector, enter)
    except OutOfTime:
        collector.add(
            "scan.limits.time",
            f"The scan took more than {request['seconds']:.1f} s and was ended.",
            Place(current),
        )
    except MemoryError:
        collector.add(
            "scan.limits.memory",
            f"The scan needed more than {limits.memory} bytes of memory and was ended.",
            Place(current),
        )
    collector.close()
    send({"done": {"format": kind, "files": collector.files, "bytes": collector.bytes}})
    output.flush()
    # No destructor of a library may have a last word on broken structures.
    os._exit(0)


def restrict_process(limits: ScanLimits, seconds: float) -> None:
    """Takes from this process what reading does not need, where the system can.

    Args:
        limits: Its memory is the address space from now on.
        seconds: CPU time, a little more than the wall-clock limit that is checked softly.
    """
    try:
        import resource
    except ImportError:
        return
    bounds = {
        "RLIMIT_CORE": 0,
        "RLIMIT_AS": int(limits.memory),
        "RLIMIT_CPU": int(seconds) + 2,
        "RLIMIT_NOFILE": 64,
        "RLIMIT_FSIZE": int(limits.unfolded),
    }
    for name, bound in bounds.items():
        with contextlib.suppress(AttributeError, ValueError, OSError):
            number = getattr(resource, name)
            _, hard = resource.getrlimit(number)
            if hard != resource.RLIM_INFINITY:
                bound = min(bound, hard)
            resource.setrlimit(number, (bound, bound))
