"""Models that only their own code can put together train compressed like others."""

import keras
import numpy as np
import pytest
from harness_compression import LOSS, check_private_step, clipped_step
from keras import ops

import keras_secure as ks
from keras_secure.compression import (
    CompressedModel,
    LearnedStepSize,
    cluster_aware,
    clustered_weights,
    quantize_aware,
    quantized_weights,
    strip,
)
from keras_secure.errors import InputError

NAMES = ("conv", "inner", "norm", "shared", "top")


class PenalizedMean(keras.layers.Layer):
    """Adds a loss of its own in training."""

    def call(self, inputs, training=None):
        if training:
            self.add_loss(0.1 * ops.mean(inputs**2))
        return inputs


def body(*first):
    layers = [*first, keras.layers.Flatten(), keras.layers.Dense(6, name="inner")]
    return keras.Sequential([*layers, keras.layers.BatchNormalization(name="norm")], name="body")


class Branching(keras.Model):
    """Layers in a list and a dict, a nested model, a layer that is called twice, an own loss."""

    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        layers = keras.layers
        self.steps = [layers.Conv2D(2, 3, activation="relu", name="conv"), body(), PenalizedMean()]
        self.shared = layers.Dense(6, activation="tanh", name="shared")
        self.heads = {"top": layers.Dense(units, name="top")}

    def call(self, inputs):
        for step in self.steps:
            inputs = step(inputs)
        return self.heads["top"](self.shared(self.shared(inputs)))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def functional_twin(model):
    """The same function and weights as a graph of layers."""
    inputs = keras.Input((6, 6, 1))
    x = keras.layers.Conv2D(2, 3, activation="relu", name="conv")(inputs)
    x = PenalizedMean()(body(keras.Input((4, 4, 2)))(x))
    shared = keras.layers.Dense(6, activation="tanh", name="shared")
    twin = keras.Model(inputs, keras.layers.Dense(3, name="top")(shared(shared(x))))
    for name in NAMES:
        part(twin, name).set_weights(part(model, name).get_weights())
    return twin


def part(model, name):
    return next(layer for layer in model._flatten_layers() if layer.name == name)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.random((24, 6, 6, 1), "float32"), np.arange(24) % 3


@pytest.fixture
def model(data):
    keras.utils.set_random_seed(1)
    model = Branching(name="branching")
    model(data[0][:1])
    return model


def compiled(model, **options):
    model.compile(keras.optimizers.SGD(0.1), LOSS, **options)
    return model


@pytest.mark.parametrize(
    "make",
    [
        lambda m: quantize_aware(m, 2),
        pytest.param(lambda m: cluster_aware(m, 4), marks=pytest.mark.slow),
    ],
    ids=["quantized", "clustered"],
)
def test_it_trains_as_the_functional_model_of_the_same_layers_does(make, model, data):
    """Two ways to the same: layers exchanged in a graph, and kernels exchanged around a call."""
    before = model.get_weights()
    ours, twin = compiled(make(model)), compiled(make(functional_twin(model)))
    assert isinstance(ours, CompressedModel)
    assert isinstance(ours.part, Branching)
    histories = [
        m.fit(*data, batch_size=8, epochs=2, verbose=0, shuffle=False) for m in (ours, twin)
    ]
    losses = [history.history["loss"] for history in histories]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    stripped = strip(ours), strip(twin)
    for name in NAMES:
        for one, other in zip(*(part(m, name).get_weights() for m in stripped), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)
    for old, weight in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, weight)


def test_stripped_it_is_of_its_own_class_and_answers_alike(model, data):
    trained = compiled(quantize_aware(model, 3), jit_compile=True, steps_per_execution=2)
    trained.fit(*data, batch_size=8, epochs=2, verbose=0)
    stripped = strip(trained)
    assert type(stripped) is Branching
    assert len(stripped.variables) == len(model.variables)
    np.testing.assert_array_equal(
        stripped.predict(data[0], verbose=0), trained.predict(data[0], verbose=0)
    )
    during, after = quantized_weights(trained), quantized_weights(stripped)
    assert len(during) == len(after) == 4
    assert all(weight.bits <= 3 for weight in after.values())
    paths = {variable.path for variable in model.variables}
    assert set(during) == set(after) == {path for path in paths if path.endswith("kernel")}
    for path, weight in during.items():
        np.testing.assert_array_equal(weight.kernel(), after[path].kernel())


