"""The requests that TensorFlow Serving sends to a model itself, before anybody else may.

A record of the file is a `PredictionLog` of tensorflow_serving/apis/prediction_log.proto. Its few
messages that matter are declared here with their field numbers, so that nothing has to be installed
for writing them; what is written is the same, byte for byte.
"""

import functools
from typing import Any

import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FILE, _PACKAGE = "keras_secure/warmup.proto", "keras_secure.warmup"
_TENSOR_FILE, _TENSOR = "tensorflow/core/framework/tensor.proto", ".tensorflow.TensorProto"
# Message: fields as (name, number, type, whether repeated). A map is a list of its entries.
_MESSAGES: dict[str, list[tuple[str, int, Any, bool]]] = {
    "ModelSpec": [("name", 1, str, False), ("signature_name", 3, str, False)],
    "Input": [("key", 1, str, False), ("value", 2, _TENSOR, False)],
    "PredictRequest": [
        ("model_spec", 1, "ModelSpec", False),
        ("inputs", 2, "Input", True),
    ],
    "PredictLog": [("request", 1, "PredictRequest", False)],
    "PredictionLog": [("predict_log", 6, "PredictLog", False)],
}


def write_warmup(path, model_name, requests):
    """See `contract.Backend.write_warmup`."""
    with tf.io.TFRecordWriter(path) as writer:
        for signature, inputs in requests:
            log = _log_class()()
            request = log.predict_log.request
            request.model_spec.name = model_name
            request.model_spec.signature_name = signature
            for name, array in inputs.items():
                request.inputs.add(key=name, value=tf.make_tensor_proto(array))
            writer.write(log.SerializeToString())


@functools.cache
def _log_class():
    file = descriptor_pb2.FileDescriptorProto(
        name=_FILE, package=_PACKAGE, syntax="proto3", dependency=[_TENSOR_FILE]
    )
    for message, fields in _MESSAGES.items():
        declared = file.message_type.add(name=message)
        for name, number, kind, repeated in fields:
            field = declared.field.add(name=name, number=number)
            field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            if kind is str:
                field.type = field.TYPE_STRING
            else:
                field.type = field.TYPE_MESSAGE
                field.type_name = kind if kind.startswith(".") else f".{_PACKAGE}.{kind}"
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.PredictionLog"))
