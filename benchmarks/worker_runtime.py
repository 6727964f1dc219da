"""Answers images with one runtime, in a process of its own, and times it.

    python benchmarks/worker_runtime.py RUNTIME REPEATS IMAGES.npy FILE ANSWER.npz ...

Every FILE is answered into the ANSWER behind it. RUNTIME is tensorflow (FILE is a SavedModel;
neither Keras nor keras_secure can be imported), onnxruntime, openvino (FILE is an ONNX file) or
litert. All run on one thread in 32-bit floats.
"""

import statistics
import sys
import time

import numpy as np

CHUNK, BATCHES = 500, (1, 128)


def tensorflow(path):
    # TensorFlow imports Keras on its own if it is there; here it must do without.
    sys.modules.update({"keras": None, "keras_secure": None})
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    serve = loaded.signatures["serving_default"]
    return lambda x: {name: value.numpy() for name, value in serve(x=tf.constant(x)).items()}


def onnxruntime(path):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(path, options, ["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda x: dict(zip(names, session.run(names, {"x": x}), strict=True))


def openvino(path):
    import openvino as ov

    # By default it computes in 16 bits where the processor can.
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    model = ov.Core().compile_model(path, "CPU", options)
    return lambda x: {next(iter(out.names)): value.copy() for out, value in model({"x": x}).items()}


def litert(path):
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(path, num_threads=1).get_signature_runner("serving_default")
    return lambda x: {name: value.copy() for name, value in run(x=x).items()}


def milliseconds(run, x, repeats):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run(x)
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times[repeats // 6 :])


def main(runtime, repeats, images, *paths):
    load = {f.__name__: f for f in (tensorflow, onnxruntime, openvino, litert)}[runtime]
    x = np.load(images)
    for path, answer in zip(paths[::2], paths[1::2], strict=True):
        run = load(path)
        parts = [run(x[start : start + CHUNK]) for start in range(0, len(x), CHUNK)]
        answers = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        if int(repeats):
            for batch in BATCHES:
                answers[f"ms_{batch}"] = milliseconds(run, x[:batch], int(repeats))
        np.savez(answer, **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
