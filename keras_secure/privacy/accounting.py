"""From executed steps to (epsilon, delta), and from a target back to the noise.

All figures come from Google's `dp-accounting`; this file only says which events took place. The
default accountant composes privacy loss distributions (PLD; Koskela et al. 2020, arXiv 1906.03049;
Doroshenko et al. 2022, arXiv 2207.04380); Renyi DP is offered for comparison (Mironov 2017).
"""

import math
from typing import Any

from keras_secure.errors import PrivacyError
from keras_secure.privacy.ledger import Phase
from keras_secure.privacy.sampling import PoissonSampling, physical_batch_size

_ACCOUNTANTS = ("pld", "rdp")


def epsilon(phases, target_delta, *, accountant="pld"):
    """Returns the epsilon that the executed phases have spent at `target_delta`.

    Args:
        phases: A `Phase` or an iterable of them.
        target_delta: Float in (0, 1).
        accountant: `"pld"` (tight, the default) or `"rdp"`.

    Returns:
        Float; infinity where a phase had no noise.

    Raises:
        PrivacyError: if the accountant does not know a phase's mechanism.

    Example:

    >>> from keras_secure import privacy
    >>> phase = privacy.Phase(privacy.PoissonSampling(256 / 60000, 60000), 1.1, 1.0, 256, steps=100)
    >>> round(privacy.epsilon(phase, 1e-5, accountant="rdp"), 2)
    0.7
    """
    if not 0 < target_delta < 1:
        raise PrivacyError(f"target_delta is {target_delta}; it must lie strictly in (0, 1).")
    if accountant not in _ACCOUNTANTS:
        raise PrivacyError(f"Unknown accountant {accountant!r}; use 'pld' or 'rdp'.")
    phases = [phases] if isinstance(phases, Phase) else list(phases)
    phases = [phase for phase in phases if phase.steps]
    if not phases:
        return 0.0
    if any(phase.noise_multiplier == 0 for phase in phases):
        return math.inf
    if accountant == "rdp":
        return _rdp_epsilon(phases, target_delta)
    total: Any = None
    for phase in phases:
        composed = phase.sampling.loss_distribution(phase.noise_multiplier, phase.steps)
        total = composed if total is None else total.compose(composed)
    return float(total.get_epsilon_for_delta(target_delta))


def max_steps(phases, next_phase, target_epsilon, target_delta):
    """Returns how many steps of `next_phase` fit after `phases` without crossing the target.

    Args:
        phases: Phases already executed.
        next_phase: The `Phase` whose steps are to be counted; its own `steps` are ignored.
        target_epsilon: The budget, not to be exceeded.
        target_delta: Float in (0, 1).

    Returns:
        int; 0 if not one step fits.
    """

    def spent(steps):
        return epsilon([*phases, _with_steps(next_phase, steps)], target_delta)

    found = {1: spent(1)}
    if found[1] > target_epsilon:
        return 0
    low: int = 1
    high: int | None = None
    while high is None or high - low > 1:
        # Each evaluation composes a PLD, so guesses follow the curve: about a square root in the
        # number of steps, then a straight line between logarithms.
        if high is None:
            guess = round(low * min(100.0, max(2.0, (target_epsilon / max(found[low], 1e-9)) ** 2)))
            if guess > 2**40:
                return low
        elif len(found) % 4 == 0 or not 0 < found[low] < found[high] < math.inf:
            guess = (low + high) // 2
        else:
            share = math.log(target_epsilon / found[low]) / math.log(found[high] / found[low])
            guess = math.floor(low * (high / low) ** share)
            guess = min(max(guess, low + 1), high - 1)
        found[guess] = spent(guess)
        low, high = (guess, high) if found[guess] <= target_epsilon else (low, guess)
    return low


def calibrate_noise_multiplier(
    *, target_epsilon, target_delta, num_examples, batch_size, epochs=None, steps=None
):
    """Returns the smallest noise multiplier found that keeps a training run within its budget.

    The run is the one that `SecureModel.fit` makes of arrays: Poisson sampling with probability
    `batch_size / num_examples`, batches of static shape.

    Args:
        target_epsilon: Positive float; the result never overshoots it.
        target_delta: Float in (0, 1); at most `1 / num_examples` is customary.
        num_examples: Size of the training set.
        batch_size: Expected batch size.
        epochs: Passes over the data, `ceil(num_examples / batch_size)` steps each; or
        steps: the number of steps itself.

    Returns:
        Float, within 0.2% of the smallest that meets the target, and at least 0.1.

    Raises:
        PrivacyError: if the target is not positive and finite, or no noise reaches it.

    Example:

    >>> sigma = calibrate_noise_multiplier(
    ...     target_epsilon=3.0, target_delta=1e-4, num_examples=1000, batch_size=100, epochs=2)
    >>> bool(0.5 < sigma < 1.5)
    True
    """
    from scipy import optimize

    if not 0 < target_epsilon < math.inf:
        raise PrivacyError(f"target_epsilon is {target_epsilon}; it must be positive and finite.")
    if (epochs is None) == (steps is None):
        raise PrivacyError("Give either `epochs` or `steps`, not both and not neither.")
    steps = steps if steps is not None else epochs * math.ceil(num_examples / batch_size)
    probability = min(1.0, batch_size / num_examples)
    plain = PoissonSampling(probability, num_examples)
    static = PoissonSampling(
        probability, num_examples, physical_batch_size(num_examples, batch_size)
    )

    def spent(sampling, sigma):
        return epsilon(Phase(sampling, sigma, 1.0, batch_size, steps), target_delta)

    low, high = 0.5, 1.0
    while spent(plain, low) <= target_epsilon:
        low, high = low / 2, low
        # So little noise protects nobody, and its loss distribution takes minutes to compose.
        if low < 0.1:
            return high
    while spent(plain, high) > target_epsilon:
        low, high = high, high * 2
        if high > 1e6:
            raise PrivacyError(
                f"No noise reaches epsilon {target_epsilon} at delta {target_delta} in {steps} "
                "steps. Take fewer steps, a smaller batch or a larger target."
            )
    # A root of the log ratio is found in a handful of evaluations, each of which composes a PLD. It
    # aims a little below the target, where the dearer accounting of truncated draws agrees.
    aim = target_epsilon * (1.0 - 5e-4)
    high = optimize.brentq(
        lambda sigma: math.log(max(spent(plain, sigma), 1e-9) / aim),
        low,
        high,
        xtol=2e-4 * high,
    )
    step = 2e-4
    while spent(static, high) > target_epsilon:
        high, step = high * (1 + step), step * 2
    return high


def _rdp_epsilon(phases, target_delta):
    from dp_accounting import rdp

    accountant = rdp.RdpAccountant()
    for phase in phases:
        accountant.compose(phase.sampling.event(phase.noise_multiplier, phase.steps))
    return float(accountant.get_epsilon(target_delta))


def _with_steps(phase, steps):
    return Phase(**{**phase.__dict__, "steps": steps})
