"""SavedModels that need nothing of Keras when they are served."""

import tensorflow as tf


def save_served_model(path, functions, signatures, model):
    """See `contract.Backend.save_served_model`."""
    module = tf.Module()
    module.variables_ = [variable.value for variable in model.variables]
    concrete = {}
    for name, function in functions.items():
        graph = tf.function(function, input_signature=signatures[name], autograph=False)
        setattr(module, name, graph)
        concrete[name] = graph
    tf.saved_model.save(module, path, signatures=concrete)
