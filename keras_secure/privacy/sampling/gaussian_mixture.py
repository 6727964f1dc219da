"""The privacy loss of a Gaussian mechanism whose sensitivity is random.

The pair is P = sum of p_j N(c_j, s^2) and Q = N(0, s^2). The loss log(P(x) / Q(x)) increases with
x, so the events that tell P and Q apart best are half-lines, and delta at epsilon is a difference
of two tails at the point where the loss is epsilon. dp-accounting computes the same, with a search
of its own for every point; here all points are found together by Newton's method.

Reference: Choquette-Choo et al. 2024, Privacy Amplification for Matrix Mechanisms, corollary 4.7
(arXiv 2310.15526).
"""

import math

import numpy as np

# dp-accounting's own interval, with which its other distributions are discretized.
_LOSS_INTERVAL = 1e-4
# Standard deviations beyond which lies less mass than exp(-50), dp-accounting's own truncation.
_REACH = 9.8


def gaussian_mixture_loss(noise_multiplier, sensitivities, chances):
    """Returns dp-accounting's privacy loss distribution, pessimistic as all of its are.

    Args:
        noise_multiplier: Positive noise standard deviation s.
        sensitivities: (n,) increasing and non-negative c, at least one positive.
        chances: (n,) positive p that sum to one.
    """
    from dp_accounting.pld import privacy_loss_distribution as pld

    pair = _Pair(noise_multiplier, np.asarray(sensitivities, float), np.asarray(chances, float))
    return pld.PrivacyLossDistribution(pair.removal(), pair.addition())


class _Pair:
    def __init__(self, noise, sensitivities, chances):
        self.noise, self.sensitivities, self.chances = noise, sensitivities, chances
        # The largest sensitivities can be so rare that their own tails do not matter.
        low, high = 0.0, float(sensitivities[-1])
        while high - low > 1e-3 * noise:
            middle = 0.5 * (low + high)
            reached = self.upper(np.array([middle + _REACH * noise]))[0] <= 1e-21
            low, high = (low, middle) if reached else (middle, high)
        self.ends = -_REACH * noise, high + _REACH * noise

    def loss(self, x):
        """Returns log(P(x) / Q(x)) and its derivative."""
        logs = [
            np.log(p) + (c * x - 0.5 * c * c) / self.noise**2
            for c, p in zip(self.sensitivities, self.chances, strict=True)
        ]
        total = np.logaddexp.reduce(logs)
        weights = sum(
            c * np.exp(log - total) for c, log in zip(self.sensitivities, logs, strict=True)
        )
        return total, weights / self.noise**2

    def points(self, losses):
        """Returns where the loss has these values, which lie between those at the ends."""
        grid = np.linspace(*self.ends, 20_001)
        x = np.interp(losses, self.loss(grid)[0], grid)
        for _ in range(6):
            value, slope = self.loss(x)
            step = (value - losses) / np.maximum(slope, 1e-300)
            x = np.clip(x - np.clip(step, -self.noise, self.noise), *self.ends)
        return x

    def upper(self, x):
        """Returns P's mass above x."""
        from scipy import special

        return sum(
            p * special.ndtr((c - x) / self.noise)
            for c, p in zip(self.sensitivities, self.chances, strict=True)
        )

    def lower(self, x):
        """Returns P's mass below x."""
        from scipy import special

        return sum(
            p * special.ndtr((x - c) / self.noise)
            for c, p in zip(self.sensitivities, self.chances, strict=True)
        )

    def removal(self):
        """The loss of P against Q."""
        from scipy import special

        low, epsilons = self._epsilons(*(float(self.loss(end)[0]) for end in self.ends))
        x = self.points(epsilons)
        return _connected(low, self.upper(x) - np.exp(epsilons + special.log_ndtr(-x / self.noise)))

    def addition(self):
        """The loss of Q against P."""
        from scipy import special

        high, low = (-float(self.loss(end)[0]) for end in self.ends)
        low, epsilons = self._epsilons(low, high)
        x = self.points(-epsilons)
        with np.errstate(divide="ignore"):
            weighed = np.exp(epsilons + np.log(self.lower(x)))
        return _connected(low, special.ndtr(x / self.noise) - weighed)

    def _epsilons(self, low, high):
        first, last = math.floor(low / _LOSS_INTERVAL), math.ceil(high / _LOSS_INTERVAL)
        return first, _LOSS_INTERVAL * np.arange(first, last + 1)


def _connected(first, deltas):
    """The pessimistic distribution that connects these dots (Doroshenko et al. 2022)."""
    from dp_accounting.pld import pld_pmf

    # Raised where rounding would let them increase.
    deltas = np.maximum.accumulate(np.clip(deltas, 0.0, 1.0)[::-1])[::-1]
    last = first + len(deltas) - 1
    return pld_pmf.create_pmf_pessimistic_connect_dots_fixed_gap(
        _LOSS_INTERVAL, first, last, deltas
    )
