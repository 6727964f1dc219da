"""Rounding with a gradient."""

import keras


def rounded(values, gradient):
    """Rounds to the nearest integer, with the gradient of something that resembles rounding.

    Args:
        values: Floating point tensor.
        gradient: `"straight_through"`: that of the identity. `"cubic"`: that of
            round(x) + (x - round(x))^3, which is 0 at the integers and 3/4 between them.

    Returns:
        A tensor of the same shape, exactly rounded.

    Example:

    >>> rounded(keras.ops.array([0.4, 1.6]), "cubic").numpy().tolist()
    [0.0, 2.0]

    Reference:
        Shin & Song 2017, JPEG-resistant Adversarial Images, NIPS 2017 workshop on machine learning
        and computer security, section 3.
    """
    ops = keras.ops
    whole = ops.stop_gradient(ops.round(values))
    like = values if gradient == "straight_through" else (values - whole) ** 3
    # The difference is exactly zero, and brings in the gradient.
    return whole + (like - ops.stop_gradient(like))
