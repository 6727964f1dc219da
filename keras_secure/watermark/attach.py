"""Putting a watermark on a built model without a trace in what the model saves."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_secure.errors import InputError
from keras_secure.watermark.kernels import choose_kernels, named_kernels, one_weight
from keras_secure.watermark.mark import Mark


class MarkedRegularizer(keras.regularizers.Regularizer):
    """The sum of a variable's own regularizer and of the marks that were attached to it.

    Args:
        original: The variable's own regularizer, or None.
        marks: Pairs of a mark and of the variable's number among those of its shape.
    """

    def __init__(self, original: Any, marks: tuple[tuple[Mark, int], ...]):
        self.original = original
        self.marks = marks

    def __call__(self, x):
        """Returns the sum of all penalties, a float32 scalar."""
        total = sum(mark.loss(x, copy) for mark, copy in self.marks)
        if self.original is None:
            return total
        return total + keras.ops.cast(self.original(x), "float32")

    def get_config(self):
        """Refused: this object lives on a variable, which Keras never serializes."""
        raise InputError(
            "A variable's watermark is not part of a layer's config. Call "
            "`keras_secure.watermark.detach` first to use its own regularizer elsewhere."
        )


def attach(target: Any, mark: Mark, layers: str | Sequence[str] | None = None) -> list[Any]:
    """Adds a watermark's penalty to the loss of whatever model the variables belong to.

    The penalty is set on the variables, and not in the layers' configs: the model saves as plain
    Keras and loads where this library is not installed. A regularizer that a variable has is kept
    and added to.

    Attach before the first `fit`. A model that has trained holds a traced step without the mark:
    call `compile` again after attaching.

    Args:
        target: A built model; or a built layer with one `kernel` (or `embeddings`), or any
            `keras.Variable`.
        mark: A `SpreadSpectrum` or `Uchida` with its key.
        layers: Of a model, the layers whose kernels are marked; by default every kernel and
            embedding table that is trained and large enough. Over several layers, the loss of one
            of them, such as a head that is replaced, loses no bit.

    Returns:
        The variables that carry the mark from now on.

    Raises:
        InputError: The model or layer is not built or has no such weight, a weight is frozen or too
            small for the message, or the mark is dormant or there already.

    Example:

    >>> from keras_secure.watermark import SpreadSpectrum
    >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, name="wide"),
    ...                           keras.layers.Dense(2, name="top")])
    >>> [tuple(variable.shape) for variable in attach(model, SpreadSpectrum("a secret"))]
    [(64, 64)]
    >>> len(model.losses), model.get_layer("wide").get_config()["kernel_regularizer"]
    (1, None)
    """
    if not isinstance(mark, Mark):
        raise InputError(
            f"A {type(mark).__name__} cannot be attached; give a keras_secure.watermark mark such "
            "as SpreadSpectrum(key)."
        )
    _ = mark.key  # asks for the key of a dormant mark
    kernels = choose_kernels(target, mark, layers)
    if layers is None and isinstance(target, keras.Model):
        kernels = [k for k in kernels if getattr(k.weight, "trainable", False)] or kernels
    for kernel in kernels:
        if not isinstance(kernel.weight, keras.Variable):
            raise InputError(
                f"A {type(target).__name__} has no weight to train (integers, as `quantize` makes "
                "them, cannot be); give a built model, a built layer or a variable."
            )
        mark.check_shape(kernel.shape)
        if not kernel.weight.trainable:
            raise InputError(
                f"{kernel.weight.path} is frozen, so training cannot embed anything in it. Make it "
                "trainable, or mark another weight."
            )
        if any(mark is other for other, _ in _marks(kernel.weight)):
            raise InputError(
                f"This mark is attached to {kernel.weight.path} already. "
                "Call detach first to attach it anew."
            )
    for kernel in kernels:
        present = kernel.weight.regularizer
        if not isinstance(present, MarkedRegularizer):
            present = MarkedRegularizer(present, ())
        kernel.weight.regularizer = MarkedRegularizer(
            present.original, (*present.marks, (mark, kernel.copy))
        )
    return [kernel.weight for kernel in kernels]


def detach(target: Any, mark: Mark | None = None) -> list[Any]:
    """Takes a watermark's penalty out of the loss again; what was embedded stays in the weights.

    Args:
        target: A model, layer or variable that the mark was attached to.
        mark: The mark to take off; all of them when it is not given.

    Returns:
        The variables that it was taken off. Each has its own regularizer back once no mark is left.

    Raises:
        InputError: Nothing of the kind is attached.

    Example:

    >>> from keras_secure.watermark import SpreadSpectrum
    >>> layer = keras.layers.Dense(64)
    >>> layer.build((None, 64))
    >>> _ = attach(layer, SpreadSpectrum("a secret"))
    >>> _ = detach(layer)
    >>> layer.losses
    []
    """
    if isinstance(target, keras.Model):
        where, candidates = f"model {target.name!r}", list(named_kernels(target).values())
    else:
        candidates = [one_weight(target)]
        where = getattr(candidates[0], "path", "this array")
    changed = []
    for variable in candidates:
        marks = _marks(variable)
        kept = () if mark is None else tuple(pair for pair in marks if pair[0] is not mark)
        if len(kept) < len(marks):
            original = variable.regularizer.original
            variable.regularizer = MarkedRegularizer(original, kept) if kept else original
            changed.append(variable)
    if not changed:
        raise InputError(f"No such mark is attached to {where}, so none was taken off.")
    return changed


def _marks(variable: Any) -> tuple[tuple[Mark, int], ...]:
    present = getattr(variable, "regularizer", None)
    return present.marks if isinstance(present, MarkedRegularizer) else ()
