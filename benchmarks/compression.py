"""What compression costs in accuracy and saves in bytes, beside the Model Optimization Toolkit.

    python benchmarks/compression.py --data FOLDER [--peer benchmarks/peers/env-tfmot]

FOLDER holds mnist.npz. One float network is trained; from its weights every way of compression
trains on for as many epochs again, ours in this process and the toolkit's on tf_keras in an
environment of its own (benchmarks/peers/build_compression.sh).

`zeros` is the share of zeros in all kernels, and `levels` the most values a kernel (clusters) or
one of its output channels (bits) has, both read from the exported SavedModel. `gzip` is the size of
that folder after gzip, as a share of the float network's weights in float32, and `bound` what it
may be at most: what the graph takes without weights, and 1.4 times the information in the weights
(twice where shared values are numbered: gzip spends a bit at least on each number). This is the
entropy of where the zeros are, 32 bits for each weight that is not zero, the entropy of integers
and of numbers of shared values by kernel, and 32 bits for each scale, each shared value and each
weight that is not compressed.

After training, scales are those of least squared error; "unclipped" ones reach to the largest
weight, as usual tools choose them.

Exits with 1 if a way that trains loses more than one point of the float accuracy, 2 bits after
training lose less than ten points (unclipped) or two (clipped, beside training with them), a file
has other zeros or levels or is above its bound, or the toolkit is more than half a point better.
"""

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
from compression_task import BATCH, compile_model, gzipped, load, network

import keras_secure as ks
from keras_secure.compression.kernels import model_kernels

LEARNING_RATE = 1e-3
TUNING_RATE = 1e-3
ALLOWANCE, ALLOWANCE_OF_CLUSTERS = 1.4, 2.0
CALLBACKS = ks.callbacks


def train(model, x, y, epochs, learning_rate, callbacks=()):
    """Fits a model as usual, from one seed."""
    keras.utils.set_random_seed(0)
    compile_model(keras, model, learning_rate)
    model.fit(x, y, BATCH, epochs, verbose=0, callbacks=list(callbacks))
    return model


def copy_of(model):
    """The same network with the same weights."""
    copy = network(keras)
    copy.set_weights(model.get_weights())
    return copy


class OwnClass(keras.Model):
    """The same network as code, of which Keras does not know how it goes together."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.steps = network(keras).layers

    def call(self, inputs):
        for step in self.steps:
            inputs = step(inputs)
        return inputs

    def get_config(self):
        return super().get_config()


def own_class(model):
    """A network as code with the weights of another."""
    own = OwnClass()
    own(np.zeros((1, 28, 28, 1), "float32"))
    own.set_weights(model.get_weights())
    return own


def ways(start, fit, batch):
    """Yields (name, ordinary model) for each way; `fit(model, callbacks)` trains on."""
    compression = ks.compression
    yield "float, trained on", fit(start())
    pruned = fit(start(), [CALLBACKS.Pruning(0.8)])
    yield "prune 80%", pruned
    blocks = fit(start(), [CALLBACKS.Pruning(pattern="2:4")])
    yield "2:4", blocks
    yield "16 clusters", compression.strip(fit(compression.cluster_aware(start(), 16)))
    for bits in (8, 4, 3, 2):
        trained = fit(compression.quantize_aware(start(), bits))
        yield f"QAT {bits} bits", compression.strip(trained)
    trained = fit(compression.quantize_aware(own_class(start()), 4))
    yield "QAT 4 bits, own class", compression.strip(trained)
    for bits in (8, 4, 3, 2):
        model = start()
        compression.quantize(model, bits)
        yield f"after training {bits} bits", model
    model = start()
    compression.quantize(model, 2, clip=False)
    yield "after, unclipped 2 bits", model
    trained = fit(compression.quantize_aware(start(), activation_bits=8, calibration=batch))
    yield "QAT 8 bits, inputs too", compression.strip(trained)
    hold = [CALLBACKS.HoldZeros()]
    trained = fit(compression.quantize_aware(pruned, 8), hold)
    yield "prune 80%, QAT 8 bits", compression.strip(trained)
    trained = fit(compression.quantize_aware(blocks, 4), hold)
    yield "2:4, QAT 4 bits", compression.strip(trained)
    trained = fit(compression.cluster_aware(pruned, 16), hold)
    yield "prune 80%, 16 clusters", compression.strip(trained)


def entropy(values):
    """Bits of the entropy of a whole array's values."""
    counts = np.unique(values, return_counts=True)[1]
    return float(-(counts * np.log2(counts / counts.sum())).sum())


def information(model, kind):
    """Bits of information in a compressed model, as the module says."""
    kernels = model_kernels(model)
    quantized = ks.compression.quantized_weights(model) if "bits" in kind else {}
    clustered = ks.compression.clustered_weights(model) if "clusters" in kind else {}
    bits = 0.0
    for variable in model.variables:
        weight = np.asarray(variable)
        if variable.path in quantized:
            found = quantized[variable.path]
            bits += entropy(found.values) + 32 * found.scale.size
        elif variable.path in clustered:
            found = clustered[variable.path]
            bits += entropy(found.indices) + 32 * found.values.size
        elif variable.path in kernels and ("prune" in kind or "2:4" in kind):
            bits += entropy(weight != 0) + 32 * np.count_nonzero(weight)
        else:
            bits += 32 * weight.size
    return bits


