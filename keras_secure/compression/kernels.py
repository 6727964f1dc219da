"""Which weights of a model are compressed, and which of their axes counts output channels."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import keras

_LAST, _SECOND_LAST = -1, -2

# The names under which layers hold their kernels, and the axis of their output channels. A kernel
# is (window, channels, multiplier) if depthwise and (window, outputs, inputs) if transposed.
_KERNELS: tuple[tuple[Any, tuple[tuple[str, int], ...]], ...] = (
    (keras.layers.Dense, (("kernel", _LAST),)),
    (keras.layers.Conv1D, (("kernel", _LAST),)),
    (keras.layers.Conv2D, (("kernel", _LAST),)),
    (keras.layers.Conv3D, (("kernel", _LAST),)),
    (keras.layers.DepthwiseConv1D, (("kernel", _SECOND_LAST),)),
    (keras.layers.DepthwiseConv2D, (("kernel", _SECOND_LAST),)),
    (keras.layers.SeparableConv1D, (("depthwise_kernel", _SECOND_LAST), ("pointwise_kernel", -1))),
    (keras.layers.SeparableConv2D, (("depthwise_kernel", _SECOND_LAST), ("pointwise_kernel", -1))),
    (keras.layers.Conv1DTranspose, (("kernel", _SECOND_LAST),)),
    (keras.layers.Conv2DTranspose, (("kernel", _SECOND_LAST),)),
    (keras.layers.Conv3DTranspose, (("kernel", _SECOND_LAST),)),
)


@dataclass(frozen=True)
class Kernel:
    """One weight that can be compressed.

    Args:
        layer: The built layer that holds it.
        attribute: The layer's public name for it, `"kernel"` for most.
        variable: The `keras.Variable`.
        axis: Which of its axes counts output channels, from 0.
    """

    layer: Any
    attribute: str
    variable: Any
    axis: int


def kernels_of(layer: Any) -> list[Kernel]:
    """The kernels of one built layer that can be compressed.

    Args:
        layer: Any layer; Dense, EinsumDense and the convolutions have kernels here.

    Returns:
        A `Kernel` for each; none for other layers, and for those whose kernel is not a plain
        variable (with LoRA, or already converted by `quantize`).
    """
    names: tuple[tuple[str, int], ...] = ()
    if isinstance(layer, keras.layers.EinsumDense):
        names = (("kernel", einsum_axis(layer.equation)),)
    else:
        for kind, found in _KERNELS:
            if isinstance(layer, kind):
                names = found
                break
    if not names or not layer.built or getattr(layer, "quantization_mode", None):
        return []
    kernels = []
    for name, axis in names:
        variable = getattr(layer, name, None)
        if isinstance(variable, keras.Variable):
            kernels.append(Kernel(layer, name, variable, axis % len(variable.shape)))
    return kernels


def model_kernels(model: Any) -> dict[str, Kernel]:
    """Every kernel of a model that can be compressed, by its variable's path.

    Args:
        model: A built model or layer.

    Returns:
        Path to `Kernel`, in the order of the model. A path that two variables share, which Keras
        allows inside composite layers, names neither and is left out.

    Example:

    >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, name="conv"),
    ...                           keras.layers.Flatten(), keras.layers.Dense(2, name="top")],
    ...                          name="net")
    >>> [(path, kernel.axis) for path, kernel in model_kernels(model).items()]
    [('net/conv/kernel', 3), ('net/top/kernel', 1)]
    """
    found: dict[int, Kernel] = {}
    for layer in model._flatten_layers():
        for kernel in kernels_of(layer):
            found.setdefault(id(kernel.variable), kernel)
    counts = Counter(kernel.variable.path for kernel in found.values())
    return {
        kernel.variable.path: kernel
        for kernel in found.values()
        if counts[kernel.variable.path] == 1
    }


def einsum_axis(equation: str) -> int:
    """The kernel axis of an einsum equation that counts output channels.

    Args:
        equation: As of `keras.layers.EinsumDense`, for example `"abc,cde->abde"`.

    Returns:
        The last axis of the kernel that the output has and the input has not; failing that, the
        last that the output has; failing that, the last.
    """
    operands, output = equation.replace("...", "").replace(" ", "").split("->")
    inputs, kernel = operands.split(",")
    own = [i for i, letter in enumerate(kernel) if letter in output and letter not in inputs]
    kept = [i for i, letter in enumerate(kernel) if letter in output]
    return (own or kept or [len(kernel) - 1])[-1]
