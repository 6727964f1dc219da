"""Servers for tests: models of a few lines of NumPy where the bundle is not what is tested."""

import contextlib
import json
import threading

import numpy as np
from starlette.testclient import TestClient

from keras_secure.integrity import generate_key_pair
from keras_secure.serving import Authenticator, Identity, Limits, ServedModel, create_app
from keras_secure.serving.release import Release

PRIVATE_KEY, PUBLIC_KEY = generate_key_pair()
ANYONE = Authenticator(anonymous=Identity("anyone", "anonymous", ("*:*", "*:admin", "*:metrics")))
SHAPE = (None, 2)


def card(shape=SHAPE, dtype="float32", metadata=None, classes=2):
    """A model card of a model with one input and two outputs."""
    outputs = {
        "predictions": {"shape": [None, classes], "dtype": "float32"},
        "rejected": {"shape": [None], "dtype": "bool"},
    }
    by_batch = {
        "label": {"shape": [None], "dtype": "int64"},
        "total": {"shape": [1], "dtype": "int64"},
    }
    return {
        "name": "sum",
        "num_classes": classes,
        "inputs": {"x": {"shape": list(shape), "dtype": dtype}},
        "outputs": outputs,
        "signatures": {"serving_default": outputs, "total": by_batch},
        "metadata": metadata or {},
    }


def answer(x, scale=1.0):
    """What the model answers: the sum and twice the sum of each row; NaN is rejected."""
    total = np.asarray(x, "float32").reshape(len(x), -1).sum(axis=1) * np.float32(scale)
    rejected = ~np.isfinite(total)
    total = np.where(rejected, np.float32(0), total)
    return {"predictions": np.stack([total, 2 * total], axis=1), "rejected": rejected}


class SumModel(ServedModel):
    """A served model whose bundles are made here; each reload takes the next of `releases`."""

    def __init__(self, *releases, **more):
        super().__init__("nowhere", PUBLIC_KEY, **more)
        self.releases = list(releases) or [release()]
        self.loads = 0

    def _load(self, min_serial):
        made = self.releases[min(self.loads, len(self.releases) - 1)]
        self.loads += 1
        if isinstance(made, Exception):
            raise made
        return made


def release(function=answer, serial=0, **more):
    """A release that computes with `function`."""
    functions = {"serving_default": function, "total": _total}
    return Release(card(**more), functions, serial, "0" * 64, "sha256:0")


def _total(x):
    return {"label": answer(x)["predictions"].argmax(axis=1), "total": np.array([len(x)])}


class Gate:
    """A function of a model that waits until it is opened, and counts who is inside."""

    def __init__(self):
        self.open, self.entered = threading.Event(), threading.Semaphore(0)

    def __call__(self, x):
        self.entered.release()
        assert self.open.wait(20)
        return answer(x)


@contextlib.contextmanager
def client(model=None, authenticator=ANYONE, **more):
    """A client of a server with the one model `sum`."""
    more.setdefault("limits", Limits())
    app = create_app({"sum": model or SumModel()}, authenticator, **more)
    with TestClient(app, raise_server_exceptions=False) as found:
        found.service = app.state.service
        yield found


def ask(found, rows=((1.0, 2.0),), path="/v1/models/sum:predict", **more):
    """Asks for a prediction."""
    return found.post(path, content=json.dumps({"instances": rows}), **more)


def records(path):
    """The records of an audit log."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]
