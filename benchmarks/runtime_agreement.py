"""Whether a bundle answers alike in TensorFlow, ONNX Runtime, LiteRT and OpenVINO, and how fast.

    python benchmarks/runtime_agreement.py --data FOLDER

FOLDER holds `mnist.npz`. A small CNN is trained on MNIST and exported with guards; then it is
pruned in further training, quantized to 8 bits and exported again. Every runtime answers the 10,000
test images in a process of its own (TensorFlow without Keras), followed by images with a NaN, an
infinity or values out of range. The table shows, for each bundle and runtime: how many test images
get the class that the Keras model gives them, the largest difference of a prediction, of how many
of all images it says wrongly whether they are rejected, the median milliseconds on one thread at
batch 1 and 128, and what the file weighs, plain and after gzip. The last rows are of the same ONNX
file with `DequantizeLinear` in the place of our two casts and a product: what runtimes make of that
is why we do not write it.

Exits with 1 if the quantized bundle agrees on less than 99.5%, a prediction of the other is off by
more than 1e-4, or a guard fails.
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
            layers.BatchNormalization(momentum=0.9),
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


def answers(runtime, path, x):
    """What a runtime answers, and its times, from a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/x.npy", x)
        threads = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
        command = [sys.executable, str(WORKER), runtime, str(REPEATS), f"{folder}/x.npy"]
        subprocess.run(
            [*command, str(path), f"{folder}/answer.npz"],
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


def with_dequantize_linear(path):
    """Writes the file that others would, beside an ONNX file of ours; returns its path."""
    import onnx

    model = onnx.load(path)
    graph = model.graph
    kernels = {i.name.removesuffix("_integers") for i in graph.initializer if "_integers" in i.name}
    for number, name in enumerate(sorted(kernels)):
        axis = {4: 3, 2: 1}[len(next(i for i in graph.initializer if name in i.name).dims)]
        for node in [n for n in graph.node if n.name.startswith(f"{name}_") or n.output[0] == name]:
            graph.node.remove(node)
        (scale,) = [i for i in graph.initializer if i.name == f"{name}_floats"]
        flat = onnx.numpy_helper.to_array(scale).reshape(-1)
        scale.CopyFrom(onnx.numpy_helper.from_array(flat, scale.name))
        sources = [f"{name}_integers", f"{name}_floats"]
        node = onnx.helper.make_node("DequantizeLinear", sources, [name], axis=axis)
        graph.node.insert(number, node)
    onnx.save(model, path.with_name("dequantize_linear.onnx"))
    return path.with_name("dequantize_linear.onnx")


def table(name, model, files, x):
    """Prints the rows of some files; returns the worst agreement, difference and guard."""
    everything = np.concatenate([x, hostile(x)])
    expected = model.predict(x, verbose=0, batch_size=500)
    # What our guards reject: a NaN or an infinity.
    reference = ~np.isfinite(everything).all(axis=(1, 2, 3))
    worst = [1.0, 0.0, 0]
    for runtime, path in files.items():
        got = answers(runtime, path, everything)
        told = got["predictions"][: len(x)]
        agree = float((told.argmax(-1) == expected.argmax(-1)).mean())
        difference = float(np.abs(told - expected).max())
        guard = int((got["rejected"] != reference).sum())
        worst = [min(worst[0], agree), max(worst[1], difference), max(worst[2], guard)]
        plain, packed = weight(path)
        print(
            f"{name:14}{runtime:13}{agree:10.2%}{difference:12.1e}{guard:8}"
            f"{got['ms_1']:9.3f}{got['ms_128']:9.2f}{plain:11,}{packed:11,}",
            flush=True,
        )
    return worst


def files_of(bundle):
    return {runtime: bundle.path / file for runtime, file in FILES.items()}


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
        results["float"] = table("float", model, files_of(bundle), x_test)
        model.fit(
            x_train, y_train, batch_size=256, epochs=options.epochs, verbose=0,
            callbacks=[Pruning(0.8)],
        )  # fmt: skip
        quantize(model, 8)
        accuracy.append(model.evaluate(x_test, y_test, batch_size=500, verbose=0)[1])
        bundle = export_hardened(model, f"{folder}/int8", formats=("onnx", "litert"), **guards)
        results["pruned int8"] = table("pruned int8", model, files_of(bundle), x_test)
        other = with_dequantize_linear(bundle.path / "model.onnx")
        table("Dequantize...", model, dict.fromkeys(("onnxruntime", "openvino"), other), x_test)
    zeros = ", ".join(f"{share:.0%}" for share in sparsity(model).values())
    print(f"accuracy: float {accuracy[0]:.4f}, pruned int8 {accuracy[1]:.4f}; zeros: {zeros}")
    failed = [name for name, (_, _, guard) in results.items() if guard]
    failed += ["float"] if results["float"][1] > DIFFERENCE else []
    failed += ["pruned int8"] if results["pruned int8"][0] < AGREEMENT else []
    if failed:
        raise SystemExit(f"Runtimes disagree beyond what is allowed: {', '.join(failed)}.")


if __name__ == "__main__":
    main()
