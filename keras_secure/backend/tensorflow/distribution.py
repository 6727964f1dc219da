"""Replicas: what one step on many devices may and may not do under DP."""

import tensorflow as tf

from keras_secure.errors import PrivacyError


def replica_count():
    """See `contract.Backend.replica_count`."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def processor_replicas(count):
    """See `contract.Backend.processor_replicas`."""
    processors = tf.config.list_physical_devices("CPU")
    try:
        tf.config.set_logical_device_configuration(
            processors[0], [tf.config.LogicalDeviceConfiguration()] * count
        )
    except RuntimeError:
        return None
    return tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(count)])


def all_reduce_sum(values):
    """See `contract.Backend.all_reduce_sum`."""
    if replica_count() == 1:
        return list(values)
    return list(tf.distribute.get_replica_context().all_reduce("sum", list(values)))


def check_distribution(strategy):
    """See `contract.Backend.check_distribution`."""
    # The default strategy has no public class; one replica and no strategy scope identify it.
    if strategy is None or not isinstance(strategy, tf.distribute.Strategy):
        return
    known = (tf.distribute.OneDeviceStrategy, tf.distribute.MirroredStrategy)
    if type(strategy) in known or type(strategy).__name__ == "_DefaultDistributionStrategy":
        return
    raise PrivacyError(
        f"Training with differential privacy under {type(strategy).__name__} was refused: one "
        "noise draw for the global batch is guaranteed only without a strategy, under "
        "OneDeviceStrategy and under MirroredStrategy. Build and compile the model under one "
        "of these."
    )
