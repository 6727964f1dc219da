"""Writes clean exports of the Keras that it runs under; see `build.py`, which runs it thrice.

    PYTHONPATH=FOLDER/env-keras-3.13.2 python export_clean.py OUTPUT [--other]

Prints a line of JSON for each: its name and path. With --other, those of TensorFlow alone and the
bundles of this library come with them.
"""

import argparse
import json
import os
import sys
import traceback
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import clean_models as models
import keras
import numpy as np
import tensorflow as tf

ARCHIVES = [
    *(models.perceptron, models.several_outputs, models.convolution, models.augmentation),
    *(models.volumes, models.signals, models.recurrent, models.stacked_cells),
    *(models.convolutional_recurrent, models.attention, models.text, models.lookups),
    *(models.features, models.scaled, models.quantized, models.quantized_to_four_bits),
    *(models.quantized_to_float8, models.half_precision, models.brain_float, models.adapted),
    *(models.nested, models.operations, models.merges, models.without_weights, models.zeros),
    *(models.compiled_richly,),
]
LEGACY = [models.perceptron, models.convolution, models.recurrent, models.several_outputs]
WEIGHTS = [models.subclassed, models.attention, models.quantized, models.zeros]
SAVED = [
    *(models.perceptron, models.text, models.recurrent, models.quantized, models.adapted),
    models.lookups,
]


class Exports:
    """Saves each, tells what came of it, and goes on after a failure."""

    def __init__(self, output):
        self._output, self.failed = Path(output), False
        self._output.mkdir(parents=True, exist_ok=True)

    def add(self, name, save):
        keras.utils.clear_session()
        keras.utils.set_random_seed(0)
        path = self._output / name
        try:
            save(path)
        except Exception:
            self.failed = True
            print(f"{name} failed under Keras {keras.__version__}:", file=sys.stderr)
            traceback.print_exc()
            return
        print(json.dumps({"name": f"{self._output.name}/{name}", "path": str(path)}), flush=True)


def export_all(exports):
    def keep(make, suffix, save):
        exports.add(make.__name__ + suffix, lambda path: save(make(), path))

    for make in ARCHIVES:
        keep(make, ".keras", lambda model, path: model.save(path))
    for make in LEGACY:
        keep(make, ".h5", lambda model, path: model.save(path))
    for make in WEIGHTS:
        keep(make, ".weights.h5", lambda model, path: model.save_weights(path))
    for make in SAVED:
        keep(make, "_exported", lambda model, path: model.export(path, verbose=False))

    def arrays(model, path, save=np.savez):
        save(path, **{weight.path: weight.numpy() for weight in model.weights})

    keep(models.convolution, ".npz", arrays)
    keep(models.zeros, ".npz", lambda model, path: arrays(model, path, np.savez_compressed))
    keep(models.nested, "_unzipped", lambda model, path: model.save(path, zipped=False))
    keep(models.mobile_network, ".keras", lambda model, path: model.save(path))
    keep(models.feature_space, ".keras", lambda space, path: space.save(path))

    def sharded(model, path):
        path.mkdir()
        model.save_weights(path / "model.weights.json", max_shard_size=2e-6)

    keep(models.attention, "_sharded", sharded)


class Own(tf.Module):
    """A module of the user's own, as TensorFlow alone saves it."""

    def __init__(self):
        self.matrix = tf.Variable(tf.random.normal((3, 2)), name="matrix")
        keys = tf.constant(["a", "b"])
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(keys, tf.constant([0, 1], tf.int64)), -1
        )

    @tf.function(input_signature=[tf.TensorSpec((None, 3)), tf.TensorSpec((None,), tf.string)])
    def __call__(self, x, words):
        total = tf.zeros((2,))
        for row in tf.range(tf.shape(x)[0]):
            if tf.reduce_sum(x[row]) > 0:
                total += tf.linalg.matvec(self.matrix, x[row], transpose_a=True)
        return {"total": total, "index": self.table.lookup(words)}


class FromAsset(tf.Module):
    """A table that is read from a file of the SavedModel's own."""

    def __init__(self, vocabulary):
        source = tf.lookup.TextFileInitializer(
            vocabulary,
            *(tf.string, tf.lookup.TextFileIndex.WHOLE_LINE),
            *(tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER),
        )
        self.table = tf.lookup.StaticHashTable(source, -1)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
    def __call__(self, words):
        return self.table.lookup(words)


