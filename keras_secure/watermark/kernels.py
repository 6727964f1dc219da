"""Which weights of a model carry a mark, by name, shape and number."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_secure.errors import InputError
from keras_secure.watermark.mark import Mark
from keras_secure.watermark.quantized_layers import dequantized

_NAMES = ("kernel", "embeddings")


@dataclass(frozen=True)
class Kernel:
    """One weight that a mark is put on or read from.

    Args:
        name: Where it stands in its model, for example `"block/attention/query/kernel"`.
        copy: Its number among the chosen weights of the same shape, from 0.
        weight: The variable, or an array.
    """

    name: str
    copy: int
    weight: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """The weight's shape."""
        return tuple(int(size) for size in self.weight.shape)

    def values(self) -> np.ndarray:
        """The weight as a numpy array of floating point values."""
        values = self.weight
        if isinstance(values, keras.Variable):
            values = keras.ops.convert_to_numpy(values)
        values = np.asarray(values)
        # bfloat16 is a type of its own, which numpy does not count among the floating ones.
        if values.dtype.name == "bfloat16":
            values = values.astype(np.float32)
        if values.size == 0 or not np.issubdtype(values.dtype, np.floating):
            raise InputError(
                f"A weight of shape {values.shape} and dtype {values.dtype} cannot carry a mark; "
                "floating point values were expected."
            )
        return values


def choose_kernels(
    target: Any, mark: Mark, layers: str | Sequence[str] | None = None
) -> list[Kernel]:
    """Finds the weights that `target` and `layers` mean, in the order of the model.

    Args:
        target: A model; or a built layer with one kernel, a variable, or an array, which is meant
            itself.
        mark: The mark, which knows what shapes can carry it.
        layers: Names of layers, all of whose kernels are meant, or of single weights, as `Kernel`
            has them. By default every kernel and embedding table that is large enough.

    Returns:
        The weights, each with its number among those of its shape.

    Raises:
        InputError: There is no such layer or weight, or none that can carry the mark.

    Example:

    >>> from keras_secure.watermark import SpreadSpectrum
    >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, name="wide"),
    ...                           keras.layers.Dense(2, name="top")])
    >>> [kernel.name for kernel in choose_kernels(model, SpreadSpectrum("a secret"))]
    ['wide/kernel']
    """
    if not isinstance(target, keras.Model):
        if layers is not None:
            raise InputError(
                f"layers={layers!r} was given with a {type(target).__name__}; it names layers of a "
                "keras.Model."
            )
        weight = one_weight(target)
        return [Kernel(getattr(weight, "path", "array"), 0, weight)]
    present = named_kernels(target)
    if layers is None:
        chosen = [name for name, weight in present.items() if can_carry(mark, weight.shape)]
        if not chosen:
            sizes = ", ".join(f"{name} {tuple(w.shape)}" for name, w in present.items())
            raise InputError(
                f"No weight of model {target.name!r} can carry {mark.num_bits} bits; it has "
                f"{sizes or 'no kernels'}. Use a plain message with a smaller num_bits."
            )
    else:
        chosen = []
        for wanted in [layers] if isinstance(layers, str) else layers:
            found = [name for name in present if f"/{name}/".find(f"/{wanted}/") >= 0]
            if not found:
                known = ", ".join(present) or "none"
                raise InputError(
                    f"Model {target.name!r} has no layer or weight {wanted!r} that could carry a "
                    f"mark; its kernels are {known}."
                )
            chosen += [name for name in found if name not in chosen]
    return numbered([(name, present[name]) for name in chosen])


def numbered(weights: Sequence[tuple[str, Any]]) -> list[Kernel]:
    """Numbers the weights of each shape.

    Args:
        weights: Names and variables or arrays.

    Returns:
        A `Kernel` for each.
    """
    seen: Counter = Counter()
    kernels = []
    for name, weight in weights:
        shape = tuple(weight.shape)
        kernels.append(Kernel(name, seen[shape], weight))
        seen[shape] += 1
    return kernels


def named_kernels(model: keras.Model) -> dict[str, Any]:
    """Every kernel and embedding table of a model by its name, in the order of the model.

    Args:
        model: A built model.

    Returns:
        Name to variable; to an array of its values where Keras keeps a kernel as integers, and to
        nothing where those cannot be told. The model's own name is left out of the names: Keras
        puts it in front of some and not of others.
    """
    present: dict[str, Any] = {}
    integers = dequantized(model)
    for variable in model.variables:
        if variable.path.rsplit("/", 1)[-1] not in _NAMES or len(variable.shape) < 2:
            continue
        weight = integers.get(id(variable), variable)
        if weight is None:
            continue
        name = variable.path.removeprefix(f"{model.name}/")
        while name in present:  # two layers of one name are possible inside composite layers
            name += "'"
        present[name] = weight
    return present


def can_carry(mark: Mark, shape: Any) -> bool:
    """Whether a weight of this shape has room for the mark.

    Args:
        mark: The mark.
        shape: The weight's shape.

    Returns:
        True or False.
    """
    try:
        mark.check_shape(tuple(shape))
    except InputError:
        return False
    return True


def one_weight(target: Any) -> Any:
    """Finds the one weight that `target` means: an array, the variable itself, a layer's kernel.

    Args:
        target: An array, a variable or a built layer.

    Returns:
        The variable or array.

    Raises:
        InputError: It is a model, or a layer with no kernel or not built.
    """
    if isinstance(target, keras.Variable):
        return target
    if not isinstance(target, keras.layers.Layer):
        return np.asarray(target)
    for name in _NAMES:
        variable = getattr(target, name, None) if target.built else None
        if isinstance(variable, keras.Variable):
            return variable
    if not target.built:
        raise InputError(
            f"Layer {target.name!r} is not built, so it has no weight yet. Call the model once on "
            "data, or its build method with the input's shape."
        )
    paths = [variable.path for variable in target.variables]
    raise InputError(
        f"Layer {target.name!r} has no kernel of its own to mark. Give one of its variables: "
        f"{', '.join(paths) or 'it has none'}."
    )
