"""Models that train compressed, layer by layer, and what is left when they are stripped."""

import keras
import numpy as np
import pytest

from keras_secure.compression import (
    cluster_aware,
    clustered_weights,
    prune,
    quantize,
    quantize_aware,
    quantized_weights,
    strip,
)
from keras_secure.compression.compressed_layer import CompressedLayer
from keras_secure.compression.compressed_layers import COMPRESSED_LAYERS
from keras_secure.errors import InputError
from keras_secure.export import merge_lora

LAYERS = {
    "Dense": ((5,), lambda: keras.layers.Dense(4, activation="relu", name="part")),
    "EinsumDense": (
        (3, 5),
        lambda: keras.layers.EinsumDense("abc,cde->abde", (3, 2, 4), bias_axes="d", name="part"),
    ),
    "Conv1D": ((9, 3), lambda: keras.layers.Conv1D(4, 3, padding="causal", name="part")),
    "Conv2D": ((7, 7, 4), lambda: keras.layers.Conv2D(4, 3, groups=2, name="part")),
    "Conv3D": ((4, 4, 4, 2), lambda: keras.layers.Conv3D(3, 2, name="part")),
    "DepthwiseConv1D": (
        (9, 3),
        lambda: keras.layers.DepthwiseConv1D(3, depth_multiplier=2, name="part"),
    ),
    "DepthwiseConv2D": ((6, 6, 3), lambda: keras.layers.DepthwiseConv2D(3, name="part")),
    "SeparableConv1D": ((9, 3), lambda: keras.layers.SeparableConv1D(4, 3, name="part")),
    "SeparableConv2D": ((6, 6, 3), lambda: keras.layers.SeparableConv2D(4, 3, name="part")),
    "Conv1DTranspose": ((5, 3), lambda: keras.layers.Conv1DTranspose(4, 3, name="part")),
    "Conv2DTranspose": ((4, 4, 3), lambda: keras.layers.Conv2DTranspose(2, 3, name="part")),
    "Conv3DTranspose": ((3, 3, 3, 2), lambda: keras.layers.Conv3DTranspose(2, 2, name="part")),
}


def network(kind):
    shape, make = LAYERS[kind]
    model = keras.Sequential(
        [keras.Input(shape), make(), keras.layers.Flatten(), keras.layers.Dense(2, name="top")]
    )
    x = np.random.default_rng(0).normal(size=(12, *shape)).astype("float32")
    return model, x, np.arange(12) % 2


def test_every_kind_of_layer_is_tried():
    assert set(LAYERS) == {cls.__name__ for cls in COMPRESSED_LAYERS}


QUICK = ("Dense", "EinsumDense", "Conv2D", "DepthwiseConv2D", "Conv1DTranspose")


@pytest.mark.parametrize(
    "kind", [k if k in QUICK else pytest.param(k, marks=pytest.mark.slow) for k in LAYERS]
)
def test_each_layer_trains_quantized_and_strips_to_the_same_outputs(kind, tmp_path):
    model, x, y = network(kind)
    before = [np.asarray(weight) for weight in model.weights]
    trained = quantize_aware(model, bits=3)
    part = trained.get_layer("part")
    assert isinstance(part, LAYERS[kind][1]().__class__)
    assert {v.path for v in model.variables} <= {v.path for v in trained.variables}
    scales = [np.asarray(v) for v in part.trainable_variables if v.name.endswith("_scale")]
    trained.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    trained.fit(x, y, epochs=3, batch_size=6, verbose=0)
    moved = [np.asarray(v) for v in part.trainable_variables if v.name.endswith("_scale")]
    assert all((old != new).any() for old, new in zip(scales, moved, strict=True))

    stripped = strip(trained)
    assert not any(isinstance(layer, CompressedLayer) for layer in stripped.layers)
    assert stripped.get_config() == model.get_config()
    outputs = np.asarray(trained(x))
    np.testing.assert_array_equal(np.asarray(stripped(x)), outputs)
    during, after = quantized_weights(trained), quantized_weights(stripped)
    assert set(during) == set(after) == {v.path for v in stripped.variables if "kernel" in v.path}
    for path, weight in during.items():
        assert weight.bits <= 3
        np.testing.assert_array_equal(weight.kernel(), after[path].kernel())
        (variable,) = (v for v in stripped.variables if v.path == path)
        kernel = np.asarray(variable)
        np.testing.assert_array_equal(weight.kernel().view(np.int32), kernel.view(np.int32))
        channels = np.moveaxis(kernel, weight.axis, 0)
        assert all(len(np.unique(channel)) <= 8 for channel in channels)

    # Saved in the middle of training and loaded.
    trained.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(np.asarray(loaded(x)), outputs)
    if kind == "Conv2D":
        loaded.fit(x, y, batch_size=4, verbose=0)
        exact = strip(loaded).predict(x, verbose=0)
        np.testing.assert_array_equal(exact, loaded.predict(x, verbose=0))
    # The given model is as it was.
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, np.asarray(weight))


