"""A layer with the gradient of another."""

import keras

from keras_secure.errors import InputError
from keras_secure.registration import component

IDENTITY = "identity"


@component("layers")
class BPDA(keras.layers.Wrapper):
    """Runs a layer forward as it is, and differentiates a stand-in backward.

    A layer without a useful gradient (rounding, compression, a lookup, a generator's projection)
    makes gradient attacks fail, and with them any measurement of robustness. Where a
    differentiable function behaves about like the layer, its gradient leads the attack through
    (backward pass differentiable approximation). The answers of the model stay what they were, to
    the last bit; only gradients change. Weights of the wrapped layer get no gradient: wrap a layer
    to attack a model, not to train one.

    Args:
        layer: The `keras.layers.Layer` that is run forward.
        backward: What is differentiated instead: `"identity"` (the default) for layers whose
            output is about their input, a `keras.layers.Layer`, or a function of a tensor. To be
            saved, a function must be registered with `keras.saving.register_keras_serializable`.
        **kwargs: Keyword arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: A floating point tensor that both the layer and the stand-in accept.

    Returns:
        What the layer returns, a tensor.

    Raises:
        InputError: If an argument cannot be used, or layer and stand-in differ in output shape.

    Example:

    >>> rounding = keras.layers.Lambda(keras.ops.round)
    >>> layer = BPDA(rounding)
    >>> layer(keras.ops.array([[0.2, 0.8]])).numpy().tolist()
    [[0.0, 1.0]]

    Reference:
        Athalye, Carlini and Wagner 2018, "Obfuscated gradients give a false sense of security",
        arXiv 1802.00420, section 4.
    """

    def __init__(self, layer, backward=IDENTITY, **kwargs):
        if not isinstance(layer, keras.layers.Layer):
            raise InputError(
                f"BPDA wraps a keras layer and was given {layer!r}. Put a function into "
                "keras.layers.Lambda first."
            )
        if backward != IDENTITY and not callable(backward):
            raise InputError(
                f"backward={backward!r} cannot be used: give {IDENTITY!r}, a keras layer, or a "
                "function of a tensor."
            )
        # Casting is left to the layer, or under mixed precision its answers would be others.
        super().__init__(layer, autocast=False, **kwargs)
        self.backward = backward
        self.supports_masking = layer.supports_masking

    def build(self, input_shape=None):
        """Builds the layer and its stand-in, which have to agree in their output shape."""
        super().build(input_shape)
        if isinstance(self.backward, keras.layers.Layer) and not self.backward.built:
            self.backward.build(input_shape)

    def call(self, inputs, **kwargs):
        """Runs the layer; see the class. `kwargs` are handed to it."""
        ops = keras.ops
        outputs = ops.stop_gradient(self.layer(inputs, **kwargs))
        stand_in = inputs if self.backward == IDENTITY else self.backward(inputs)
        if tuple(stand_in.shape) != tuple(outputs.shape):
            raise InputError(
                f"{self.layer.name!r} turns {tuple(inputs.shape)} into {tuple(outputs.shape)}, its "
                f"stand-in into {tuple(stand_in.shape)}: a gradient of the one is none of the "
                "other. Give a `backward` whose output has the layer's shape."
            )
        # Where the stand-in overflows, its difference from itself would be NaN and spoil the value.
        difference = stand_in - ops.stop_gradient(stand_in)
        difference = ops.where(ops.isfinite(stand_in), difference, ops.zeros_like(difference))
        return outputs + ops.cast(difference, outputs.dtype)

    def compute_output_shape(self, input_shape):
        """The shape of the wrapped layer's outputs."""
        return self.layer.compute_output_shape(input_shape)

    def compute_output_spec(self, inputs, **kwargs):
        """Shape and type of the wrapped layer's outputs."""
        return self.layer.compute_output_spec(inputs, **kwargs)

    def get_config(self):
        """The arguments that rebuild this layer."""
        config = super().get_config()
        if self.backward == IDENTITY:
            return {**config, "backward": IDENTITY}
        if not isinstance(self.backward, keras.layers.Layer):
            name = keras.saving.get_registered_name(self.backward)
            if keras.saving.get_registered_object(name) is not self.backward:
                raise InputError(
                    f"BPDA cannot be saved with backward={self.backward!r}: a loader would not "
                    "find it. Decorate it with @keras.saving.register_keras_serializable()."
                )
        return {**config, "backward": keras.saving.serialize_keras_object(self.backward)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Builds the layer that `get_config` described."""
        config = dict(config)
        for name in ("layer", "backward"):
            if isinstance(config[name], dict):
                config[name] = keras.saving.deserialize_keras_object(
                    config[name], custom_objects=custom_objects
                )
        return cls(**config)
