"""A model of a class of its own whose kernels are compressed within `call`."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_secure.compression.kernels import inner_kernels
from keras_secure.compression.substituted import call_with
from keras_secure.compression.trained_kernel import TrainedKernel
from keras_secure.errors import InputError
from keras_secure.registration import component


@component("compression")
class CompressedModel(keras.Model):
    """Around a model, or a layer made of layers, that only its own code can put together.

    While that is called, the values of its kernels are what the schemes make of them, wherever its
    code reads them; outside of the call they are what is trained. So no part of it is exchanged.
    It saves and loads as any Keras object, the class of what is inside being registered or given as
    `custom_objects`.

    Args:
        part: The built model or layer, or its serialized form. It becomes a part of this one.
        schemes: For each of its kernels, in its own order, a `LearnedStepSize` or `SharedWeights`,
            its serialized form, or None to leave the kernel as it is.
        **kwargs: As of `keras.Model`.

    Raises:
        InputError: `part` is not built, or has another number of kernels.

    Example:

    >>> import numpy as np
    >>> from keras_secure.compression import LearnedStepSize
    >>> class Own(keras.Model):
    ...     def __init__(self, **kwargs):
    ...         super().__init__(**kwargs)
    ...         self.dense = keras.layers.Dense(2)
    ...     def call(self, inputs):
    ...         return self.dense(inputs)
    >>> own = Own()
    >>> _ = own(np.ones((1, 3), "float32"))
    >>> model = CompressedModel(own, [LearnedStepSize(2)])
    >>> model.start()
    >>> np.unique(model.trained_kernels["0"].weights()[:, 0]).size <= 4
    True
    """

    # Read by rooms that treat layers one by one: those inside do not compute with their weights.
    computes_inner_weights = True

    # A plain attribute, which Keras does not track a second time.
    trained_kernels: dict[str, TrainedKernel]

    def __init__(self, part: Any, schemes: Sequence[Any], **kwargs):
        if isinstance(part, dict):
            part = keras.saving.deserialize_keras_object(part)
        schemes = [
            keras.saving.deserialize_keras_object(s) if isinstance(s, dict) else s for s in schemes
        ]
        options = {"name": part.name, "dtype": part.dtype_policy, **kwargs}
        # Kernels are read in full precision, whatever is computed in.
        super().__init__(autocast=False, **options)
        kernels = inner_kernels(part)
        if not part.built or len(kernels) != len(schemes):
            raise InputError(
                f"{part.name!r} is a {type(part).__name__} with {len(kernels)} built kernels, and "
                f"{len(schemes)} were compressed. Its `build` has to build all of its layers, "
                "and its `get_config` to return what its constructor needs for the same ones."
            )
        self.part, self.schemes = part, schemes
        trained = {}
        for number, (scheme, kernel) in enumerate(zip(schemes, kernels, strict=True)):
            if scheme is not None:
                name = f"{kernel.layer.name}_{kernel.attribute}"
                made = TrainedKernel(scheme, self, name, kernel)
                if not kernel.variable.trainable:
                    for variable in made.state.values():
                        variable.trainable = False
                trained[str(number)] = made
        object.__setattr__(self, "trained_kernels", trained)
        self.supports_masking = part.supports_masking
        self.built = True

    def call(self, inputs, *args, training=None, **kwargs):
        """Calls the part with its kernels compressed."""
        substitutes = [(t.kernel.variable, t.computed()) for t in self.trained_kernels.values()]
        outputs, losses = call_with(self.part, substitutes, inputs, *args, **kwargs)
        for loss in losses:
            self.add_loss(loss)
        return outputs

    def compute_mask(self, inputs, previous_mask=None):
        """The mask that the part returns."""
        return self.part.compute_mask(inputs, previous_mask)

    def start(self) -> None:
        """Fits the schemes' variables to the kernels as they are now (not traceable)."""
        for trained in self.trained_kernels.values():
            trained.start()

    def get_config(self):
        """Returns the part and the schemes."""
        serialize = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            "trainable": self.trainable,
            "part": serialize(self.part),
            "schemes": [serialize(scheme) for scheme in self.schemes],
        }