@pytest.mark.parametrize(
    "kind",
    ["Conv2D", *(pytest.param(k, marks=pytest.mark.slow) for k in ("Dense", "SeparableConv1D"))],
)
def test_clustered_kernels_have_as_many_values_as_asked(kind):
    model, x, y = network(kind)
    trained = cluster_aware(model, 4, initial="density")
    trained.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    start = {p: w.values for p, w in clustered_weights(trained).items()}
    trained.fit(x, y, epochs=3, batch_size=4, verbose=0)
    stripped = strip(trained)
    np.testing.assert_array_equal(stripped.predict(x, verbose=0), trained.predict(x, verbose=0))
    for path, weight in clustered_weights(stripped).items():
        (variable,) = (v for v in stripped.variables if v.path == path)
        assert len(np.unique(variable)) <= 4
        np.testing.assert_array_equal(weight.kernel(), np.asarray(variable))
        assert not np.array_equal(weight.values, start[path]), "the shared values were not trained"


def reference_step_size(weights, scale, upstream, least, most):
    """The paper's gradients of equations 3 and 5, weight by weight, for one channel."""
    by_weight, by_scale = np.zeros_like(weights), 0.0
    for i, (weight, gradient) in enumerate(zip(weights, upstream, strict=True)):
        ratio = weight / scale
        if ratio <= least:
            by_scale += gradient * least
        elif ratio >= most:
            by_scale += gradient * most
        else:
            by_weight[i] = gradient
            by_scale += gradient * (np.rint(ratio) - ratio)
    return by_weight, by_scale / np.sqrt(len(weights) * most)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_gradients_are_those_of_the_paper(bits):
    from keras_secure import backend
    from keras_secure.compression.integers import levels

    rng = np.random.default_rng(bits)
    model = keras.Sequential([keras.Input((30,)), keras.layers.Dense(2, use_bias=False)])
    model.layers[0].kernel.assign(rng.normal(size=(30, 2)))
    layer = quantize_aware(model, bits=bits).layers[0]
    multiple, unit = (layer.trained_kernels["kernel"].state[name] for name in ("multiple", "unit"))
    multiple.assign(np.asarray(multiple) * 0.8)
    upstream = rng.normal(size=(1, 30)).astype("float32")
    sides = np.float32([1.0, -2.0])

    def objective():
        return keras.ops.sum(layer(keras.ops.convert_to_tensor(upstream)) * sides), None

    _, _, (by_weight, by_multiple) = backend.gradients(objective, lambda: [layer.kernel, multiple])
    units = np.asarray(unit)[0]
    scales = np.asarray(multiple)[0] * units
    for channel in range(2):
        gradient = upstream[0] * sides[channel]
        weights = np.asarray(layer.kernel)[:, channel]
        ours, by_scale = reference_step_size(weights, scales[channel], gradient, *levels(bits))
        np.testing.assert_allclose(np.asarray(by_weight)[:, channel], ours, rtol=1e-5)
        # A step of plain descent on the multiple moves the scale as the paper's would.
        moved = float(np.asarray(by_multiple)[0, channel]) * units[channel]
        np.testing.assert_allclose(moved, by_scale, rtol=1e-3, atol=1e-5)


def test_gradients_of_shared_values_are_the_mean_of_their_weights():
    from keras_secure import backend

    rng = np.random.default_rng(0)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5, use_bias=False)])
    layer = cluster_aware(model, 3).layers[0]
    centroids = layer.trained_kernels["kernel"].state["centroids"]
    x = rng.normal(size=(1, 6)).astype("float32")
    sides = rng.normal(size=5).astype("float32")

    def objective():
        return keras.ops.sum(layer(keras.ops.convert_to_tensor(x)) * sides), None

    _, _, (by_weight, by_value) = backend.gradients(objective, lambda: [layer.kernel, centroids])
    upstream = np.outer(x[0], sides)
    np.testing.assert_allclose(np.asarray(by_weight), upstream, rtol=1e-5)
    values, weights = np.asarray(centroids), np.asarray(layer.kernel)
    nearest = np.abs(weights[..., None] - values).argmin(-1)
    expected = [upstream[nearest == i].mean() for i in range(3)]
    np.testing.assert_allclose(np.asarray(by_value), expected, rtol=1e-4)


