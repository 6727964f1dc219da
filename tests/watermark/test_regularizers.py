import copy
import pickle

import keras
import numpy as np
import pytest
from harness_regularizers import gradient, run_regularizer_test

from keras_secure.errors import InputError
from keras_secure.watermark import SpreadSpectrum, Uchida, verify
from keras_secure.watermark.carriers import random_bits, random_order, standard_normal
from keras_secure.watermark.payload import encode

SCHEMES = [SpreadSpectrum, Uchida]
PINNED_BITS = "000111101001111101001111"
PINNED_ORDER = [3, 0, 7, 2, 4, 6, 5, 1]
PINNED_NORMAL = [-1.3689945, -1.04796, -1.7286586]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_behaves_as_a_regularizer(scheme):
    run_regularizer_test(lambda: scheme("a secret", num_bits=16))


def weight(shape=(64, 32), seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, shape).astype("float32")


def test_spread_spectrum_against_its_formula():
    mark = SpreadSpectrum("k", num_bits=8, strength=3.0, margin=1.5)
    values = weight()
    order = random_order(b"k", "SpreadSpectrum|order|8|64x32", values.size)
    signs = 2.0 * random_bits(b"k", "SpreadSpectrum|signs|8|64x32", values.size) - 1
    bits = random_bits(b"k", "SpreadSpectrum|message|8|", 8)
    total = 0.0
    for bit in range(8):
        share = order[bit::8]
        score = np.sum(values.ravel()[share] * signs[share]) / np.sqrt(len(share))
        score /= np.sqrt(np.mean(np.square(values, dtype="float64")))
        np.testing.assert_allclose(mark.scores(values)[bit], score, rtol=1e-5)
        total += max(0.0, 1.5 - score * (1 if bits[bit] else -1)) ** 2
    np.testing.assert_allclose(float(mark(keras.ops.array(values))), 3.0 * total / 8, rtol=1e-5)


def test_the_gradient_of_spread_spectrum_lies_along_its_carriers():
    mark = SpreadSpectrum("k", num_bits=8, margin=1.5, strength=1.0)
    values = weight()
    carrier, shares = mark._carrier(values.shape, 0)
    signs = 2.0 * mark.message() - 1
    short = np.maximum(0.0, 1.5 - mark.scores(values) * signs)
    scale = np.sqrt(np.mean(np.square(values, dtype="float64")))
    expected = (-2 / 8 / scale) * (short * signs)[shares] * carrier
    slope = gradient(mark, keras.Variable(values))
    np.testing.assert_allclose(slope.ravel(), expected, rtol=1e-3, atol=1e-5)


def test_uchida_against_its_formula():
    mark = Uchida("k", message=[1, 0, 1, 1], strength=0.5)
    values = weight((3, 3, 4, 5))
    projection = standard_normal(b"k", "Uchida|projection|4|3x3x4x5", (4, 36))
    logits = projection.astype("float64") @ values.astype("float64").mean(-1).ravel()
    chance = 1 / (1 + np.exp(-logits))
    loss = -np.log(np.where([1, 0, 1, 1], chance, 1 - chance)).sum()
    np.testing.assert_allclose(float(mark(keras.ops.array(values))), 0.5 * loss, rtol=1e-5)
    np.testing.assert_allclose(mark.scores(values), logits, rtol=1e-5)


def test_uchida_takes_a_vector_as_it_is():
    mark = Uchida("k", num_bits=4)
    values = weight((40,))
    projection = standard_normal(b"k", "Uchida|projection|4|40", (4, 40))
    np.testing.assert_allclose(mark.scores(values), projection.astype("float64") @ values)


def test_spread_spectrum_leaves_an_embedded_weight_alone():
    mark = SpreadSpectrum("k", num_bits=16)
    kernel = keras.Variable(weight())
    optimizer = keras.optimizers.SGD(1.0)
    layer = keras.layers.Dense(32, kernel_regularizer=mark)
    model = keras.Sequential([keras.Input((64,)), layer])
    layer.kernel.assign(kernel)
    model.compile(optimizer, loss=lambda y, p: 0.0 * keras.ops.sum(p))
    x, y = np.zeros((1, 64)), np.zeros((1, 32))
    for _ in range(200):
        model.train_on_batch(x, y)
    assert float(mark(layer.kernel)) < 1e-3
    # An intact margin means no loss and no gradient at all, not merely little.
    easy = SpreadSpectrum("k", num_bits=16, margin=0.5)
    layer.kernel.regularizer = easy
    model.compile(keras.optimizers.SGD(1.0), loss=lambda y, p: 0.0 * keras.ops.sum(p))
    before = keras.ops.convert_to_numpy(layer.kernel)
    assert model.train_on_batch(x, y) == 0.0
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer.kernel), before)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_any_host_rebuilds_the_same_mark(scheme):
    values = weight()
    first, again, other = (scheme(key, num_bits=64) for key in ("key", b"key", "key2"))
    np.testing.assert_array_equal(first.scores(values), again.scores(values))
    np.testing.assert_array_equal(first.message(), again.message())
    assert not np.array_equal(first.message(), other.message())
    assert not np.allclose(first.scores(values), other.scores(values))
    assert not np.allclose(first.scores(values), first.scores(values, copy=1))
    assert np.array_equal(scheme("key").message(), scheme(b"key").message())
    assert np.array_equal(scheme("key").message(), encode(scheme("key").payload()))
    assert not np.array_equal(scheme("key").payload(), scheme("key2").payload())