@pytest.mark.parametrize("in_graph", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_saved_and_loaded_it_goes_on_training_compressed(in_graph, model, data, tmp_path):
    whole = model
    if in_graph:
        inputs = keras.Input((6, 6, 1))
        whole = keras.Model(inputs, keras.layers.Dense(3, name="last")(model(inputs)))
    trained = compiled(cluster_aware(whole, 4))
    trained.fit(*data, verbose=0)
    trained.save(tmp_path / "model.keras")
    own = {"Branching": Branching, "PenalizedMean": PenalizedMean}
    loaded = keras.models.load_model(tmp_path / "model.keras", custom_objects=own)
    outputs = trained.predict(data[0], verbose=0)
    np.testing.assert_array_equal(loaded.predict(data[0], verbose=0), outputs)
    kernels = [k for k in clustered_weights(loaded).values() if len(k.values) <= 4]
    assert len(kernels) == 4 + in_graph
    # A step further both are still the same, so the optimizer's state and the schemes are there.
    for each in (trained, loaded):
        each.fit(*data, verbose=0, shuffle=False)
    np.testing.assert_array_equal(
        loaded.predict(data[0], verbose=0), trained.predict(data[0], verbose=0)
    )
    assert np.abs(loaded.predict(data[0], verbose=0) - outputs).max() > 1e-4
    # Weights alone, into a model that was made anew.
    fresh = cluster_aware(whole, 4)
    trained.save_weights(tmp_path / "model.weights.h5")
    fresh.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(
        fresh.predict(data[0], verbose=0), trained.predict(data[0], verbose=0)
    )


def test_the_configuration_makes_the_same_model(model):
    trained = quantize_aware(model, 4, layers=["inner", "top"])
    own = {"Branching": Branching, "PenalizedMean": PenalizedMean}
    with keras.saving.custom_object_scope(own):
        again = CompressedModel.from_config(trained.get_config())
    assert list(again.trained_kernels) == list(trained.trained_kernels)
    assert [k.kernel.layer.name for k in again.trained_kernels.values()] == [
        k.kernel.layer.name for k in trained.trained_kernels.values()
    ]
    assert {k.kernel.layer.name for k in again.trained_kernels.values()} == {"inner", "top"}
    again.set_weights(trained.get_weights())
    x = np.ones((2, 6, 6, 1), "float32")
    np.testing.assert_array_equal(np.asarray(again(x)), np.asarray(trained(x)))


class Owned(keras.layers.Dense):
    """A user's own kind of layer."""

    def call(self, inputs):
        return -super().call(inputs)


class Changing(keras.Model):
    """Its configuration makes another model."""

    def __init__(self, units=2, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(units)

    def call(self, inputs):
        return self.dense(inputs)

    def get_config(self):
        return super().get_config()


def attention_network():
    keras.utils.set_random_seed(2)
    tokens = keras.Input((5, 4))
    attention = keras.layers.MultiHeadAttention(2, 3, name="attention")
    x = attention(tokens, tokens, use_causal_mask=True)
    x = keras.layers.TimeDistributed(keras.layers.Dense(4, name="each"), name="times")(x)
    return keras.Model(tokens, Owned(2, name="own")(x))


@pytest.mark.parametrize(
    "policy", ["mixed_bfloat16", pytest.param("float32", marks=pytest.mark.slow)]
)
def test_composite_and_own_layers_in_a_graph(policy):
    """In mixed precision, too, kernels are rounded before anything is cast."""
    keras.config.set_dtype_policy(policy)
    model = attention_network()
    x = np.random.default_rng(0).normal(size=(6, 5, 4)).astype("float32")
    exact = policy == "float32"
    # So many levels that a weight which was cast would have another.
    bits = 2 if exact else 8
    trained = quantize_aware(model, bits)
    assert isinstance(trained.get_layer("attention"), CompressedModel)
    found = quantized_weights(trained)
    assert len(found) == 6
    assert all(weight.bits == bits for weight in found.values())
    np.testing.assert_allclose(
        np.asarray(quantize_aware(model, 8)(x), "float32"),
        np.asarray(model(x), "float32"),
        atol=0.02 if exact else 0.1,
    )
    trained.compile("sgd", "mse", jit_compile=False)
    trained.fit(x, np.zeros((6, 5, 2)), verbose=0)
    stripped = strip(trained)
    assert type(stripped.get_layer("attention")) is keras.layers.MultiHeadAttention
    assert type(stripped.get_layer("own")) is Owned
    np.testing.assert_array_equal(
        np.asarray(stripped(x), "float32"), np.asarray(trained(x), "float32")
    )


def test_masks_pass_through():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 3))
    x = keras.layers.Masking()(inputs)
    x = keras.layers.TimeDistributed(keras.layers.Dense(3), name="times")(x)
    model = keras.Model(inputs, keras.layers.GRU(2)(x))
    data = np.ones((2, 4, 3), "float32")
    data[:, 2:] = 0
    trained = quantize_aware(model, 8)
    np.testing.assert_allclose(np.asarray(trained(data)), np.asarray(model(data)), atol=0.005)
    # A mask that got lost would be seen.
    assert np.abs(np.asarray(model(data)) - np.asarray(model(data + 1e-9))).max() > 0.03


