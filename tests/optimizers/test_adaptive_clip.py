"""The adaptive clip: its noise, its movement, its checkpoint and its refusals."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from harness_optimizers import variables_of
from scipy import stats

import keras_secure as ks
from keras_secure.errors import PrivacyError
from keras_secure.optimizers import DPOptimizer
from keras_secure.privacy import AdaptiveClipping, ClippedSum, UnstatedSampling

BIG = ((200, 150), (20_001,))


def adaptive(clip=0.8, noise=1.7, mode="adaptive", **plan):
    return DPOptimizer(keras.optimizers.SGD(1.0), clip, noise, clipping=mode, **plan)


def step(optimizer, count=0.0, divisor=100.0, shapes=((3, 2), (2,)), begin=True):
    """One step on a zero sum with a given count; returns what it added to the variables."""
    variables = variables_of(optimizer, shapes)
    before = [np.asarray(v, "float64") for v in variables]
    if begin:
        optimizer.begin_phase(UnstatedSampling(), divisor)
    zeros = [keras.ops.zeros(shape) for shape in shapes]
    counted = keras.ops.convert_to_tensor(count, "float32")
    optimizer.apply_clipped(ClippedSum(zeros, optimizer.l2_bound, None, counted), variables)
    return [np.asarray(v, "float64") - b for v, b in zip(variables, before, strict=True)]


def clip_of(optimizer):
    return float(keras.ops.convert_to_numpy(optimizer.l2_bound))


@pytest.mark.parametrize("mode", ["adaptive", "per_layer", "automatic"])
def test_released_noise_has_the_scale_of_the_mode_and_no_other(mode):
    optimizer = adaptive(mode=mode, seed=1)
    scale = 1.7 * 0.8 / 100.0
    if mode == "adaptive":
        # Sum and count share the cost: (1.7^-2 - 10^-2)^(-1/2), the count's noise being 100 / 20.
        scale = (1.7**-2 - 10.0**-2) ** -0.5 * 0.8 / 100.0
    for values in step(optimizer, shapes=BIG):
        values = values.ravel()
        assert stats.kstest(values / scale, "norm").pvalue > 1e-4
        for wrong in (2 / 3, 3 / 2):
            assert stats.kstest(values / (wrong * scale), "norm").pvalue < 1e-12
        tails = stats.chi2(len(values))
        spread = np.sum((values / scale) ** 2)
        assert min(tails.cdf(spread), tails.sf(spread)) > 1e-5


def test_noise_follows_the_clip_of_the_moment():
    optimizer = adaptive(seed=1)
    step(optimizer, count=-400.0, shapes=BIG)
    moved = clip_of(optimizer)
    assert moved > 1.5 * 0.8
    values = step(optimizer, shapes=BIG)[0].ravel()
    scale = (1.7**-2 - 10.0**-2) ** -0.5 * moved / 100.0
    assert stats.kstest(values / scale, "norm").pvalue > 1e-4
    assert stats.kstest(values / (scale * 0.8 / moved), "norm").pvalue < 1e-12


def test_the_count_has_the_stated_noise_and_is_independent_of_the_gradient():
    optimizer = adaptive(mode=AdaptiveClipping(learning_rate=1.0, count_stddev=3.0), seed=1)
    variable = keras.Variable(0.0)
    optimizer.build([variable])
    optimizer.begin_phase(UnstatedSampling(), 100.0)
    zero = keras.ops.zeros(())

    @tf.function(autograph=False)
    def moved():
        optimizer._adaptive_clip.assign(0.8)
        optimizer.apply_clipped(ClippedSum([zero], optimizer.l2_bound, None, zero), [variable])
        return optimizer.l2_bound.value, variable.value

    clips, firsts = np.array([moved() for _ in range(400)], "float64").T
    firsts = np.diff(firsts, prepend=0.0)
    shifts = -np.log(clips / 0.8) * 100.0
    assert stats.kstest(shifts / 3.0, "norm").pvalue > 1e-4
    tails = stats.chi2(400)
    assert min(tails.cdf(np.sum((shifts / 3.0) ** 2)), tails.sf(np.sum((shifts / 3.0) ** 2))) > 1e-5
    for wrong in (2 / 3, 3 / 2):
        spread = np.sum((shifts / (3.0 * wrong)) ** 2)
        assert min(tails.cdf(spread), tails.sf(spread)) < 1e-9
    assert abs(np.corrcoef(shifts, firsts)[0, 1]) < 5 / np.sqrt(400)


def test_the_clip_moves_geometrically_towards_the_quantile():
    mode = AdaptiveClipping(target_quantile=0.3, learning_rate=0.2, count_stddev=1e-6)
    optimizer = adaptive(noise=0.0, mode=mode)
    # 60 of 100 lie below the clip: the count is 60 - 50.
    step(optimizer, count=10.0)
    assert clip_of(optimizer) == pytest.approx(0.8 * np.exp(-0.2 * (0.6 - 0.3)), rel=1e-5)
    step(optimizer, count=-50.0)
    assert clip_of(optimizer) == pytest.approx(0.8 * np.exp(-0.2 * 0.3 + 0.2 * 0.3), rel=1e-5)


@pytest.mark.parametrize("bound", [1e-8, 1e8])
def test_the_clip_stays_where_float32_holds_norms(bound):
    optimizer = adaptive(clip=bound)
    step(optimizer, count=1e4 if bound < 1 else -1e4)
    assert clip_of(optimizer) == pytest.approx(bound, rel=1e-6)


def test_beyond_the_budget_neither_weights_nor_clip_move():
    optimizer = adaptive(noise=5.0)
    optimizer.begin_phase(UnstatedSampling(), 100.0)
    steps = optimizer.limit_to(2.0, 1e-5)
    for _ in range(steps):
        step(optimizer, count=-100.0, begin=False)
    clip = clip_of(optimizer)
    assert clip > 0.8
    for _ in range(3):
        assert not any(np.any(value) for value in step(optimizer, count=-100.0, begin=False))
    assert clip_of(optimizer) == clip
    assert optimizer.executed_steps == steps


def test_the_sum_must_be_bounded_by_the_clip_of_the_moment():
    optimizer = adaptive()
    optimizer.begin_phase(UnstatedSampling(), 100.0)
    zeros = [keras.ops.zeros(2)]
    for bound, count in ((0.8, 0.0), (keras.Variable(0.8), 0.0), (optimizer.l2_bound, None)):
        with pytest.raises(PrivacyError, match="optimizer's `l2_bound`"):
            optimizer.apply_clipped(ClippedSum(zeros, bound, None, count), [])


def test_too_little_noise_on_the_count_is_refused():
    with pytest.raises(PrivacyError, match=r"alone costs more.*count_stddev"):
        adaptive(noise=2.0, expected_batch_size=16)
    optimizer = adaptive(noise=2.0)
    with pytest.raises(PrivacyError, match="larger batch"):
        optimizer.begin_phase(UnstatedSampling(), 16.0)
    assert optimizer.ledger.current is None
    adaptive(noise=2.0, expected_batch_size=16, mode=AdaptiveClipping(count_stddev=2.0))


def saved(optimizer):
    store = {}
    optimizer.save_own_variables(store)
    return store


@pytest.mark.filterwarnings("ignore:Skipping variable loading")
def test_the_clip_is_saved_and_an_altered_one_refused():
    first = adaptive()
    step(first, count=-100.0)
    second = adaptive()
    variables_of(second)
    store = saved(first)
    second.load_own_variables(store)
    assert clip_of(second) == clip_of(first) != pytest.approx(0.8, abs=1e-3)
    unbuilt = adaptive()
    unbuilt.load_own_variables(store)
    assert clip_of(unbuilt) == clip_of(first)
    altered = {
        key: np.float32("nan") if np.ndim(value) == 0 and value == clip_of(first) else value
        for key, value in store.items()
    }
    third = adaptive()
    variables_of(third)
    with pytest.raises(PrivacyError, match=r"adaptive clip of nan.*intact checkpoint"):
        third.load_own_variables(altered)


@pytest.mark.parametrize("quantile", [0.3, 0.7])
def test_the_clip_converges_to_the_quantile_of_the_norms(quantile):
    """A loss whose gradient norms are the examples' own inputs, of known quantiles."""
    x = np.abs(np.random.default_rng(0).normal(size=(400, 1))).astype("float32") * 5.0
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    secure = ks.SecureModel(model)
    mode = AdaptiveClipping(target_quantile=quantile, count_stddev=3.0)
    optimizer = DPOptimizer("sgd", 0.5, 1.0, clipping=mode, seed=2)
    secure.compile(optimizer, loss=lambda y, p: p[:, 0])
    clips = []
    noted = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: clips.append(clip_of(optimizer))
    )
    secure.fit(x, x, batch_size=100, epochs=25, verbose=0, callbacks=[noted])
    assert clips[0] < 0.6
    shares = [np.mean(x <= clip) for clip in clips[60:]]
    assert np.mean(shares) == pytest.approx(quantile, abs=0.04)
    assert optimizer.ledger.phases(100)[0].noise_multiplier == 1.0
