"""Deciding early what a fixed number of samples would decide."""

import math

import numpy as np

from keras_secure.certification.binomial_bounds import needed_successes


class EarlyDecision:
    """Whether a fixed sample will certify each radius, told from its beginning.

    Of `trials` samples of the vote, a radius r is certified if at least k(r) are for the class, the
    fewest that prove a probability above Phi(r / stddev). Given how many successes there are in
    all, the first t samples are a draw without replacement from them, whatever the model: so the
    question is that of an audit of votes already cast. After t samples with s successes,
    "certified" is decided if k(r) - 1 successes in all would have given s or more too seldom: with
    a probability that, added up over all looks and radii, is at most `disagreement`. "Not
    certified" is decided if k(r) in all would have given s or fewer as seldom. What no look decides
    is counted to the end.

    Two guarantees follow, for every model and input:

    - A decision differs from that of the whole sample with a probability of at most `disagreement`
      in each direction.
    - All radii certified together are wrong with a probability of at most alpha: k(r) is computed
      at alpha - disagreement, and the rest covers the early certificates.

    Args:
        radii: Ascending radii, at least 0, in l2.
        stddev: Standard deviation of the noise.
        trials: How many samples the whole has.
        alpha: Probability of a wrong certificate, at most.
        unit: Numbers of samples between looks are multiples of this.
        disagreement: See above. Defaults to alpha / 20.

    Example:

    >>> rule = EarlyDecision([0.5, 1.0], stddev=0.5, trials=100_000, alpha=0.001, unit=256)
    >>> rule.looks[:4], rule.looks[-1]
    ([256, 512, 768, 1024], 100000)
    >>> rule.verdicts(successes=np.array([1024, 1015, 700]), trials=1024).tolist()
    [[1, 1], [1, 0], [-1, -1]]

    Reference:
        Sampling without replacement as the frame of sequential decisions: Waudby-Smith & Ramdas
        2020, arXiv 2006.04347. The fixed sample: Cohen et al. 2019, arXiv 1902.02918, section 3.2.
    """

    def __init__(self, radii, stddev, trials, alpha, unit=1, disagreement=None):
        from scipy.stats import norm

        self.radii, self.trials, self.unit = list(radii), int(trials), int(unit)
        self.disagreement = alpha / 20 if disagreement is None else float(disagreement)
        self.needed = [
            needed_successes(
                float(norm.cdf(radius / stddev)), self.trials, alpha - self.disagreement
            )
            for radius in self.radii
        ]
        self.looks = self._schedule()
        # More for the radii that take longest: those whose whole sample has few failures.
        weights = [max(self.trials - needed, 1) ** -0.5 for needed in self.needed]
        columns = [
            _edges(needed, self.trials, self.looks, self.disagreement * weight / sum(weights))
            for needed, weight in zip(self.needed, weights, strict=True)
        ]
        self._edges = dict(zip(self.looks, zip(*columns, strict=True), strict=True))

    def verdicts(self, successes, trials):
        """What is decided at a look.

        Args:
            successes: Integer array of shape (num,).
            trials: How many samples they are among: one of `looks`.

        Returns:
            Int8 array of shape (num, radii): 1 certified, -1 not certified, 0 undecided.
        """
        certified_from, refused_to = np.array(self._edges[trials]).T
        successes = np.asarray(successes)[:, None]
        return (successes >= certified_from).astype("int8") - (successes <= refused_to)

    def _schedule(self):
        """Numbers of samples, each some 1.15 times the one before, the last being all of them."""
        looks, look = [], self.unit
        while look < self.trials:
            looks.append(look)
            look = self.unit * max(look // self.unit + 1, math.floor(1.15 * look / self.unit))
        return [*looks, self.trials]


def _edges(needed, trials, looks, share):
    """From how many successes each look certifies, and up to how many it refuses.

    Looks at which even the clearest outcome is likelier than the whole share decide nothing and get
    no part of it. What is settled whatever comes is among the decisions: its tail is empty.
    """
    if needed > trials:
        return [(look + 1, look) for look in looks]
    # Tails are summed from their thin ends, where rounding is least.
    above = [(values, np.cumsum(p[::-1])) for values, p in _draws_at(looks, needed - 1, trials)]
    below = [(values, np.cumsum(p)) for values, p in _draws_at(looks, needed, trials)]
    certifying = share / max(1, sum(tails[0] <= share for _, tails in above))
    refusing = share / max(1, sum(tails[0] <= share for _, tails in below))
    return [
        (
            int(high[-1] + 1 - np.count_nonzero(upper <= certifying)),
            int(low[0] - 1 + np.count_nonzero(lower <= refusing)),
        )
        for (high, upper), (low, lower) in zip(above, below, strict=True)
    ]


def _draws_at(looks, successes, trials):
    return [_draws(successes, trials, look) for look in looks]


def _draws(successes, trials, look):
    """Numbers of successes among `look` draws without replacement, and their probabilities.

    What is more than 40 standard deviations away is left out, and far below any share.
    """
    from scipy.special import betaln

    mean = look * successes / trials
    reach = 40 * math.sqrt(mean * (1 - successes / trials)) + 40
    low = max(0, look - (trials - successes), math.floor(mean - reach))
    high = min(successes, look, math.ceil(mean + reach))
    values = np.arange(low, high + 1)

    def log_choices(total, taken):
        return -betaln(total - taken + 1.0, taken + 1.0) - math.log(total + 1.0)

    logarithms = (
        log_choices(successes, values)
        + log_choices(trials - successes, look - values)
        - log_choices(trials, look)
    )
    return values, np.exp(logarithms)
