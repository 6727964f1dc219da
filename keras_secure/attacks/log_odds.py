"""What an attack on a classifier raises."""

from keras import ops

from keras_secure import backend


def log_odds_against(logits, labels):
    """Per-example log odds of all other classes together against the labelled one.

    With p the probability of the label, this is log((1 - p) / p). Cross-entropy is -log p, an
    increasing function of it, and both gradients by the input point the same way:
    grad(cross-entropy) = (1 - p) * grad(log odds). Attacks use the direction only, so raising one
    is raising the other; but cross-entropy's factor 1 - p underflows for a confident model, leaves
    a gradient of zero, and makes such a model look robust.

    Args:
        logits: Float32 tensor of shape (batch, num_classes).
        labels: Int32 tensor of shape (batch,).

    Returns:
        A tensor of shape (batch,).

    Example:

    >>> logits = ops.convert_to_tensor([[400.0, 0.0]])
    >>> print(ops.convert_to_numpy(log_odds_against(logits, ops.convert_to_tensor([0]))))
    [-400.]

    Reference:
        Carlini & Wagner 2017, arXiv 1608.04644, section IV-D (saturated softmax).
    """
    return backend.fused_call(_against, (logits, labels))


def _against(logits, labels):
    labelled = ops.one_hot(labels, logits.shape[1], dtype="bool")
    others = ops.where(labelled, -float("inf"), logits)
    chosen = ops.sum(ops.where(labelled, logits, 0.0), axis=1)
    return ops.logsumexp(others, axis=1) - chosen


def predicts(logits, labels):
    """Whether each row of logits picks its label; a row with a NaN picks no class.

    Args:
        logits: Tensor of shape (batch, num_classes).
        labels: Int32 tensor of shape (batch,).

    Returns:
        A boolean tensor of shape (batch,).

    Example:

    >>> logits = ops.convert_to_tensor([[0.0, 1.0], [0.0, float("nan")]])
    >>> print(ops.convert_to_numpy(predicts(logits, ops.convert_to_tensor([1, 0]))))
    [ True False]
    """
    picked = ops.cast(ops.argmax(logits, axis=1), labels.dtype) == labels
    return ops.logical_and(picked, ops.logical_not(ops.any(ops.isnan(logits), axis=1)))
