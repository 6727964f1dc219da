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
    dtype = keras.backend.standardize_dtype(getattr(x, "dtype", type(x).__name__))
    if "float" not in dtype:
        raise InputError(
            f"{attack_name} moves inputs by small real steps and was given {dtype}. Scale images "
            "to floats first, x.astype('float32') / 255 (and give the model the same); for token "
            "ids, attack a model that starts after the embedding."
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
