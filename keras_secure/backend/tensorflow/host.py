"""Variables as arrays in the memory of the host."""

import numpy as np
import tensorflow as tf


def host_array(variable):
    """See `contract.Backend.host_array`."""
    value = getattr(variable, "value", variable)
    value = value() if callable(value) else value
    # An eager tensor lends its memory, where a variable hands out a copy.
    if isinstance(value, tf.Variable) and not isinstance(value, tf.distribute.DistributedValues):
        # Half the time of `convert_to_tensor`, which asks tapes and caches first.
        tensor = tf.raw_ops.ReadVariableOp(resource=value.handle, dtype=value.dtype)
    else:
        tensor = tf.convert_to_tensor(value)
    return np.asarray(tensor)