def test_nested_shared_and_functional_models_are_rebuilt():
    inputs = keras.Input((8, 8, 1))
    block = keras.Sequential(
        [keras.layers.Conv2D(3, 3, name="conv"), keras.layers.ReLU()], name="block"
    )
    shared = keras.layers.Dense(4, name="shared")
    x = keras.layers.Flatten()(block(inputs))
    halves = [shared(x[:, :54]), shared(x[:, 54:])]
    outputs = keras.layers.BatchNormalization()(keras.layers.Add()(halves))
    model = keras.Model(inputs, keras.layers.Dense(2, name="top")(outputs))
    trained = quantize_aware(model, bits=8, layers=["conv", "shared"])
    kinds = [type(layer).__name__ for layer in trained._flatten_layers()]
    assert kinds.count("CompressedConv2D") == kinds.count("CompressedDense") == 1
    assert type(trained.get_layer("top")) is keras.layers.Dense
    data = np.random.default_rng(0).random((4, 8, 8, 1), "float32")
    np.testing.assert_allclose(
        trained.predict(data, verbose=0), model.predict(data, verbose=0), atol=0.02
    )
    assert len(quantized_weights(strip(trained))) == 2


@pytest.mark.parametrize("jit_compile", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_in_mixed_precision_and_compiled_steps_kernels_are_rounded_in_float32(jit_compile):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model, x, y = network("Conv2D")
    trained = quantize_aware(model, bits=4)
    trained.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=jit_compile,
        steps_per_execution=3,
    )
    trained.fit(x, y, epochs=2, batch_size=4, verbose=0)
    stripped = strip(trained)
    assert {weight.bits for weight in quantized_weights(stripped).values()} <= {2, 3, 4}
    if not jit_compile:
        np.testing.assert_array_equal(stripped.predict(x, verbose=0), trained.predict(x, verbose=0))


def test_frozen_layers_stay_frozen():
    model, x, y = network("Dense")
    model.get_layer("part").trainable = False
    trained = quantize_aware(model, bits=4)
    part = trained.get_layer("part")
    assert part.trainable_variables == []
    before = part.trained_kernels["kernel"].weights()
    trained.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    trained.fit(x, y, verbose=0)
    np.testing.assert_array_equal(part.trained_kernels["kernel"].weights(), before)
    assert not strip(trained).get_layer("part").trainable


