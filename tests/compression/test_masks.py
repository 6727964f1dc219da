"""Masks, schedules and k-means against plain loops."""

import importlib.util

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_secure import backend
from keras_secure.compression import ConstantSparsity, PolynomialDecay
from keras_secure.compression.kmeans import centroids_of
from keras_secure.compression.masks import block_mask, follows_blocks, magnitude_mask
from keras_secure.compression.sparsity_pattern import SparsityPattern
from keras_secure.errors import InputError


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.floats(0, 0.99), st.booleans(), st.integers(0, 2**31))
def test_the_largest_magnitudes_stay_and_exactly_as_many_as_asked(size, sparsity, tied, seed):
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=size).astype("float32")
    if tied:
        weights = np.round(weights)
    mask = np.asarray(magnitude_mask(ops.convert_to_tensor(weights), sparsity))
    assert mask.sum() == max(1, round(size * (1 - float(np.float32(sparsity)))))
    if not mask.all():
        assert np.abs(weights[mask]).min() >= np.abs(weights[~mask]).max()


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 5)),
    st.integers(0, 2),
    st.sampled_from([(2, 4), (1, 4), (4, 8)]),
    st.integers(0, 2**31),
)
def test_of_each_block_the_largest_stay(shape, axis, blocks, seed):
    kept, block = blocks
    weights = np.random.default_rng(seed).normal(size=shape).astype("float32")
    mask = np.asarray(block_mask(ops.convert_to_tensor(weights), kept, block, axis))
    rows = np.moveaxis(weights, axis, -1).reshape(-1, shape[axis])
    masks = np.moveaxis(mask, axis, -1).reshape(-1, shape[axis])
    for row, chosen in zip(rows, masks, strict=True):
        for start in range(0, len(row), block):
            part, stays = np.abs(row[start : start + block]), chosen[start : start + block]
            assert stays.sum() == min(kept, len(part))
            assert set(np.flatnonzero(stays)) == set(np.argsort(-part)[: stays.sum()])
    assert follows_blocks(weights * mask, kept, block, axis)


def test_a_block_with_one_too_many_is_noticed():
    weights = np.float32([[1, 1, 0, 0, 0, 1]])
    assert follows_blocks(weights, 2, 4, 1)
    weights[0, 2] = 1
    assert not follows_blocks(weights, 2, 4, 1)


def test_decay_follows_its_formula_and_ends_where_it_should():
    schedule = PolynomialDecay(0.2, 0.9, begin_step=10, end_step=47, power=2, frequency=8)
    chosen = []
    for step in range(60):
        now, sparsity = schedule(step)
        share = min(1, max(0, (step - 10) / 37))
        assert float(sparsity) == pytest.approx(0.9 - 0.7 * (1 - share) ** 2, abs=1e-6)
        if bool(now):
            chosen.append(step)
    # The last choice is at the end although the frequency does not lead there.
    assert chosen == [10, 18, 26, 34, 42, 47]
    constant = ConstantSparsity(0.5, begin_step=3, end_step=8, frequency=2)
    assert [step for step in range(12) if bool(constant(step)[0])] == [3, 5, 7, 8]


@pytest.mark.skipif(
    # Not imported as a test usually would, which sets an environment variable.
    importlib.util.find_spec("tensorflow_model_optimization") is None,
    reason="the extra tfmot is not installed",
)
def test_our_decay_is_the_toolkits():
    ours = PolynomialDecay(0.3, 0.8, 5, 95, frequency=10)
    theirs = backend.toolkit_schedules().PolynomialDecay(0.3, 0.8, 5, 95, frequency=10)
    for step in range(110):
        now, sparsity = theirs(ops.convert_to_tensor(step, "int64"))
        assert bool(now) == bool(ours(step)[0])
        assert float(sparsity) == pytest.approx(float(ours(step)[1]), abs=1e-6)


def squared_error(values, centroids):
    return float(np.square(values[:, None] - centroids[None]).min(1).sum())


@pytest.mark.parametrize("initial", ["linear", "density"])
def test_kmeans_is_at_a_fixed_point_and_no_worse_than_plain_lloyd(initial):
    values = np.random.default_rng(0).standard_t(3, size=400)
    ours = centroids_of(values, 5, initial)
    assert ours.dtype == np.float32
    assert (np.diff(ours) > 0).all()
    nearest = np.abs(values[:, None] - ours[None]).argmin(1)
    means = [values[nearest == i].mean() for i in range(5)]
    np.testing.assert_allclose(ours, means, rtol=1e-5)
    start = np.linspace(values.min(), values.max(), 5)
    if initial == "density":
        start = np.quantile(values, (np.arange(5) + 0.5) / 5)
    for _ in range(100):
        nearest = np.abs(values[:, None] - start[None]).argmin(1)
        start = np.array(
            [values[nearest == i].mean() if (nearest == i).any() else start[i] for i in range(5)]
        )
    assert squared_error(values, ours) <= squared_error(values, start) * (1 + 1e-6)


def test_arguments_that_make_no_sense_are_refused():
    for bad in ("2:2", "4:2", "0:4", "two", 0.5, None):
        with pytest.raises(InputError, match="unstructured"):
            SparsityPattern.parse(bad)
    with pytest.raises(InputError, match="final_sparsity"):
        PolynomialDecay(0.0, 1.0, 0, 10)
    with pytest.raises(InputError, match="end_step"):
        PolynomialDecay(0.0, 0.5, 10, 5)
    with pytest.raises(InputError, match="frequency"):
        ConstantSparsity(0.5, 0, frequency=0)
    with pytest.raises(InputError, match="power"):
        PolynomialDecay(0.0, 0.5, 0, 5, power=0)
