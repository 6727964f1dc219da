"""Labels from a file, checked and brought to one form: int32, from 0 to the classes minus one."""

import numpy as np

from keras_secure.errors import InputError


def integer_labels(y, name: str, num_examples: int) -> np.ndarray:
    """Integer labels from integers, a column of integers, or one-hot rows.

    Args:
        y: Labels, shape (n,), (n, 1) or (n, classes).
        name: What the array is called, for messages.
        num_examples: Length of the inputs that belong to them.

    Returns:
        int32 labels, shape (n,).

    Raises:
        InputError: If the labels are not whole, not negative, or not as many as the examples.

    Example:

    >>> integer_labels(np.eye(3)[[2, 0]], "y", 2)
    array([2, 0], dtype=int32)
    """
    labels = np.asarray(y)
    if labels.dtype.kind not in "buif":
        raise InputError(
            f"{name} holds {_kind(labels)}; expected whole numbers from 0: number the classes and "
            f"save the numbers."
        )
    if labels.ndim == 2 and labels.shape[1] > 1:
        labels = _from_one_hot(labels, name)
    elif labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise InputError(
            f"{name} has shape {labels.shape}; expected one label per example, (n,), or one-hot "
            f"rows, (n, classes): reshape it."
        )
    if len(labels) != num_examples:
        raise InputError(
            f"{name} has {len(labels)} labels for {num_examples} examples; expected one label per "
            f"example: save the arrays that belong together."
        )
    whole = np.isfinite(labels) & (labels == np.floor(labels))
    if not whole.all():
        where = int(np.argmin(whole))
        raise InputError(
            f"{name} holds {labels[where]} at position {where}; expected whole numbers from 0: "
            f"this looks like a regression target or a missing value, give class numbers."
        )
    if len(labels) and labels.min() < 0:
        raise InputError(
            f"{name} holds the negative label {labels.min():g}; expected whole numbers from 0: "
            f"number the classes from 0, for instance with numpy.unique(y, return_inverse=True)."
        )
    if len(labels) and labels.max() > np.iinfo(np.int32).max:
        raise InputError(
            f"{name} holds the label {labels.max():g}; expected class numbers from 0: these look "
            f"like identifiers, number the classes with numpy.unique(y, return_inverse=True)."
        )
    return labels.astype(np.int32)


def class_count(y_train: np.ndarray, y_test: np.ndarray, source: str) -> int:
    """The number of classes, if every one from 0 up has a training example.

    Args:
        y_train: Checked training labels.
        y_test: Checked test labels.
        source: The data set or file, for messages.

    Returns:
        The count, at least 2.

    Raises:
        InputError: If there is one class only, a class without training examples, or a test label
            that training never saw.

    Example:

    >>> class_count(np.array([0, 1, 2]), np.array([2]), "file.npz")
    3
    """
    seen = np.unique(y_train)
    if len(seen) < 2:
        raise InputError(
            f"{source}: every training label is {seen[0]}; expected at least 2 classes: check that "
            f"y_train holds the labels."
        )
    # Compared with the count alone, as a stray label like 10**9 must not allocate its range.
    if seen[-1] != len(seen) - 1:
        missing = int(np.flatnonzero(seen != np.arange(len(seen)))[0])
        raise InputError(
            f"{source}: the training labels hold {len(seen)} classes but run up to {seen[-1]}, and "
            f"class {missing} has no example; expected 0 to {len(seen) - 1}, label {seen[-1]} is "
            f"out of range: renumber with numpy.unique(y, return_inverse=True)."
        )
    unseen = np.setdiff1d(y_test, seen)
    if len(unseen):
        raise InputError(
            f"{source}: y_test holds label {unseen[0]}, which is not in y_train; expected 0 to "
            f"{len(seen) - 1}: drop those examples or add some to the training set."
        )
    return len(seen)


def _from_one_hot(labels: np.ndarray, name: str) -> np.ndarray:
    one_hot = np.isin(labels, (0, 1)).all(axis=1) & (labels.sum(axis=1) == 1)
    if not one_hot.all():
        raise InputError(
            f"{name} has shape {labels.shape}, and row {int(np.argmin(one_hot))} is not one-hot; "
            f"expected a single 1 per row, or whole numbers of shape (n,): several or soft labels "
            f"per example are not supported."
        )
    return labels.argmax(axis=1)


def _kind(array: np.ndarray) -> str:
    if array.dtype.kind in "USO":
        return "text" if array.dtype.kind in "US" else "Python objects"
    return f"values of type {array.dtype}"
