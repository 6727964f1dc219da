"""The three models of the demo: plain, robust and private."""

import sys
import time
from dataclasses import dataclass
from typing import Any

import keras

import keras_secure as ks

MARKED_LAYER = "features"
_LOSS = "sparse_categorical_crossentropy"


@dataclass(frozen=True)
class Trained:
    """A model and the seconds it took."""

    model: Any
    seconds: float
    description: str


def network(dataset, activation):
    """Returns a small convolutional network for images, a dense one for tables."""
    layers = keras.layers
    stack = [keras.Input(dataset.x_train.shape[1:])]
    if dataset.is_image:
        stack += [
            layers.Conv2D(32, 3, padding="same", activation=activation),
            layers.Conv2D(64, 3, strides=2, padding="same", activation=activation),
        ]
        if min(dataset.x_train.shape[1:3]) > 16:
            stack.append(layers.Conv2D(64, 3, strides=2, padding="same", activation=activation))
        stack.append(layers.Flatten())
    else:
        stack.append(layers.Dense(128, activation=activation))
    stack += [
        layers.Dense(128, activation=activation, name=MARKED_LAYER),
        layers.Dense(dataset.num_classes, activation="softmax"),
    ]
    return keras.Sequential(stack)


def train_plain(dataset, plan):
    """Trains with Keras alone."""
    model = network(dataset, "relu")
    model.compile(keras.optimizers.Adam(1e-3), loss=_LOSS, metrics=["accuracy"])
    seconds = _fit(model, dataset, plan.plain_epochs, plan.batch_size, "plain training")
    return Trained(model, seconds, "Keras alone")


def train_robust(dataset, plan, mark, start):
    """Goes on from a trained model, on PGD examples, while a watermark is embedded."""
    model = network(dataset, "relu")
    # From random weights, attacks as strong as these can keep a network from learning at all.
    model.set_weights(start.model.get_weights())
    ks.watermark.attach(model.get_layer(MARKED_LAYER), mark)
    attack = ks.attacks.PGD(epsilon=plan.epsilon, steps=7)
    secure = ks.SecureModel(model, objective=ks.objectives.AdversarialTraining(attack))
    steps = plan.robust_epochs * -(-len(dataset.x_train) // plan.batch_size)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    secure.compile(keras.optimizers.Adam(rate), loss=_LOSS, metrics=["accuracy"])
    seconds = _fit(secure, dataset, plan.robust_epochs, plan.batch_size, "robust training")
    ks.watermark.detach(model.get_layer(MARKED_LAYER))
    return Trained(
        model, seconds, f"the plain model, trained on with PGD-7 at epsilon {plan.epsilon:g}"
    )


def train_private(dataset, plan, target_epsilon, delta):
    """Trains with DP-Adam, calibrated to the budget; returns the model, optimizer and budget."""
    # Bounded activations keep gradients small, so that the clip distorts less (Papernot et al.
    # 2021, arXiv 2007.14191).
    model = network(dataset, "tanh")
    noise_multiplier = ks.privacy.calibrate_noise_multiplier(
        target_epsilon=target_epsilon,
        target_delta=delta,
        num_examples=len(dataset.x_train),
        batch_size=plan.private_batch_size,
        epochs=plan.private_epochs,
    )
    optimizer = ks.optimizers.DPAdam(5e-3, l2_norm_clip=1.0, noise_multiplier=noise_multiplier)
    budget = ks.callbacks.PrivacyBudget(target_epsilon, delta)
    secure = ks.SecureModel(model)
    secure.compile(optimizer, loss=_LOSS, metrics=["accuracy"])
    seconds = _fit(
        secure, dataset, plan.private_epochs, plan.private_batch_size, "private training", [budget]
    )
    return Trained(model, seconds, f"DP-Adam to epsilon {target_epsilon:g}"), optimizer, budget


class OneBar(keras.callbacks.Callback):
    """One progress bar for a whole training, an epoch a tick."""

    def __init__(self, title):
        super().__init__()
        self.title = title
        self.bar: Any = None

    def on_train_begin(self, logs=None):
        """Announces the training and opens the bar."""
        print(self.title, flush=True)
        verbose = 1 if sys.stdout.isatty() else 2
        self.bar = keras.utils.Progbar(self.params["epochs"], verbose=verbose, unit_name="epoch")

    def on_epoch_end(self, epoch, logs=None):
        """Moves the bar."""
        shown = ("loss", "accuracy", "epsilon")
        values = [(name, float(logs[name])) for name in shown if name in (logs or {})]
        self.bar.update(epoch + 1, values=values)


def _fit(model, dataset, epochs, batch_size, title, callbacks=()):
    start = time.perf_counter()
    model.fit(
        dataset.x_train,
        dataset.y_train,
        batch_size=batch_size,
        epochs=epochs,
        verbose=0,
        callbacks=[*callbacks, OneBar(title)],
    )
    return time.perf_counter() - start
