"""Loads model files under whatever Keras it runs on, and tells what each did; see `effects.py`.

Reads a path a line. The answer is a line of JSON: whether the payloads left their marker, which
sensitive events Python's audit hooks saw, and how loading ended. The payloads leave an empty file
at most, but they do run: this belongs into a machine of its own.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras

MARKER = Path(tempfile.gettempdir(), "keras-secure-scan-corpus")
WATCHED = {
    "os.system": 0,
    "subprocess.Popen": 1,
    "socket.connect": 1,
    "socket.getaddrinfo": 0,
    "marshal.loads": None,
    "pickle.find_class": 1,
}
seen = []


def watch(event, arguments):
    if event == "open" and str(arguments[0]).startswith(("/etc/passwd", "../../../../etc")):
        seen.append("reads /etc/passwd")
    elif event in WATCHED:
        seen.append(event)


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.addaudithook(watch)
    for line in sys.stdin:
        MARKER.unlink(missing_ok=True)
        seen.clear()
        ended = "loaded"
        try:
            keras.saving.load_model(line.rstrip("\n"))
        except Exception as error:
            ended = f"{type(error).__name__}: {error}"[:120]
        found = {"ran": MARKER.exists(), "seen": sorted(set(seen)), "ended": ended}
        MARKER.unlink(missing_ok=True)
        print(json.dumps(found | {"keras": keras.__version__}), file=answers, flush=True)


if __name__ == "__main__":
    main()
