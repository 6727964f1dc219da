"""Losses on logits that attacks raise, none of which fades where a model is sure of itself.

Cross-entropy is `log_odds_against` of `log_odds.py`, which rises with it and points the same way.
"""

from keras import ops


def margin(logits, labels):
    """Per-example margin by which the best other class beats the labelled one.

    Args:
        logits: Float32 tensor of shape (batch, num_classes), two columns or more.
        labels: Int32 tensor of shape (batch,).

    Returns:
        A tensor of shape (batch,), positive where another class is ahead. Raise it to leave the
        labelled class, lower it to reach it.

    Example:

    >>> logits = ops.convert_to_tensor([[3.0, 1.0, -2.0]])
    >>> print(ops.convert_to_numpy(margin(logits, ops.convert_to_tensor([0]))))
    [-2.]

    Reference:
        Carlini & Wagner 2017, arXiv 1608.04644, section IV-A (the function f6, without its limit).
    """
    labelled = ops.one_hot(labels, logits.shape[1], dtype="bool")
    others = ops.max(ops.where(labelled, -float("inf"), logits), axis=1)
    return others - ops.sum(ops.where(labelled, logits, 0.0), axis=1)


def margin_hinge(confidence, targeted):
    """Returns the loss that is zero where the wanted class leads by `confidence`, to be lowered.

    Args:
        confidence: By how much the target, or else any class but the label, is to lead.
        targeted: Whether the labels are the classes to reach.

    Returns:
        A function of (logits, labels) to losses of shape (batch,), none below zero.

    Example:

    >>> loss = margin_hinge(1.0, targeted=False)
    >>> print(ops.convert_to_numpy(loss(ops.convert_to_tensor([[3.0, 1.0]]), [0])))
    [3.]

    Reference:
        Carlini & Wagner 2017, arXiv 1608.04644, section V-A (the function f6 with its limit).
    """

    def hinge(logits, labels):
        lead = margin(logits, labels)
        return ops.maximum((lead if targeted else -lead) + confidence, 0.0)

    return hinge


def logit_ratio(logits, labels):
    """Difference of logits ratio (DLR): the margin in units of how far the logits spread.

    With the logits of a row in descending order z1, z2, z3, ... it is the margin of the label over
    z1 - z3, so that neither shifting nor scaling the logits changes it. Two classes have no third
    logit: there it is the margin itself, which ranks inputs and points as the ratio would.

    Args:
        logits: Float32 tensor of shape (batch, num_classes), two columns or more.
        labels: Int32 tensor of shape (batch,).

    Returns:
        A tensor of shape (batch,), positive where another class is ahead.

    Example:

    >>> logits = ops.convert_to_tensor([[3.0, 1.0, -1.0]])
    >>> print(ops.convert_to_numpy(logit_ratio(logits, ops.convert_to_tensor([0]))))
    [-0.5]
    >>> print(ops.convert_to_numpy(logit_ratio(1e4 * logits, ops.convert_to_tensor([0]))))
    [-0.5]

    Reference:
        Croce & Hein 2020, arXiv 2003.01690, section 4.2, equation 6.
    """
    if logits.shape[1] == 2:
        return margin(logits, labels)
    highest = ops.top_k(logits, 3)[0]
    return margin(logits, labels) / _spread(highest[:, 0] - highest[:, 2])


def targeted_logit_ratio(logits, labels, targets):
    """Targeted DLR: the lead of the target over the label, in units of the logits' spread.

    The spread is z1 - (z3 + z4) / 2, with the logits of a row in descending order; with three
    classes z1 - z3; and with two it is left out, as in `logit_ratio`.

    Args:
        logits: Float32 tensor of shape (batch, num_classes), two columns or more.
        labels: Int32 tensor of shape (batch,): the classes to leave.
        targets: Int32 tensor of shape (batch,): the classes to reach.

    Returns:
        A tensor of shape (batch,), positive where the target is ahead of the label.

    Example:

    >>> logits = ops.convert_to_tensor([[3.0, 1.0, 0.0, -2.0]])
    >>> labels, targets = ops.convert_to_tensor([0]), ops.convert_to_tensor([2])
    >>> print(ops.convert_to_numpy(targeted_logit_ratio(logits, labels, targets)))
    [-0.75]

    Reference:
        Croce & Hein 2020, arXiv 2003.01690, section 4.2, equation 7.
    """
    lead = _at(logits, targets) - _at(logits, labels)
    return lead / _spread_with_targets(logits)


def reached_logit_ratio(logits, targets):
    """Targeted DLR for a target alone: its lead over whichever other class is best.

    As `targeted_logit_ratio`, where the class to leave is not known or does not matter: the target
    is the answer only when it is ahead of every other class.

    Args:
        logits: Float32 tensor of shape (batch, num_classes), two columns or more.
        targets: Int32 tensor of shape (batch,): the classes to reach.

    Returns:
        A tensor of shape (batch,), positive where the target is the answer.

    Example:

    >>> logits = ops.convert_to_tensor([[3.0, 1.0, 0.0, -2.0]])
    >>> print(ops.convert_to_numpy(reached_logit_ratio(logits, ops.convert_to_tensor([1]))))
    [-0.5]
    """
    return -margin(logits, targets) / _spread_with_targets(logits)


def _spread_with_targets(logits):
    classes = logits.shape[1]
    if classes == 2:
        return ops.ones_like(logits[:, 0])
    highest = ops.top_k(logits, min(classes, 4))[0]
    # Halved before they are added: the sum of two huge logits would overflow.
    low = highest[:, 2] if classes == 3 else 0.5 * highest[:, 2] + 0.5 * highest[:, 3]
    return _spread(highest[:, 0] - low)


def _spread(difference):
    # Logits that tie have no spread to measure by; their difference is zero and may stay so. A
    # class that was masked out (minus infinity) would make every ratio zero.
    usable = ops.logical_and(difference > 0, ops.isfinite(difference))
    return ops.where(usable, difference, ops.ones_like(difference))


def _at(logits, classes):
    chosen = ops.one_hot(classes, logits.shape[1], dtype="bool")
    return ops.sum(ops.where(chosen, logits, 0.0), axis=1)
