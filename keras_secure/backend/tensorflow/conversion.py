"""Graphs in the formats of other runtimes."""

import contextlib
import logging
import re
import tempfile
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from keras_secure.errors import InputError


def onnx_model(function, inputs, opset):
    """See `contract.Backend.onnx_model`."""
    try:
        import tf2onnx
    except ImportError as error:
        raise InputError(
            "Writing ONNX needs tf2onnx. Install it with `pip install keras-secure[onnx]`."
        ) from error
    specs = [tf.TensorSpec(shape, dtype, name=name) for name, shape, dtype in inputs]
    graph = tf.function(function, input_signature=specs, autograph=False)
    traced = graph.get_concrete_function()
    try:
        with _quiet("tf2onnx"):
            model, _ = tf2onnx.convert.from_function(
                graph,
                input_signature=specs,
                opset=opset,
                custom_op_handlers={"Erfc": (_erfc, []), "SelectV2": (_select, [])},
            )
    except Exception as error:  # a KeyError for a dtype that it does not know, and others
        raise InputError(
            f"ONNX cannot hold this model: its converter failed with {type(error).__name__}: "
            f"{_first_line(error)}. Leave 'onnx' out of `formats`, or replace what the message "
            "names."
        ) from error
    _keep_captured(model.graph, traced.graph.captures)
    return model.SerializeToString()


def litert_model(function, inputs, examples=None):
    """See `contract.Backend.litert_model`."""
    specs = [tf.TensorSpec(shape, dtype, name=name) for name, shape, dtype in inputs]
    module = tf.Module()
    module.serve = tf.function(function, input_signature=specs, autograph=False)
    signature = module.serve.get_concrete_function()
    # Through a SavedModel, so that inputs and outputs keep their names in the file.
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={"serving_default": signature})
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=["serving_default"]
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if examples is not None:
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([tf.constant(row)] for row in examples)
        try:
            return converter.convert()
        except Exception as error:  # the converter raises several kinds, some of them plain
            raise _unsupported(error) from error


def _unsupported(error: Exception) -> InputError:
    if "TensorList" in str(error):
        return InputError(
            "LiteRT has no loops over steps of a batch of any size. Build recurrent layers with "
            "unroll=True, or leave 'litert' out of `formats`."
        )
    names = re.findall(r"(?:TF Select|Custom|Flex) ops: ([\w, ]+)", str(error))
    ops = sorted({name.strip() for found in names for name in found.split(",")})
    if not ops:
        return InputError(
            "LiteRT cannot hold this model: its converter failed with: "
            f"{_first_line(error)}"
            ". Leave 'litert' out of `formats`, or replace what the message names."
        )
    return InputError(
        f"LiteRT has no operation for {', '.join(ops)}, which the served graph uses. Replace the "
        "guard or layer that needs it, or leave 'litert' out of `formats`."
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _keep_captured(graph, captures):
    # Tensors that a layer holds outside of variables, as the mean of `Normalization`, are constants
    # that the converter takes for inputs of the file.
    from onnx import numpy_helper

    held = {inner.name: outer for outer, inner in captures}
    for value in [value for value in graph.input if value.name in held]:
        graph.input.remove(value)
        array = held[value.name].numpy()
        graph.initializer.append(numpy_helper.from_array(array, value.name))


def _select(context, node, name, args):
    # The converter would select by multiplying with 0 and 1, which lets NaN and infinity through.
    node.type = "Where"


def _erfc(context, node, name, args):
    # Of this and its opposite, of which GELU is made, ONNX has the opposite.
    from onnx.helper import tensor_dtype_to_np_dtype

    kind = tensor_dtype_to_np_dtype(context.get_dtype(node.input[0]))
    one = context.make_const(f"{name}_one", np.array(1, kind))
    opposite = context.make_node("Erf", [node.input[0]], name=f"{name}_erf")
    node.type = "Sub"
    context.replace_inputs(node, [one.output[0], opposite.output[0]])


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    # What the converter only logs is found in the model it returns, and refused there.
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
