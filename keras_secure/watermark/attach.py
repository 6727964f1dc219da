"""Putting a watermark on a built model without a trace in what the model saves."""

from typing import Any

import keras

from keras_secure.errors import InputError
from keras_secure.watermark.mark import Mark


class MarkedRegularizer(keras.regularizers.Regularizer):
    """The sum of a variable's own regularizer and of the marks that were attached to it."""

    def __init__(self, original: Any, marks: tuple[Mark, ...]):
        self.original = original
        self.marks = marks

    def __call__(self, x):
        """Returns the sum of all penalties, a float32 scalar."""
        total = sum(mark(x) for mark in self.marks)
        if self.original is None:
            return total
        return total + keras.ops.cast(self.original(x), "float32")

    def get_config(self):
        """Refused: this object lives on a variable, which Keras never serializes."""
        raise InputError(
            "A variable's watermark is not part of a layer's config. Call "
            "`keras_secure.watermark.detach` first to use its own regularizer elsewhere."
        )


def attach(target: Any, mark: Mark) -> Any:
    """Adds a watermark's penalty to the loss of whatever model a variable belongs to.

    The penalty is set on the variable, and not in the layer's config: the model saves as plain
    Keras and loads where this library is not installed. A regularizer that the variable has is kept
    and added to.

    Attach before the first `fit`. A model that has trained holds a traced step without the mark:
    call `compile` again after attaching.

    Args:
        target: A built layer with one `kernel` (or `embeddings`), or any `keras.Variable`.
        mark: A `SpreadSpectrum` or `Uchida` with its key.

    Returns:
        The variable that carries the mark from now on.

    Raises:
        InputError: The layer is not built or has no such weight, the weight is frozen or too small
            for the message, or the mark is dormant or there already.

    Example:

    >>> from keras_secure.watermark import SpreadSpectrum
    >>> layer = keras.layers.Dense(64)
    >>> layer.build((None, 64))
    >>> _ = attach(layer, SpreadSpectrum("a secret"))
    >>> len(layer.losses), layer.get_config()["kernel_regularizer"]
    (1, None)
    """
    if not isinstance(mark, Mark):
        raise InputError(
            f"A {type(mark).__name__} cannot be attached; give a keras_secure.watermark mark such "
            "as SpreadSpectrum(key)."
        )
    variable = marked_variable(target)
    _ = mark.key  # asks for the key of a dormant mark
    mark.check_shape(tuple(variable.shape))
    if not variable.trainable:
        raise InputError(
            f"{variable.path} is frozen, so training cannot embed anything in it. Make it "
            "trainable, or mark another weight."
        )
    present = variable.regularizer
    if not isinstance(present, MarkedRegularizer):
        present = MarkedRegularizer(present, ())
    if any(mark is other for other in present.marks):
        raise InputError(f"This mark is attached to {variable.path} already.")
    variable.regularizer = MarkedRegularizer(present.original, (*present.marks, mark))
    return variable


def detach(target: Any, mark: Mark | None = None) -> Any:
    """Takes a watermark's penalty out of the loss again; what was embedded stays in the weight.

    Args:
        target: The layer or variable that was given to `attach`.
        mark: The mark to take off; all of them when it is not given.

    Returns:
        The variable. It has its own regularizer back once no mark is left.

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
    variable = marked_variable(target)
    present = variable.regularizer
    marks = present.marks if isinstance(present, MarkedRegularizer) else ()
    kept = () if mark is None else tuple(other for other in marks if other is not mark)
    if len(kept) == len(marks):
        raise InputError(f"No such mark is attached to {variable.path}, so none was taken off.")
    variable.regularizer = MarkedRegularizer(present.original, kept) if kept else present.original
    return variable


def marked_variable(target: Any) -> Any:
    """Finds the one weight that `target` means: the variable itself or a layer's kernel."""
    if isinstance(target, keras.Variable):
        return target
    if not isinstance(target, keras.layers.Layer):
        raise InputError(
            f"A {type(target).__name__} has no weight to mark; give a built layer or a variable."
        )
    if isinstance(target, keras.Model):
        names = [layer.name for layer in target.layers if hasattr(layer, "kernel")]
        raise InputError(
            f"Model {target.name!r} has many weights; give one of its layers, for example "
            f"model.get_layer(name) with a name among {', '.join(names) or 'its layers'}."
        )
    for name in ("kernel", "embeddings"):
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
