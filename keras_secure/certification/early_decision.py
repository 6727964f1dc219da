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
    "certified" is decided if k(r) - 1 successes in all would have given s or more with a
    probability of at most `disagreement`, shared among all looks and radii; "not certified" if k(r)
    in all would have given s or fewer. What no look decides is counted to the end.

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
        disagreement: See above. Defaults to alpha / 100.

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
        self.disagreement = alpha / 100 if disagreement is None else float(disagreement)
        self.needed = [
            needed_successes(
                float(norm.cdf(radius / stddev)), self.trials, alpha - self.disagreement
            )
            for radius in self.radii
        ]
        self.looks = self._schedule()
        share = self.disagreement / (len(self.looks) * len(self.radii))
        self._edges = {
            look: [_edges(needed, self.trials, look, share) for needed in self.needed]
            for look in self.looks
        }

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


def _edges(needed, trials, look, share):
    """From how many successes a look certifies, and up to how many it refuses.

    What is settled whatever comes is among it: its tail is empty.
    """
    if needed > trials:
        return look + 1, look
    values, probabilities = _draws(needed - 1, trials, look)
    # Tails are summed from their thin ends, where rounding is least.
    tails = np.cumsum(probabilities[::-1])[::-1]
    certified_from = values[-1] + 1 - np.count_nonzero(tails <= share)
    values, probabilities = _draws(needed, trials, look)
    refused_to = values[0] - 1 + np.count_nonzero(np.cumsum(probabilities) <= share)
    return int(certified_from), int(refused_to)


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
