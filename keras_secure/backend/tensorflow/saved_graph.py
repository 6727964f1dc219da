"""What a SavedModel holds, read without running any of it."""

import collections
import os

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

# Weights bear it, as constants and as variables, so that they are told from all else.
WEIGHTS = "weights"
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


def read_served_model(path):
    """See `contract.Backend.read_served_model`."""
    model = _parsed(os.path.join(path, "saved_model.pb"))
    operations: collections.Counter[str] = collections.Counter()
    weights = {}
    for meta_graph in model.meta_graphs:
        graph = meta_graph.graph_def
        for nodes in (graph.node, *(function.node_def for function in graph.library.function)):
            operations.update(node.op for node in nodes)
            for node in nodes:
                if node.op == "Const" and node.name.startswith(f"{WEIGHTS}/"):
                    name = node.name.removeprefix(f"{WEIGHTS}/")
                    weights[name] = tf.make_ndarray(node.attr["value"].tensor)
    weights.update(_variables(os.path.join(path, "variables", "variables")))
    return dict(sorted(operations.items())), dict(sorted(weights.items()))


def _parsed(file):
    # Not part of the public interface, and the same since TensorFlow 1.
    from tensorflow.core.protobuf import saved_model_pb2

    with open(file, "rb") as stream:
        data = stream.read()
    try:
        return saved_model_pb2.SavedModel.FromString(data)
    except DecodeError as error:
        raise ValueError(f"{file} is no graph: {error}") from error


def _variables(prefix):
    try:
        reader = tf.train.load_checkpoint(prefix)
        found = {}
        for key in reader.get_variable_to_shape_map():
            if key.startswith(f"{WEIGHTS}/") and key.endswith(_VALUE):
                name = key.removeprefix(f"{WEIGHTS}/").removesuffix(_VALUE)
                # How checkpoints write a slash within a name, and a dot before such a letter.
                name = name.replace(".S", "/").replace("..", ".")
                found[name] = np.asarray(reader.get_tensor(key))
        return found
    except (tf.errors.OpError, RuntimeError) as error:
        raise ValueError(f"{prefix} holds no variables that can be read: {error}") from error
