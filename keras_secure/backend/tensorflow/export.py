"""SavedModels that need nothing of Keras when they are served."""

from typing import Any

import tensorflow as tf

from keras_secure.backend.tensorflow.saved_graph import WEIGHTS
from keras_secure.errors import InputError


def save_served_model(path, signatures, name, shape, dtype, variables):
    """See `contract.Backend.save_served_model`."""
    spec = tf.TensorSpec(shape, dtype, name=name)
    module = tf.Module()
    # A SavedModel holds what hangs on its root; the graph alone does not keep its variables.
    named: dict[str, Any] = {}
    for variable in variables:
        place = variable.path
        named[f"{place} ({len(named)})" if place in named else place] = variable.value
    setattr(module, WEIGHTS, named)
    traced = {}
    for signature, function in signatures.items():
        graph = tf.function(function, input_signature=[spec], autograph=False)
        # The function itself would be traced, and its constants written, once more.
        traced[signature] = graph.get_concrete_function()
    tf.saved_model.save(module, path, signatures=traced)
    return {
        signature: {
            output: (tuple(tensor.shape), tensor.dtype.name)
            for output, tensor in concrete.structured_outputs.items()
        }
        for signature, concrete in traced.items()
    }


def _reason(error):
    # The line that tells the cause comes after those that tell the place.
    lines = [line.strip() for line in error.message.splitlines() if line.strip()]
    places = ("Graph execution error", "Detected at node", "<stack traces", "[[{{node", "\t [[")
    told = [line for line in lines if not line.startswith(places)]
    return told[0] if told else error.message.strip()


def load_served_model(path, name):
    """See `contract.Backend.load_served_model`."""
    loaded = tf.saved_model.load(path)
    signature = loaded.signatures[name]

    def serve(inputs):
        # Holding `loaded` keeps the variables that the signature only refers to.
        _ = loaded
        try:
            outputs = signature(**{name: tf.constant(array) for name, array in inputs.items()})
        except tf.errors.InvalidArgumentError as error:
            shapes = ", ".join(str(array.shape) for array in inputs.values())
            raise InputError(
                f"The model cannot compute inputs of shape {shapes}: sizes that are too small for "
                "its layers, or numbers that none of its tables has an entry for. TensorFlow says: "
                f"{_reason(error)}"
            ) from error
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    variables: dict[str, Any] = {}
    for variable in signature.variables:
        name = variable.name.removesuffix(":0")
        variables[f"{name} ({len(variables)})" if name in variables else name] = variable
    return serve, variables


def framework_version():
    """See `contract.Backend.framework_version`."""
    return "tensorflow", tf.__version__
