"""What became of each example of a request, as a number."""

import enum
from typing import Any

import keras


class Status(enum.IntEnum):
    """The codes in the output `status` of a served model.

    Where several hold, the first of rejected, failed, abstained and flagged is told.

    Example:

    >>> Status(3).name
    'ABSTAINED'
    """

    OK = 0
    """Answered."""
    REJECTED = 1
    """Not answered: the input guard rejected the example. Its predictions are zeros."""
    FLAGGED = 2
    """Answered, after values out of range were clipped."""
    ABSTAINED = 3
    """Not answered: the output guard was not confident enough, or the vote of a smoothed model was
    too close to call. Its predictions are zeros."""
    FAILED = 4
    """Not answered: the model gave a NaN, or another number that is none. Its predictions are
    zeros."""


def statuses(accepted: Any, valid: Any, confident: Any = None, flagged: Any = None) -> Any:
    """The statuses of a batch.

    Args:
        accepted: Boolean tensor of shape (batch,): not rejected by the input guard.
        valid: The same: the model answered with numbers.
        confident: None, or the same: nobody abstained.
        flagged: None, or the same: some of its values were clipped.

    Returns:
        An int32 tensor of shape (batch,).
    """
    ops = keras.ops

    def code(status: Status) -> Any:
        return ops.cast(int(status), "int32")

    found = code(Status.OK)
    if flagged is not None:
        found = ops.where(flagged, code(Status.FLAGGED), found)
    if confident is not None:
        found = ops.where(confident, found, code(Status.ABSTAINED))
    found = ops.where(valid, found, code(Status.FAILED))
    return ops.where(accepted, found, code(Status.REJECTED))


def counted(status: Any) -> Any:
    """How many examples of a batch have each status: an int32 tensor with a place for each code."""
    ops = keras.ops
    codes = ops.arange(len(Status), dtype="int32")
    return ops.sum(ops.cast(status[:, None] == codes, "int32"), axis=0)
