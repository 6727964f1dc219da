"""Free adversarial training."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_secure import backend
from keras_secure.arguments import check_integer
from keras_secure.attacks import GradientAttack
from keras_secure.errors import InputError
from keras_secure.objectives.objective import Objective
from keras_secure.registration import component


@component("objectives")
class FreeAdversarialTraining(Objective):
    """Adversarial training whose attack comes with the update, free of charge.

    Every batch is replayed a few times. One backward pass gives both the gradient by the weights,
    which are updated at once, and that by the inputs, which moves the perturbation one step of the
    attack. The perturbation goes on from replay to replay and from batch to batch. An epoch takes
    `replays` times the steps of an ordinary one: divide `epochs` by `replays`, as the paper does.

    Loss and metrics are those of the last replay. Private training refuses this objective, since it
    takes several gradients of each batch, and so does more than one replica.

    Args:
        attack: A `keras_secure.attacks.GradientAttack` in linf or l2, of which one step is taken
            per replay. The paper's is `FGSM(epsilon)`. Its random start is not used.
        replays: How often each batch is used, at least 1. Defaults to 4.
        batch_size: Examples of a batch, which `jit_compile=True` needs to know; None elsewhere,
            where batches may have any size.

    Raises:
        InputError: if an argument cannot be used; in `fit`, with several replicas or with XLA and
            no `batch_size`.

    Example:

    >>> import keras_secure as ks
    >>> FreeAdversarialTraining(ks.attacks.FGSM(0.3), replays=8).replays
    8

    Reference: Shafahi et al. 2019 (arXiv 1904.12843), algorithm 1. The perturbation is kept within
    the ball, the perturbed input within the attack's `bounds`.
    """

    def __init__(self, attack, replays=4, batch_size=None):
        if not isinstance(attack, GradientAttack) or attack.norm == "l1":
            raise InputError(
                f"attack={attack!r} cannot be used: free training needs an attack that steps along "
                "the gradient in linf or l2, such as FGSM(epsilon)."
            )
        if attack.targeted:
            raise InputError(
                "The attack is targeted, but free training raises the very loss it trains down. "
                "Use targeted=False."
            )
        self.attack, self.replays = attack, check_integer("replays", replays)
        self.batch_size = None if batch_size is None else check_integer("batch_size", batch_size)
        self._carried: Any = None

    def descend(self, step):
        """See `Objective`: one update and one move of the perturbation for every replay."""
        x = self._checked(step)
        epsilon = ops.cast(self.scaled(self.attack.epsilon), "float32")
        rows = ops.shape(x)[0]
        carried = self._perturbations(x)
        delta = _missing_rows(ops.convert_to_tensor(carried), rows)

        def replay(delta):
            moved = ops.clip(ops.cast(x, "float32") + delta, *self._box(x))
            # The very tensor the model is called on, or there is nothing to differentiate by.
            inputs = ops.cast(moved, x.dtype)

            def per_example():
                return self(step.model, x, step.y, inputs, step.loss, step.sample_weight)

            weights = step.model.trainable_variables
            value, y_pred, gradients = step.gradients(per_example, by=[*weights, inputs])
            step.apply(gradients[:-1])
            gradient = ops.cast(gradients[-1], "float32")
            gradient = ops.where(ops.isfinite(gradient), gradient, 0.0)
            # Around zero and without a box: a value that one picture has no room for, the next may.
            wanted = self.attack.update(delta, gradient, epsilon)
            return value, y_pred, _within(wanted, epsilon, self.attack.norm)

        def turn(index, delta):
            return index + 1, replay(delta)[2]

        if self.replays > 1:
            _, delta = backend.sequential_loop(
                lambda index, delta: index < self.replays - 1,
                turn,
                (ops.convert_to_tensor(0, "int32"), delta[:rows]),
            )
        value, y_pred, delta = replay(delta[:rows])
        # A last batch that is smaller leaves the rest for the next one.
        left = ops.convert_to_tensor(carried)[rows:]
        carried.assign(ops.concatenate([delta, left], axis=0))
        return value, y_pred

    def __call__(self, model, x, y, perturbed, loss, sample_weight=None):
        """See `Objective`."""
        y_pred = model(x if perturbed is None else perturbed, training=True)
        return loss(y, y_pred, sample_weight), y_pred

    def _checked(self, step):
        name = type(self).__name__
        if backend.replica_count() > 1:
            raise InputError(
                f"{name} carries one perturbation from batch to batch, which replicas would have "
                "to share. Train on one device, or use FGSM with a random start."
            )
        if step.secure.jit_compile and self.batch_size is None:
            raise InputError(
                f"With jit_compile=True {name} has to know the size of a batch: give it batch_size."
            )
        if not ops.is_tensor(step.x):
            raise InputError(f"{name} perturbs one input, but the model was given several.")
        if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(step.x.dtype)):
            raise InputError(
                f"{name} perturbs floating point inputs, but got {step.x.dtype}. Rescale images to "
                "floats first."
            )
        if not step.model.built:
            step.model(step.x, training=False)  # variables cannot be created inside a loop
        return step.x

    def _perturbations(self, x):
        """The variable that holds the perturbation of each place in a batch."""
        shape = tuple(x.shape[1:])
        if self._carried is None or tuple(self._carried.shape[1:]) != shape:
            if None in shape:
                raise InputError(
                    f"Inputs of shape {tuple(x.shape)} cannot be used: the perturbation is carried "
                    "to the next batch, so all must have one shape. Pad or resize them."
                )
            zeros = np.zeros((self.batch_size or 0, *shape), "float32")
            self._carried = backend.state_variable(zeros, rows_vary=self.batch_size is None)
        return self._carried

    def _box(self, x):
        """What inputs may be; those outside already may stay where they are."""
        lowest, highest = self.attack.bounds
        x = ops.cast(x, "float32")
        return ops.minimum(x, lowest), ops.maximum(x, highest)

    def get_config(self):
        """See `Objective`."""
        attack = keras.saving.serialize_keras_object(self.attack)
        return {"attack": attack, "replays": self.replays, "batch_size": self.batch_size}

    @classmethod
    def from_config(cls, config):
        """See `Objective`."""
        return cls(**{**config, "attack": keras.saving.deserialize_keras_object(config["attack"])})


def _missing_rows(delta, rows):
    """Appends zeros until there are as many rows as the batch has."""
    if delta.shape[0] is not None:
        return delta
    missing = ops.maximum(rows - ops.shape(delta)[0], 0)
    zeros = ops.zeros((missing, *delta.shape[1:]), delta.dtype)
    return ops.concatenate([delta, zeros], axis=0)


def _within(delta, epsilon, norm):
    """The nearest point of the ball around zero."""
    if norm == "linf":
        return ops.clip(delta, -epsilon, epsilon)
    rows = ops.reshape(delta, (ops.shape(delta)[0], -1))
    length = ops.sqrt(ops.sum(ops.square(rows), axis=1, keepdims=True))
    rows = rows * ops.minimum(epsilon / ops.maximum(length, 1e-12), 1.0)
    return ops.reshape(rows, ops.shape(delta))
