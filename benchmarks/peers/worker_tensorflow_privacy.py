"""Steps of tensorflow-privacy, for `dp_step.py`; runs in an environment of its own.

Ways: "plain" Keras of that TensorFlow; "vectorized", its vectorized optimizer; "model", its DPModel
with every example a microbatch; "model-xla", the same compiled; "fast", DPModel with every function
for fast gradient clipping that it has.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from step_models import build, data
from turns import serve


def prepare(way, name, batch):
    """Returns a function that takes one step."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    inputs, outputs = build(tf.keras, name)
    optimizer, reduction = tf.keras.optimizers.Adam(1e-3), "auto"
    if way == "plain":
        model = tf.keras.Model(inputs, outputs)
    elif way == "vectorized":
        from tensorflow_privacy import VectorizedDPKerasAdamOptimizer

        model, reduction = tf.keras.Model(inputs, outputs), "none"
        optimizer = VectorizedDPKerasAdamOptimizer(
            l2_norm_clip=1.0, noise_multiplier=1.0, num_microbatches=batch, learning_rate=1e-3
        )
    else:
        from tensorflow_privacy import DPModel

        model = DPModel(
            l2_norm_clip=1.0,
            noise_multiplier=1.0,
            # Fast clipping takes None for one example each.
            num_microbatches=None if way == "fast" else batch,
            use_xla=way == "model-xla",
            layer_registry=_registry(tf) if way == "fast" else None,
            inputs=inputs,
            outputs=outputs,
        )
        if way == "fast" and not model._enable_fast_peg_computation:
            raise NotImplementedError("no fast clipping for a layer of this model")
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
    model.compile(optimizer, loss)
    x, y = data(name, batch)
    return lambda: model.train_on_batch(x, y)


def _registry(tf):
    from tensorflow_privacy.privacy.fast_gradient_clipping import layer_registry
    from tensorflow_privacy.privacy.fast_gradient_clipping.registry_functions import (
        einsum_dense,
        layer_normalization,
        multi_head_attention,
    )

    registry = layer_registry.make_default_layer_registry()
    layers = tf.keras.layers
    registry.insert(layers.EinsumDense, einsum_dense.einsum_layer_computation)
    registry.insert(layers.LayerNormalization, layer_normalization.layer_normalization_computation)
    registry.insert(
        layers.MultiHeadAttention, multi_head_attention.multi_head_attention_layer_computation
    )
    return registry


if __name__ == "__main__":
    way, name, batch = sys.argv[1:4]
    serve(lambda: prepare(way, name, int(batch)))