def decode_images():
    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
    def serve(images):
        def decoded(image):
            found = tf.io.decode_image(image, channels=3, expand_animations=False)
            return tf.image.resize(tf.cast(found, tf.float32) / 255, (8, 8))

        return tf.map_fn(decoded, images, fn_output_signature=tf.float32)

    module = tf.Module()
    module.serve = serve
    return module


class FromData(tf.Module):
    """A function that goes through a dataset, kept in memory, and prints."""

    @tf.function(input_signature=[tf.TensorSpec((None,))])
    def __call__(self, x):
        tf.print("values", tf.shape(x))
        data = tf.data.Dataset.from_tensor_slices(x).map(lambda value: value * 2).cache().batch(2)
        return data.reduce(0.0, lambda total, values: total + tf.reduce_sum(values))


def save_session(path):
    """A model of TensorFlow 1, with a file of words."""
    words = path.with_suffix(".txt")
    words.write_text("one\ntwo\n")
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, (None, 3), name="x")
        name = tf.constant(str(words))
        v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, name)
        source = tf.lookup.TextFileInitializer(
            name,
            *(tf.string, tf.lookup.TextFileIndex.WHOLE_LINE),
            *(tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER),
        )
        table = tf.lookup.StaticHashTable(source, -1)
        y = v1.Print(x @ v1.get_variable("w", (3, 2)), [x], "values: ")
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        inputs = {"x": x, "words": v1.placeholder(tf.string, (None,))}
        outputs = {"y": y, "index": table.lookup(inputs["words"])}
        v1.saved_model.simple_save(session, str(path), inputs, outputs, v1.tables_initializer())
    words.unlink()


def export_other(exports):
    exports.add("module", lambda path: tf.saved_model.save(Own(), path))

    def with_asset(path):
        words = path.with_suffix(".txt")
        words.write_text("one\ntwo\n")
        tf.saved_model.save(FromAsset(str(words)), path)
        words.unlink()

    exports.add("asset", with_asset)
    exports.add("data", lambda path: tf.saved_model.save(FromData(), path))
    exports.add("session", save_session)
    exports.add("images", lambda path: tf.saved_model.save(decode_images(), path))
    for make in (models.perceptron, models.convolution, models.attention, models.features):
        exports.add(
            f"{make.__name__}_saved", lambda path, make=make: tf.saved_model.save(make(), path)
        )
    exports.add(
        "arrays.npz",
        lambda path: np.savez(
            path, a=np.arange(3), b=np.array(["x"]), c=np.float16(1), d=np.zeros((0, 3))
        ),
    )

    export_own(exports)


def export_own(exports):
    """What this library writes itself: bundles, and models whose classes are its own."""
    import keras_secure as ks
    from keras_secure.compression import quantize, quantize_aware

    harden = ks.export.export_hardened

    def guarded(path):
        # The bundle's own guards go into its graph, and its model beside it.
        guards = {
            "input_guard": ks.layers.InputGuard(bounds=(0.0, 1.0)),
            "output_guard": ks.layers.OutputGuard(),
            "defences": [ks.layers.FeatureSqueezing(bit_depth=4)],
        }
        key = ks.integrity.generate_key_pair()[0]
        harden(models.perceptron(), path, include_keras=True, private_key=key, **guards)

    def quantized(path):
        model = models.convolution()
        quantize(model, bits=4)
        harden(model, path)

    def smoothed(path):
        harden(models.perceptron(), path, smoothing=ks.export.Smoothing(0.25, num_samples=10))

    exports.add("bundle_quantized", quantized)
    exports.add("bundle", guarded)
    exports.add("bundle_smoothed", smoothed)
    exports.add(
        "bundle_formats", lambda path: harden(models.perceptron(), path, formats=("onnx", "litert"))
    )
    exports.add(
        "quantize_aware.keras", lambda path: quantize_aware(models.convolution()).save(path)
    )
    exports.add("secured.keras", lambda path: ks.SecureModel(models.perceptron()).save(path))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output")
    parser.add_argument("--other", action="store_true")
    arguments = parser.parse_args()
    exports = Exports(arguments.output)
    if arguments.other:
        export_other(exports)
    else:
        export_all(exports)
    sys.exit(exports.failed)


if __name__ == "__main__":
    main()
