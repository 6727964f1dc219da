import keras
import numpy as np
import pytest
from harness_layers import run_layer_harness
from scipy import stats

from keras_secure import backend
from keras_secure.errors import InputError
from keras_secure.layers import GaussianNoise, LaplaceNoise, UniformNoise

CASES = {
    "gaussian": (GaussianNoise, "stddev", lambda s: stats.norm(scale=s), 1.0),
    "laplace": (LaplaceNoise, "scale", lambda s: stats.laplace(scale=s), 2**0.5),
    "uniform": (UniformNoise, "amplitude", lambda s: stats.uniform(-s, 2 * s), 3**-0.5),
}
EACH = pytest.mark.parametrize("case", list(CASES.values()), ids=list(CASES))
X = np.random.default_rng(0).random((4, 3, 5)).astype("float32")


def draw(case, size=20_000, scale=0.3, **kwargs):
    layer_cls, name, _, _ = case
    layer = layer_cls(**{name: scale}, active="always", seed=11, **kwargs)
    return np.asarray(layer(np.zeros((size // 20, 20), "float32")), "float64").ravel()


@EACH
@pytest.mark.parametrize("active", ["training", "inference", "always"])
def test_harness(case, active, tmp_path):
    layer_cls, name, _, _ = case
    run_layer_harness(
        layer_cls,
        {name: 0.2, "active": active, "bounds": [0.0, 1.0], "seed": 3},
        X,
        tmp_path,
        call_kwargs={"training": active == "training"},
        random=True,
    )


@EACH
def test_distribution_is_the_stated_one_and_no_other_scale(case):
    sample = draw(case)
    distribution = case[2]
    assert stats.kstest(sample, distribution(0.3).cdf).pvalue > 1e-3
    assert stats.kstest(sample, distribution(0.2).cdf).pvalue < 1e-12
    assert stats.kstest(sample, distribution(0.45).cdf).pvalue < 1e-12


@EACH
def test_moments_and_symmetry(case):
    sample = draw(case, size=200_000)
    stddev = 0.3 * case[3]
    assert abs(sample.mean()) < 5 * stddev / len(sample) ** 0.5
    assert abs(sample.std() / stddev - 1) < 0.02
    assert abs((sample > 0).mean() - 0.5) < 5 * 0.5 / len(sample) ** 0.5
    assert stats.ks_2samp(sample[::2], -sample[1::2]).pvalue > 1e-3


@EACH
def test_elements_are_independent(case):
    noise = draw(case).reshape(-1, 20)
    correlation = np.corrcoef(noise.T)[np.triu_indices(20, 1)]
    assert np.abs(correlation).max() < 5 / len(noise) ** 0.5
    assert len(np.unique(noise)) > 0.99 * noise.size


@EACH
def test_float16_has_the_same_noise_rounded_once(case):
    full, half = draw(case), draw(case, dtype="float16")
    assert np.array_equal(full.astype("float16"), half.astype("float16"))


@EACH
def test_two_calls_differ_and_a_seed_reproduces_them(case):
    layer_cls, name, _, _ = case

    def calls(seed, compiled=False):
        layer = layer_cls(**{name: 0.2}, active="always", seed=seed)
        layer.build(X.shape)
        call = backend.compiled(lambda x: layer(x)) if compiled else layer
        return np.asarray(call(X)), np.asarray(call(X))

    first, second = calls(5)
    assert not np.array_equal(first, second)
    assert np.array_equal(calls(5), (first, second))
    assert np.array_equal(calls(5, compiled=True), (first, second))
    assert not np.array_equal(calls(6)[0], first)
    assert not np.array_equal(calls(None)[0], calls(None)[0])


@EACH
@pytest.mark.parametrize(
    ("active", "in_training", "at_inference"),
    [("training", True, False), ("inference", False, True), ("always", True, True)],
)
def test_acts_only_when_active(case, active, in_training, at_inference):
    layer_cls, name, _, _ = case
    layer = layer_cls(**{name: 0.2}, active=active, bounds=(0.4, 0.6))
    for training, acts in ((True, in_training), (False, at_inference)):
        assert np.array_equal(np.asarray(layer(X, training=training)), X) != acts
    model = keras.Sequential([keras.Input(X.shape[1:]), layer])
    assert np.array_equal(model.predict(X, verbose=0), X) != at_inference


@EACH
def test_bounds_hold_and_are_reached(case):
    layer_cls, name, _, _ = case
    layer = layer_cls(**{name: 2.0}, active="always", bounds=(0, 1))
    noisy = np.asarray(layer(X))
    assert noisy.min() == 0.0
    assert noisy.max() == 1.0


def test_uniform_noise_never_exceeds_its_amplitude():
    sample = draw(CASES["uniform"], size=200_000)
    assert np.abs(sample).max() <= np.float32(0.3)
    assert np.abs(sample).max() > 0.2999


def test_laplace_noise_is_finite_where_the_uniform_draw_is_zero(monkeypatch):
    layer = LaplaceNoise(1.0, active="always")
    monkeypatch.setattr(
        keras.random,
        "uniform",
        lambda shape, dtype, seed: keras.ops.concatenate(
            [keras.ops.zeros((1, *shape[1:])), keras.ops.full((1, *shape[1:]), 1 - 2.0**-24)]
        ),
    )
    noise = np.asarray(layer(np.zeros((2, 3), "float32")))
    np.testing.assert_allclose(noise, -24 * np.log(2), rtol=1e-6)


@EACH
def test_zero_scale_is_the_identity_and_float64_is_kept(case):
    layer_cls, name, _, _ = case
    assert np.array_equal(np.asarray(layer_cls(**{name: 0}, active="always")(X)), X)
    double = layer_cls(**{name: 0.1}, active="always", dtype="float64")(X.astype("float64"))
    assert np.asarray(double).dtype == np.float64
    assert not np.array_equal(np.asarray(double), np.asarray(double).astype("float32"))


@EACH
def test_gradient_is_the_identity(case):
    layer_cls, name, _, _ = case
    layer = layer_cls(**{name: 0.1}, active="always")
    _, gradient = backend.input_gradient(lambda x: keras.ops.sum(3.0 * layer(x)), X)
    assert np.array_equal(np.asarray(gradient), np.full_like(X, 3.0))


@EACH
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"active": "never"}, "active='never'"),
        ({"bounds": (1, 0)}, "low < high"),
        ({"bounds": 1}, "pair"),
        ({"scale": -1}, "at least 0"),
        ({"scale": float("nan")}, "finite"),
        ({"scale": "much"}, "finite"),
    ],
)
def test_wrong_arguments_are_refused(case, wrong, message):
    layer_cls, name, _, _ = case
    arguments = {name: wrong.get("scale", 0.1), **wrong}
    if name != "scale":
        arguments.pop("scale", None)
    with pytest.raises(InputError, match=message):
        layer_cls(**arguments)


@EACH
def test_integers_are_refused_when_noise_is_due(case):
    layer_cls, name, _, _ = case
    with pytest.raises(InputError, match="Rescale or embed"):
        layer_cls(**{name: 0.1}, active="always")(np.zeros((2, 3), "int32"))
