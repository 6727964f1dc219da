"""What rows of logits answer."""

import numpy as np


def log_odds(logits, own):
    """Log odds of all other classes against one's own, in float64, one for each row.

    Args:
        logits: Array of shape (rows, num_classes).
        own: Boolean array like it: the columns that count as not fooled.

    Returns:
        A float64 array of shape (rows,).

    Example:

    >>> log_odds(np.array([[3.0, 1.0]], "float32"), np.array([[True, False]]))
    array([-2.])
    """
    logits = logits.astype("float64")
    others = np.where(own, -np.inf, logits)
    top = others.max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        total = np.log(np.exp(others - top).sum(axis=1)) + top[:, 0]
        return total - np.where(own, logits, -np.inf).max(axis=1)


def wrong(logits, own):
    """Whether each row is answered by none of its own columns; NaN is no answer.

    Example:

    >>> wrong(np.array([[3.0, 1.0], [0.0, np.nan]]), np.array([[True, False], [True, False]]))
    array([False,  True])
    """
    picked = own[np.arange(len(logits)), logits.argmax(axis=1)]
    return ~picked | np.isnan(logits).any(axis=1)
