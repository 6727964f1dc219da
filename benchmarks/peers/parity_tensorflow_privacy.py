"""Clipped gradients and epsilons as tensorflow-privacy computes them, for a comparison with ours.

Runs in tensorflow-privacy's own environment, since it does not import beside Keras 3:

    PYTHON_OF_THAT_ENVIRONMENT parity_tensorflow_privacy.py exported.npz results.npz

`exported.npz` holds `kind` (a key of `MODELS`), the inputs `x`, the labels `y`, the bound `clip`
and the weights `weight_0`, `weight_1`, ... of the model that `build` makes. `results.npz` gets, for
each of tensorflow-privacy's own ways, the sum of the clipped gradients as `<way>/0`, `<way>/1`,
..., or the reason as `<way>/failed` where a way cannot take the model. With rows of `settings`
(examples, batch size, noise multiplier, epochs, delta) it gets `epsilon` too: by
`compute_dp_sgd_privacy`, and by its accountants without microbatching, Renyi and PLD.

The file imports nothing heavy at the top: `build` takes the Keras to build with, old or new.
"""

import sys

import numpy as np


def mlp(layers):
    """Layers of a small perceptron."""
    return [layers.Dense(24, "relu"), layers.Dense(16, "tanh"), layers.Dense(10)]


def cnn(layers):
    """Layers of the network in tensorflow-privacy's tutorial."""
    return [
        layers.Conv2D(16, 8, strides=2, padding="same", activation="relu"),
        layers.MaxPool2D(2, 1),
        layers.Conv2D(32, 4, strides=2, padding="valid", activation="relu"),
        layers.MaxPool2D(2, 1),
        layers.Flatten(),
        layers.Dense(32, activation="relu"),
        layers.Dense(10),
    ]


def text(layers):
    """Layers of a classifier of token sequences."""
    return [
        layers.Embedding(60, 8),
        layers.GlobalAveragePooling1D(),
        layers.Dense(16, "relu"),
        layers.Dense(10),
    ]


MODELS = {
    "mlp": (mlp, (30,), "float32"),
    "cnn": (cnn, (28, 28, 1), "float32"),
    "text": (text, (12,), "int32"),
}


def build(keras, kind, sequential=None, **options):
    """Returns the model `kind`, built with the Keras given, or its `Sequential` class."""
    layers, shape, dtype = MODELS[kind]
    parts = [keras.layers.Input(shape, dtype=dtype), *layers(keras.layers)]
    return (sequential or keras.Sequential)(layers=parts, **options)


def clipped_sums(data):
    """Yields (way, gradients or the error that it raised)."""
    import tensorflow as tf
    import tensorflow_privacy as tfp
    from tensorflow_privacy.privacy.fast_gradient_clipping import layer_registry

    kind, x, y, clip = str(data["kind"]), data["x"], data["y"], float(data["clip"])
    weights = [data[f"weight_{i}"] for i in range(sum(n.startswith("weight_") for n in data))]

    def loss(reduction):
        return tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)

    def by_optimizer(make):
        model = build(tf.keras, kind)
        model.set_weights(weights)
        optimizer = make(l2_norm_clip=clip, noise_multiplier=0.0, learning_rate=1.0)
        pairs = optimizer._compute_gradients(
            lambda: loss("none")(y, model(x, training=True)), model.trainable_variables
        )
        return [gradient for gradient, _ in pairs]

    def by_model(registry):
        options = {"l2_norm_clip": clip, "noise_multiplier": 0.0, "use_xla": False}
        model = build(tf.keras, kind, tfp.DPSequential, layer_registry=registry, **options)
        model.set_weights(weights)
        model.compile(tf.keras.optimizers.SGD(1.0), loss("auto"))
        if (registry is not None) != model._enable_fast_peg_computation:
            raise NotImplementedError("a layer has no entry in the layer registry")
        taken = []
        model.optimizer.apply_gradients = lambda pairs: taken.extend(g for g, _ in pairs)
        model.train_step((tf.constant(x), tf.constant(y)))
        return taken

    ways = {
        "DPKerasSGDOptimizer": lambda: by_optimizer(tfp.DPKerasSGDOptimizer),
        "VectorizedDPKerasSGDOptimizer": lambda: by_optimizer(tfp.VectorizedDPKerasSGDOptimizer),
        "DPSequential": lambda: by_model(None),
        "fast_gradient_clipping": lambda: by_model(layer_registry.make_default_layer_registry()),
    }
    for way, compute in ways.items():
        try:
            # Every way averages over the batch.
            yield way, [len(x) * tf.convert_to_tensor(gradient).numpy() for gradient in compute()]
        except (NotImplementedError, TypeError, ValueError, AttributeError) as error:
            yield way, error


def epsilons(settings):
    """One row (deprecated function, Renyi, PLD) for each setting."""
    from tensorflow_privacy.privacy.analysis import compute_dp_sgd_privacy_lib as analysis

    rows = []
    for examples, batch_size, noise, epochs, delta in settings:
        old, _ = analysis.compute_dp_sgd_privacy(examples, batch_size, noise, epochs, delta)
        others = [
            analysis._compute_dp_sgd_example_privacy(
                epochs, noise, delta, False, batch_size / examples, kind
            )
            for kind in (analysis.AccountantType.RDP, analysis.AccountantType.PLD)
        ]
        rows.append([old, *others])
    return np.array(rows)


def main(exported, results):
    """Reads what was exported and writes what tensorflow-privacy makes of it."""
    with np.load(exported) as archive:
        data = dict(archive)
    found = {}
    for way, gradients in clipped_sums(data):
        if isinstance(gradients, Exception):
            found[f"{way}/failed"] = np.array(f"{type(gradients).__name__}: {gradients}"[:300])
        else:
            found.update({f"{way}/{i}": gradient for i, gradient in enumerate(gradients)})
    if "settings" in data:
        found["epsilon"] = epsilons(data["settings"])
    np.savez(results, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
