"""Whether a written file answers as the served function does, before anybody else runs it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_secure import backend
from keras_secure.errors import InputError
from keras_secure.export.formats.examples import generated_batches

TOLERANCE = 1e-4
"""Most by which a float32 prediction may differ between runtimes, which sum in other orders."""
_TOLERANCE_OF_HALF = 2e-2
_TRIALS = 6


def check_agreement(
    format_name: str,
    run: Callable[[np.ndarray], dict[str, np.ndarray]],
    hardened: Any,
    model: Callable[[np.ndarray], np.ndarray] | None = None,
    empty: bool = True,
) -> dict[str, Any]:
    """Runs a file and the served function on the same inputs, and refuses a difference.

    A guard that rounds or decides turns the smallest difference of a sum into a step. So the
    function is also evaluated with the model's answers moved by a tenth of the tolerance, and the
    file may answer whatever lies between these.

    Args:
        format_name: For messages.
        run: Runs the file on an array of shape (batch, ...); raises where its runtime cannot.
        hardened: The `HardenedModel` that the file was made from.
        model: None, or what the file computes in the place of the model, on arrays.
        empty: Whether to try a batch of no examples too.

    Returns:
        What was compared: the number of examples, the largest difference of a prediction, and what
        the runtime does with a batch of no examples.

    Raises:
        InputError: The file answers differently, or not at all; the message names the output and
            the inputs.
    """
    tolerance = tolerance_of(hardened.model)
    report: dict[str, Any] = {"examples": 0, "largest_difference": 0.0, "no_examples": "served"}
    evaluate = _evaluator(hardened, model)
    phases = np.random.default_rng(0).uniform(1, 1e3, _TRIALS)
    for name, batch in generated_batches(hardened):
        if len(batch) == 0 and not empty:
            continue
        try:
            expected = [evaluate(batch, 0.0, 0.0)]
        except Exception:  # some kernels refuse to run on nothing
            if len(batch):
                raise
            report["no_examples"] = f"refused by {'TensorFlow' if model is None else 'the runtime'}"
            continue
        expected += [evaluate(batch, tolerance / 10, phase) for phase in phases]
        try:
            answered = run(batch)
        except Exception as error:  # every runtime has errors of its own
            if len(batch) == 0:
                # An error is no wrong answer.
                report["no_examples"] = "refused by the runtime"
                continue
            raise InputError(
                f"The {format_name} file was written, but its runtime fails on {name}: {error}. "
                f"Leave {format_name!r} out of `formats`."
            ) from error
        report["examples"] += len(batch)
        difference = _compare(format_name, name, answered, expected, tolerance)
        report["largest_difference"] = max(report["largest_difference"], difference)
    return report


def tolerance_of(model: Any) -> float:
    """The most by which predictions of a model may differ between runtimes."""
    kinds = {layer.compute_dtype for layer in model._flatten_layers()}
    return _TOLERANCE_OF_HALF if kinds & {"float16", "bfloat16"} else TOLERANCE


def _evaluator(
    hardened: Any, model: Callable[[np.ndarray], np.ndarray] | None
) -> Callable[[np.ndarray, float, float], dict[str, np.ndarray]]:
    """The served function as one graph of inputs, a size and a phase.

    The model's answers are moved by up to `size` of themselves, each class otherwise by each phase.
    """

    answering = hardened.model if model is None else _OfArrays(hardened.model, model)

    def function(x, size, phase):
        return dataclasses.replace(hardened, model=_Moved(answering, size, phase)).function(x)

    graph = backend.compiled(function) if model is None else function

    def evaluate(batch, size, phase):
        ops = keras.ops
        numbers = [ops.convert_to_tensor(number, dtype="float32") for number in (size, phase)]
        outputs = graph(ops.convert_to_tensor(batch, dtype=hardened.dtype), *numbers)
        return {name: ops.convert_to_numpy(tensor) for name, tensor in outputs.items()}

    return evaluate


class _OfArrays:
    """A function of arrays in the place of a model."""

    def __init__(self, model: Any, function: Callable[[np.ndarray], np.ndarray]):
        self._model, self._function = model, function

    def __getattr__(self, name):
        return getattr(self._model, name)

    def __call__(self, x, training=False):
        ops = keras.ops
        return ops.convert_to_tensor(self._function(ops.convert_to_numpy(x)))


class _Moved:
    """A model whose answers are off by a little."""

    def __init__(self, model: Any, size: Any, phase: Any):
        self._model, self._size, self._phase = model, size, phase

    def __getattr__(self, name):
        return getattr(self._model, name)

    def __call__(self, *args, **kwargs):
        raw = self._model(*args, **kwargs)
        if not keras.ops.is_tensor(raw):
            return raw
        ops = keras.ops
        # A model may give one number for each example, or rows of any length.
        length = ops.shape(raw)[-1] if len(raw.shape) > 1 else 1
        places = ops.arange(1, length + 1, dtype="float32")
        shift = ops.cast(self._size * ops.sin(self._phase * places), raw.dtype)
        return ops.where(ops.isfinite(raw), raw + shift * (1 + ops.abs(raw)), raw)


def _compare(
    format_name: str,
    name: str,
    answered: dict[str, np.ndarray],
    expected: list[dict[str, np.ndarray]],
    tolerance: float,
) -> float:
    if set(answered) != set(expected[0]):
        raise InputError(
            f"The {format_name} file returns {sorted(answered)}; {sorted(expected[0])} was "
            "expected. Please report this."
        )
    largest = 0.0
    for output, exact in expected[0].items():
        got = np.asarray(answered[output])
        if got.shape != exact.shape:
            raise _disagreement(format_name, name, output, f"shapes {got.shape} and {exact.shape}")
        if got.size == 0:
            continue
        trials = np.stack([np.asarray(e[output], np.float64) for e in expected])
        values = got.astype(np.float64)
        slack = tolerance * (1 + np.abs(trials[0])) if exact.dtype.kind == "f" else 0.0
        inside = (values >= trials.min(axis=0) - slack) & (values <= trials.max(axis=0) + slack)
        # What is not finite equals itself alone.
        wrong = ~(inside | (values == trials[0]) | (np.isnan(values) & np.isnan(trials[0])))
        if wrong.any():
            rows = sorted({int(row) for row in np.argwhere(wrong)[:, 0]})
            raise _disagreement(format_name, name, output, f"rows {rows[:5]} of {len(values)}")
        if exact.dtype.kind == "f":
            largest = max(largest, float(np.abs(values - trials[0])[np.isfinite(values)].max()))
    return largest


def _disagreement(format_name: str, name: str, output: str, where: str) -> InputError:
    return InputError(
        f"The {format_name} file disagrees with the served function in {output!r} on generated "
        f"{name} ({where}), so it would not guard as promised and was not kept. Leave "
        f"{format_name!r} out of `formats`, or take out the guard or layer that it cannot hold."
    )
