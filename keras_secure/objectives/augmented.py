"""Augmentation that any objective can be trained with."""

import keras
from keras import ops, tree

from keras_secure.errors import InputError
from keras_secure.objectives.objective import Objective, Standard
from keras_secure.registration import component

# Their labels would have to change along with the images.
_LABEL_MIXING = ("MixUp", "CutMix")


@component("objectives")
class Augmented(Objective):
    """Any other objective, on inputs that a layer has changed at random.

    The layer acts in training only and before the attack, so an attack starts from what the model
    is shown. It sees each example on its own, as Keras' preprocessing layers do; private training
    probes this before it begins. With `jit_compile=True`, flips, crops and noise compile; layers
    that resample (`RandomRotation`, `RandomZoom`) do not: XLA lacks their operation.

    Args:
        objective: The `Objective` to train with; the compiled loss if None.
        layer: A `keras.layers.Layer` without weights to train, such as `RandomFlip`,
            `RandomRotation`, a noise layer, or a `keras.Sequential` of these. It is called with
            `training=True` on the model's inputs as they are nested.

    Raises:
        InputError: if the layer is none, has weights to train, or mixes images and so needs their
            labels.

    Example:

    >>> import keras_secure as ks
    >>> flip = keras.layers.RandomFlip("horizontal")
    >>> inner = ks.objectives.AdversarialTraining(ks.attacks.PGD(epsilon=0.1))
    >>> Augmented(inner, flip).layer is flip
    True
    """

    def __init__(self, objective=None, layer=None):
        objective = Standard() if objective is None else objective
        if not isinstance(objective, Objective):
            raise InputError(
                f"objective is a {type(objective).__name__}; give one of keras_secure.objectives."
            )
        if not isinstance(layer, keras.layers.Layer):
            raise InputError(
                f"layer is a {type(layer).__name__}; give a Keras layer that changes inputs at "
                "random, such as keras.layers.RandomFlip('horizontal')."
            )
        mixing = [kind for kind in _LABEL_MIXING if hasattr(keras.layers, kind)]
        if isinstance(layer, tuple(getattr(keras.layers, kind) for kind in mixing)):
            raise InputError(
                f"{type(layer).__name__} mixes images, so their labels must be mixed as well. Use "
                "keras_secure.objectives.Mixup."
            )
        self.objective, self.layer = objective, layer

    def perturb(self, model, x, y, loss):
        """See `Objective`."""
        changed = self.layer(x, training=True)
        if self.layer.trainable_variables:
            raise InputError(
                f"The augmentation {self.layer.name!r} has weights, which nothing would train. Put "
                "it into the model instead."
            )
        # Some layers answer in the precision they compute in.
        changed = tree.map_structure(
            lambda new, old: ops.cast(new, keras.backend.standardize_dtype(old.dtype)), changed, x
        )
        changed = tree.map_structure(ops.stop_gradient, changed)
        return changed, self.objective.perturb(model, changed, y, loss)

    def __call__(self, model, x, y, perturbed, loss, sample_weight=None):
        """See `Objective`."""
        changed, inner = perturbed
        return self.objective(model, changed, y, inner, loss, sample_weight)

    def get_config(self):
        """See `Objective`."""
        return {
            "objective": keras.saving.serialize_keras_object(self.objective),
            "layer": keras.saving.serialize_keras_object(self.layer),
        }

    @classmethod
    def from_config(cls, config):
        """See `Objective`."""
        return cls(
            *(keras.saving.deserialize_keras_object(config[k]) for k in ("objective", "layer"))
        )
