"""What small kernels in a LiteRT file cost in time, and why shared values are floats there.

    python benchmarks/litert_storage.py

The network of `compression_task.py`, not trained, is exported to LiteRT with floats, 16 shared
values, 8 bits and 4 bits for each kernel. Of the file with shared values a second one is made, in
which each kernel is numbers of one byte and a table: `CAST` and `GATHER`, exactly the same floats.

Prints bytes, the same after gzip, the median time of a call at batch 1 and 128 in milliseconds (one
thread), and by how much answers to 512 random images differ at most from the Keras model's and, for
the table, from the file with floats.

Exits with 1 if the table has become exact and at most twice as slow as floats at batch 1: then it
should be used.
"""

import gzip
import statistics
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from compression_task import network

import keras_secure as ks
from keras_secure.export.formats.litert_splice import read_model, write_model

CALLS = {1: 200, 128: 30}
ROUNDS = 3


def exported(model):
    """The bytes of a model's LiteRT file."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = ks.export.export_hardened(
            model, f"{folder}/bundle", formats=["litert"], signatures=(), warmup=()
        )
        return Path(bundle.path, "model.tflite").read_bytes()


def with_tables(data, num_values=256):
    """The same file, in which large constants of few values are numbers and a table."""
    model = read_model(data)
    graph, operators = model.subgraphs[0], []
    for index, tensor in enumerate(list(graph.tensors)):
        held = model.buffers[tensor.buffer].data
        if tensor.type != schema.TensorType.FLOAT32 or held is None or len(held) < 4 * num_values:
            continue
        # Told apart by their bits.
        values, numbers = np.unique(bytes_of(held, np.int32), return_inverse=True)
        if len(values) > num_values:
            continue
        model.buffers[tensor.buffer].data, tensor.buffer = None, 0
        kinds = schema.TensorType
        stored = added(model, tensor.shape, kinds.UINT8, numbers.astype(np.uint8))
        wide = added(model, tensor.shape, kinds.INT32)
        table = added(model, [len(values)], kinds.FLOAT32, values)
        cast = schema.CastOptionsT()
        cast.inDataType, cast.outDataType = kinds.UINT8, kinds.INT32
        operators += [
            operator(model, "CAST", "CastOptions", cast, [stored], wide),
            operator(
                model, "GATHER", "GatherOptions", schema.GatherOptionsT(), [table, wide], index
            ),
        ]
    graph.operators[:0] = operators
    return write_model(model)


def bytes_of(held, dtype):
    return np.frombuffer(bytes(held), dtype)


def added(model, shape, kind, values=None):
    """Adds a tensor, with a constant if `values` are given; returns its number."""
    graph, tensor = model.subgraphs[0], schema.TensorT()
    tensor.name, tensor.type, tensor.buffer = b"stored/%d" % len(graph.tensors), kind, 0
    tensor.shape = np.asarray(shape, np.int32)
    if values is not None:
        holder = schema.BufferT()
        holder.data = np.frombuffer(values.tobytes(), np.uint8)
        tensor.buffer = len(model.buffers)
        model.buffers.append(holder)
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def operator(model, name, options_name, options, inputs, output):
    """An operator of that name."""
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
    code.version = 1
    made = schema.OperatorT()
    made.opcodeIndex, made.inputs, made.outputs = len(model.operatorCodes), inputs, [output]
    made.builtinOptionsType = getattr(schema.BuiltinOptions, options_name)
    made.builtinOptions = options
    model.operatorCodes.append(code)
    return made


def runner(data):
    return Interpreter(model_content=data, num_threads=1).get_signature_runner("serving_default")


def times(runners, x):
    """Median milliseconds of a call of each, measured in turns."""
    found = {name: [] for name in runners}
    for _ in range(ROUNDS):
        for name, run in runners.items():
            run(x=x)
            for _ in range(CALLS[len(x)]):
                start = time.perf_counter()
                run(x=x)
                found[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(each) for name, each in found.items()}


def main():
    keras.utils.set_random_seed(0)
    base = network(keras)
    models = {"float": base}
    models["16 values"] = ks.compression.strip(ks.compression.cluster_aware(base, 16))
    for bits in (8, 4):
        models[f"{bits} bits"] = copy = keras.models.clone_model(base)
        copy.set_weights(base.get_weights())
        ks.compression.quantize(copy, bits)
    files = {name: exported(model) for name, model in models.items()}
    files["16 values, table"] = with_tables(files["16 values"])
    models["16 values, table"] = models["16 values"]
    runners = {name: runner(data) for name, data in files.items()}
    x = np.random.default_rng(0).random((512, 28, 28, 1), "float32")
    answers = {name: run(x=x)["predictions"].copy() for name, run in runners.items()}
    taken = {size: times(runners, x[:size]) for size in CALLS}
    print(f"{'':18}{'bytes':>9}{'gzip':>9}{'ms at 1':>9}{'at 128':>9}{'off Keras by':>14}")
    for name, data in files.items():
        off = np.abs(answers[name] - models[name].predict(x, verbose=0)).max()
        shown = f"{len(data):9,}{len(gzip.compress(data, 9)):9,}"
        print(f"{name:18}{shown}{taken[1][name]:9.3f}{taken[128][name]:9.3f}{off:14.1e}")
    off = np.abs(answers["16 values, table"] - answers["16 values"]).max()
    ratios = [taken[size]["16 values, table"] / taken[size]["16 values"] for size in CALLS]
    print(
        f"the table beside floats: off by {off:.1e}, {ratios[0]:.1f}x and {ratios[1]:.1f}x the time"
    )
    return 1 if off == 0 and ratios[0] <= 2 else 0


if __name__ == "__main__":
    sys.exit(main())
