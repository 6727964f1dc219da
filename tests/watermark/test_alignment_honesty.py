"""Bringing a model into the reference's order must not bring the mark into the model."""

import keras
import numpy as np
import pytest
from harness_alignment import randomized
from keras import layers
from watermark_attacks import copy_of, disguise

from keras_secure.errors import InputError
from keras_secure.watermark import (
    SpreadSpectrum,
    Uchida,
    align,
    attach,
    embed,
    empirical_null,
    verify,
)
from keras_secure.watermark.kernels import Kernel, choose_kernels
from keras_secure.watermark.unmarked import halves, unmarked
from keras_secure.watermark.verify import read_bits

SIZES = (64, 96, 64, 10)


def network(seed=None):
    model = keras.Sequential(
        [
            keras.Input((SIZES[0],)),
            layers.Dense(SIZES[1], "relu"),
            layers.Dense(SIZES[2], "tanh"),
            layers.Dense(SIZES[3]),
        ]
    )
    return model if seed is None else randomized(model, seed)


def all_errors(suspect, reference, mark):
    """Raw bits that all weights together read wrong after re-alignment."""
    readings, _ = read_bits(align(suspect, reference, mark).kernels, mark)
    return readings[0].bit_errors


def innocent_errors(keys, innocents):
    """Bit errors of innocent models, re-aligned with one reference for each key."""
    reference, errors = network(0), []
    plain = reference.get_weights()
    for number in range(keys):
        mark = SpreadSpectrum(f"key {number}")
        reference.set_weights(plain)
        embed(reference, mark)
        errors += [all_errors(model, reference, mark) for model in innocents]
    return np.array(errors)


@pytest.fixture(scope="module")
def innocents():
    return [network(seed) for seed in range(1, 21)]


def test_twenty_innocent_models_read_as_fair_coins(innocents):
    from scipy import stats

    errors = innocent_errors(3, innocents)
    assert errors.min() / 256 >= 0.40
    assert errors.max() / 256 <= 0.60
    # The mean and the spread of 60 readings of 256 fair coins.
    assert stats.binomtest(int(errors.sum()), 256 * len(errors)).pvalue > 1e-3
    spread = np.sum(np.square(errors - 128)) / 64
    assert 1e-3 < stats.chi2.sf(spread, len(errors)) < 1 - 1e-3


def test_matching_that_sees_the_mark_would_put_it_there(innocents):
    """What the precautions are for, and that these tests would notice their absence."""
    reference, mark = network(0), SpreadSpectrum("key 0")
    embed(reference, mark)
    errors = []
    for model in innocents[:5]:
        weights = align(model, reference).weights  # as it stands, which is no evidence
        kernels = [
            Kernel(kernel.name, kernel.copy, weights[kernel.weight.path])
            for kernel in choose_kernels(reference, mark)
        ]
        errors.append(read_bits(kernels, mark)[0][0].bit_errors)
    assert np.mean(errors) / 256 < 0.38, "many a false claim, in networks wider than these"


def test_nothing_is_chosen_by_the_message():
    """Two references that differ in every bit re-align a model to the very same weights."""
    plain, suspect = network(0), network(5)
    results = []
    for flip in (0, 1):
        mark = SpreadSpectrum("key", message=[bit ^ flip for bit in [0, 1, 1, 0] * 8])
        reference = copy_of(plain)
        embed(reference, mark)
        results.append((align(suspect, reference, mark), all_errors(suspect, reference, mark)))
    (first, wrong), (second, right) = results
    assert first.report.layers[0].similarity == pytest.approx(
        second.report.layers[0].similarity, abs=1e-5
    )
    for one, other in zip(first.kernels, second.kernels, strict=True):
        np.testing.assert_allclose(one.values(), other.values(), rtol=1e-4, atol=1e-6)
    assert wrong + right == 32, "so each bit is read right for exactly one of the two"


@pytest.mark.parametrize(
    "mark", [SpreadSpectrum("key", num_bits=16), Uchida("key", num_bits=8)], ids=lambda m: repr(m)
)
def test_what_is_looked_at_holds_nothing_of_the_mark(mark):
    values = np.random.default_rng(0).normal(size=(32, 24))
    half = halves(mark, values.shape)
    assert 0.4 < half.mean() < 0.6
    left = unmarked(values, mark, 0, half)
    assert not left[~half].any()
    np.testing.assert_allclose(mark.scores(left), 0, atol=1e-9)
    np.testing.assert_allclose(unmarked(left, mark, 0, half), left, atol=1e-9)
    assert np.linalg.norm(left) > 0.8 * np.linalg.norm(values[half])
    moved = unmarked(mark.nearest(values), mark, 0, half)
    np.testing.assert_allclose(moved, left, atol=1e-7)


def test_an_empirical_null_tells_copies_from_others():
    model = network(0)
    mark = SpreadSpectrum("key")
    embed(model, mark)
    stolen = empirical_null(disguise(model, seed=1), model, mark, keys=19)
    assert stolen.bit_errors == 0
    assert stolen.p_value == 0.05
    assert stolen.extrapolated_p_value < 2.0**-40
    assert 0.4 < np.mean(stolen.null_bit_errors) / 256 < 0.52
    found = [empirical_null(network(seed), model, mark, keys=9).p_value for seed in range(1, 7)]
    assert 0.2 < np.mean(found) < 0.85
    others = [network(seed) for seed in range(1, 10)]
    assert empirical_null(model, model, mark, innocents=others).p_value == 0.1
    assert empirical_null(network(11), model, mark, innocents=others).p_value > 0.1
    assert empirical_null(network(11), model, mark, keys=9).extrapolated_p_value > 1e-3


def test_an_empirical_null_refuses_what_it_cannot_compare():
    model = network(0)
    mark = SpreadSpectrum("key")
    embed(model, mark)
    with pytest.raises(InputError, match="keys=0"):
        empirical_null(model, model, mark, keys=0)
    other = keras.Sequential([keras.Input((5, 1)), layers.Conv1D(3, 2)])
    with pytest.raises(InputError, match="cannot be compared"):
        empirical_null(other, model, mark)


@pytest.mark.slow
def test_innocent_models_of_the_same_data(digits):
    """A mark put into a trained model leaks nothing; one trained from the start leaks a little."""
    x, y = digits
    x = x.reshape(len(x), -1)

    def train(seed, mark=None):
        keras.utils.set_random_seed(seed)
        model = network()
        if mark is not None:
            attach(model, mark)
        model.compile(
            keras.optimizers.Adam(3e-3),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        model.fit(x[:1400], y[:1400], batch_size=64, epochs=8, verbose=0)
        return model

    models = [train(seed) for seed in range(100, 120)]
    errors = {"finished": [], "from the start": []}
    for number in range(4):
        mark = SpreadSpectrum(f"key {number}")
        finished, grown = train(number), train(number, mark)
        embed(finished, mark)
        for name, reference in (("finished", finished), ("from the start", grown)):
            found = [all_errors(model, reference, mark) / 256 for model in models]
            errors[name] += found
            assert 0.37 < min(found) < max(found) < 0.63
            assert not any(verify(model, mark, reference=reference).claim for model in models)
    assert 0.487 < np.mean(errors["finished"]) < 0.513
    assert 0.45 < np.mean(errors["from the start"]) < 0.5
