"""Steps of plain Keras and of keras_secure, for `dp_step.py`.

"dp" holds the whole batch at once, "dp-128" microbatches of 128 examples.
"""

import sys

from step_models import build, data
from turns import serve


def prepare(way, name, batch):
    """Returns a function that takes one step."""
    import keras

    keras.utils.set_random_seed(0)
    model = keras.Model(*build(keras, name))
    optimizer = keras.optimizers.Adam(1e-3)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if way != "plain":
        import keras_secure as ks

        optimizer = ks.optimizers.DPOptimizer(
            optimizer,
            1.0,
            1.0,
            expected_batch_size=batch,
            microbatch_size=128 if way == "dp-128" else None,
        )
        model = ks.SecureModel(model)
    model.compile(optimizer, loss, jit_compile=False)
    x, y = data(name, batch)
    return lambda: model.train_on_batch(x, y)


if __name__ == "__main__":
    way, name, batch = sys.argv[1:4]
    serve(lambda: prepare(way, name, int(batch)))
