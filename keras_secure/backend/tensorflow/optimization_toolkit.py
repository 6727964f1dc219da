"""TensorFlow's Model Optimization Toolkit, kept from changing what Keras the process uses."""

import importlib
import os

import tensorflow as tf

from keras_secure.errors import InputError

_VARIABLE = "TF_USE_LEGACY_KERAS"
_ENGINE = "tensorflow_model_optimization.python.core.sparsity.keras.pruning_impl"


def toolkit_pruning(step, weight, mask, threshold, schedule):
    """See `contract.Backend.toolkit_pruning`."""
    engine = _contained_import(_ENGINE)
    pruning = engine.Pruning(
        training_step_fn=lambda: step,
        pruning_vars=[(weight, mask, threshold)],
        pruning_schedule=schedule,
        block_size=(1, 1),
        block_pooling_type="AVG",
    )
    pruning.conditional_mask_update()
    return tf.convert_to_tensor(mask)


def toolkit_schedules():
    """See `contract.Backend.toolkit_schedules`."""
    return _contained_import(
        "tensorflow_model_optimization.python.core.sparsity.keras.pruning_schedule"
    )


def _contained_import(name):
    """Imports a module of the toolkit without its turning `tf.keras` into the legacy Keras.

    Importing it sets an environment variable that `tf.keras`, `tf.losses` and their like read when
    they are first used. So each of them is used before, and the variable is put back after.
    """
    before = os.environ.get(_VARIABLE)
    for namespace in (tf, tf.compat.v1, tf.compat.v2):
        for member in list(vars(namespace).values()):
            if type(member).__name__ == "KerasLazyLoader":
                getattr(member, "__version__", None)
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            "The Model Optimization Toolkit or tf_keras, which it works on, cannot be imported. "
            "Install the extra: pip install 'keras-secure[tfmot]'; or use engine='native'."
        ) from error
    finally:
        if before is None:
            os.environ.pop(_VARIABLE, None)
        else:
            os.environ[_VARIABLE] = before
