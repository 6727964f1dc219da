"""Labels as class indices, whichever way the user holds them."""

import keras
from keras import ops

from keras_secure.errors import InputError


def class_indices(y):
    """Returns labels as class indices.

    Args:
        y: Integer classes of shape (batch,) or (batch, 1), or one-hot rows (or probabilities) of
            shape (batch, num_classes), of any dtype.

    Returns:
        An int32 tensor of shape (batch,).

    Raises:
        InputError: If the labels have another shape.

    Example:

    >>> print(ops.convert_to_numpy(class_indices([[0, 0, 1], [1, 0, 0]])))
    [2 0]
    """
    y = ops.convert_to_tensor(y)
    if len(y.shape) == 2 and y.shape[1] == 1:
        y = ops.squeeze(y, axis=1)
    if len(y.shape) == 2:
        return ops.cast(ops.argmax(y, axis=1), "int32")
    if len(y.shape) == 1:
        dtype = keras.backend.standardize_dtype(y.dtype)
        return ops.cast(ops.round(y) if "float" in dtype else y, "int32")
    raise InputError(
        f"Labels of shape {tuple(y.shape)} cannot be used. Expected class indices of shape "
        "(batch,) or (batch, 1), or one-hot rows of shape (batch, num_classes)."
    )
