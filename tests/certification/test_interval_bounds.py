"""Interval bounds hold for what models compute, layer by layer and through whole networks."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_secure as ks
from keras_secure.certification import interval_bounds, register_interval_rule
from keras_secure.certification.interval import Arithmetic, Interval
from keras_secure.certification.interval_activations import (
    _INCREASING,
    _VALLEYS,
    activation_bounds,
)
from keras_secure.certification.interval_margins import worst_margins
from keras_secure.certification.interval_rules import layer_bounds
from keras_secure.errors import InputError

IMAGE, SEQUENCE = (6, 7, 4), (9, 4)

# Each layer alone, on boxes of the shape behind it.
LAYERS = {
    "dense": (lambda: layers.Dense(5), (11,)),
    "dense by position": (lambda: layers.Dense(5, use_bias=False), SEQUENCE),
    "conv1d causal": (
        lambda: layers.Conv1D(3, 3, padding="causal", dilation_rate=2, activation="tanh"),
        SEQUENCE,
    ),
    "conv1d": (lambda: layers.Conv1D(3, 4, strides=2, padding="same"), SEQUENCE),
    "conv2d": (lambda: layers.Conv2D(3, (2, 3), strides=2, padding="same"), IMAGE),
    "conv2d dilated": (lambda: layers.Conv2D(3, 2, dilation_rate=2, activation="relu"), IMAGE),
    "depthwise": (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same"), IMAGE),
    "depthwise1d": (lambda: layers.DepthwiseConv1D(3, strides=2), SEQUENCE),
    "separable": (lambda: layers.SeparableConv2D(5, 3, strides=2, padding="same"), IMAGE),
    "batch normalization": (lambda: layers.BatchNormalization(), IMAGE),
    "unscaled": (lambda: layers.BatchNormalization(axis=1, scale=False, center=False), IMAGE),
    "rescaling": (lambda: layers.Rescaling(-2.0, offset=0.3), IMAGE),
    "normalization": (
        lambda: layers.Normalization(mean=[0.1, 0.2, -3.0, 1.0], variance=[1, 2, 3, 0.1]),
        IMAGE,
    ),
    "average": (lambda: layers.AveragePooling2D(3, strides=2, padding="same"), IMAGE),
    "average1d": (lambda: layers.AveragePooling1D(2), SEQUENCE),
    "global average": (lambda: layers.GlobalAveragePooling2D(), IMAGE),
    "max": (lambda: layers.MaxPooling2D(2, padding="same"), IMAGE),
    "global max": (lambda: layers.GlobalMaxPooling1D(), SEQUENCE),
    "padding": (lambda: layers.ZeroPadding2D(1), IMAGE),
    "cropping": (lambda: layers.Cropping2D(1), IMAGE),
    "flatten": (lambda: layers.Flatten(), IMAGE),
    "reshape": (lambda: layers.Reshape((6, -1)), IMAGE),
    "permute": (lambda: layers.Permute((2, 1)), SEQUENCE),
    "dropout": (lambda: layers.Dropout(0.5), IMAGE),
    "gaussian noise": (lambda: ks.layers.GaussianNoise(1.0), IMAGE),
    "relu": (lambda: layers.ReLU(max_value=0.7, negative_slope=0.1, threshold=0.25), (11,)),
    "leaky": (lambda: layers.LeakyReLU(0.3), (11,)),
    "prelu": (
        lambda: layers.PReLU(alpha_initializer=keras.initializers.RandomNormal(seed=1)),
        (11,),
    ),
    "elu": (lambda: layers.ELU(0.7), (11,)),
}


def boxes(shape, count=8, seed=0):
    """Boxes with and without 0 inside, wide and narrow, and degenerate ones."""
    rng = np.random.default_rng(seed)
    center = rng.normal(size=(count, *shape)) * 2
    radius = (
        rng.uniform(size=(count, *shape))
        * np.repeat([1.0, 0.1, 1e-4, 0.0], count // 4)[(...,) + (None,) * len(shape)]
    )
    lower = (center - radius).astype("float32")
    return lower, np.maximum(lower, (center + radius).astype("float32"))


def points(lower, upper, count, seed=1):
    """Random points of each box, half of them corners."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        share = rng.uniform(size=lower.shape)
        share = np.round(share) if index % 2 else share
        point = (lower + share * (np.float64(upper) - lower)).astype("float32")
        yield np.clip(point, lower, upper)


