"""The examples of a batch, each as a whole."""

from keras import ops


def lengths(delta, norm):
    """The norm of each example of a batch.

    Args:
        delta: Tensor of shape (batch, ...).
        norm: `"linf"`, `"l2"` or `"l1"`.

    Returns:
        A tensor of shape (batch,).

    Example:

    >>> float(lengths(ops.convert_to_tensor([[3.0, -4.0]]), "l2")[0])
    5.0
    """
    size = ops.absolute(ops.reshape(delta, (ops.shape(delta)[0], -1)))
    if norm == "linf":
        return ops.max(size, axis=1)
    if norm == "l1":
        return ops.sum(size, axis=1)
    # In units of the largest entry: squares neither overflow nor vanish.
    largest = ops.max(size, axis=1)
    unit = ops.where(largest > 0, largest, ops.ones_like(largest))
    return unit * ops.sqrt(ops.sum(ops.square(size / ops.expand_dims(unit, 1)), axis=1))


def by_row(values, like):
    """Gives a tensor of shape (batch,) as many axes as `like`, so that it acts on whole examples.

    Args:
        values: Tensor of shape (batch,).
        like: Tensor of shape (batch, ...).

    Returns:
        A tensor of shape (batch, 1, ...).

    Example:

    >>> by_row(ops.ones((2,)), ops.ones((2, 3, 4))).shape
    TensorShape([2, 1, 1])
    """
    return ops.reshape(values, (-1,) + (1,) * (len(like.shape) - 1))
