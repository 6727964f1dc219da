"""A watermark put into a finished model at once, without data and without training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_secure.errors import InputError
from keras_secure.watermark.kernels import choose_kernels
from keras_secure.watermark.mark import Mark


@dataclass(frozen=True)
class Embedded:
    """What `embed` did to one weight.

    Args:
        name: The weight.
        shape: Its shape.
        moved: Norm of the change over the norm that the weight had.
        bit_errors: Raw bits that the weight, as it is stored now, reads wrong.
    """

    name: str
    shape: tuple[int, ...]
    moved: float
    bit_errors: int


def embed(target: Any, mark: Mark, layers: str | Sequence[str] | None = None) -> list[Embedded]:
    """Moves the weights of a finished model as little as makes every raw bit hold its margin.

    Nothing is trained and no data are needed: for each weight the nearest one that carries the mark
    is known in closed form (`SpreadSpectrum.nearest`). The model's answers change a little, as by
    noise of the size of `moved`; measure its accuracy after, and where it matters, fine-tune with
    the mark attached (`attach`), which finds room for the mark where the task has none of its own.

    Args:
        target: A model; or a built layer with one kernel, or a variable.
        mark: A `SpreadSpectrum` or `Uchida` with its key.
        layers: Of a model, the layers whose kernels are marked; by default every kernel and
            embedding table that is large enough.

    Returns:
        An `Embedded` for each weight.

    Raises:
        InputError: There is no such weight, or it is too small for the message, or the mark is
            dormant; nothing was changed then.

    Example:

    >>> from keras_secure.watermark import SpreadSpectrum, verify
    >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(128, name="wide")])
    >>> (done,) = embed(model, SpreadSpectrum("a secret", payload="ACME"))
    >>> done.name, done.bit_errors, 0.2 < done.moved < 0.4
    ('wide/kernel', 0, True)
    >>> verify(model, SpreadSpectrum("a secret", payload="ACME")).verdict
    'proved'
    """
    if not isinstance(mark, Mark):
        raise InputError(
            f"A {type(mark).__name__} cannot be embedded; give a keras_secure.watermark mark such "
            "as SpreadSpectrum(key)."
        )
    signs = 2 * mark.message() - 1
    plan = []
    for kernel in choose_kernels(target, mark, layers):
        if not isinstance(kernel.weight, keras.Variable):
            if isinstance(target, keras.Model):
                raise InputError(
                    f"{kernel.name} is kept as integers (`quantize`), which the mark cannot move; "
                    "embed it first, and quantize then: it can be read all the same."
                )
            raise InputError(
                "An array was given, and what is embedded in a copy of it would be lost; give a "
                "model, a built layer or a variable, or use `mark.nearest(array)`."
            )
        before = kernel.values().astype(np.float64)
        if not np.isfinite(before).all():
            raise InputError(
                f"{kernel.name} holds values that are no finite numbers, among which no mark "
                "can be put. Give a model that works, or name other layers."
            )
        plan.append((kernel, before, mark.nearest(before, kernel.copy)))
    done = []
    for kernel, before, after in plan:
        kernel.weight.assign(after)
        stored = mark.scores(kernel.values(), kernel.copy)
        size = float(np.linalg.norm(before)) or float(np.linalg.norm(after))
        moved = float(np.linalg.norm(after - before)) / size
        errors = int(np.sum(~(stored * signs > 0)))
        done.append(Embedded(kernel.name, kernel.shape, moved, errors))
    return done
