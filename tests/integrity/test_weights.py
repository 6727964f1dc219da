"""Arrays in memory: every flipped bit is found, at once or within a round."""

from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_secure.errors import InputError
from keras_secure.integrity.weights import WeightDigests, check_share

DTYPES = ["float32", "float16", "float64", "int8", "bool", ml_dtypes.bfloat16]


def watched(arrays):
    return WeightDigests({name: lambda name=name: arrays[name] for name in arrays})


def record_reads(monkeypatch):
    """A list of the chunks that are hashed from here on."""
    read, digest = [], WeightDigests._digest

    def recorded(self, data, chunk):
        read.append(chunk)
        return digest(self, data, chunk)

    monkeypatch.setattr(WeightDigests, "_digest", recorded)
    return read


def flip(array, bit):
    array.reshape(-1).view("uint8")[bit // 8] ^= np.uint8(1 << bit % 8)


@given(
    st.lists(st.tuples(st.integers(1, 60_000), st.sampled_from(DTYPES)), min_size=1, max_size=4),
    st.data(),
)
@settings(max_examples=30, deadline=None)
def test_one_flipped_bit_is_found_and_named(shapes, data):
    arrays = {str(i): np.zeros(size, dtype) for i, (size, dtype) in enumerate(shapes)}
    digests = watched(arrays)
    assert digests.check() == ()
    name = data.draw(st.sampled_from(sorted(arrays)))
    bit = data.draw(st.integers(0, arrays[name].nbytes * 8 - 1))
    flip(arrays[name], bit)
    assert digests.check() == (name,)
    assert digests.check_part(1.0) == (name,)
    flip(arrays[name], bit)
    assert digests.check() == ()


def test_a_round_of_parts_sees_every_byte():
    arrays = {"large": np.zeros(2_000_000, "float32"), **{f"{i}": np.zeros(10) for i in range(20)}}
    for name in arrays:
        digests = watched(arrays)
        flip(arrays[name], 5)
        assert any(name in digests.check_part(0.01) for _ in range(110))
        flip(arrays[name], 5)


def test_a_part_is_a_share_and_no_more(monkeypatch):
    arrays = {"large": np.zeros(50_000_000, "uint8"), "small": np.zeros(3)}
    digests = watched(arrays)
    read = record_reads(monkeypatch)
    for _ in range(50):
        assert digests.check_part(0.01) == ()
    seen = sum(chunk.end - chunk.start for chunk in read)
    assert 0.48 * 50e6 < seen < 0.51 * 50e6
    assert len(set(read)) == len(read)
    read.clear()
    digests.check_part(0)
    assert read == []


def test_no_two_rounds_have_the_same_order(monkeypatch):
    digests = watched({"a": np.zeros(16_000_000, "uint8")})
    read = record_reads(monkeypatch)
    orders = []
    for _ in range(2):
        for _ in range(100):
            digests.check_part(0.01)
        # Shares that are summed in floating point may leave a chunk for the next call.
        while len(read) < len(digests._digests):
            digests.check_part(0.001)
        orders.append(read[: len(digests._digests)])
        del read[: len(digests._digests)]
    assert orders[0] != orders[1]
    assert sorted(orders[0])[:50] == sorted(orders[1])[:50]


def test_small_shares_are_looked_at_together(monkeypatch):
    arrays = {f"{i}": np.zeros(1000) for i in range(50)}
    digests = watched(arrays)
    read, calls = record_reads(monkeypatch), []
    for _ in range(100):
        before = len(read)
        assert digests.check_part(0.01) == ()
        calls.append(len(read) - before)
    assert 48 <= len(set(read)) == sum(calls)
    assert 12 <= sum(count > 0 for count in calls) <= 13
    flip(arrays["7"], 9)
    assert digests.check_part(0) == ()
    assert digests.check_part(1.0) == ("7",)


def test_objects_do_not_share_a_key():
    first, second = (watched({"a": np.zeros(5)}) for _ in range(2))
    assert first._digests.keys() == second._digests.keys()
    assert first._digests != second._digests


def test_threads_share_a_round():
    arrays = {f"{i}": np.zeros(50_000) for i in range(40)}
    digests = watched(arrays)
    flip(arrays["3"], 77)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: digests.check_part(0.01), range(110)))
    assert ("3",) in found
    assert set(found) == {(), ("3",)}


def test_another_shape_or_dtype_is_a_change():
    arrays = {"a": np.zeros((2, 3), "float32")}
    digests = watched(arrays)
    arrays["a"] = np.zeros((3, 2), "float32")
    assert digests.check() == ("a",)
    arrays["a"] = np.zeros((2, 3), "int32")
    assert digests.check_part(1.0) == ("a",)
    digests.record()
    assert digests.check() == ()


def test_copies_are_judged():
    arrays = {"a": np.arange(5.0), "empty": np.zeros((0, 3))}
    digests = watched(arrays)
    assert digests.matches("a", np.arange(5.0))
    assert not digests.matches("a", np.arange(5.0) + 1e-15)
    assert digests.matches("empty", np.zeros((0, 3)))


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), "1%", None, True])
def test_shares_that_make_no_sense(share):
    with pytest.raises(InputError, match="from 0 to 1"):
        check_share(share)


def test_nothing_to_watch():
    with pytest.raises(InputError, match="build the model"):
        WeightDigests({})