def randomized(model):
    """Gives statistics and offsets values that matter."""
    rng = np.random.default_rng(3)
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            for variable in layer.variables:
                positive = "variance" in variable.name
                draw = rng.uniform(0.2, 3, variable.shape) if positive else None
                variable.assign(rng.normal(size=variable.shape) if draw is None else draw)
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(rng.normal(size=layer.bias.shape))
    return model


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name):
    make, shape = LAYERS[name]
    model = randomized(keras.Sequential([keras.Input(shape), make()]))
    (layer,) = model.layers
    lower, upper = boxes(shape)
    cast = Arithmetic().cast
    box = layer_bounds(layer, Interval(cast(lower), cast(upper)), Arithmetic())
    low, high = ops.convert_to_numpy(box.lower), ops.convert_to_numpy(box.upper)
    reached = []
    for point in points(lower, upper, 40):
        value = np.asarray(model(point, training=False), "float64")
        assert (low <= value).all()
        assert (value <= high).all()
        reached.append(value)
    # The bounds are no wider than they must be: degenerate boxes have nearly one value.
    exact = slice(-2, None)
    assert np.abs(high[exact] - low[exact]).max() < 1e-3 * (1 + np.abs(low[exact]).max())
    spread = np.ptp(reached, axis=0)[:2]
    assert spread.sum() > 0.15 * (high - low)[:2].sum()
    # Training uses the same rules in float32, without margins.
    quick = Arithmetic("float32", sound=False)
    plain = layer_bounds(layer, Interval(quick.cast(lower), quick.cast(upper)), quick)
    np.testing.assert_allclose(plain.lower, low, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(plain.upper, high, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", [*_INCREASING, *_VALLEYS])
def test_activations(name):
    function = getattr(keras.activations, name, None)
    if function is None:
        pytest.skip(f"this Keras has no {name}")
    edges = np.concatenate([np.linspace(-9, 9, 721), [-60.0, 60.0]]).astype("float32")
    edges = np.sort(edges)
    values = np.asarray(function(edges), "float64")
    rng = np.random.default_rng(0)
    first, last = np.sort(rng.integers(0, len(edges), (2, 400)), axis=0)
    box = Interval(ops.cast(edges[first], "float64"), ops.cast(edges[last], "float64"))
    box = activation_bounds(function, box, "float32", Arithmetic())
    low, high = np.asarray(box.lower), np.asarray(box.upper)
    for index, (i, j) in enumerate(zip(first, last, strict=True)):
        inside = values[i : j + 1]
        assert low[index] <= inside.min()
        assert inside.max() <= high[index]
        # Attained up to the grid.
        scale = 1e-3 * max(1.0, abs(inside).max())
        assert inside.min() - low[index] <= scale
        assert high[index] - inside.max() <= scale


def test_the_lowest_points_of_valleys():
    for name, (place, lowest) in _VALLEYS.items():
        if not hasattr(keras.activations, name):
            continue
        grid = np.linspace(place - 1e-3, place + 1e-3, 2001)
        values = np.asarray(getattr(keras.activations, name)(ops.cast(grid, "float64")))
        assert abs(grid[values.argmin()] - place) < 1e-5
        assert abs(values.min() - lowest) < 1e-8


def residual(activation="softmax"):
    inputs = keras.Input((8, 8, 1))
    x = layers.Rescaling(2.0, offset=-1.0)(inputs)
    x = layers.Conv2D(4, 3, padding="same")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Activation("relu")(x)
    block = keras.Sequential([keras.Input((8, 8, 4)), layers.Conv2D(4, 3, padding="same")])
    x = layers.Add()([x, block(x)])
    x = ops.relu(x + block(x))
    x = layers.Concatenate()([layers.MaxPooling2D(2)(x), layers.AveragePooling2D(2)(x)])
    x = layers.Dropout(0.5)(layers.Flatten()(x))
    x = layers.Dense(10)(x)
    return keras.Model(inputs, layers.Activation(activation)(x))


def plain():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(16, activation="tanh"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def nested():
    inputs = keras.Input((8, 8, 1))
    inner = keras.Sequential(plain().layers[:-1])  # and so ends in tanh
    x = keras.Sequential([keras.Input((8, 8, 1)), layers.ZeroPadding2D(1), layers.Cropping2D(1)])
    logits = keras.Sequential([keras.Input((16,)), layers.Dense(12, "elu"), layers.Dense(10)])
    return keras.Model(inputs, layers.Softmax()(logits(inner(x(inputs)))))


def logits_model(model):
    """The same model without its last activation, by weights; for the tests' truth."""
    return lambda x: np.log(np.asarray(model(x, training=False), "float64"))


@pytest.mark.parametrize("make", [residual, plain, nested])
def test_networks(make, digits):
    model = randomized(make())
    x = digits[0][:4]
    lower, upper = np.maximum(x - 0.05, 0).astype("float32"), np.minimum(x + 0.05, 1)
    low, high = interval_bounds(model, lower, upper)
    assert low.shape == (4, 10)
    assert (low < high).all()
    truth = logits_model(model)
    labels = ops.convert_to_tensor(np.array([3, 1, 4, 1]))
    margins = np.asarray(worst_margins(model, lower, upper, labels, Arithmetic()))
    for point in points(lower, upper, 20):
        # Logits up to a constant: differences of any two classes are within the bounds.
        value = truth(point)
        gaps = value[:, :, None] - value[:, None, :]
        assert (gaps <= high[:, :, None] - low[:, None, :] + 1e-4).all()
        leads = np.stack([gap[label] for gap, label in zip(gaps, [3, 1, 4, 1], strict=True)])
        assert (leads >= margins - 1e-4).all()


def test_degenerate_boxes_give_the_logits(digits):
    model = randomized(residual("linear"))
    x = digits[0][:4]
    low, high = interval_bounds(model, x, x)
    logits = np.asarray(model(x, training=False))
    assert (low <= logits).all()
    assert (logits <= high).all()
    np.testing.assert_allclose(low, high, rtol=1e-2, atol=1e-2)


def test_rounding_is_part_of_the_bounds():
    """Sums that cancel: the exact value is far from what float32 gives."""
    size = 4096
    model = keras.Sequential([keras.Input((size,)), layers.Dense(1, use_bias=False)])
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(size, 1)) * 1e4
    model.set_weights([weights - weights.mean()])
    x = np.ones((1, size), "float32") + rng.normal(size=(1, size)).astype("float32") * 1e-3
    (kernel,) = model.get_weights()
    exact = np.float64(x) @ np.float64(kernel)
    computed = np.asarray(model(x), "float64")
    low, high = interval_bounds(model, x, x)
    assert abs(computed - exact) > 0  # so bounds of width 0 would not hold
    assert low <= min(exact, computed)
    assert max(exact, computed) <= high
    lost = abs(computed - exact).item()
    assert (high - low).item() < 1e5 * lost + 1e5  # and yet not vacuous: terms are of size 1e4
    without = layer_bounds(
        model.layers[0],
        Interval(ops.cast(x, "float64"), ops.cast(x, "float64")),
        Arithmetic(sound=False),
    )
    assert abs(float(without.lower[0, 0]) - computed.item()) > 0


def test_double_precision_has_a_finer_margin():
    single, double = (
        keras.Sequential([keras.Input((64,)), layers.Dense(3, dtype=dtype)])
        for dtype in ("float32", "float64")
    )
    x = np.random.default_rng(0).normal(size=(2, 64))
    widths = [np.subtract(*interval_bounds(model, x, x)[::-1]).mean() for model in (single, double)]
    assert widths[0] > 0
    assert widths[1] < widths[0]


REFUSED = {
    "LayerNormalization": lambda: layers.LayerNormalization(name="culprit"),
    "softmax": lambda: layers.Dense(4, activation="softmax", name="culprit"),
    "lambda": lambda: layers.Dense(4, activation=lambda x: -x, name="culprit"),
    "threshold": lambda: layers.ReLU(threshold=0.1, name="culprit"),
    "float16": lambda: layers.Dense(4, dtype="mixed_float16", name="culprit"),
    "noise": lambda: ks.layers.GaussianNoise(1.0, active="always", name="culprit"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_covered_is_refused_by_name(name):
    model = keras.Sequential([keras.Input((4,)), REFUSED[name](), layers.Dense(2)])
    with pytest.raises(InputError, match="'culprit'"):
        interval_bounds(model, np.zeros((1, 4)), np.ones((1, 4)))


def test_low_rank_updates_are_refused():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="culprit"), layers.ReLU()])
    model.layers[0].enable_lora(1)
    with pytest.raises(InputError, match=r"'culprit'.*LoRA"):
        interval_bounds(model, np.zeros((1, 4)), np.ones((1, 4)))


def test_subclasses_and_graphs_that_bounds_cannot_follow():
    class Surprise(layers.Dense):
        def call(self, inputs):
            return -(super().call(inputs) ** 2)

    class OwnCall(keras.Model):
        def call(self, inputs):
            return inputs

    zeros, ones = np.zeros((1, 4)), np.ones((1, 4))
    with pytest.raises(InputError, match="Surprise"):
        interval_bounds(keras.Sequential([keras.Input((4,)), Surprise(3)]), zeros, ones)
    with pytest.raises(InputError, match="`call` of its own"):
        interval_bounds(OwnCall(), zeros, ones)
    with pytest.raises(InputError, match="no weights yet"):
        interval_bounds(keras.Sequential([layers.Dense(3)]), zeros, ones)
    inputs = keras.Input((4,))
    left_on = keras.Model(inputs, layers.Dense(2)(layers.Dropout(0.5)(inputs, training=True)))
    with pytest.raises(InputError, match="training"):
        interval_bounds(left_on, zeros, ones)
    shifted = keras.Model(inputs, layers.Dense(2)(inputs + 1.0))
    with pytest.raises(InputError, match="plain calls"):
        interval_bounds(shifted, zeros, ones)
    two = keras.Model(inputs, [inputs, inputs])
    with pytest.raises(InputError, match="2 outputs"):
        interval_bounds(two, zeros, ones)
    with pytest.raises(InputError, match="nowhere above"):
        interval_bounds(shifted, ones, zeros)


def test_a_rule_of_the_user():
    class Doubled(layers.Layer):
        def call(self, inputs):
            return 2.0 * inputs

    model = keras.Sequential([keras.Input((4,)), Doubled(), layers.Flatten()])
    with pytest.raises(InputError, match="register_interval_rule"):
        interval_bounds(model, np.zeros((1, 4)), np.ones((1, 4)))

    @register_interval_rule(Doubled)
    def _(layer, interval, arithmetic):
        return interval.map(lambda values: 2.0 * values)

    low, high = interval_bounds(model, np.zeros((1, 4)), np.ones((1, 4)))
    np.testing.assert_allclose(low, 0, atol=1e-6)
    np.testing.assert_allclose(high, 2, atol=1e-6)