def test_carriers_are_fixed_for_ever():
    """A weight marked today is verified by later versions: these values must never change."""
    assert "".join(map(str, random_bits(b"key", "signs", 24))) == PINNED_BITS
    assert random_order(b"key", "order", 8).tolist() == PINNED_ORDER
    np.testing.assert_allclose(standard_normal(b"key", "x", (3,)), PINNED_NORMAL, rtol=1e-6)


def test_carriers_have_their_distributions():
    from scipy import stats

    normal = standard_normal(b"key", "normal", (201, 101)).ravel()
    assert stats.kstest(normal, "norm").pvalue > 1e-3
    assert stats.kstest(normal * 1.1, "norm").pvalue < 1e-3, "the test can tell a wrong scale"
    assert abs(stats.pearsonr(normal[:-1], normal[1:]).statistic) < 0.03
    bits = random_bits(b"key", "bits", 40_000)
    assert stats.binomtest(int(bits.sum()), bits.size).pvalue > 1e-3
    assert sorted(random_order(b"key", "order", 1000)) == list(range(1000))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("message", "bits"),
    [
        (b"\xa0", [1, 0, 1, 0, 0, 0, 0, 0]),
        ("A", [0, 1, 0, 0, 0, 0, 0, 1]),
        ([1, 0, 1], [1, 0, 1]),
        (np.array([True, False]), [1, 0]),
    ],
)
def test_messages(scheme, message, bits):
    mark = scheme("key", message=message)
    assert mark.num_bits == len(bits)
    np.testing.assert_array_equal(mark.message(), bits)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    "options",
    [
        {"key": ""},
        {"key": 7},
        {"message": ""},
        {"message": [0, 2]},
        {"message": [[0, 1]]},
        {"message": [0, 1], "num_bits": 3},
        {"num_bits": 0},
        {"num_bits": 2.5},
        {"payload": "nine byte"},
        {"payload": 2**64},
        {"payload": -1},
        {"payload": [0, 1]},
        {"payload": 1.5},
        {"payload": b""},
        {"payload": "a", "num_bits": 16},
        {"payload": "a", "message": "a"},
        {"strength": 0.0},
        {"strength": float("nan")},
        {"strength": "much"},
    ],
)
def test_what_cannot_be_used_is_refused(scheme, options):
    with pytest.raises(InputError):
        scheme(**{"key": "key", **options})


def test_too_small_a_weight_is_refused_with_the_size_that_fits():
    with pytest.raises(InputError, match="need 2048"):
        SpreadSpectrum("key")(keras.ops.zeros((10, 10)))
    with pytest.raises(InputError, match="num_bits=12 "):
        SpreadSpectrum("key")(keras.ops.zeros((10, 10)))
    SpreadSpectrum("key", num_bits=12)(keras.ops.zeros((10, 10)))
    with pytest.raises(InputError, match="need 256"):
        SpreadSpectrum("key", num_bits=16, margin=2.0)(keras.ops.zeros((10, 10)))
    with pytest.raises(InputError, match="num_bits=10"):
        Uchida("key")(keras.ops.zeros((10, 10)))
    Uchida("key", num_bits=10)(keras.ops.zeros((10, 10)))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_way_out_for_the_secret(scheme):
    mark = scheme("topsecret", message="hidden!!")
    mark.scores(weight())
    public = f"{mark!r} {mark.get_config()} {keras.regularizers.serialize(mark)} {mark}"
    coded = scheme("topsecret", payload="hidden!!")
    coded.message()
    public += f"{coded!r} {coded.get_config()} {vars(scheme.from_config(coded.get_config()))}"
    assert "topsecret" not in public
    assert "hidden" not in public
    pickled = pickle.dumps(mark)
    assert b"topsecret" not in pickled
    loaded = pickle.loads(pickled)
    assert loaded.dormant
    assert loaded.num_bits == 64
    assert copy.deepcopy(mark).key == b"topsecret", "a copy in memory goes on working"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_loaded_mark_is_dormant(scheme):
    loaded = scheme.from_config(scheme("key", num_bits=32).get_config())
    assert loaded.dormant
    assert loaded.num_bits == 32
    assert float(loaded(keras.ops.ones((2, 2)))) == 0.0
    with pytest.raises(InputError, match="without its key"):
        verify(weight(), loaded)
