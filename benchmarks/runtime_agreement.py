"""Whether a bundle answers alike in TensorFlow, ONNX Runtime, LiteRT and OpenVINO, and how fast.

    python benchmarks/runtime_agreement.py --data FOLDER

FOLDER holds `mnist.npz`. A small CNN is trained on MNIST and exported with guards; then it is
pruned in further training, quantized to 8 bits and exported again. Every runtime answers the 10,000
test images in a process of its own (TensorFlow without Keras), followed by images with a NaN, an
infinity or values out of range. The table shows, for each bundle and runtime: how many test images
get the class that the Keras model gives them, the largest difference of a prediction, for how many
of the hostile images the runtime says otherwise than TensorFlow whether they are rejected, the
median milliseconds on one thread at batch 1 and 128, and what the file weighs, plain and after
gzip. Exits with 1 below 99.5% for the quantized bundle, above 1e-4 for the other, or where a guard
differs.
"""

import argparse
import gzip
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from keras_secure.callbacks import Pruning
from keras_secure.compression import quantize, sparsity
from keras_secure.export import export_hardened
from keras_secure.layers import InputGuard, OutputGuard

WORKER = Path(__file__).resolve().parent / "worker_runtime.py"
FILES = {
    "tensorflow": "saved_model",
    "onnxruntime": "model.onnx",
    "openvino": "model.onnx",
    "litert": "model.tflite",
}
AGREEMENT, DIFFERENCE, REPEATS = 0.995, 1e-4, 60


def load(folder):
    with np.load(Path(folder, "mnist.npz")) as arrays:
        pairs = [(arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test")]
    return [(x[..., None].astype("float32") / 255, y) for x, y in pairs]


def cnn():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def hostile(x):
    """Images that guards reject or clip."""
    x = x[:48].copy()
    values = [np.nan, np.inf, -np.inf, 3e38, 1.5, -0.25]
    for number, image in enumerate(x):
        value = values[number % len(values)]
        if number % 2:
            image[number % 28, 3] = value
        else:
            image[...] = value
    return x


def answers(runtime, bundle, x):
    """What a runtime answers, and its times, from a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/x.npy", x)
        threads = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
        command = [sys.executable, str(WORKER), runtime, str(REPEATS), f"{folder}/x.npy"]
        subprocess.run(
            [*command, str(Path(bundle.path, FILES[runtime])), f"{folder}/answer.npz"],
            check=True,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **dict.fromkeys(threads, "1"), "CUDA_VISIBLE_DEVICES": "-1"},
        )
        with np.load(f"{folder}/answer.npz") as arrays:
            return dict(arrays)


def weight(path):
    """Bytes of a file or folder, plain and after gzip."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    data = b"".join(file.read_bytes() for file in files)
    return len(data), len(gzip.compress(data))


def table(name, model, bundle, x):
    """Prints the rows of one bundle; returns the worst agreement, difference and guard."""
    everything = np.concatenate([x, hostile(x)])
    expected = model.predict(x, verbose=0, batch_size=500)
    reference, worst = None, [1.0, 0.0, 0]
    for runtime, file in FILES.items():
        got = answers(runtime, bundle, everything)
        reference = got["rejected"] if reference is None else reference
        told = got["predictions"][: len(x)]
        agree = float((told.argmax(-1) == expected.argmax(-1)).mean())
        difference = float(np.abs(told - expected).max())
        guard = int((got["rejected"] != reference).sum())
        worst = [min(worst[0], agree), max(worst[1], difference), max(worst[2], guard)]
        plain, packed = weight(Path(bundle.path, file))
        print(
            f"{name:14}{runtime:13}{agree:10.2%}{difference:12.1e}{guard:8}"
            f"{got['ms_1']:9.3f}{got['ms_128']:9.2f}{plain:11,}{packed:11,}",
            flush=True,
        )
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with mnist.npz")
    parser.add_argument("--epochs", type=int, default=2, help="of each of the two trainings")
    options = parser.parse_args()
    (x_train, y_train), (x_test, y_test) = load(options.data)
    model = cnn()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    guards = {"input_guard": InputGuard((0.0, 1.0)), "output_guard": OutputGuard()}
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        model.fit(x_train, y_train, batch_size=256, epochs=options.epochs, verbose=0)
        accuracy = [model.evaluate(x_test, y_test, batch_size=500, verbose=0)[1]]
        print(
            f"{'bundle':14}{'runtime':13}{'top-1':>10}{'difference':>12}{'guard':>8}{'ms at 1':>9}"
            f"{'at 128':>9}{'bytes':>11}{'gzip':>11}"
        )
        bundle = export_hardened(model, f"{folder}/float", formats=("onnx", "litert"), **guards)
        results["float"] = table("float", model, bundle, x_test)
        model.fit(
            x_train, y_train, batch_size=256, epochs=options.epochs, verbose=0,
            callbacks=[Pruning(0.8)],
        )  # fmt: skip
        quantize(model, 8)
        accuracy.append(model.evaluate(x_test, y_test, batch_size=500, verbose=0)[1])
        bundle = export_hardened(model, f"{folder}/int8", formats=("onnx", "litert"), **guards)
        results["pruned int8"] = table("pruned int8", model, bundle, x_test)
    zeros = ", ".join(f"{share:.0%}" for share in sparsity(model).values())
    print(f"accuracy: float {accuracy[0]:.4f}, pruned int8 {accuracy[1]:.4f}; zeros: {zeros}")
    failed = [name for name, (_, _, guard) in results.items() if guard]
    failed += ["float"] if results["float"][1] > DIFFERENCE else []
    failed += ["pruned int8"] if results["pruned int8"][0] < AGREEMENT else []
    if failed:
        raise SystemExit(f"Runtimes disagree beyond what is allowed: {', '.join(failed)}.")


if __name__ == "__main__":
    main()
