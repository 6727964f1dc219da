"""Which weights of a model share a few values: as numbers of values, and the values."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_secure.arguments import is_integer
from keras_secure.compression.kernels import model_kernels
from keras_secure.errors import InputError


@dataclass(frozen=True, eq=False)
class ClusteredWeight:
    """A weight whose values are few.

    Args:
        indices: uint8 array of the weight's shape: the number of each weight's value.
        values: float32 array of the values, ascending.
    """

    indices: np.ndarray
    values: np.ndarray

    def kernel(self) -> np.ndarray:
        """The float32 weight the model computes with."""
        return self.values[self.indices]


def clustered_weights(model: Any, num_values: int = 256) -> dict[str, ClusteredWeight]:
    """Tells which kernels of a model have few values, and gives them.

    It is read from the weights themselves, so it holds for any model, however it was made, saved
    and loaded. A quantized kernel is clustered too, if its scales are few.

    Args:
        model: A built Keras model.
        num_values: How many values count as few, up to 256.

    Returns:
        The path of each such kernel's variable and its `ClusteredWeight`.

    Raises:
        InputError: `num_values` is out of range.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="top")], name="net")
    >>> model.layers[0].set_weights([np.float32([[1, 2, 1], [5, 2, 5]]), np.zeros(3)])
    >>> found = clustered_weights(model)["net/top/kernel"]
    >>> found.values.tolist(), found.indices.tolist()
    ([1.0, 2.0, 5.0], [[0, 1, 0], [2, 1, 2]])
    """
    if not is_integer(num_values) or not 1 <= num_values <= 256:
        raise InputError(f"num_values={num_values!r} was given; expected 1 to 256.")
    found = {}
    for path, kernel in model_kernels(model).items():
        if kernel.trained is not None:
            weights = kernel.trained.weights()
        else:
            weights = np.asarray(keras.ops.convert_to_numpy(kernel.variable))
        if weights.dtype != np.float32 or not np.isfinite(weights).all():
            continue
        # Told apart by their bits, as a negative zero is another value than a positive one.
        values, indices = np.unique(weights.view(np.int32), return_inverse=True)
        if len(values) > num_values:
            continue
        values = values.view(np.float32)
        order = np.argsort(values, kind="stable")
        places = np.empty(len(order), np.uint8)
        places[order] = np.arange(len(order))
        found[path] = ClusteredWeight(places[indices].reshape(weights.shape), values[order])
    return found
