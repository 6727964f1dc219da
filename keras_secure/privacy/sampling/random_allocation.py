"""The privacy loss of a pass in which every example lands in one random batch.

With T batches and noise s, a pass is dominated by the pair (P, Q) of T-dimensional distributions
P = mean over t of N(e_t, s^2 I) and Q = N(0, s^2 I) (Chua et al. 2024, arXiv 2412.16802, theorem
3.1; adaptively chosen steps included). Their likelihood ratio under Q is W = (Y_1 + ... + Y_T) / T
with independent Y_t = exp(z_t / s - 1 / (2 s^2)), z_t standard normal, of mean one, and

    E_Q[(W - e^epsilon)_+]  and  E_Q[(1 - e^epsilon W)_+]

are the deltas of removing and of adding an example. Both are expectations of convex functions of
W. So every Y_t may be replaced by a coarser variable on a grid that splits the mass between two
grid points with its mean preserved: it is larger in the convex order, sums keep that order, and
both deltas can only grow. The sum on the grid is a matter of convolutions. Mass that is dropped
on the way counts as infinite loss. The bound is therefore rigorous up to float64 rounding, for
which `_ROUNDING` is added, and tight as the grid gets fine.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np

from keras_secure.privacy.sampling.unstated import UnstatedSampling

# dp-accounting's own interval, with which its other distributions are discretized.
_LOSS_INTERVAL = 1e-4
_GRID = 2**21
# Masses that are rounding more than anything else; dropped mass counts as infinite loss.
_NEGLIGIBLE = 1e-20
_ROUNDING = 1e-13


def random_allocation_loss(noise_multiplier, bins, passes):
    """Returns dp-accounting's privacy loss distribution of whole passes.

    Args:
        noise_multiplier: Positive noise standard deviation over the clip.
        bins: Number of batches of a pass.
        passes: Number of passes.

    Returns:
        A `PrivacyLossDistribution`. Where the noise is so small that the grid would be too coarse
        (below about 0.5), the bound without amplification, which holds all the same.
    """
    single = _pass_loss(float(noise_multiplier), int(bins))
    if single is None:
        return UnstatedSampling().loss_distribution(noise_multiplier, passes)
    return single.self_compose(passes)


@dataclass(frozen=True)
class _Law:
    """Masses on the points start + i * step; what is missing to one was dropped."""

    start: float
    step: float
    masses: np.ndarray

    def add(self, other):
        """Returns the law of the sum of independent variables."""
        from scipy import signal

        masses = signal.fftconvolve(self.masses, other.masses)
        kept = np.flatnonzero(masses > _NEGLIGIBLE)
        low, high = int(kept[0]), int(kept[-1]) + 1
        high = min(high, low + _GRID)
        start = self.start + other.start + low * self.step
        return _Law(start, self.step, np.maximum(masses[low:high], 0.0))

    def sum_of(self, count):
        """Returns the law of the sum of `count` such variables, by repeated doubling."""
        total, power = _Law(0.0, self.step, np.ones(1)), self
        while count:
            if count % 2:
                total = total.add(power)
            count //= 2
            if count:
                power = power.add(power)
        return total

    def points(self):
        """Returns the points of the grid."""
        return self.start + self.step * np.arange(len(self.masses))


@functools.lru_cache(maxsize=32)
def _pass_loss(noise_multiplier, bins):
    from dp_accounting.pld import privacy_loss_distribution as pld

    step = _grid_step(noise_multiplier, bins)
    if bins == 1 or step is None:
        return None
    law = _ratio_law(noise_multiplier, step)
    others = law.sum_of(bins - 1)
    under_q = others.add(law)
    # Under P one of the ratios, and by symmetry the first, has its law reweighted by itself.
    under_p = others.add(_Law(law.start, step, law.masses * law.points()))
    rounding = _ROUNDING + 1e-15 * bins
    return pld.PrivacyLossDistribution(
        _loss_pmf(*_removal(under_p.points() / bins, under_p.masses, rounding)),
        _loss_pmf(*_addition(under_q.points() / bins, under_q.masses, rounding)),
    )


def _ends(noise_multiplier):
    """Where the law of one ratio is cut: 1e-12 of its mass under P lies beyond, 1e-16 under Q."""
    spread = 1.0 / noise_multiplier
    top = 9.0 if spread <= 1.0 else 7.0
    return math.exp(-8.5 * spread - spread**2 / 2), math.exp(top * spread + spread**2 / 2)


def _grid_step(noise_multiplier, bins):
    """Returns the distance of grid points, or None if the grid would be too coarse."""
    spread = 1.0 / noise_multiplier
    if spread > 3.0:
        return None
    deviation = math.sqrt(math.expm1(spread**2))
    # The sum holds a few large ratios, and the many small ones seldom leave the second range.
    reach = 1.5 * _ends(noise_multiplier)[1] + 24.0 * deviation * math.sqrt(bins)
    # Few ratios must be resolved near zero, where their logarithms are; of many the mean counts.
    step = max(reach / _GRID, min(1.0, deviation) / (200.0 if bins < 32 else 40.0))
    return None if step > 2.0 * deviation else step


def _ratio_law(noise_multiplier, step):
    """The law on the grid of one ratio under Q, each cell split with its mean preserved."""
    from scipy import special

    spread = 1.0 / noise_multiplier
    low, high = _ends(noise_multiplier)
    edges = low + step * np.arange(math.ceil((high - low) / step) + 1)
    scores = np.log(edges) / spread
    mass = _cells(special.ndtr, scores + spread / 2)
    mean = _cells(special.ndtr, scores - spread / 2)
    above = np.clip((mean - mass * edges[:-1]) / step, 0.0, mass)
    law = np.zeros(len(edges))
    law[:-1] += mass - above
    law[1:] += above
    return _Law(low, step, law)


def _cells(cdf, scores):
    """Differences of a symmetric distribution function, exact in both tails."""
    upper = scores[:-1] > 0
    return np.where(upper, cdf(-scores[:-1]) - cdf(-scores[1:]), cdf(scores[1:]) - cdf(scores[:-1]))


def _removal(ratio, mass, rounding):
    """Deltas for a removed example, at epsilons around the losses log(ratio) under P."""
    lost = max(0.0, 1.0 - mass.sum()) + rounding
    epsilons = _epsilons(ratio, mass)
    first = np.searchsorted(ratio, np.exp(epsilons), side="right")
    tail = np.append(np.cumsum(mass[::-1])[::-1], 0.0)
    weighed = np.append(np.cumsum((mass / ratio)[::-1])[::-1], 0.0)
    return epsilons, tail[first] - np.exp(epsilons) * weighed[first] + lost


def _addition(ratio, mass, rounding):
    """Deltas for an added example, at epsilons around the losses -log(ratio) under Q."""
    lost = max(0.0, 1.0 - mass.sum()) + rounding
    epsilons = -_epsilons(ratio, mass)[::-1]
    first = np.searchsorted(ratio, np.exp(-epsilons), side="left")
    head = np.append(0.0, np.cumsum(mass))
    weighed = np.append(0.0, np.cumsum(mass * ratio))
    return epsilons, head[first] - np.exp(epsilons) * weighed[first] + lost


def _epsilons(ratio, mass):
    """Multiples of the loss interval around all but a negligible part of log(ratio)."""
    reached = np.cumsum(mass)
    low = np.searchsorted(reached, 1e-14)
    high = np.searchsorted(reached, reached[-1] - 1e-14)
    bounds = np.log(ratio[[low, min(high, len(ratio) - 1)]])
    ends = math.floor(bounds[0] / _LOSS_INTERVAL) - 1, math.ceil(bounds[1] / _LOSS_INTERVAL) + 1
    return _LOSS_INTERVAL * np.arange(ends[0], ends[1] + 1)


def _loss_pmf(epsilons, deltas):
    """The pessimistic distribution that connects these dots (Doroshenko et al. 2022)."""
    from dp_accounting.pld import pld_pmf

    deltas = np.minimum.accumulate(np.clip(deltas, 0.0, 1.0))
    low, high = (round(end / _LOSS_INTERVAL) for end in (epsilons[0], epsilons[-1]))
    return pld_pmf.create_pmf_pessimistic_connect_dots_fixed_gap(_LOSS_INTERVAL, low, high, deltas)
