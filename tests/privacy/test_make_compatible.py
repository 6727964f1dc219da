"""make_compatible: what it exchanges, what it copies, and what it leaves to the user."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_secure as ks
from keras_secure.errors import InputError, PrivacyError
from keras_secure.privacy import check_model, make_compatible


def data(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def shake(model):
    """Weights that no initializer gives, so that a copy is told from a fresh layer."""
    random = np.random.default_rng(3)
    for variable in model.weights:
        variable.assign(variable + random.normal(scale=0.1, size=variable.shape))
    return model


def assert_same_weights(layer, other):
    assert len(layer.weights) == len(other.weights)
    for first, second in zip(layer.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


def group_normalized(x, gamma, beta, groups, epsilon, axis):
    """The definition, in numpy, on channels that were moved last."""
    x = np.moveaxis(x.astype("float64"), axis, -1)
    parts = x.reshape(len(x), -1, groups, x.shape[-1] // groups)
    centred = parts - parts.mean(axis=(1, 3), keepdims=True)
    scaled = centred / np.sqrt(parts.var(axis=(1, 3), keepdims=True) + epsilon)
    return np.moveaxis(scaled.reshape(x.shape) * gamma + beta, -1, axis)


def test_sequential_model_keeps_all_that_carries_over():
    model = shake(
        keras.Sequential(
            [
                keras.Input((9, 9, 3)),
                layers.Conv2D(48, 3, use_bias=False, name="conv"),
                layers.BatchNormalization(
                    epsilon=0.02, beta_regularizer="l2", gamma_constraint="non_neg", name="bn"
                ),
                layers.ReLU(),
                layers.GlobalAveragePooling2D(),
                layers.Dense(2, name="head"),
            ],
            name="net",
        )
    )
    before = [np.copy(w) for w in model.get_weights()]
    copy, report = make_compatible(model)
    assert type(copy) is keras.Sequential
    assert copy.name == "net"
    assert [layer.name for layer in copy.layers] == [layer.name for layer in model.layers]
    assert_same_weights(copy.get_layer("conv"), model.get_layer("conv"))
    assert_same_weights(copy.get_layer("head"), model.get_layer("head"))
    old, new = model.get_layer("bn"), copy.get_layer("bn")
    assert isinstance(new, layers.GroupNormalization)
    np.testing.assert_array_equal(new.gamma, old.gamma)
    np.testing.assert_array_equal(new.beta, old.beta)
    assert (new.groups, new.epsilon, new.axis) == (24, 0.02, -1)
    assert new.beta.regularizer is not None
    assert new.gamma.constraint is not None
    assert report.replaced == {"bn": 24}
    assert report.is_complete
    for sentence in ("'bn' is a GroupNormalization of 24 group", "outputs differ until"):
        assert sentence in str(report)
    # The original stays as it was.
    for first, second in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)
    x = data(4, 9, 9, 48)
    np.testing.assert_allclose(
        new(x),
        group_normalized(x, np.asarray(new.gamma), np.asarray(new.beta), 24, 0.02, -1),
        atol=1e-4,
    )


@pytest.mark.parametrize(
    ("shape", "axis", "groups", "expected"),
    [
        ((8, 8, 64), -1, 32, 32),
        ((8, 8, 48), -1, 32, 24),
        ((8, 8, 7), -1, 32, 7),
        ((8, 8, 37), -1, 32, 1),
        ((8, 8, 64), -1, 8, 8),
        ((12, 6, 5), 1, 32, 12),
        ((12, 6, 5), -3, 32, 12),
        ((6, 12, 5), 2, 32, 12),
        ((6, 5, 12), 3, 32, 12),
        ((None, 24), -1, 32, 24),
        ((64,), -1, 32, 1),  # no positions: layer normalization
        ((1, 1, 64), -1, 32, 4),  # 16 values to a group
        ((2, 2, 3), -1, 32, 1),
    ],
)
def test_groups_divide_the_channels_of_the_axis(shape, axis, groups, expected):
    model = keras.Sequential([keras.Input(shape), layers.BatchNormalization(axis=axis, name="bn")])
    copy, report = make_compatible(shake(model), groups)
    assert report.replaced == {"bn": expected}
    assert report.is_complete, report.left_for_you
    layer = copy.get_layer("bn")
    x = data(3, *(6 if size is None else size for size in shape))
    expected = group_normalized(
        x, np.asarray(layer.gamma), np.asarray(layer.beta), expected, layer.epsilon, axis
    )
    np.testing.assert_allclose(copy(x), expected, atol=1e-4)


@pytest.mark.parametrize("options", [{"scale": False}, {"center": False}])
def test_missing_gamma_or_beta_stays_missing(options):
    model = keras.Sequential([keras.Input((4, 6)), layers.BatchNormalization(**options)])
    copy, _ = make_compatible(shake(model))
    assert len(copy.layers[0].weights) == 1
    np.testing.assert_array_equal(copy.layers[0].weights[0], model.layers[0].weights[0])


def test_functional_model_with_nested_and_shared_parts():
    """Two inputs, a submodel used twice that shares a layer with the outside, and an operation."""
    shared = layers.Dense(6, name="shared")
    norm = layers.BatchNormalization(name="twice")
    inner_input = keras.Input((6,))
    inner = keras.Model(inner_input, norm(shared(inner_input)), name="inner")
    one, two = keras.Input((6,), name="one"), keras.Input((6,), name="two")
    joined = inner(one) + shared(inner(two))
    stack = keras.Sequential([layers.BatchNormalization(name="deep"), layers.Dense(3)], name="s")
    model = shake(keras.Model({"one": one, "two": two}, {"a": stack(joined), "b": norm(one)}))
    copy, report = make_compatible(model)
    assert report.replaced == {"twice": 1, "deep": 1}
    assert report.is_complete, report.left_for_you
    assert sum(isinstance(x, layers.GroupNormalization) for x in copy._flatten_layers()) == 2
    assert len(copy.trainable_variables) == len(model.trainable_variables) == 8
    assert copy.get_layer("shared") is copy.get_layer("inner").get_layer("shared")
    assert copy.get_layer("shared") is not shared
    assert_same_weights(copy.get_layer("shared"), shared)
    # With every normalization set aside, both compute the same.
    x = {"one": data(4, 6), "two": data(4, 6) + 1}
    expected, found = without_normalization(model)(x), without_normalization(copy)(x)
    for name in ("a", "b"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)
    check_model(copy, x)


def without_normalization(model):
    for layer in model._flatten_layers():
        if isinstance(layer, (layers.BatchNormalization, layers.GroupNormalization)):
            layer.call = lambda inputs, training=None, mask=None: inputs
    return model


def test_wrapped_and_repeated_layers():
    frames = keras.Sequential(
        [keras.Input((5, 5, 2)), layers.Conv2D(4, 2), layers.BatchNormalization(name="in_time")]
    )
    model = keras.Sequential(
        [
            keras.Input((3, 5, 5, 2)),
            layers.TimeDistributed(frames),
            layers.TimeDistributed(layers.BatchNormalization(name="each")),
            layers.TimeDistributed(layers.Flatten()),
            layers.SpectralNormalization(layers.Dense(4), name="spectral"),
            layers.Bidirectional(layers.LSTM(3), name="both"),
        ]
    )
    copy, report = make_compatible(shake(model))
    assert set(report.replaced) == {"in_time", "each"}
    assert report.is_complete, report.left_for_you
    assert "'spectral' (SpectralNormalization) rescales" in str(report)
    for index in (3, 4):
        assert_same_weights(copy.layers[index], model.layers[index])
    assert len(copy.trainable_variables) == len(model.trainable_variables)
    assert not any(isinstance(x, layers.BatchNormalization) for x in copy._flatten_layers())
    reloaded = keras.Sequential.from_config(copy.get_config())
    assert len(reloaded.trainable_variables) == len(copy.trainable_variables)


def test_frozen_parts_stay_frozen_and_frozen_statistics_stay():
    base = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(4, name="cold"),
            layers.BatchNormalization(name="kept"),
            layers.Dense(4, name="warm"),
            layers.BatchNormalization(name="gone"),
        ],
        name="base",
    )
    model = shake(keras.Sequential([keras.Input((6,)), base, layers.Dense(2)]))
    base.trainable = False
    base.trainable = True
    for name in ("cold", "kept"):
        base.get_layer(name).trainable = False
    base.get_layer("warm").bias.trainable = False
    copy, report = make_compatible(model)
    assert report.replaced == {"gone": 1}
    assert report.is_complete
    assert "'kept' (BatchNormalization) is frozen" in str(report)
    inner = copy.get_layer("base")
    assert [layer.trainable for layer in inner.layers] == [False, False, True, True]
    names = [v.path.split("/")[-2:] for v in model.trainable_variables]
    assert [v.path.split("/")[-2:] for v in copy.trainable_variables] == names
    assert_same_weights(inner.get_layer("kept"), base.get_layer("kept"))
    model.trainable = False
    frozen, report = make_compatible(model)
    assert report.replaced == {}
    assert frozen.trainable_variables == []


def test_activity_regularizers_are_removed_and_named():
    model = keras.Sequential(
        [
            keras.Input((4, 6)),
            layers.Dense(6, activity_regularizer="l2", kernel_regularizer="l1", name="dense"),
            layers.ActivityRegularization(0.1, name="only"),
            layers.LSTM(3, activity_regularizer="l1", name="lstm"),
        ]
    )
    copy, report = make_compatible(shake(model))
    assert report.removed == ["dense", "only", "lstm"]
    assert report.is_complete
    assert copy.get_layer("dense").kernel.regularizer is not None
    for saved in (copy, keras.Sequential.from_config(copy.get_config())):
        saved(data(2, 4, 6))
        assert len(saved.losses) == 1  # of the kernel
    for name in ("dense", "lstm"):
        assert_same_weights(copy.get_layer(name), model.get_layer(name))
    assert "the activity regularizer of 'only'" in str(report)


class Block(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense, self.norm = layers.Dense(4), layers.BatchNormalization(name="own_norm")

    def call(self, inputs):
        return self.norm(self.dense(inputs))


class Subclassed(keras.Model):
    def __init__(self, part):
        super().__init__()
        self.stem, self.part = layers.Dense(4), part

    def call(self, inputs):
        return self.part(self.stem(inputs))


class Overridden(keras.Sequential):
    def call(self, inputs, training=None, mask=None):
        return 2.0 * super().call(inputs, training=training)


def test_hidden_layers_are_refused_by_name_of_class_and_attribute():
    nested = keras.Sequential([keras.Input((6,)), layers.Dense(5), Block(name="block")])
    with pytest.raises(PrivacyError, match=r"'own_norm' \(Block 'block': norm\).*freeze"):
        make_compatible(nested)
    subclassed = Subclassed(layers.BatchNormalization(name="bn"))
    subclassed(data(2, 6))
    with pytest.raises(PrivacyError, match=r"1 BatchNormal.*'bn' \(Subclassed 'subcl.*: part\)"):
        make_compatible(subclassed)
    both = Subclassed(keras.Sequential([layers.BatchNormalization(name="deep"), Block()]))
    both(data(2, 6))
    with pytest.raises(PrivacyError, match=r"2 BatchNormalization layer.*deep.*own_norm"):
        make_compatible(both)
    overridden = Overridden([keras.Input((6,)), layers.BatchNormalization(name="mine")])
    with pytest.raises(PrivacyError, match=r"'mine' \(Overridden"):
        make_compatible(overridden)
    secure = ks.SecureModel(keras.Sequential([keras.Input((6,)), layers.BatchNormalization()]))
    secure(data(2, 6))
    with pytest.raises(PrivacyError, match="convert the model inside"):
        make_compatible(secure)


def test_subclassed_model_with_nothing_to_change_is_returned():
    model = Subclassed(layers.LayerNormalization())
    model(data(2, 6))
    same, report = make_compatible(model)
    assert same is model
    assert "returned as it is" in str(report)


class OwnLoss(layers.Layer):
    def call(self, inputs):
        self.add_loss(ops.mean(ops.abs(inputs)))
        return inputs


class Centred(layers.Layer):
    def call(self, inputs):
        return inputs - ops.mean(inputs, axis=0)


def adapted():
    layer = layers.Normalization()
    layer.adapt(data(10, 6))
    return layer


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (OwnLoss, "losses of its own"),
        (Centred, "changes when the other examples"),
        (adapted, "may have been fitted by adapt"),
    ],
)
def test_what_no_exchange_of_layers_can_mend_is_left_to_the_user(part, said):
    model = keras.Sequential([keras.Input((6,)), part(), layers.BatchNormalization(name="bn")])
    copy, report = make_compatible(shake(model))
    assert report.replaced == {"bn": 1}
    assert not report.is_complete
    assert said in str(report)
    assert_same_weights(copy.layers[0], model.layers[0])


def test_state_over_batches_and_blending_are_left_to_the_user():
    model = keras.Sequential([keras.Input(batch_shape=(3, 4, 6)), layers.LSTM(2, stateful=True)])
    _, report = make_compatible(model)
    assert "stateful=False" in str(report)
    if not hasattr(layers, "MixUp"):
        pytest.skip("this Keras has no MixUp")
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.MixUp(name="blend")])
    _, report = make_compatible(model)
    assert "'blend' (MixUp) blends the examples" in str(report)


def test_inputs_that_cannot_be_made_up_are_said():
    inputs = keras.Input((2,), dtype="string")
    lookup = layers.StringLookup(vocabulary=["a", "b"])
    model = keras.Sequential([inputs, lookup, layers.Embedding(4, 2)])
    copy, report = make_compatible(shake(model))
    assert "could not be tried on made-up inputs" in str(report)
    assert_same_weights(copy.layers[-1], model.layers[-1])


def test_lambda_layers_and_nothing_to_change():
    model = keras.Sequential([keras.Input((6,)), layers.Lambda(lambda x: 2 * x), layers.Dense(2)])
    copy, report = make_compatible(shake(model))
    assert str(report) == "Nothing had to change."
    np.testing.assert_array_equal(copy(data(3, 6)), model(data(3, 6)))


def test_half_precision_is_kept():
    keras.config.set_dtype_policy("mixed_float16")
    model = keras.Sequential([keras.Input((6, 8)), layers.BatchNormalization(name="bn")])
    keras.config.set_dtype_policy("float32")
    copy, _ = make_compatible(model)
    assert copy.get_layer("bn").compute_dtype == "float16"
    assert copy.get_layer("bn").gamma.dtype == "float32"


def test_the_copy_trains_privately_and_the_original_does_not():
    model = keras.Sequential(
        [keras.Input((5, 5, 2)), layers.Conv2D(8, 3), layers.BatchNormalization(), layers.Flatten()]
    )
    model.add(layers.Dense(1))
    x, y = data(24, 5, 5, 2), data(24, 1)

    def fit(model):
        secure = ks.SecureModel(model)
        secure.compile(ks.optimizers.DPSGD(0.1, l2_norm_clip=1.0, noise_multiplier=1.0), "mse")
        secure.fit(x, y, batch_size=8, verbose=0)
        return secure.optimizer.executed_steps

    with pytest.raises(PrivacyError, match=r"make_compatible\(model\)"):
        fit(model)
    assert fit(make_compatible(model)[0]) == 3


def test_what_is_no_built_model_is_refused():
    with pytest.raises(InputError, match="takes a Keras model, but got Dense"):
        make_compatible(layers.Dense(2))
    with pytest.raises(InputError, match="is not built"):
        make_compatible(keras.Sequential([layers.BatchNormalization()]))
    with pytest.raises(InputError, match="at least 1"):
        make_compatible(keras.Sequential([keras.Input((2,)), layers.ReLU()]), groups=0)