def test_what_is_frozen_stays_frozen(model, data):
    part(model, "conv").trainable = False
    part(model, "norm").trainable = False
    trained = quantize_aware(model, 4)
    compiled(trained).fit(*data, verbose=0)
    stripped = strip(trained)
    weights = quantized_weights(quantize_aware(model, 4))[part(model, "conv").kernel.path]
    np.testing.assert_array_equal(np.asarray(part(stripped, "conv").kernel), weights.kernel())
    np.testing.assert_array_equal(
        np.asarray(part(stripped, "norm").moving_mean), np.asarray(part(model, "norm").moving_mean)
    )
    assert not part(stripped, "conv").trainable
    assert not part(stripped, "norm").trainable


def test_pruned_weights_stay_pruned(model, data):
    ks.compression.prune(model, 0.5)
    trained = compiled(quantize_aware(model, 4))
    trained.fit(*data, epochs=2, verbose=0, callbacks=[ks.callbacks.HoldZeros()])
    before, after = (list(ks.compression.sparsity(m).values()) for m in (model, strip(trained)))
    assert all(share >= 0.49 for share in after)
    assert len(before) == len(after) == 4


def test_regularizers_of_kernels_are_kept(model):
    part(model, "top").kernel.regularizer = keras.regularizers.L2(1.0)
    trained = quantize_aware(model, 4)
    expected = np.square(np.asarray(part(model, "top").kernel)).sum()
    assert float(sum(trained.losses)) == pytest.approx(float(expected), rel=1e-5)


def test_private_training_clips_the_gradients_of_what_is_computed_with(model, data):
    """No rule may take the weights inside for what is computed with: held against a loop."""
    x, y = (array[:6] for array in data)
    part(model, "norm").trainable = False
    part(model, "conv").kernel.assign(part(model, "conv").kernel * 3)
    trained = quantize_aware(model, 2)
    expected = clipped_step(trained, x, y, 0.05, training=False)
    # The loss that the model adds in training belongs to no example.
    part(trained, trained.part.steps[2].name).call = lambda inputs, training=None: inputs
    check_private_step(trained, x, y, 0.05, expected)


def test_it_is_exported_and_compared(model, data, tmp_path):
    x, y = data
    trained = quantize_aware(compiled(model), 2)
    trained.fit(x, y, verbose=0)  # compiled as the one that was given
    expected = trained.predict(x, verbose=0)
    for name, each in (("stripped", strip(trained)), ("training", trained)):
        bundle = ks.export.export_hardened(
            each, tmp_path / name, input_shape=(6, 6, 1), signatures=(), warmup=()
        )
        logits = bundle.load()(x)["predictions"]
        np.testing.assert_allclose(logits, expected, atol=1e-5)
        graph = (bundle.path / "saved_model" / "saved_model.pb").read_bytes()
        for weight in quantized_weights(each).values():
            assert weight.kernel().tobytes() not in graph
    report = ks.audit.compare_compressed(
        model, trained, (x, y), attacks=ks.attacks.FGSM(0.05), max_drop=0.9
    )
    assert [kernel.bits for kernel in report.kernels.values()] == [2] * 4
    predicted = expected.argmax(1)
    assert report.clean_after.value == pytest.approx((predicted == y).mean())


