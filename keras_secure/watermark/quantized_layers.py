"""The kernels that layers compute with where Keras keeps them as integers (`quantize`)."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

_ROWS = 1024
_QUANTIZED_ONLY = ("quantization_config", "lora_rank", "lora_alpha")


def dequantized(model: keras.Model) -> dict[int, np.ndarray | None]:
    """Reads the kernels that `keras.Model.quantize` has turned into integers.

    How they are packed, scaled and shifted differs by mode and release. So each layer is asked what
    it makes of a unit of each of its inputs, which is its kernel, however that is stored.

    Args:
        model: A built model.

    Returns:
        The `id` of each kernel of integers to its values in the shape that it had before, or to
        None where these cannot be told: layers of other kinds, and the modes that calibrate.

    Example:

    >>> model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(8)])
    >>> before = keras.ops.convert_to_numpy(model.layers[0].kernel)
    >>> model.quantize("int8")
    >>> (after,) = dequantized(model).values()
    >>> after.shape, bool(abs(after - before).max() < 0.01)
    ((16, 8), True)
    """
    return {
        id(variable): _kernel_of(layer)
        for layer in model._flatten_layers()
        if getattr(layer, "quantization_mode", None)
        for variable in layer.variables
        if _is_kernel_of_integers(variable)
    }


def as_floats(model: keras.Model) -> keras.Model:
    """A copy of a model in which the kernels that `quantize` turned into integers are floats again.

    Args:
        model: A built model.

    Returns:
        The copy. A model without such kernels, and one that cannot be copied (a subclassed model,
        or one with kernels that cannot be told), is returned as it is.
    """
    kernels = dequantized(model)
    if not kernels or any(kernel is None for kernel in kernels.values()):
        return model
    try:
        copy = keras.models.clone_model(model, clone_function=_float_layer, recursive=True)
        for own, other in zip(model._flatten_layers(), copy._flatten_layers(), strict=True):
            values = _own_variables(own)
            for name, variable in _own_variables(other).items():
                variable.assign(kernels.get(id(values[name]), values[name]))
    # Whatever a layer of somebody's own makes of being copied.
    except (AttributeError, KeyError, NotImplementedError, TypeError, ValueError):
        return model
    return copy


def _float_layer(layer: Any) -> Any:
    config = layer.get_config()
    if getattr(layer, "quantization_mode", None):
        config = {k: v for k, v in config.items() if k not in _QUANTIZED_ONLY}
        config["dtype"] = "float32"
    return type(layer).from_config(config)


def _own_variables(layer: Any) -> dict[str, Any]:
    inner = {id(v) for part in layer._flatten_layers(include_self=False) for v in part.variables}
    own = [variable for variable in layer.variables if id(variable) not in inner]
    return {variable.path.rsplit("/", 1)[-1]: variable for variable in own}


def _is_kernel_of_integers(variable: Any) -> bool:
    name = variable.path.rsplit("/", 1)[-1]
    return name in ("kernel", "embeddings") and "int" in variable.dtype


def _kernel_of(layer: Any) -> np.ndarray | None:
    if layer.quantization_mode not in ("int8", "int4"):
        return None
    # By the very class: what one derived from it does to its input is not known.
    if type(layer) is keras.layers.Dense:
        linear = _linear_twin(layer, use_bias=False)
        return _rows(linear, int(layer.get_build_config()["input_shape"][-1]))
    if type(layer) is keras.layers.EinsumDense:
        return _einsum_kernel(layer)
    if isinstance(layer, keras.layers.Embedding):
        return _numpy(layer(np.arange(layer.input_dim)))
    return None


def _linear_twin(layer: Any, **without: Any) -> Any:
    """A copy of the layer, of the same stored values, without activation and bias."""
    plain = {"activation": None, "activity_regularizer": None, **without}
    twin = type(layer).from_config({**layer.get_config(), **plain})
    twin.build(layer.get_build_config()["input_shape"])
    stored = {variable.path.rsplit("/", 1)[-1]: variable for variable in layer.variables}
    for variable in twin.variables:
        variable.assign(stored[variable.path.rsplit("/", 1)[-1]])
    return twin


def _einsum_kernel(layer: Any) -> np.ndarray | None:
    """The kernel of an `EinsumDense` by its equation, such as "abc,cde->abde"."""
    operands, result = layer.equation.replace(" ", "").split("->")
    inputs, kernel = operands.split(",")
    summed = [label for label in inputs if label in kernel]
    free = [label for label in inputs if label not in kernel]
    if "." in layer.equation or not free or set(summed) & set(result):
        return None
    shape = layer.get_build_config()["input_shape"]
    sizes = [int(shape[inputs.index(label)]) for label in summed]
    # The units go through the first axis that is not summed over; the others are of length 1.
    made = [label for label in kernel if label not in summed]
    rest = tuple(place for place, label in enumerate(inputs) if label in free[1:])
    linear = _linear_twin(layer, bias_axes=None)

    def respond(units: np.ndarray) -> Any:
        order = [free[0], *summed]
        x = units.reshape(-1, *sizes)
        x = x.transpose([order.index(label) for label in inputs if label in order])
        y = _numpy(linear(np.expand_dims(x, rest)))
        kept = [label for label in result if label not in free[1:]]
        y = y.reshape([y.shape[result.index(label)] for label in kept])
        return y.transpose([kept.index(label) for label in [free[0], *made]])

    found = _rows(respond, int(np.prod(sizes)))
    found = found.reshape(*sizes, *found.shape[1:])
    return found.transpose([[*summed, *made].index(label) for label in kernel])


def _rows(respond: Callable[[np.ndarray], Any], size: int) -> np.ndarray:
    """What `respond` makes of each of `size` units, some at a time."""
    starts = range(0, size, _ROWS)
    units = (np.eye(min(_ROWS, size - s), size, k=s, dtype=np.float32) for s in starts)
    return np.concatenate([_numpy(respond(block)) for block in units])


def _numpy(values: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(values, "float32")))
