"""Steps of plain Keras and of our adversarial training, for `adversarial_training.py`.

Ways: "plain", "fgsm-rs", and "pgd-K" with K gradient steps. A turn is several steps of the very
function that `fit` calls, on batches that are ready, so that neither `fit` nor data loading counts.
"""

import sys

from step_models import build, data
from turns import serve

STEPS = 4


def prepare(way, name, batch):
    """Returns a function that takes `STEPS` steps."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    model = keras.Model(*build(keras, name))
    traces = []
    if way != "plain":
        import keras_secure as ks

        if way == "fgsm-rs":
            attack = ks.attacks.FGSM(0.3, random_start=True, step_size=0.375)
        else:
            attack = ks.attacks.PGD(0.3, steps=int(way.split("-")[1]))
        objective = ks.objectives.AdversarialTraining(attack)
        call = objective.descend
        objective.descend = lambda step: traces.append(step) or call(step)
        model = ks.SecureModel(model, objective=objective)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, jit_compile=False)
    x, y = data(name, batch)
    model.train_on_batch(x, y)
    model.train_function = None
    model.make_train_function()
    batches = iter(tf.data.Dataset.from_tensors((x, y)).repeat())
    model.train_function(batches)
    traces.clear()

    def steps():
        for _ in range(STEPS):
            model.train_function(batches)
        if traces:
            raise RuntimeError("the step was traced again")

    return steps


if __name__ == "__main__":
    way, name, batch = sys.argv[1:4]
    serve(lambda: prepare(way, name, int(batch)))