def test_rounding_after_training_is_exact_and_better_with_more_bits():
    model, _, _ = network("Conv2D")
    kernel = model.get_layer("part").kernel
    original = np.asarray(kernel)
    errors = []
    for bits in (2, 3, 4, 8):
        kernel.assign(original)
        found = quantize(model, bits, layers="part")
        (weight,) = found.values()
        np.testing.assert_array_equal(weight.kernel(), np.asarray(kernel))
        (read,) = (quantized_weights(model)[path] for path in found)
        np.testing.assert_array_equal(read.kernel(), np.asarray(kernel))
        errors.append(float(np.square(np.asarray(kernel) - original).sum()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3 * errors[0]
    kernel.assign(original)
    (weight,) = quantize(model, 3, clip=False, layers="part").values()
    np.testing.assert_array_equal(weight.kernel(), np.asarray(kernel))
    reach = np.abs(original).max(axis=(0, 1, 2))
    np.testing.assert_allclose(np.abs(np.asarray(kernel)).max(axis=(0, 1, 2)), reach, rtol=1e-6)
    assert np.square(np.asarray(kernel) - original).sum() > errors[1]


def test_scales_have_the_least_squared_error_a_fine_search_finds():
    from keras_secure.compression.integers import best_scales, levels, to_integers

    rng = np.random.default_rng(0)
    weights = rng.standard_t(4, size=(3, 200)).astype("float32")
    for bits in (2, 3, 4):
        least, most = levels(bits)
        scale = best_scales(weights, 0, bits)
        ours = np.square(to_integers(weights, scale, bits) * scale - weights).sum(1)
        for row, error in zip(weights, ours, strict=True):
            finest = min(
                np.square(np.clip(np.rint(row / s), least, most) * s - row).sum()
                for s in np.linspace(0.02, 1.2, 3000) * np.abs(row).max() / most
            )
            assert error <= 1.02 * finest


class Own(keras.layers.Dense):
    """A user's own class."""


class Subclassed(keras.Model):
    """A model only its code knows."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(2)

    def call(self, inputs):
        return self.dense(inputs)


def test_what_cannot_be_done_is_refused():
    model, _, _ = network("Dense")
    with pytest.raises(InputError, match="2 to 8"):
        quantize_aware(model, bits=1)
    with pytest.raises(InputError, match="2 to 256"):
        cluster_aware(model, 1)
    with pytest.raises(InputError, match="linear"):
        cluster_aware(model, 4, initial="random")
    with pytest.raises(InputError, match="part, top"):
        quantize_aware(model, layers=["absent"])
    with pytest.raises(InputError, match="nothing to strip"):
        strip(model)
    with pytest.raises(InputError, match="already"):
        quantize_aware(quantize_aware(model))
    with pytest.raises(InputError, match="LoRA"):
        quantize_aware(model).get_layer("part").enable_lora(2)
    subclassed = Subclassed()
    subclassed(np.ones((1, 3), "float32"))
    with pytest.raises(InputError, match=r"only its own code can put together.*get_config"):
        quantize_aware(subclassed)
    own = keras.Sequential([keras.Input((4,)), Own(2, name="own")])
    own.layers[0].kernel.assign(np.full((4, 2), np.nan))
    with pytest.raises(InputError, match="finite"):
        quantize(own)
    with pytest.raises(InputError, match="not built"):
        quantize(keras.Sequential([keras.layers.Dense(2)]))
    x = np.ones((4, 6), "float32")
    for wrong, message in ((x[:0], "no example"), (x * np.nan, "not finite"), (x[:, :2], "cannot")):
        with pytest.raises(InputError, match=message):
            quantize_aware(plain(), 4, activation_bits=8, calibration=wrong)


def plain():
    layers = [keras.layers.Dense(4, name="part"), keras.layers.Dense(2, name="top")]
    return keras.Sequential([keras.Input((6,)), *layers])


@pytest.mark.parametrize("compress", [quantize, quantize_aware, cluster_aware])
def test_adapted_layers_are_not_left_out_in_silence(compress):
    model = plain()
    model.get_layer("part").enable_lora(2)
    with pytest.raises(InputError, match=r"'part' has LoRA.*merge_lora"):
        compress(model)
    with pytest.raises(InputError, match="'part' has LoRA"):
        prune(model, 0.5)
    compress(model, layers=["top"])
    compress(merge_lora(model))


def test_rounded_activations_survive_stripping_as_operations_of_keras(tmp_path):
    inputs = keras.Input((8, 8, 1))
    block = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Conv2D(3, 3, name="conv"), keras.layers.ReLU()]
    )
    shared = keras.layers.Dense(4, activation="tanh", name="shared")
    x = keras.layers.Flatten()(block(inputs))
    x = keras.layers.Add()([shared(x[:, :54]), shared(x[:, 54:])])
    model = keras.Model(inputs, keras.layers.Dense(2, name="top")(x))
    data = np.random.default_rng(0).random((16, 8, 8, 1), "float32")
    labels = np.arange(16) % 2
    trained = quantize_aware(model, 4, activation_bits=4, calibration=data)
    rounding = {
        layer.name: layer.rounded_inputs
        for layer in trained._flatten_layers()
        if isinstance(layer, CompressedLayer)
    }
    # What comes after a ReLU or is an image has no values below zero.
    assert {n: r.signed for n, r in rounding.items()} == {
        "conv": False,
        "shared": False,
        "top": True,
    }
    before = {name: each.scale for name, each in rounding.items()}
    trained.compile(
        keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    history = trained.fit(data, labels, batch_size=8, epochs=3, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert all(rounding[name].scale != scale for name, scale in before.items())
    stripped = strip(trained)
    assert not any(isinstance(layer, CompressedLayer) for layer in stripped._flatten_layers())
    outputs = trained.predict(data, verbose=0)
    np.testing.assert_array_equal(stripped.predict(data, verbose=0), outputs)
    # Not what the kernels alone would give.
    assert len(quantized_weights(stripped)) == 3
    seen = keras.Model(stripped.input, stripped.get_layer("top").input)(data)
    assert len(np.unique(seen)) <= 16
    stripped.save(tmp_path / "plain.keras")
    loaded = keras.models.load_model(tmp_path / "plain.keras")
    np.testing.assert_array_equal(loaded.predict(data, verbose=0), outputs)
    with pytest.raises(InputError, match="go together"):
        quantize_aware(model, activation_bits=8)


def test_a_sequential_model_with_rounded_activations_is_exact_too():
    model, x, _ = network("Conv1D")
    trained = quantize_aware(model, 8, activation_bits=8, calibration=x)
    np.testing.assert_allclose(np.asarray(trained(x)), np.asarray(model(x)), atol=0.1)
    outputs = strip(trained)(x)
    assert outputs.shape == (12, 2)
    np.testing.assert_array_equal(np.asarray(outputs), np.asarray(trained(x)))
