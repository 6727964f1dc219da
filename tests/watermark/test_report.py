"""What a reading proves: exact probabilities, honest counting, and four verdicts."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest

from keras_secure.watermark import Reading, SpreadSpectrum, WatermarkReport, embed, verify
from keras_secure.watermark.kernels import numbered
from keras_secure.watermark.report import matching_probability, power_of_two
from keras_secure.watermark.verify import read, read_bits


def report(errors=(0,), p_value=1e-70, **options):
    readings = tuple(Reading(f"w{n}", (64, 64), count) for n, count in enumerate(errors))
    return WatermarkReport(
        **{"num_bits": 256, "readings": readings, "tries": 1, "p_value": p_value, **options}
    )


@pytest.mark.parametrize(
    ("made", "verdict", "begins"),
    [
        (report(), "proved", "PROVED"),
        (report((60,), 2.0**-41), "proved", "PROVED"),
        (report((70,), 2.0**-39), "inconclusive", "INCONCLUSIVE"),
        (report((128,), 0.5), "refuted", "REFUTED"),
        (report((100,), 5e-4), "inconclusive", "INCONCLUSIVE"),
        (report((8,), 0.5, num_bits=16), "inconclusive", "INCONCLUSIVE"),
        (report((128,), 0.5, not_compared=("w1: gone",)), "inconclusive", "INCONCLUSIVE"),
        (report((), 1.0, not_compared=("w0: gone",)), "failed", "NOT COMPARED"),
        (report((), 1.0), "failed", "NOT COMPARED"),
        (report(contradictions=("The key is another",)), "refuted", "REFUTED"),
        (report((), 1.0, contradictions=("The key is another",)), "refuted", "REFUTED"),
        (report((128,), 5e-4, other_payload_p_value=1e-30), "refuted", "REFUTED"),
    ],
)
def test_verdicts_read_differently(made, verdict, begins):
    assert made.verdict == verdict
    assert made.statement.startswith(begins)
    content = json.loads(json.dumps(made.to_dict()))
    assert content["verdict"] == verdict
    for said in (*made.contradictions, *made.not_compared):
        assert said in made.statement


def test_numbers_that_are_not_there_are_not_made_up():
    nothing = report((), 1.0)
    assert (nothing.best, nothing.bit_errors, nothing.bit_error_rate) == (None, None, None)
    assert not nothing.message_matches
    assert not nothing.claim
    assert report((5, 3, 9)).best.name == "w1"
    assert report((5, 3, 9)).bit_error_rate == 3 / 256


def test_powers_of_two_are_rounded_to_the_weaker_side():
    assert power_of_two(1.5 * 2.0**-50) == "2^-49"
    assert power_of_two(2.0**-40) == "2^-40"


def marked_model():
    keras.utils.set_random_seed(6)
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64), keras.layers.Dense(64)])
    mark = SpreadSpectrum("key", payload="ACME")
    embed(model, mark)
    return model, mark


def test_every_reading_and_every_try_is_counted():
    model, mark = marked_model()
    alone = verify(model.layers[0].kernel, mark)
    assert (alone.tries, alone.p_value) == (1, 2.0**-256)
    both = verify(model, mark)
    assert both.readings[0].name == "all"
    assert (both.tries, both.p_value) == (3, 3 * 2.0**-256)
    assert verify(model, mark, tries=50).p_value == 150 * 2.0**-256
    far = verify(np.random.default_rng(0).normal(size=(64, 64)), mark, tries=10**9)
    assert far.p_value == 1.0


def test_a_layer_that_was_lost_takes_no_bit_along():
    model, mark = marked_model()
    model.layers[1].kernel.assign(np.random.default_rng(0).normal(size=(64, 64)))
    report = verify(model, mark)
    assert report.verdict == "proved"
    assert report.payload_matches
    # The size of the new weight does not matter: each weight counts by its own scale.
    model.layers[1].kernel.assign(1e6 * np.random.default_rng(0).normal(size=(64, 64)))
    assert verify(model, mark).readings == report.readings


def test_a_weight_that_is_not_finite_spoils_only_its_own_reading():
    model, mark = marked_model()
    model.layers[1].kernel.assign(np.full((64, 64), np.nan))
    report = verify(model, mark)
    assert [reading.bit_errors for reading in report.readings] == [0, 0, 256]
    assert report.verdict == "proved"


def test_the_key_reads_a_payload_that_the_verifier_did_not_know():
    model, _ = marked_model()
    report = verify(model, SpreadSpectrum("key"))
    assert report.payload == b"ACME\0\0\0\0".hex()
    assert report.payload_matches is False
    assert report.verdict == "refuted", "the claim was of another payload"
    assert "another payload" in report.statement
    assert report.other_payload_p_value < 2.0**-150
    stranger = verify(model, SpreadSpectrum("another key"))
    assert (stranger.payload, stranger.other_payload_p_value) == (None, 1.0)


def test_the_bit_error_rate_follows_the_noise():
    """Noise of s standard deviations of a score flips a bit held by m with probability Q(m/s)."""
    from scipy import stats

    rng = np.random.default_rng(0)
    mark = SpreadSpectrum("key", margin=2.0, num_bits=256)
    values = mark.nearest(rng.normal(size=(128, 128)))
    held = (2 * mark.message() - 1) * mark.scores(values)
    for noise in (0.5, 1.0, 3.0):
        noisy = [values + noise * rng.normal(size=values.shape) for _ in range(20)]
        found = np.mean([verify(one, mark).bit_error_rate for one in noisy])
        expected = stats.norm.sf(held / noise).mean()
        spread = 5 * np.sqrt(expected * (1 - expected) / (20 * 256)) + 1e-9
        assert abs(found - expected) < spread
        wrong_scale = stats.norm.sf(held / (1.5 * noise)).mean()
        assert abs(found - wrong_scale) > spread, "the test can tell a wrong scale"


def errors_of_strangers(count=400):
    """Bit errors of keys that know nothing, over two weights whose values are lopsided."""
    rng = np.random.default_rng(7)
    weights = [rng.gamma(0.3, size=(48, 48)), 2 + rng.normal(size=(48, 48))]
    errors = []
    for number in range(count):
        readings, _ = read_bits(numbered([("a", weights[0]), ("b", weights[1])]), mark(number))
        errors.append([reading.bit_errors for reading in readings])
    return np.array(errors)


def mark(number):
    return SpreadSpectrum(f"stranger {number}")


def test_what_strangers_read_is_a_throw_of_256_fair_coins():
    from scipy import stats

    errors = errors_of_strangers()
    for column in errors.T:
        assert stats.binomtest(int(column.sum()), column.size * 256).pvalue > 1e-4
        spread = np.sum((column - 128.0) ** 2) / 64
        assert 1e-4 < stats.chi2.sf(spread, column.size) < 1 - 1e-4
        # The same test refuses coins that are not fair, and coins that come in pairs.
        pairs = 2 * np.random.default_rng(0).binomial(128, 0.5, column.size)
        assert stats.chi2.sf(np.sum((pairs - 128.0) ** 2) / 64, column.size) < 1e-4
        biased = np.random.default_rng(0).binomial(256, 0.49, column.size)
        assert stats.binomtest(int(biased.sum()), column.size * 256).pvalue < 1e-4


def test_p_values_of_strangers_are_uniform_or_larger_and_those_without_counting_are_not():
    from scipy import stats

    errors = errors_of_strangers()
    single = np.array([float(matching_probability(256 - e, 256)) for e in errors[:, 0]])
    for level in (0.01, 0.05, 0.2, 0.5):
        false = int((single <= level).sum())
        assert stats.binomtest(false, single.size, level, "greater").pvalue > 1e-3
    assert stats.kstest(single, "uniform").statistic < 0.1, "and not needlessly large either"
    best = np.array([float(matching_probability(256 - e, 256)) for e in errors.min(axis=1)])
    assert stats.binomtest(int((3 * best <= 0.05).sum()), best.size, 0.05, "greater").pvalue > 1e-3
    uncounted = int((best <= 0.2).sum())
    assert stats.binomtest(uncounted, best.size, 0.2, "greater").pvalue < 1e-3


def test_readings_of_verify_are_those_of_the_formula():
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(64, 64)), rng.normal(size=(80, 64))
    own = SpreadSpectrum("key")
    made = read(numbered([("one", one), ("two", two)]), own)
    signs = 2 * own.message() - 1
    scores = [own.scores(one), own.scores(two)]
    margins = [0.2 * np.sqrt(w.size / 256) for w in (one, two)]
    together = margins[0] * scores[0] + margins[1] * scores[1]
    expected = [int(np.sum(s * signs <= 0)) for s in (together, *scores)]
    assert [reading.bit_errors for reading in made.readings] == expected
    chance = 3 * matching_probability(256 - min(expected), 256)
    assert made.p_value == pytest.approx(min(1.0, float(chance)))
    assert replace(made, tries=1) != made
