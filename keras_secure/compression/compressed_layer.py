"""A Keras layer that computes with a compressed kernel while it trains the full one."""

from typing import Any

import keras
from keras import ops

from keras_secure.compression.kernels import kernels_of
from keras_secure.compression.rounded_inputs import RoundedInputs
from keras_secure.compression.trained_kernel import TrainedKernel
from keras_secure.errors import InputError

_NAMES = ("kernel", "depthwise_kernel", "pointwise_kernel")


class CompressedLayer:
    """Mixed into a Keras layer: within `call` its kernels are what the scheme makes of them.

    Outside of `call` the layer's `kernel` is the variable that is trained, under the same path as
    in the ordinary layer, so that regularizers (watermarks), constraints (masks) and optimizers
    find it there.

    Args:
        *args: Arguments of the Keras layer.
        scheme: A `LearnedStepSize` or `SharedWeights`, or its serialized form.
        rounded_inputs: Options of `RoundedInputs`, or None to compute with the inputs as they are.
        **kwargs: Further arguments of the Keras layer.
    """

    plain: type
    """The ordinary layer's class."""

    # Of the Keras layer.
    name: str
    compute_dtype: str
    # Plain attributes, which Keras does not track a second time.
    scheme: Any
    rounded_inputs: RoundedInputs | None
    trained_kernels: dict[str, TrainedKernel]
    _full: dict[str, Any]
    _used: dict[str, Any]

    def __init__(self, *args, scheme, rounded_inputs=None, **kwargs):
        super().__init__(*args, **kwargs)
        if isinstance(scheme, dict):
            scheme = keras.saving.deserialize_keras_object(scheme)
        rounding = None if rounded_inputs is None else RoundedInputs(**rounded_inputs)
        for name, value in (("scheme", scheme), ("rounded_inputs", rounding)):
            object.__setattr__(self, name, value)
        for name in ("trained_kernels", "_full", "_used"):
            object.__setattr__(self, name, {})

    def add_weight(self, *args, **kwargs):
        """Adds a weight; kernels are kept in full precision whatever is computed in."""
        name = kwargs.get("name")
        if name not in _NAMES:
            return super().add_weight(*args, **kwargs)  # type: ignore[misc]
        variable = super().add_weight(*args, **{**kwargs, "autocast": False})  # type: ignore[misc]
        self._full[name] = variable
        return variable

    def build(self, input_shape):
        """Builds the layer and the scheme's own variables."""
        super().build(input_shape)  # type: ignore[misc]
        self.built = True
        for kernel in kernels_of(self):
            name = kernel.attribute
            self.trained_kernels[name] = TrainedKernel(self.scheme, self, name, kernel)
        if self.rounded_inputs is not None:
            self.rounded_inputs.build(self)

    def call(self, inputs):
        """Computes as the ordinary layer does, with the compressed kernels."""
        if self.rounded_inputs is not None:
            inputs = self.rounded_inputs(inputs)
        for name, trained in self.trained_kernels.items():
            self._used[name] = ops.cast(trained.computed(), self.compute_dtype)
        try:
            return super().call(inputs)  # type: ignore[misc]
        finally:
            self._used.clear()

    def start(self) -> None:
        """Fits the scheme's variables to the kernels as they are now (not traceable)."""
        for trained in self.trained_kernels.values():
            trained.start()

    def plain_layer(self) -> Any:
        """A new ordinary layer with the same configuration, not built."""
        config = self.get_config()
        del config["scheme"], config["rounded_inputs"]
        return self.plain.from_config(config)  # type: ignore[attr-defined]

    def enable_lora(self, *args, **kwargs):
        """Refused: adapters are trained beside a kernel that stays."""
        raise InputError(f"Layer {self.name!r} trains compressed; call strip(model) before LoRA.")

    def save_own_variables(self, store):
        """Saves the full kernels, the bias and the scheme's variables."""
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store):
        """Loads what `save_own_variables` saved."""
        keras.layers.Layer.load_own_variables(self, store)

    def get_config(self):
        """Returns the layer's options and the scheme."""
        scheme = keras.saving.serialize_keras_object(self.scheme)
        rounding = self.rounded_inputs
        return {
            **super().get_config(),  # type: ignore[misc]
            "scheme": scheme,
            "rounded_inputs": None if rounding is None else rounding.get_config(),
        }


def compressed(attribute: str) -> Any:
    """A class attribute that is the compressed kernel within `call`, and else the variable.

    Args:
        attribute: The name of the kernel in the Keras layer.

    Returns:
        A property. Setting it does nothing: `add_weight` has recorded the variable.
    """

    def read(self):
        if attribute in self._used:
            return self._used[attribute]
        if attribute not in self._full:
            raise AttributeError(f"Layer {self.name!r} is not built, so it has no {attribute}.")
        return self._full[attribute]

    return property(read, lambda self, variable: None)