def exported(model, folder):
    """Exports a model; returns its kernels, read from the file, and the file's bytes after gzip."""
    ks.export.export_hardened(model, folder, input_shape=(28, 28, 1))
    path = Path(folder) / "saved_model"
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    size = len(gzip.compress(b"".join(file.read_bytes() for file in files), 9))
    kernels = computed_with(path)
    for layer in ("first", "second", "hidden", "top"):
        kernel = np.asarray(model.get_layer(layer).kernel)
        if not any(np.array_equal(kernel, found) for found in kernels):
            raise ValueError(f"{layer} is not in the file as it is in the model")
    return kernels, size


def computed_with(path):
    """The kernels that the convolutions and products in a SavedModel compute with, in order."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    loaded = tf.saved_model.load(str(path))
    flat = convert_variables_to_constants_v2(loaded.signatures["serving_default"])
    wanted = [op.inputs[1] for op in flat.graph.get_operations() if op.type in ("Conv2D", "MatMul")]
    return [kernel.numpy() for kernel in flat.prune([], wanted)()]


def check(name, kernels):
    """Says what of a file's kernels is not as its name promises; None if all is."""
    zeros = [float((kernel == 0).mean()) for kernel in kernels]
    if "prune 80%" in name and any(abs(share - 0.8) > 0.02 and share < 0.8 for share in zeros):
        return f"zeros {zeros}"
    if "2:4" in name:
        # Of the first convolution's one input channel no weight can be spared.
        for kernel in kernels[1:]:
            rows = np.moveaxis(kernel != 0, -2, -1)
            counts = np.add.reduceat(rows.astype(int), range(0, rows.shape[-1], 4), axis=-1)
            if counts.max() > 2:
                return "more than two of four"
    if "clusters" in name and max(len(np.unique(kernel)) for kernel in kernels) > 16:
        return "more than 16 values"
    if "bits" in name:
        bits = int(name.split(" bits")[0].split()[-1])
        if levels(kernels) > 2**bits:
            return f"more than {2**bits} levels"
    return None


def levels(kernels):
    """The most values any output channel of any kernel has."""
    return max(len(np.unique(channel)) for k in kernels for channel in k.reshape(-1, k.shape[-1]).T)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--peer", help="the folder of the toolkit's environment")
    parser.add_argument("--examples", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    x, y, x_test, y_test = load(options.data, options.examples)

    def accuracy(model):
        compile_model(keras, model, 0.0)
        return model.evaluate(x_test, y_test, 500, verbose=0)[1]

    def fit(model, callbacks=()):
        return train(model, x, y, options.epochs, TUNING_RATE, callbacks)

    keras.utils.set_random_seed(0)
    base = train(network(keras), x, y, options.epochs, LEARNING_RATE)
    base_accuracy = accuracy(base)
    raw, plain = 4 * base.count_params(), gzipped(base.get_weights())
    with tempfile.TemporaryDirectory() as folder:
        graph = exported(base, f"{folder}/bundle")[1] - plain
    failures, ours = [], {}
    print(f"{len(x)} examples, {options.epochs} epochs; float accuracy {base_accuracy:.4f},")
    print(f"{raw} bytes as float32, after gzip {plain / raw:.3f} of them,")
    print(f"and {graph / raw:.3f} for the graph in a SavedModel")
    print(f"{'':26}{'accuracy':>9}{'zeros':>7}{'levels':>7}{'gzip':>7}{'bound':>7}  toolkit")

    peer = {}
    if options.peer:
        peer = run_peer(options, base)
    for name, model in ways(lambda: copy_of(base), fit, x[:500]):
        found = ours[name] = accuracy(model)
        with tempfile.TemporaryDirectory() as folder:
            kernels, size = exported(model, f"{folder}/bundle")
        allowance = ALLOWANCE_OF_CLUSTERS if "clusters" in name else ALLOWANCE
        bound = graph + allowance * information(model, name) / 8
        zeros = sum((k == 0).sum() for k in kernels) / sum(k.size for k in kernels)
        count = max(len(np.unique(k)) for k in kernels) if "clusters" in name else levels(kernels)
        other = peer.get(name)
        shown = "" if other is None else f"{other.pop('accuracy'):.4f} {other}"
        shares = f"{size / raw:7.3f}{bound / raw:7.3f}"
        print(f"{name:26}{found:9.4f}{zeros:7.3f}{count:7}{shares}  {shown}", flush=True)
        wrong = check(name, kernels)
        if wrong:
            failures.append(f"{name}: {wrong}")
        if size > bound:
            failures.append(f"{name}: {size} bytes, of at most {bound:.0f}")
        if not name.startswith("after") and found < base_accuracy - 0.01:
            failures.append(f"{name}: more than a point is lost")
        if other is not None and found < float(shown.split()[0]) - 0.005:
            failures.append(f"{name}: the toolkit is better")
    if ours["after training 2 bits"] > ours["QAT 2 bits"] - 0.02:
        failures.append("2 bits after training do as well as in training")
    if ours["after, unclipped 2 bits"] > base_accuracy - 0.1:
        failures.append("unclipped 2 bits after training lose too little for a comparison")
    print("\n".join(f"FAILED {failure}" for failure in failures) or "all as promised")
    return 1 if failures else 0


def run_peer(options, base):
    """The toolkit's results by name."""
    worker = Path(__file__).parent / "peers" / "worker_tfmot.py"
    with tempfile.TemporaryDirectory() as folder:
        weights = base.get_weights()
        np.savez(f"{folder}/weights.npz", **{f"{i:03}": w for i, w in enumerate(weights)})
        arguments = [options.data, options.examples, options.epochs, TUNING_RATE]
        output = subprocess.run(
            [f"{options.peer}/bin/python", worker, *map(str, arguments), f"{folder}/weights.npz"],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
    results = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return {result.pop("name"): result for result in results}


if __name__ == "__main__":
    sys.exit(main())
