"""Inputs from a file, checked and brought to one form: float32 in [0, 1]."""

import numpy as np

from keras_secure.errors import InputError

LARGEST = 1e30
"""Beyond this, ranges overflow in float32; such values are errors or missing-value codes."""


def checked_inputs(x, name: str) -> np.ndarray:
    """Refuses inputs that no model could be trained on.

    Args:
        x: Shape (n, h, w), (n, h, w, c) or (n, features).
        name: What the array is called, for messages.

    Returns:
        The array.

    Raises:
        InputError: If it is empty, of another shape, not numeric, or not finite.

    Example:

    >>> checked_inputs([[1, 2]], "x").shape
    (1, 2)
    """
    array = np.asarray(x)
    if array.dtype.kind not in "buif":
        raise InputError(
            f"{name} has type {array.dtype}; expected numbers: save it as float32 or uint8."
        )
    if array.ndim not in (2, 3, 4) or 0 in array.shape:
        raise InputError(
            f"{name} has shape {array.shape}; expected images (n, height, width[, channels]) or a "
            f"table (n, features), none of them empty: reshape it."
        )
    if array.ndim == 4 and array.shape[1] in (1, 3) and array.shape[3] > 4:
        raise InputError(
            f"{name} has shape {array.shape}, which looks channels-first; expected (n, height, "
            f"width, channels): transpose it with numpy.moveaxis(x, 1, -1)."
        )
    if array.dtype.kind == "f":
        usable = np.isfinite(array) & (np.abs(array) <= LARGEST)
        if not usable.all():
            bad = ~usable.reshape(len(array), -1).all(axis=1)
            raise InputError(
                f"{name} has NaN, infinite or huge values in {int(bad.sum())} examples, the first "
                f"at position {int(np.argmax(bad))}; expected finite numbers: drop or fill them."
            )
    return array


def scaled_inputs(x_train, x_test, source: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Scales training and test inputs alike.

    8-bit values are divided by 255, values in [0, 1] are kept, and anything else is scaled by the
    range of the training examples (per column in a table) and clipped: the test set must not
    influence what the model sees.

    Args:
        x_train: Checked inputs of shape (n, h, w), (n, h, w, c) or (n, features).
        x_test: The same shape but for n.
        source: The data set or file, for messages.

    Returns:
        Both as float32 in [0, 1], images with a channel axis, and notes on what was done.

    Raises:
        InputError: If the two differ in shape or scale.

    Example:

    >>> pixels = np.array([[[0, 255]]], dtype="uint8")
    >>> scaled_inputs(pixels, pixels, "file.npz")[0].ravel()
    array([0., 1.], dtype=float32)
    """
    if x_train.shape[1:] != x_test.shape[1:]:
        raise InputError(
            f"{source}: x_train has examples of shape {x_train.shape[1:]} and x_test of "
            f"{x_test.shape[1:]}; expected the same shape: prepare both in the same way."
        )
    bytewise = [array.dtype == np.uint8 for array in (x_train, x_test)]
    if bytewise[0] != bytewise[1]:
        raise InputError(
            f"{source}: x_train is {x_train.dtype} and x_test is {x_test.dtype}; expected the same "
            f"scale in both: save both as uint8, or both as floats in [0, 1]."
        )
    low = min(float(x_train.min()), float(x_test.min()))
    high = max(float(x_train.max()), float(x_test.max()))
    notes = []
    if low >= 0.0 and high <= 1.0:
        x_train, x_test = x_train.astype(np.float32), x_test.astype(np.float32)
    elif bytewise[0]:
        x_train = x_train.astype(np.float32) / np.float32(255)
        x_test = x_test.astype(np.float32) / np.float32(255)
    else:
        x_train, x_test, note = _by_training_range(x_train, x_test)
        notes.append(note)
    if x_train.ndim == 3:
        x_train, x_test = x_train[..., None], x_test[..., None]
    return x_train, x_test, notes


def _by_training_range(x_train, x_test):
    columns = x_train.ndim == 2
    low = x_train.min(axis=0 if columns else None).astype(np.float64)
    span = x_train.max(axis=0 if columns else None).astype(np.float64) - low
    # A constant column carries nothing; dividing it by one keeps it at zero.
    span = np.where(span > 0.0, span, 1.0)
    x_train, x_test = (((x - low) / span).astype(np.float32) for x in (x_train, x_test))
    outside = int(np.sum((x_test < 0.0) | (x_test > 1.0)))
    note = (
        "Values were scaled to [0, 1] by the range of each training column"
        if columns
        else f"Values were scaled to [0, 1] by the training range, {low:g} to {low + span:g}"
    )
    if outside:
        note += f"; {outside} test values outside it were clipped"
    return np.clip(x_train, 0.0, 1.0), np.clip(x_test, 0.0, 1.0), f"{note}."
