"""Which weights of a model are compressed, and which of their axes counts output channels."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import keras

# The names under which layers hold their kernels, with the axes of their output and their input
# channels. Most kernels are (window, inputs, outputs), transposed ones (window, outputs, inputs),
# depthwise ones (window, channels, multiplier), which are not summed over any channels.
_PLAIN = (("kernel", -1, -2),)
_TRANSPOSED = (("kernel", -2, -1),)
_DEPTHWISE = (("kernel", -2, None),)
_SEPARABLE = (("depthwise_kernel", -2, None), ("pointwise_kernel", -1, -2))
_KERNELS: tuple[tuple[Any, tuple[tuple[str, int, int | None], ...]], ...] = (
    (keras.layers.Dense, _PLAIN),
    (keras.layers.Conv1D, _PLAIN),
    (keras.layers.Conv2D, _PLAIN),
    (keras.layers.Conv3D, _PLAIN),
    (keras.layers.DepthwiseConv1D, _DEPTHWISE),
    (keras.layers.DepthwiseConv2D, _DEPTHWISE),
    (keras.layers.SeparableConv1D, _SEPARABLE),
    (keras.layers.SeparableConv2D, _SEPARABLE),
    (keras.layers.Conv1DTranspose, _TRANSPOSED),
    (keras.layers.Conv2DTranspose, _TRANSPOSED),
    (keras.layers.Conv3DTranspose, _TRANSPOSED),
)


@dataclass(frozen=True)
class Kernel:
    """One weight that can be compressed.

    Args:
        layer: The built layer that holds it.
        attribute: The layer's public name for it, `"kernel"` for most.
        variable: The `keras.Variable`.
        axis: Which of its axes counts output channels, from 0.
        input_axis: Which counts the input channels that are summed over; None for none.
        trained: What computes another kernel from this one in training (a `TrainedKernel`), if
            anything does.
    """

    layer: Any
    attribute: str
    variable: Any
    axis: int
    input_axis: int | None
    trained: Any = None


def kernels_of(layer: Any) -> list[Kernel]:
    """The kernels of one built layer that can be compressed.

    Args:
        layer: Any layer; Dense, EinsumDense and the convolutions have kernels here.

    Returns:
        A `Kernel` for each; none for other layers, and for those whose kernel is not a plain
        variable (with LoRA, or already converted by `quantize`).
    """
    names: tuple[tuple[str, int, int | None], ...] = ()
    if isinstance(layer, keras.layers.EinsumDense):
        names = (("kernel", *einsum_axes(layer.equation)),)
    else:
        for kind, found in _KERNELS:
            if isinstance(layer, kind):
                names = found
                break
    if not names or not layer.built or getattr(layer, "quantization_mode", None):
        return []
    kernels = []
    for name, axis, input_axis in names:
        variable = getattr(layer, name, None)
        if isinstance(variable, keras.Variable):
            rank = len(variable.shape)
            summed = None if input_axis is None else input_axis % rank
            kernels.append(Kernel(layer, name, variable, axis % rank, summed))
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
    found = inner_kernels(model)
    counts = Counter(kernel.variable.path for kernel in found)
    return {k.variable.path: k for k in found if counts[k.variable.path] == 1}


def inner_kernels(layer: Any) -> list[Kernel]:
    """Every kernel of a built layer and of those inside it, each once, in their order."""
    found: dict[int, Kernel] = {}
    trained = {}
    for part in layer._flatten_layers():
        for each in getattr(part, "trained_kernels", {}).values():
            trained[id(each.kernel.variable)] = each
        for kernel in kernels_of(part):
            found.setdefault(id(kernel.variable), kernel)
    return [replace(kernel, trained=trained.get(key)) for key, kernel in found.items()]


def einsum_axes(equation: str) -> tuple[int, int | None]:
    """The kernel axes of an einsum equation that count output channels and summed inputs.

    Args:
        equation: As of `keras.layers.EinsumDense`, for example `"abc,cde->abde"`.

    Returns:
        The last axis of the kernel that the output has and the input has not (failing that, the
        last that the output has; failing that, the last), and the last that the output has not, or
        None.
    """
    operands, output = equation.replace("...", "").replace(" ", "").split("->")
    inputs, kernel = operands.split(",")
    own = [i for i, letter in enumerate(kernel) if letter in output and letter not in inputs]
    kept = [i for i, letter in enumerate(kernel) if letter in output]
    summed = [i for i, letter in enumerate(kernel) if letter not in output]
    return (own or kept or [len(kernel) - 1])[-1], summed[-1] if summed else None
