"""A model whose weights are constants of the graph."""

from typing import Any

import keras

from keras_secure import backend
from keras_secure.errors import InputError

# Beyond this, a graph with its weights inside is slow to load, and more than `scan` reads in one.
LARGEST = 128 * 2**20


class ConstantModel:
    """A model that computes with its weights as constants, which TensorFlow can fold and rearrange.

    There are no variables to look up and to hand from call to call, and kernels can be laid out for
    the processor once. It is traced once, whatever calls it in a graph.

    Args:
        model: The model.
    """

    variables: tuple[Any, ...] = ()

    def __init__(self, model: Any):
        self._model = model
        # Read now: no values are there while a function is traced.
        self._values = [(v, keras.ops.convert_to_numpy(v)) for v in model.variables]
        self._traced = backend.compiled(self._with_constants)

    def __getattr__(self, name):
        return getattr(self._model, name)

    def __call__(self, x, training=False):
        """What the model returns."""
        return self._traced(x)

    def trace(self, shape: Any, dtype: str) -> None:
        """Traces the model, or raises `InputError` if it updates a variable."""
        backend.trace(self._traced, shape, dtype)

    def _with_constants(self, x):
        mapping = [
            (variable, backend.named_constant(value, variable.dtype, variable.path))
            for variable, value in self._values
        ]
        with keras.StatelessScope(state_mapping=mapping) as scope:
            outputs = self._model(x, training=False)
        for variable, value in mapping:
            if scope.get_current_value(variable) is not value:
                raise InputError(
                    f"Variable {variable.path!r} changes while the model is served (random noise, "
                    "or a state it keeps), so the weights cannot be constants. Export with "
                    "constant_weights=False."
                )
        return outputs


def with_constants(model: Any, wanted: bool | None, shape: Any, dtype: str) -> Any:
    """The model to write: with its weights as constants, or as it is.

    Args:
        model: The model.
        wanted: Whether they shall be constants; None where that is possible and they are small.
        shape: Shape of its inputs.
        dtype: Dtype of its inputs.

    Raises:
        InputError: They were wanted as constants and cannot be.
    """
    size = sum(backend.host_array(v).nbytes for v in model.variables)
    if wanted is False or (wanted is None and size > LARGEST):
        return model
    if size >= 2**31 - 2**20:
        raise InputError(
            f"The weights take {size} bytes, and no graph may hold 2 GiB. Export with "
            "constant_weights=False."
        )
    constant = ConstantModel(model)
    try:
        constant.trace(shape, dtype)
    except InputError:
        if wanted:
            raise
        return model
    return constant
