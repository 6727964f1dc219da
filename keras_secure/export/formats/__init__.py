"""One served function in the files of several runtimes, each held against it when written."""

from keras_secure.export.formats.litert import LITERT_NAME, litert_runner, write_litert
from keras_secure.export.formats.onnx import ONNX_NAME, onnx_runner, write_onnx
from keras_secure.export.formats.stored import stored_compactly
from keras_secure.export.formats.write import FORMATS, check_formats, write_formats

__all__ = [
    "FORMATS",
    "LITERT_NAME",
    "ONNX_NAME",
    "check_formats",
    "litert_runner",
    "onnx_runner",
    "stored_compactly",
    "write_formats",
    "write_litert",
    "write_onnx",
]
