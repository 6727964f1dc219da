"""A client of TensorFlow Serving's REST API moves over to a served bundle without a change.

Trains a classifier of digits, exports it behind an input guard, serves the signed bundle in a
process of its own with `keras-secure serve`, and asks it by the class below, which knows nothing of
this library: it is what one writes for TensorFlow Serving, with the header of an API key. In the
end the audit log is verified.

    python examples/serving_client.py
    python examples/serving_client.py --url http://localhost:8501 --model digits

The second line asks a server that runs already, ours or TensorFlow's own.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np


class RestClient:
    """What clients of TensorFlow Serving do: JSON over HTTP."""

    def __init__(self, url, model, headers=None):
        self._model = f"{url}/v1/models/{model}"
        self._headers = {"content-type": "application/json", **(headers or {})}

    def _ask(self, address, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(address, data, self._headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def versions(self):
        return self._ask(self._model)["model_version_status"]

    def inputs(self):
        metadata = self._ask(f"{self._model}/metadata")["metadata"]
        return metadata["signature_def"]["signature_def"]["serving_default"]["inputs"]

    def predict_rows(self, x):
        answer = self._ask(f"{self._model}:predict", {"instances": np.asarray(x).tolist()})
        return answer["predictions"]

    def predict_columns(self, name, x):
        body = {"signature_name": "serving_default", "inputs": {name: np.asarray(x).tolist()}}
        return self._ask(f"{self._model}:predict", body)["outputs"]


def use(client, x):
    """Asks everything a client asks; returns the predicted classes."""
    (version, *_) = client.versions()
    print(f"version {version['version']} is {version['state']}")
    ((name, info),) = client.inputs().items()
    sizes = [size["size"] for size in info["tensor_shape"]["dim"]]
    print(f"it takes {name!r}: {info['dtype']} of shape {sizes}")
    rows = np.array(client.predict_rows(x))
    columns = np.array(client.predict_columns(name, x))
    np.testing.assert_array_equal(rows, columns)
    return rows.argmax(axis=1)


def train(epochs, folder):
    """Writes a signed bundle and its public key; returns test data and the model's classes."""
    import keras
    from sklearn.datasets import load_digits

    from keras_secure import export, integrity, layers

    keras.utils.set_random_seed(0)
    data = load_digits()
    x, y = (data.images / 16.0).astype("float32")[..., None], data.target
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x[300:], y[300:], epochs=epochs, batch_size=32, verbose=0)
    private_key, public_key = integrity.generate_key_pair()
    integrity.save_private_key(private_key, folder / "key.pem")
    integrity.save_public_key(public_key, folder / "key.pub")
    guard = layers.InputGuard(bounds=(0.0, 1.0))
    export.export_hardened(model, folder / "digits", input_guard=guard, private_key=private_key)
    return x[:300], y[:300], model.predict(x[:300], verbose=0).argmax(axis=1)


def serve(folder):
    """Starts the server; returns its process and address."""
    command = [
        sys.executable, "-m", "keras_secure.cli.main", "serve", str(folder / "digits"),
        "--trust", str(folder / "key.pub"), "--api-keys", str(folder / "keys.json"),
        "--audit-log", str(folder / "audit.jsonl"), "--audit-key", str(folder / "key.pem"),
        # One output is answered as a model without guards answers.
        "--outputs", "predictions", "--port", "0",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    if not line.startswith("serving"):
        raise SystemExit(f"The server did not start: exit code {process.wait()}.")
    return process, line.split()[-1]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--url", help="a server that runs already")
    parser.add_argument("--model", default="digits")
    parser.add_argument("--api-key")
    args = parser.parse_args()
    if args.url:
        from sklearn.datasets import load_digits

        headers = {"x-api-key": args.api_key} if args.api_key else {}
        x = (load_digits().images[:300] / 16.0)[..., None]
        print(np.bincount(use(RestClient(args.url, args.model, headers), x), minlength=10))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        x, y, expected = train(args.epochs, folder)
        from keras_secure.serving import ApiKeys, verify_audit_log

        key = ApiKeys(folder / "keys.json", create=True).add("example", ["digits:*"])
        process, url = serve(folder)
        try:
            found = use(RestClient(url, "digits", {"x-api-key": key}), x)
            try:
                RestClient(url, "digits").versions()
            except urllib.error.HTTPError as error:
                print(f"without the key: {error.code} {json.load(error)['error']}")
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(120)
            process.stdout.close()
        report = verify_audit_log(folder / "audit.jsonl", folder / "key.pub")
        print(
            f"the server ended with {code}; its log of {report.lines} lines verifies: {report.ok}"
        )
        print(
            f"the same class as the model in {np.mean(found == expected):.1%} of {len(x)} images, "
            f"the right one in {np.mean(found == y):.1%}"
        )
        if code or not report.ok or not np.array_equal(found, expected):
            raise SystemExit("Something did not hold.")


if __name__ == "__main__":
    main()
