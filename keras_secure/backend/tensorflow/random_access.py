"""Single elements of a data set."""

import tensorflow as tf

from keras_secure.errors import InputError


def example_reader(dataset):
    """See `contract.Backend.example_reader`."""
    length = int(dataset.cardinality())

    def read(number):
        element = tf.data.experimental.at(dataset, number)
        return tf.nest.map_structure(lambda leaf: leaf.numpy(), element)

    try:
        if length > 0:
            read(0)
    except (tf.errors.OpError, TypeError) as error:
        raise InputError(
            f"The tf.data.Dataset gives no random access ({type(error).__name__}). Build it with "
            "from_tensor_slices or range and map, take, skip or cache; or give an object with "
            "__len__ and __getitem__."
        ) from error
    if length < 0:
        raise InputError(
            "The tf.data.Dataset does not know its length, or has none. Leave out repeat and "
            "filter, or give an object with __len__ and __getitem__."
        )
    return length, read
