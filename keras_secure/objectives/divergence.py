"""How far one classification is from another."""

from keras import ops


def divergence(reference_logits, logits, temperature=1.0):
    """Kullback-Leibler divergence of `logits` from the reference, example by example.

    Args:
        reference_logits: Tensor of shape (batch, num_classes).
        logits: Tensor of shape (batch, num_classes).
        temperature: Positive float that both are divided by first.

    Returns:
        KL(softmax(reference / temperature) || softmax(logits / temperature)), shape (batch,).

    Example:

    >>> certain, unsure = ops.convert_to_tensor([[90.0, 0.0]]), ops.zeros((1, 2))
    >>> round(float(divergence(certain, unsure)[0]), 4)  # log 2
    0.6931
    """
    reference = ops.log_softmax(reference_logits / temperature, axis=-1)
    other = ops.log_softmax(logits / temperature, axis=-1)
    return ops.sum(ops.exp(reference) * (reference - other), axis=-1)
