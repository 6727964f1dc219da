"""Examples that a model can only know by having seen them."""

import numpy as np

from keras_secure.arguments import check_integer, is_integer
from keras_secure.errors import InputError


def mislabelled_canaries(x, y, count: int, num_classes: int, seed: int | None = None):
    """Makes canaries of real examples by giving them wrong labels.

    A model gives a wrong label to a real example hardly ever, unless it has learnt that very
    example. Take them from examples that are not otherwise in the training data.

    Args:
        x: Inputs, an array of shape (n, ...), n at least `count`.
        y: Their true labels: integers of shape (n,) or (n, 1), or one-hot of shape (n, classes).
        count: How many canaries to make. 1,000 and more show much; 100 show little.
        num_classes: Number of classes, at least 2.
        seed: For repeatable canaries; None for fresh ones.

    Returns:
        (x_canaries, y_canaries): `count` of the examples, no example twice, each with a label drawn
        evenly from the wrong ones, in the form of `y`.

    Raises:
        InputError: If there are too few examples or a label is out of range.

    Example:

    >>> x, y = np.arange(8.0).reshape(4, 2), np.array([0, 1, 2, 0])
    >>> inputs, labels = mislabelled_canaries(x, y, count=4, num_classes=3, seed=0)
    >>> inputs.shape, bool(np.any(labels == y[(inputs[:, 0] / 2).astype(int)]))
    ((4, 2), False)

    Reference: Steinke, Nasr and Jagielski 2023, arXiv 2305.08846, section 6 (black-box auditing).
    """
    x, y = np.asarray(x), np.asarray(y)
    check_integer("num_classes", num_classes, 2)
    if not is_integer(count) or not 1 <= count <= len(x) or len(x) != len(y):
        raise InputError(
            f"{count!r} canaries cannot be made of {len(x)} inputs and {len(y)} labels: give as "
            f"many labels as inputs, and a count from 1 to their number."
        )
    is_one_hot = y.ndim == 2 and y.shape[1] > 1
    true = y.argmax(axis=1) if is_one_hot else y.reshape(len(y)).astype(np.int64)
    if true.min() < 0 or true.max() >= num_classes or (is_one_hot and y.shape[1] != num_classes):
        raise InputError(
            f"Labels of shape {y.shape} from {true.min()} to {true.max()} are not those of "
            f"{num_classes} classes; give the num_classes that fits y."
        )
    generator = np.random.default_rng(seed)
    rows = generator.choice(len(x), size=int(count), replace=False)
    wrong = (true[rows] + generator.integers(1, num_classes, size=int(count))) % num_classes
    if is_one_hot:
        return x[rows], np.eye(num_classes, dtype=y.dtype)[wrong]
    return x[rows], wrong.astype(y.dtype).reshape((len(rows), *y.shape[1:]))
