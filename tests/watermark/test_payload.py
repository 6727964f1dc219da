import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_secure.errors import InputError
from keras_secure.watermark.payload import (
    GENERATORS,
    MEMORY,
    _branches,
    as_payload,
    decode,
    encode,
    payload_hex,
)

payloads = st.integers(0, 2**64 - 1).map(as_payload)


def signs(raw):
    return 2.0 * raw - 1.0


@given(st.binary(min_size=1, max_size=8))
def test_bytes_text_numbers_and_bits_say_the_same(data):
    bits = as_payload(data)
    number = int.from_bytes(data.ljust(8, b"\0"), "big")
    assert np.array_equal(as_payload(number), bits)
    assert np.array_equal(as_payload([int(bit) for bit in f"{number:064b}"]), bits)
    assert payload_hex(bits) == f"{number:016x}"


@pytest.mark.parametrize("wrong", ["", b"", "nine bytes", -1, 2**64, 1.5, None, [0, 1], [2] * 64])
def test_what_is_no_payload_is_refused(wrong):
    with pytest.raises(InputError, match="64 bits"):
        as_payload(wrong)


@given(payloads)
@settings(max_examples=20, deadline=None)
def test_encoding_is_a_convolution_with_a_tail_that_bites(payload):
    expected = np.zeros((64, 4), int)
    for step in range(64):
        for place, generator in enumerate(GENERATORS):
            taps = [delay for delay in range(MEMORY + 1) if generator >> delay & 1]
            expected[step, place] = sum(payload[step - delay] for delay in taps) % 2
    assert np.array_equal(encode(payload), expected.ravel())


@given(payloads, payloads, st.integers(0, 63))
@settings(max_examples=50, deadline=None)
def test_the_code_is_linear_and_knows_no_first_bit(one, other, shift):
    assert np.array_equal(encode(one ^ other), encode(one) ^ encode(other))
    assert np.array_equal(encode(np.roll(one, shift)), np.roll(encode(one), 4 * shift))


@given(payloads, st.integers(0, 2**32 - 1), st.floats(1e-6, 1e6), st.integers(0, 15))
@settings(max_examples=15, deadline=None)
def test_any_payload_comes_back_at_any_scale_with_up_to_15_raw_errors(payload, seed, scale, count):
    rng = np.random.default_rng(seed)
    raw = encode(payload)
    raw[rng.choice(256, count, replace=False)] ^= 1
    assert np.array_equal(decode(scale * signs(raw)), payload)


def test_the_smallest_distance_is_32():
    """Over all 2**64 words: the lightest closed path of the trellis that is not the zero path."""
    numbers, _ = _branches()
    weight = np.bitwise_count(numbers).astype(np.int16)
    states = 1 << MEMORY
    lightest = []
    for first in range(0, states, 256):
        starts = np.arange(first, first + 256)
        metric = np.full((256, states), 1000, np.int16)
        metric[np.arange(256), starts] = 0
        for _step in range(64):
            low = np.repeat(metric[:, : states // 2], 2, axis=1) + weight[:states]
            high = np.repeat(metric[:, states // 2 :], 2, axis=1) + weight[states:]
            metric = np.minimum(low, high)
        lightest.append(metric[np.arange(256), starts])
    lightest = np.concatenate(lightest)
    # A word other than zero passes through another state somewhere, and may be turned there.
    assert lightest[0] == 0
    assert lightest[1:].min() == 32


def test_all_error_patterns_of_weight_1_and_2_are_corrected():
    """One of each class of patterns that are turns of each other: the code turns with them."""
    payload = as_payload("tail")
    raw = encode(payload)
    singles = [(place,) for place in range(4)]
    pairs = [(a, b) for a in range(4) for b in range(a + 1, 256)]
    patterns = np.zeros((len(singles) + len(pairs), 256), np.int8)
    for number, places in enumerate(singles + pairs):
        patterns[number, list(places)] = 1
    assert (decode(signs(raw ^ patterns)) == payload).all()


@pytest.mark.slow
def test_the_heaviest_patterns_that_are_promised():
    rng = np.random.default_rng(0)
    payload = rng.integers(0, 2, (2000, 64))
    raw = encode(payload)
    for row in raw:
        row[rng.choice(256, 15, replace=False)] ^= 1
    assert (decode(signs(raw)) == payload).all()


@pytest.mark.parametrize(
    ("rate", "soft", "low", "high"),
    [(0.12, False, 0, 2), (0.18, True, 0, 2), (0.20, True, 0, 4), (0.30, False, 40, 100)],
)
def test_random_errors_are_corrected_to_where_it_is_said(rate, soft, low, high):
    """Of 100 words; at 30% of wrong hard bits hardly any can be read, which no code could."""
    from scipy import stats

    rng = np.random.default_rng(1)
    payload = rng.integers(0, 2, (100, 64))
    raw = encode(payload)
    if soft:
        scores = signs(raw) * stats.norm.isf(rate) + rng.normal(size=raw.shape)
        assert abs(np.mean((scores > 0) != raw) - rate) < 0.01
    else:
        scores = signs(raw ^ (rng.random(raw.shape) < rate))
    wrong = int((decode(scores) != payload).any(axis=1).sum())
    assert low <= wrong <= high


def test_scores_that_ran_away_or_are_missing_mislead_nobody():
    payload = as_payload("robust")
    rng = np.random.default_rng(2)
    scores = signs(encode(payload)) * rng.uniform(0.5, 1.5, 256)
    scores[rng.choice(256, 12, replace=False)] *= -1e9
    scores[:20] = np.nan
    scores[20:30] = -np.inf
    assert np.array_equal(decode(scores), payload)
    assert decode(np.zeros(256)).shape == (64,)
    assert decode(np.ones((2, 3, 256))).shape == (2, 3, 64)
    with pytest.raises(InputError, match=r"\(255,\)"):
        decode(np.ones(255))
