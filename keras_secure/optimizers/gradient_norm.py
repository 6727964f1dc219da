"""Norms of gradients, and what follows from them."""

import keras


def overflow_free_norm(tensors):
    """The L2 norm of all tensors together, without overflow on the way."""
    ops = keras.ops
    largest = ops.max(
        ops.stack([ops.max(ops.abs(tensor), initial=0.0) for tensor in tensors]), initial=0.0
    )
    unit = ops.where((largest > 0.0) & ops.isfinite(largest), largest, 1.0)
    return unit * ops.sqrt(sum(ops.sum(ops.square(tensor / unit)) for tensor in tensors))


def exceeds(norm, threshold):
    """Whether a norm is finite and above the threshold."""
    return keras.ops.isfinite(norm) & (norm > threshold)


def clip_scale(norm, threshold):
    """What to multiply with so that the norm becomes at most the threshold."""
    ops = keras.ops
    above = exceeds(norm, threshold)
    return ops.where(above, threshold / ops.where(above, norm, 1.0), 1.0)
