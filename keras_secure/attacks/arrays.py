"""What an attack accepts as data."""

import keras
import numpy as np
from keras import ops

from keras_secure.attacks.labels import class_indices
from keras_secure.errors import InputError


def check_floating(x, attack_name):
    """Refuses inputs that have no direction to move in.

    Args:
        x: Array or tensor.
        attack_name: Named in the error.

    Raises:
        InputError: If `x` is several arrays, or not of a floating point type.

    Example:

    >>> check_floating(np.zeros((1, 2), "float32"), "FGSM")
    """
    if isinstance(x, (dict, list, tuple)):
        raise InputError(
            f"{attack_name} perturbs one array and was given a {type(x).__name__}. Pass a NumPy "
            "array or tensor of shape (num_examples, ...); for a model with several inputs, build "
            "one keras.Model that takes the input to perturb and holds the others fixed."
        )
    try:
        dtype = keras.backend.standardize_dtype(x.dtype)
    except (AttributeError, ValueError):
        raise InputError(
            f"{attack_name} perturbs one array of numbers and was given a {type(x).__name__}"
            + (f" of {x.dtype}" if hasattr(x, "dtype") else "")
            + ". Pass a NumPy array or tensor of shape (num_examples, ...); of a tf.data.Dataset "
            "or a generator, gather the examples to attack first: "
            "np.concatenate([x for x, y in dataset])."
        ) from None
    if "float" not in dtype:
        raise InputError(
            f"{attack_name} moves inputs by small real steps and was given {dtype}. Scale images "
            "to floats first, x.astype('float32') / 255 (and give the model the same); for token "
            "ids, attack a model that starts after the embedding."
        )


def check_model(model, attack_name):
    """Refuses what is no model, or takes several inputs.

    Args:
        model: What was given as the classifier.
        attack_name: Named in the error.

    Raises:
        InputError: If it is not a Keras model or layer with one input.

    Example:

    >>> check_model(keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]), "FGSM")
    """
    if not isinstance(model, keras.Layer):
        raise InputError(
            f"{attack_name} needs a Keras model and was given {model!r}. Pass a keras.Model; a "
            "function can be wrapped in a keras.layers.Lambda inside of one."
        )
    inputs = len(getattr(model, "inputs", None) or [None])
    if inputs > 1:
        raise InputError(
            f"The model {model.name!r} takes {inputs} inputs, and {attack_name} perturbs one "
            "array. Build one keras.Model that takes the input to perturb and holds the others "
            "fixed."
        )


def check_arrays(x, y, bounds, attack_name):
    """Returns `x` and the class indices of `y` as NumPy arrays fit for `Attack.run`.

    Args:
        x: Floating point array of shape (num_examples, ...), finite and inside `bounds`.
        y: Class indices or one-hot rows, as many as examples.
        bounds: Smallest and largest allowed value.
        attack_name: Named in errors.

    Returns:
        (x, labels): `x` in its own dtype, `labels` int32 of shape (num_examples,).

    Raises:
        InputError: If they cannot be used.

    Example:

    >>> x, labels = check_arrays(np.zeros((1, 2), "float32"), [[0, 1]], (0.0, 1.0), "FGSM")
    >>> labels
    array([1], dtype=int32)
    """
    check_floating(x, attack_name)
    if y is None:
        raise InputError(
            f"{attack_name} needs labels y: the true classes, or the targets if targeted=True."
        )
    x = np.asarray(ops.convert_to_numpy(x))
    if x.ndim < 2 or x.size == 0:
        raise InputError(
            f"x has shape {x.shape}. Expected (num_examples, ...) with at least one example and "
            "one value each."
        )
    _check_labels(y)
    labels = ops.convert_to_numpy(class_indices(y))
    if len(labels) != len(x):
        raise InputError(f"x has {len(x)} examples and y has {len(labels)} labels: give one each.")
    lowest, highest = x.min(), x.max()
    if not np.isfinite(lowest) or not np.isfinite(highest):
        raise InputError("x holds NaN or infinity. Remove or repair those examples first.")
    # Bounds as the dtype of x can hold them: 0.1 in float32 is a little above 0.1.
    if lowest < x.dtype.type(bounds[0]) or highest > x.dtype.type(bounds[1]):
        raise InputError(
            f"x goes from {lowest:.6g} to {highest:.6g}, outside bounds=({bounds[0]:g}, "
            f"{bounds[1]:g}). Give {attack_name} the bounds of your inputs, or scale x to them."
        )
    return x, labels


def _check_labels(y):
    # Rounding or taking the largest column would make a class of anything.
    y = np.asarray(ops.convert_to_numpy(y) if ops.is_tensor(y) else y)
    expected = "Expected class indices, or one-hot rows."
    if y.dtype.kind not in "biuf" and "float" not in str(y.dtype):
        raise InputError(
            f"y has type {y.dtype}. {expected} Number the classes first, for example "
            "np.unique(y, return_inverse=True)[1], in the order of the model's outputs."
        )
    if not np.isfinite(y.astype("float32")).all():
        raise InputError(f"y holds NaN or infinity. {expected} Leave out what has no label.")
    if (y.ndim == 1 or (y.ndim == 2 and y.shape[1] == 1)) and (y != np.round(y)).any():
        raise InputError(f"y holds numbers that are no integers. {expected}")
    if y.ndim == 2 and y.shape[1] > 1 and not y.any(axis=1).all():
        raise InputError(
            f"{int((~y.any(axis=1)).sum())} rows of y are all zero and name no class. {expected} "
            "Leave out what has no label."
        )


def check_label_range(labels, num_classes):
    """Refuses class indices that the model has no output for.

    Args:
        labels: Integer array.
        num_classes: How many classes the model tells apart.

    Raises:
        InputError: If a label is out of range.

    Example:

    >>> check_label_range(np.array([0, 2]), 3)
    """
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= num_classes:
        raise InputError(
            f"Labels go from {lowest} to {highest}, but the model tells {num_classes} classes "
            f"apart. Expected indices from 0 to {num_classes - 1}."
        )
