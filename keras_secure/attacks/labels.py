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
    if isinstance(y, dict):
        raise InputError(
            f"The labels of {len(y)} outputs were given ({', '.join(map(str, y))}), and one is "
            "attacked. Build a model that ends in the output that classifies."
        )
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


def labelled_output(y):
    """Tells which output of a model the labels are for.

    Args:
        y: Labels of a model with one output; or a dictionary from output names to labels, or a
            list with the labels of one output and None for the others.

    Returns:
        (output, labels): the name or number of the output, None if there is but one.

    Raises:
        InputError: If the labels of none, or of several outputs are given.

    Example:

    >>> labelled_output({"digit": [3], "parity": None})
    ('digit', [3])
    """
    if isinstance(y, dict):
        given = [(name, labels) for name, labels in y.items() if labels is not None]
    elif isinstance(y, (list, tuple)) and any(each is None for each in y):
        given = [(number, labels) for number, labels in enumerate(y) if labels is not None]
    else:
        return None, y
    if len(given) != 1:
        raise InputError(
            f"Labels were given for {len(given)} outputs. An attack fools one: give the labels of "
            "that output, for example y={'digit': labels}."
        )
    return given[0]


def likeliest_wrong_classes(logits, labels, count):
    """Ranks the classes other than the label by their logits.

    Args:
        logits: Tensor of shape (batch, num_classes).
        labels: Int32 tensor of shape (batch,).
        count: How many, at most `num_classes - 1`.

    Returns:
        An int32 tensor of shape (batch, count), the likeliest first.

    Example:

    >>> logits = ops.convert_to_tensor([[3.0, 1.0, 2.0]])
    >>> print(ops.convert_to_numpy(likeliest_wrong_classes(logits, [0], 2)))
    [[2 1]]
    """
    labelled = ops.one_hot(labels, logits.shape[1], dtype="bool")
    return ops.cast(ops.top_k(ops.where(labelled, -float("inf"), logits), count)[1], "int32")
