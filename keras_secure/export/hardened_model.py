"""A model together with all that stands around it when it is served."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from keras_secure.errors import InputError
from keras_secure.export.lora import merge_lora
from keras_secure.export.requirements import (
    check_defences,
    check_guards,
    check_stateless,
    input_spec,
)
from keras_secure.export.serving import serving_function
from keras_secure.export.smoothing import Smoothing
from keras_secure.logits import gives_several_answers, outputs_are_logits
from keras_secure.training import inner_model


@dataclass(frozen=True)
class HardenedModel:
    """What every format of a bundle is made from.

    Args:
        model: The built Keras model.
        shape: Shape of its input, None for the batch.
        dtype: Dtype of its input.
        input_guard: None, or the guard in front of the model.
        output_guard: None, or the guard behind it.
        defences: Layers between the input guard and the model.
        smoothing: None, or how the model is asked for votes.
        logits: Whether the model's outputs are logits; None where nothing tells.
        several: Whether they are several sigmoids, of which more than one may hold.
    """

    model: Any
    shape: tuple[int | None, ...]
    dtype: str
    input_guard: Any = None
    output_guard: Any = None
    defences: tuple[Any, ...] = ()
    smoothing: Smoothing | None = None
    logits: bool | None = None
    several: bool = False

    @property
    def parts(self) -> tuple[Any, ...]:
        """What `serving_function` takes, in its order."""
        layers = (self.model, self.input_guard, self.output_guard, self.defences)
        return (*layers, self.smoothing, self.logits)

    @property
    def function(self) -> Callable[[Any], dict[str, Any]]:
        """The function of one tensor `x` that `serving_function` makes of all this."""
        return serving_function(*self.parts)

    @property
    def variables(self) -> list[Any]:
        """Every Keras variable that the function reads or updates, once."""
        layers = (self.input_guard, *self.defences, self.model, self.output_guard)
        found = {id(v): v for layer in layers if layer is not None for v in layer.variables}
        return list(found.values())


def hardened_model(
    model: Any,
    input_guard: Any,
    output_guard: Any,
    defences: Sequence[Any],
    smoothing: Any,
    input_shape: tuple[int | None, ...] | None,
    input_dtype: str | None,
) -> HardenedModel:
    """Checks what `export_hardened` was given and puts it together.

    Raises:
        InputError: The model cannot be exported, or something around it does not fit.
    """
    model = inner_model(model)
    check_guards(input_guard, output_guard)
    shape, dtype = input_spec(model, input_shape, input_dtype)
    check_stateless(model)
    logits, several = _logits(model), gives_several_answers(model)
    model = merge_lora(model)
    if smoothing is not None and not isinstance(smoothing, Smoothing):
        raise InputError(
            f"smoothing is a {type(smoothing).__name__}; a keras_secure.export.Smoothing was "
            "expected."
        )
    if smoothing is not None and getattr(output_guard, "from_logits", False):
        raise InputError(
            "A smoothed model answers with shares of votes, which are no logits. Give an "
            "OutputGuard with from_logits=False."
        )
    return HardenedModel(
        model,
        shape,
        dtype,
        input_guard,
        output_guard,
        check_defences(defences, shape, dtype),
        smoothing,
        logits,
        several,
    )


def _logits(model: Any) -> bool | None:
    try:
        return outputs_are_logits(model)
    except InputError:
        return None