def test_weights_that_are_shared_stay_shared_or_are_refused():
    keras.utils.set_random_seed(0)
    shared = keras.layers.Dense(4, name="shared")
    inputs = keras.Input((4,))
    inner = keras.Sequential([keras.Input((4,)), shared], name="body")
    model = keras.Model(inputs, keras.layers.Add()([shared(inner(inputs)), inputs]))
    trained = compiled(quantize_aware(model, 4))
    assert part(trained, "body").layers[-1] is trained.get_layer("shared")
    assert len(trained.trainable_variables) == 3
    assert len(strip(trained).variables) == len(model.variables) == 2
    inner = Changing()
    pairs = keras.Input((2,))
    own = keras.Model(pairs, inner.dense(inner(pairs)))
    with pytest.raises(InputError, match="share the weight"):
        quantize_aware(own)


def test_what_cannot_be_copied_is_refused(model, data):
    changing = Changing(5)
    changing(np.ones((1, 3), "float32"))
    with pytest.raises(InputError, match=r"get_config.*of 2 and 2|what its `get_config`"):
        quantize_aware(changing)
    with pytest.raises(InputError, match="its own fit, train_step"):
        quantize_aware(ks.SecureModel(model))
    with pytest.raises(InputError, match="cannot be rounded"):
        quantize_aware(model, activation_bits=8, calibration=data[0])
    with pytest.raises(InputError, match="already"):
        quantize_aware(quantize_aware(model))
    with pytest.raises(InputError, match="4 built kernels, and 1 were"):
        CompressedModel(model, [LearnedStepSize(4)])


class Unbuilding(keras.layers.Layer):
    """Its layer is built by the first call only, which no configuration tells."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(3, name="inside")

    def call(self, inputs):
        return self.dense(inputs)


@pytest.mark.filterwarnings("ignore:.build:UserWarning")  # Keras says so, too
def test_a_layer_that_does_not_build_its_layers_is_refused_or_left_out():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2, name="top")(Unbuilding()(inputs)))
    with pytest.raises(InputError, match=r"has 2 layers and 0 variables, of 2 and 2.*`build`"):
        quantize_aware(model)
    with pytest.raises(InputError, match="`layers`"):
        quantize_aware(model, layers="inside")
    x = np.ones((2, 4), "float32")
    trained = quantize_aware(model, 8, layers="top")
    np.testing.assert_allclose(np.asarray(trained(x)), np.asarray(model(x)), atol=0.05)
    assert list(quantized_weights(trained)) == [trained.get_layer("top").kernel.path]


class Wide(keras.Model):
    """Room for a watermark."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = keras.layers.Dense(64, activation="relu")
        self.top = keras.layers.Dense(3)

    def call(self, inputs):
        return self.top(self.hidden(inputs))

    def get_config(self):
        return super().get_config()


def test_a_watermark_is_carried_through_training():
    keras.utils.set_random_seed(0)
    model = Wide()
    x, y = np.random.default_rng(0).random((32, 40), "float32"), np.arange(32) % 3
    model(x)
    mark = ks.watermark.SpreadSpectrum("a secret", num_bits=64)
    ks.watermark.embed(model, mark)
    trained = quantize_aware(model, 4)
    trained.compile(keras.optimizers.SGD(0.01), LOSS)
    trained.fit(x, y, verbose=0)
    report = ks.watermark.verify(strip(trained), mark)
    assert (report.verdict, report.bit_errors) == ("proved", 0)


def test_names_that_keras_counts_up_stay():
    """Marks and descriptions find kernels by their paths."""
    model = Changing()
    model(np.ones((1, 3), "float32"))
    stripped = strip(quantize_aware(model, 4))
    assert [v.path for v in stripped.variables] == [v.path for v in model.variables]
    assert list(quantized_weights(stripped)) == [model.dense.kernel.path]


class Inside(keras.Model):
    """Its code makes compressed layers itself."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = ks.compression.CompressedDense(2, scheme=LearnedStepSize(2))

    def call(self, inputs):
        return self.dense(inputs)


def test_layers_that_train_compressed_by_the_code_of_a_model_are_not_stripped_silently():
    model = Inside()
    model(np.ones((1, 3), "float32"))
    model.dense.start()
    with pytest.raises(InputError, match="made by the code of 'inside'"):
        strip(model)
    inputs = keras.Input((3,))
    with pytest.raises(InputError, match="made by the code of 'inside'"):
        strip(keras.Model(inputs, model(inputs)))


def test_it_serializes_what_is_lost_without_the_class(model, tmp_path):
    """Loading without the class fails, it does not give a model without the rounding."""
    quantize_aware(model, 4).save(tmp_path / "model.keras")
    with pytest.raises((TypeError, ValueError), match=r"Branching|PenalizedMean"):
        keras.models.load_model(tmp_path / "model.keras")
