"""Private versions of the two most used optimizers, in one line."""

import keras

from keras_secure.optimizers.dp_optimizer import DPOptimizer


def DPSGD(learning_rate=0.01, momentum=0.0, *, l2_norm_clip, noise_multiplier, **plan):
    """Returns `DPOptimizer` around `keras.optimizers.SGD`.

    Args:
        learning_rate: Float or schedule.
        momentum: Float in [0, 1].
        l2_norm_clip: See `DPOptimizer`.
        noise_multiplier: See `DPOptimizer`.
        **plan: Further arguments of `DPOptimizer`.

    Example:

    >>> DPSGD(0.1, l2_norm_clip=1.0, noise_multiplier=1.1).noise_multiplier
    1.1
    """
    inner = keras.optimizers.SGD(learning_rate, momentum=momentum)
    return DPOptimizer(inner, l2_norm_clip, noise_multiplier, **plan)


def DPAdam(learning_rate=0.001, *, l2_norm_clip, noise_multiplier, **plan):
    """Returns `DPOptimizer` around `keras.optimizers.Adam`.

    Args:
        learning_rate: Float or schedule.
        l2_norm_clip: See `DPOptimizer`.
        noise_multiplier: See `DPOptimizer`.
        **plan: Further arguments of `DPOptimizer`.

    Example:

    >>> DPAdam(l2_norm_clip=1.0, noise_multiplier=1.1).l2_norm_clip
    1.0
    """
    inner = keras.optimizers.Adam(learning_rate)
    return DPOptimizer(inner, l2_norm_clip, noise_multiplier, **plan)
