"""Noise: of the promised scale and shape, fresh at every step, and known to nobody."""

import copy

import keras
import numpy as np
from keras import ops

import keras_secure as ks
from keras_secure.audit.self_check.checks.check import require
from keras_secure.privacy import ClippedSum, UnstatedSampling
from keras_secure.privacy.noise import NoiseSource

_CLIP, _MULTIPLIER, _DIVISOR = 0.7, 1.3, 20.0
_SHAPES = ((300, 200), (60000,))


def _optimizer():
    optimizer = ks.optimizers.DPSGD(
        1.0, l2_norm_clip=_CLIP, noise_multiplier=_MULTIPLIER, expected_batch_size=_DIVISOR
    )
    variables = [keras.Variable(np.zeros(shape, "float32")) for shape in _SHAPES]
    optimizer.build(variables)
    optimizer.begin_phase(UnstatedSampling(), _DIVISOR)
    return optimizer, variables


def _draw(optimizer, variables):
    """One step on a batch without examples, in units of the promised standard deviation."""
    for variable in variables:
        variable.assign(ops.zeros_like(variable))
    nothing = ClippedSum([ops.zeros(v.shape) for v in variables], _CLIP, ops.zeros((0,)))
    optimizer.apply_clipped(nothing, variables)
    scale = _MULTIPLIER * _CLIP / _DIVISOR
    return [-np.asarray(v, "float64").ravel() / scale for v in variables]


def noise_has_the_promised_distribution():
    """A step without data is Gaussian noise of standard deviation multiplier * clip / batch."""
    from scipy import stats

    for draw in _draw(*_optimizer()):
        spread = float(np.std(draw))
        require(abs(spread - 1) < 0.02, f"the noise has {spread:.3f} times its promised scale")
        require(abs(np.mean(draw)) < 0.025, f"the noise is off centre by {np.mean(draw):.3f}")
        probability = stats.kstest(draw, "norm").pvalue
        require(probability > 1e-9, f"the noise is not Gaussian (p = {probability:.1e})")
        beyond = int(np.sum(np.abs(draw) > 3.5))
        require(beyond >= 3, f"{beyond} of {len(draw)} draws lie beyond 3.5 deviations, not 28")


def noise_is_never_repeated():
    """Steps, variables and optimizers, copies and restored ones too, draw independent noise."""
    optimizer, variables = _optimizer()
    first = _draw(optimizer, variables)
    _require_independent(first[0], first[1], "two variables")
    _require_independent(first[0], _draw(optimizer, variables)[0], "two steps")
    other, its_variables = _optimizer()
    _require_independent(first[0], _draw(other, its_variables)[0], "two optimizers")


def saved_state_does_not_foretell_noise():
    """Whoever holds configuration, variables and ledger cannot compute the next draw."""
    optimizer, variables = _optimizer()
    _draw(optimizer, variables)
    store: dict = {}
    optimizer.save_own_variables(store)
    config = optimizer.get_config()
    ahead = _draw(optimizer, variables)[0]
    restored = ks.optimizers.DPOptimizer.from_config(config)
    restored.build(variables)
    restored.begin_phase(UnstatedSampling(), _DIVISOR)
    restored.load_own_variables(store)
    _require_independent(ahead, _draw(restored, variables)[0], "a run and its restored state")
    source = NoiseSource()
    step = ops.zeros((), "int64")
    first, second = (
        np.asarray(one.normal([_SHAPES[1]], 1.0, step)[0], "float64")
        for one in (source, copy.deepcopy(source))
    )
    _require_independent(first, second, "a source and its copy")


def _require_independent(first, second, what):
    size = min(len(first), len(second))
    correlation = float(np.corrcoef(first[:size], second[:size])[0, 1])
    require(
        abs(correlation) < 6 / np.sqrt(size),
        f"the noise of {what} is correlated by {correlation:.3f}",
    )
