"""A model together with all that stands around it when it is served."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keras_secure.export.serving import check_guards, input_spec, serving_function
from keras_secure.training import SecureModel


@dataclass(frozen=True)
class ServedModel:
    """What every format of a bundle is made from.

    Args:
        model: The built Keras model.
        shape: Shape of its input, None for the batch.
        dtype: Dtype of its input.
        input_guard: None, or the guard in front of the model.
        output_guard: None, or the guard behind it.
    """

    model: Any
    shape: tuple[int | None, ...]
    dtype: str
    input_guard: Any = None
    output_guard: Any = None

    @property
    def function(self) -> Callable[[Any], dict[str, Any]]:
        """The function of one tensor `x` that `serving_function` makes of all this."""
        return serving_function(self.model, self.input_guard, self.output_guard)

    @property
    def variables(self) -> list[Any]:
        """Every Keras variable that the function reads or updates, once."""
        parts = (self.input_guard, self.model, self.output_guard)
        found = {id(v): v for part in parts if part is not None for v in part.variables}
        return list(found.values())


def served_model(
    model: Any,
    input_guard: Any,
    output_guard: Any,
    input_shape: tuple[int | None, ...] | None,
    input_dtype: str | None,
) -> ServedModel:
    """Checks what `export_hardened` was given and puts it together.

    Raises:
        InputError: The model cannot be exported, or something around it does not fit.
    """
    model = model.model if isinstance(model, SecureModel) else model
    check_guards(input_guard, output_guard)
    shape, dtype = input_spec(model, input_shape, input_dtype)
    return ServedModel(model, shape, dtype, input_guard, output_guard)
