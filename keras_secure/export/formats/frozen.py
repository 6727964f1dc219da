"""The served function without variables, for formats that have none."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_secure.errors import InputError


def frozen_function(
    function: Callable[[Any], dict[str, Any]],
    variables: Sequence[Any],
    arguments: Sequence[Any] = (),
) -> Callable[..., dict[str, Any]]:
    """Makes a function of tensors alone, in which every variable is a constant or an argument.

    Args:
        function: Maps one tensor to named tensors; may read Keras variables.
        variables: All the Keras variables it reads or updates.
        arguments: Those whose values become further arguments, in this order.

    Returns:
        A function of the tensor and the values of `arguments`.

    Raises:
        InputError: When it is traced: the function updates a variable, so that its answers depend
            on those before, which only a SavedModel can do.
    """
    # Read now: no values are there while a function is traced.
    arrays = [keras.ops.convert_to_numpy(variable) for variable in variables]

    def frozen(x: Any, *values: Any) -> dict[str, Any]:
        mapping = {
            id(variable): (variable, value)
            for variable, value in zip(arguments, values, strict=True)
        }
        for variable, array in zip(variables, arrays, strict=True):
            if id(variable) not in mapping:
                constant = keras.ops.convert_to_tensor(array, dtype=variable.dtype)
                mapping[id(variable)] = (variable, constant)
        with keras.StatelessScope(state_mapping=list(mapping.values())) as scope:
            outputs = function(x)
        for variable, value in mapping.values():
            if scope.get_current_value(variable) is not value:
                raise InputError(
                    f"Variable {variable.path!r} changes while the model is served (random noise, "
                    "or a state it keeps), which ONNX and LiteRT files cannot hold. Leave these "
                    "out of `formats`, or take out the layer that changes it."
                )
        return outputs

    return frozen
