import keras
import numpy as np
import pytest
from harness_layers import run_layer_harness
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_secure import backend
from keras_secure.errors import InputError
from keras_secure.layers import FeatureSqueezing

X = np.random.default_rng(0).uniform(-0.2, 1.2, (6, 40)).astype("float32")


@pytest.mark.parametrize("gradient", ["straight_through", "exact"])
def test_harness(gradient, tmp_path):
    run_layer_harness(
        FeatureSqueezing,
        {"bit_depth": 3, "bounds": [0.0, 1.0], "gradient": gradient},
        X,
        tmp_path,
        atol=1e-7,
    )


@pytest.mark.parametrize("bit_depth", [1, 2, 5, 8])
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (-0.3, 0.4)])
def test_equals_the_formula(bit_depth, bounds):
    low, high = bounds
    x = (low + X.astype("float64") * (high - low)).astype("float32")
    steps = 2**bit_depth - 1
    unit = (np.clip(x.astype("float64"), low, high) - low) / (high - low)
    squeezed = np.asarray(FeatureSqueezing(bit_depth, bounds)(x))
    far_from_a_threshold = np.abs((unit * steps) % 1 - 0.5) > 1e-3
    expected = low + np.round(unit * steps) / steps * (high - low)
    np.testing.assert_allclose(
        squeezed[far_from_a_threshold], expected[far_from_a_threshold], rtol=1e-6, atol=1e-6
    )
    assert far_from_a_threshold.mean() > 0.9


@settings(max_examples=25, deadline=None)
@given(
    bit_depth=st.integers(1, 10),
    values=st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=20),
)
def test_leaves_exactly_the_levels_and_is_idempotent(bit_depth, values):
    layer = FeatureSqueezing(bit_depth, bounds=(-1, 1))
    levels = np.unique(np.asarray(layer(np.linspace(-1, 1, 2**14, dtype="float32")[None])))
    assert len(levels) == 2**bit_depth
    assert levels[0] == -1.0
    assert levels[-1] == 1.0
    squeezed = np.asarray(layer(np.array([values], "float32")))
    assert np.isin(squeezed, levels).all()
    assert np.array_equal(np.asarray(layer(squeezed)), squeezed)


def test_straight_through_gradient_is_the_identity_up_to_the_bounds():
    x = np.array([[-0.5, 0.0, 0.3, 1.0, 1.5]], "float32")
    weights = np.array([[1.0, 2.0, 3.0, 4.0, 5.0]], "float32")
    layer = FeatureSqueezing(2)
    _, gradient = backend.input_gradient(lambda t: keras.ops.sum(weights * layer(t)), x)
    assert np.asarray(gradient).tolist() == [[0.0, 2.0, 3.0, 4.0, 0.0]]


def test_exact_gradient_is_zero_and_values_do_not_depend_on_the_gradient():
    exact, through = FeatureSqueezing(2, gradient="exact"), FeatureSqueezing(2)
    _, gradient = backend.input_gradient(lambda t: keras.ops.sum(exact(t)), X)
    assert not np.asarray(gradient).any()
    assert np.array_equal(np.asarray(exact(X)), np.asarray(through(X)))


def test_infinities_are_clipped_and_nan_stays():
    squeezed = np.asarray(FeatureSqueezing(2)(np.array([[np.inf, -np.inf, np.nan]], "float32")))
    assert squeezed[0, :2].tolist() == [1.0, 0.0]
    assert np.isnan(squeezed[0, 2])


def test_bytes_are_squeezed_too():
    squeezed = FeatureSqueezing(1, bounds=(0, 255))(np.array([[0, 100, 200]], "uint8"))
    assert np.asarray(squeezed).tolist() == [[0.0, 0.0, 255.0]]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bit_depth": 0}, "from 1 to 16"),
        ({"bit_depth": 2.5}, "from 1 to 16"),
        ({"bit_depth": True}, "from 1 to 16"),
        ({"bit_depth": 2, "bounds": (1, 1)}, "low < high"),
        ({"bit_depth": 2, "bounds": None}, "pair"),
        ({"bit_depth": 2, "bounds": (0, float("inf"))}, "finite"),
        ({"bit_depth": 2, "gradient": "none"}, "straight_through"),
    ],
)
def test_wrong_arguments_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        FeatureSqueezing(**wrong)
