"""The Model Optimization Toolkit on tf_keras, for `compression.py`.

Takes FOLDER EXAMPLES EPOCHS LEARNING_RATE WEIGHTS and prints a line of JSON for each way: from the
float weights in WEIGHTS (an npz file), trained on with the same data for as many epochs.
"""

import json
import os
import sys
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import tensorflow_model_optimization as tfmot
import tf_keras
from compression_task import BATCH, compile_model, gzipped, load, network


def zeros(model):
    """The share of zeros in all kernels."""
    kernels = [w for w in model.get_weights() if w.ndim > 1]
    return sum((k == 0).sum() for k in kernels) / sum(k.size for k in kernels)


def main():
    folder, examples, epochs, learning_rate, path = sys.argv[1:]
    x, y, x_test, y_test = load(folder, int(examples))
    epochs, steps = int(epochs), -(-len(x) // BATCH) * int(epochs)

    def start():
        model = network(tf_keras)
        with np.load(path) as arrays:
            model.set_weights([arrays[name] for name in arrays.files])
        return model

    def fit(model, callbacks=()):
        tf_keras.utils.set_random_seed(0)
        compile_model(tf_keras, model, float(learning_rate))
        model.fit(x, y, BATCH, epochs, verbose=0, callbacks=list(callbacks))
        return model

    def report(name, model, kept):
        accuracy = model.evaluate(x_test, y_test, 500, verbose=0)[1]
        print(json.dumps({"name": name, "accuracy": accuracy, **kept}), flush=True)

    sparsity, clustering = tfmot.sparsity.keras, tfmot.clustering.keras
    step = sparsity.UpdatePruningStep()
    decay = sparsity.PolynomialDecay(
        0.0, 0.8, round(0.1 * steps), round(0.7 * steps), frequency=max(1, round(0.6 * steps) // 50)
    )
    pruned = fit(sparsity.prune_low_magnitude(start(), pruning_schedule=decay), [step])
    plain = sparsity.strip_pruning(pruned)
    report("prune 80%", pruned, {"zeros": zeros(plain), "gzip": gzipped(plain.get_weights())})

    blocks = sparsity.prune_low_magnitude(
        start(),
        pruning_schedule=sparsity.ConstantSparsity(0.5, 0, frequency=100),
        sparsity_m_by_n=(2, 4),
    )
    fit(blocks, [sparsity.UpdatePruningStep()])
    plain = sparsity.strip_pruning(blocks)
    report("2:4", blocks, {"zeros": zeros(plain), "gzip": gzipped(plain.get_weights())})

    linear = clustering.CentroidInitialization.LINEAR
    clustered = clustering.cluster_weights(
        start(), number_of_clusters=16, cluster_centroids_init=linear
    )
    fit(clustered)
    plain = clustering.strip_clustering(clustered)
    most = max(len(np.unique(w)) for w in plain.get_weights() if w.ndim > 1)
    report("16 clusters", clustered, {"levels": most, "gzip": gzipped(plain.get_weights())})

    quantized = fit(tfmot.quantization.keras.quantize_model(start()))
    report("QAT 8 bits", quantized, {})


if __name__ == "__main__":
    main()
