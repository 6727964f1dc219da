"""Batches of adversarial training by the Adversarial Robustness Toolbox, in turns.

Runs in the environment `env-attacks-tensorflow` that `build_attacks.sh` makes. Ways: "pgd-K" as
`AdversarialTrainer.fit` is given to the user, and "pgd-K own step", where the classifier is handed
a compiled training step of ours, so that the toolbox has no reason to trace it again. A turn is
`fit` on one batch, as many times as our worker takes steps.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

# ruff: noqa: E402
from step_models import SHAPES, build, data
from turns import serve

STEPS = 4


def prepare(way, name, batch):
    """Returns a function that trains on `STEPS` batches."""
    import keras
    import tensorflow as tf
    from art.attacks.evasion import ProjectedGradientDescent
    from art.defences.trainer import AdversarialTrainer
    from art.estimators.classification import TensorFlowV2Classifier

    kind, *own = way.split(" ", 1)
    steps = int(kind.split("-")[1])
    keras.utils.set_random_seed(0)
    model = keras.Model(*build(keras, name))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build(model.trainable_variables)

    @tf.function(reduce_retracing=True)
    def train_step(model, images, labels):
        with tf.GradientTape() as tape:
            value = loss(labels, model(images, training=True))
        gradients = tape.gradient(value, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    classifier = TensorFlowV2Classifier(
        model,
        nb_classes=10,
        input_shape=SHAPES[name],
        loss_object=loss,
        optimizer=optimizer,
        train_step=train_step if own else None,
        clip_values=(0.0, 1.0),
    )
    attack = ProjectedGradientDescent(
        classifier,
        eps=0.3,
        eps_step=2.5 * 0.3 / steps,
        max_iter=steps,
        num_random_init=1,
        batch_size=batch,
        verbose=False,
    )
    trainer = AdversarialTrainer(classifier, attack, ratio=1.0)
    x, y = data(name, batch)

    def turn():
        for _ in range(STEPS):
            trainer.fit(x, y, batch_size=batch, nb_epochs=1)

    return turn


if __name__ == "__main__":
    way, name, batch = sys.argv[1:4]
    serve(lambda: prepare(way, name, int(batch)))
