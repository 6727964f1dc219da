"""A served model that LiteRT computes in 8-bit integers, between guards in floating point."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_secure import backend
from keras_secure.errors import InputError
from keras_secure.export.formats.frozen import frozen_function
from keras_secure.export.formats.litert_splice import spliced
from keras_secure.export.serving import INPUT_NAME

_PASSED, _RAW = "passed", "raw"
_ENOUGH = 500


def calibrated(hardened: Any, examples: Any) -> tuple[bytes, bytes, np.ndarray]:
    """Quantizes a model with its activations, and nothing of what guards it.

    Were the guards quantized too, a NaN would become a number before anything looks at it. So the
    model is converted alone, and put into the hole of a graph of its guards.

    Args:
        hardened: The `HardenedModel`.
        examples: Array of shape (n, ...): the ranges of activations are measured on them.

    Returns:
        The LiteRT file, that of the model alone, and what of the examples reaches the model.

    Raises:
        InputError: LiteRT has no 8-bit operation for some layer, or the examples do not fit.
    """
    examples = _checked(examples, hardened)
    hole = Hole(hardened.model)
    around = [
        v for v in hardened.variables if all(v is not own for own in hardened.model.variables)
    ]
    frozen = frozen_function(dataclasses.replace(hardened, model=hole).function, around)
    hole.answer = hardened.model(keras.ops.convert_to_tensor(examples[:1]), training=False)
    raw = (_RAW, (None, *hole.answer.shape[1:]), hole.answer.dtype.name)
    frozen(keras.ops.convert_to_tensor(examples[:1], dtype=hardened.dtype))
    passed = (INPUT_NAME, (None, *hole.seen.shape[1:]), hole.seen.dtype.name)

    def guards(x, answer):
        hole.answer = answer
        return {**frozen(x), _PASSED: hole.seen}

    outer = backend.litert_model(guards, [(INPUT_NAME, hardened.shape, hardened.dtype), raw])
    reaching = _reaching(frozen, hole, examples, hardened)
    model = frozen_function(
        lambda x: {_RAW: hardened.model(x, training=False)}, hardened.model.variables
    )
    inner = backend.litert_model(model, [passed], [row[None] for row in reaching])
    return spliced(outer, inner, _PASSED, _RAW), inner, reaching


class Hole:
    """Stands in the place of a model: takes note of what it is given, gives what it is told."""

    def __init__(self, model: Any):
        self._model = model
        self.answer: Any = None
        self.seen: Any = None

    def __getattr__(self, name):
        return getattr(self._model, name)

    def __call__(self, x, training=False):
        """What was told."""
        self.seen = x
        return self.answer


def _checked(examples: Any, hardened: Any) -> np.ndarray:
    array = np.asarray(examples)
    fits = array.ndim == len(hardened.shape) and all(
        size in (None, found) for size, found in zip(hardened.shape, array.shape, strict=True)
    )
    if not fits or len(array) == 0:
        raise InputError(
            f"calibration has shape {array.shape}; examples of shape {tuple(hardened.shape)} were "
            "expected, some hundred of them."
        )
    if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise InputError(
            f"calibration is of dtype {array.dtype} and holds values that are no finite numbers; "
            "ranges are measured on them, so give examples as the model is meant for."
        )
    chosen = np.random.default_rng(0).permutation(len(array))[:_ENOUGH]
    return array[chosen].astype(hardened.dtype)


def _reaching(frozen: Callable, hole: Hole, examples: np.ndarray, hardened: Any) -> np.ndarray:
    """What of the examples comes through the guard and the defences."""
    shape = tuple(hole.answer.shape[1:])
    hole.answer = keras.ops.zeros((len(examples), *shape), hole.answer.dtype)
    frozen(keras.ops.convert_to_tensor(examples, dtype=hardened.dtype))
    return keras.ops.convert_to_numpy(hole.seen)
