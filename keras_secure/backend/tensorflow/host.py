"""Variables as arrays in the memory of the host."""

import numpy as np
import tensorflow as tf


def host_array(variable):
    """See `contract.Backend.host_array`."""
    value = getattr(variable, "value", variable)
    # An eager tensor lends its memory, where a variable hands out a copy.
    return np.asarray(tf.convert_to_tensor(value() if callable(value) else value))
