"""From executed steps to (epsilon, delta).

All figures come from Google's `dp-accounting`; this file only says which events took place. The
default accountant composes privacy loss distributions (PLD; Koskela et al. 2020, arXiv 1906.03049;
Doroshenko et al. 2022, arXiv 2207.04380); Renyi DP is offered for comparison (Mironov 2017).
"""

import math
from dataclasses import replace

import numpy as np

from keras_secure.errors import PrivacyError
from keras_secure.privacy import renyi
from keras_secure.privacy.composition import as_phases, loss_distribution, mechanisms
from keras_secure.privacy.group_privacy import GroupLoss
from keras_secure.privacy.sampling import PoissonSampling

_ACCOUNTANTS = ("pld", "rdp")


def epsilon(phases, target_delta, *, accountant="pld", max_examples_per_user=1):
    """Returns the epsilon that the executed phases have spent at `target_delta`.

    Args:
        phases: A `Phase` or an iterable of them.
        target_delta: Float in (0, 1).
        accountant: `"pld"` (tight, the default) or `"rdp"`.
        max_examples_per_user: How many examples one user contributed at most (see
            `bound_contributions`); 1 protects single examples, more protects all of a user's
            together. The PLD accountant only.

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
    parts = _checked(phases, accountant, max_examples_per_user)
    if not parts:
        return 0.0
    if _is_without_noise(parts):
        return math.inf
    if accountant == "rdp":
        from dp_accounting import rdp

        return float(rdp.compute_epsilon(*renyi.divergences(parts), target_delta)[0])
    return float(_loss(parts, max_examples_per_user).get_epsilon_for_delta(target_delta))


def delta(phases, target_epsilon, *, accountant="pld", max_examples_per_user=1):
    """Returns the delta that goes with `target_epsilon` after the executed phases.

    Args:
        phases: A `Phase` or an iterable of them.
        target_epsilon: Non-negative float.
        accountant: `"pld"` (tight, the default) or `"rdp"`.
        max_examples_per_user: See `epsilon`.

    Returns:
        Float in [0, 1].

    Raises:
        PrivacyError: if the accountant does not know a phase's mechanism.

    Example:

    >>> from keras_secure import privacy
    >>> phase = privacy.Phase(privacy.UnstatedSampling(), 4.0, 1.0, 64, steps=4)
    >>> round(privacy.delta(phase, 1.0), 4)
    0.0068
    """
    if not 0 <= target_epsilon < math.inf:
        raise PrivacyError(f"target_epsilon is {target_epsilon}; it must be finite and >= 0.")
    parts = _checked(phases, accountant, max_examples_per_user)
    if not parts:
        return 0.0
    if _is_without_noise(parts):
        return 1.0
    if accountant == "rdp":
        from dp_accounting.rdp import rdp_privacy_accountant

        divergences = renyi.divergences(parts)
        return float(rdp_privacy_accountant.compute_delta(*divergences, target_epsilon)[0])
    return float(_loss(parts, max_examples_per_user).get_delta_for_epsilon(target_epsilon))


def privacy_curve(phases, *, deltas=None, epsilons=None, accountant="pld", max_examples_per_user=1):
    """Returns the curve of (epsilon, delta) pairs that all hold at the same time.

    The phases are composed once for the whole curve.

    Args:
        phases: A `Phase` or an iterable of them.
        deltas: Sequence of floats in (0, 1), for which epsilons are wanted; or
        epsilons: sequence of non-negative floats, for which deltas are wanted.
        accountant: `"pld"` (tight, the default) or `"rdp"`.
        max_examples_per_user: See `epsilon`.

    Returns:
        Two float64 arrays, epsilons and deltas.

    Raises:
        PrivacyError: if the accountant does not know a phase's mechanism, or not exactly one of
            `deltas` and `epsilons` is given.

    Example:

    >>> from keras_secure import privacy
    >>> phase = privacy.Phase(privacy.UnstatedSampling(), 4.0, 1.0, 64, steps=4)
    >>> privacy.privacy_curve(phase, deltas=[1e-3, 1e-5, 1e-7])[0].round(2)
    array([1.35, 1.99, 2.49])
    """
    if (deltas is None) == (epsilons is None):
        raise PrivacyError("Give either `deltas` or `epsilons`, not both and not neither.")
    phases = as_phases(phases)
    options = {"accountant": accountant, "max_examples_per_user": max_examples_per_user}
    if epsilons is None:
        given = np.asarray(deltas, "float64")
        return np.array([epsilon(phases, float(d), **options) for d in given]), given
    given = np.asarray(epsilons, "float64")
    parts = _checked(phases, accountant, max_examples_per_user)
    if not parts or _is_without_noise(parts) or accountant == "rdp" or not np.all(given >= 0):
        return given, np.array([delta(phases, float(e), **options) for e in given])
    return given, np.asarray(_loss(parts, max_examples_per_user).get_delta_for_epsilon(given))


def max_steps(phases, next_phase, target_epsilon, target_delta, *, max_examples_per_user=1):
    """Returns how many steps of `next_phase` fit after `phases` without crossing the target.

    Args:
        phases: Phases already executed.
        next_phase: The `Phase` whose steps are to be counted; its own `steps` are ignored.
        target_epsilon: The budget, not to be exceeded.
        target_delta: Float in (0, 1).
        max_examples_per_user: See `epsilon`.

    Returns:
        int; 0 if not one step fits.
    """

    def spent(steps, simplify=lambda phase: phase):
        following = [*phases, next_phase.with_steps(steps)]
        simple = [simplify(phase) for phase in following]
        return epsilon(simple, target_delta, max_examples_per_user=max_examples_per_user)

    guess = 1
    if any(untruncated(phase) is not phase for phase in (*phases, next_phase)):
        # Truncation costs next to nothing but composes many times slower: where the bound without
        # it ends, the one with it ends too, or a few steps before.
        guess = _last_within(lambda steps: spent(steps, untruncated), target_epsilon, 1) or 1
    return _last_within(spent, target_epsilon, guess)


def _last_within(spent, target, guess):
    """Returns the largest number of steps that `spent`, an increasing function, keeps to target."""
    found = {}
    low, high = 0, math.inf
    while high - low > 1:
        found[guess] = spent(guess)
        low, high = (guess, high) if found[guess] <= target else (low, guess)
        # Each evaluation composes a PLD, so guesses follow the curve: about a square root in the
        # number of steps, then a straight line between logarithms.
        if high == math.inf:
            if low > 2**40:
                return low
            if len(found) == 1 and low > 1:
                guess = low + 1  # The first guess was a good one, and is mostly the answer.
            else:
                growth = (target / max(found[low], 1e-9)) ** 2
                guess = max(low + 1, round(low * min(100.0, max(2.0, growth))))
        elif low == 0:
            guess = max(1, min(high - 1, math.floor(high * 0.998)) if len(found) < 3 else high // 2)
        elif len(found) % 4 == 0 or not 0 < found[low] < found[high] < math.inf:
            guess = (low + high) // 2
        else:
            share = math.log(target / found[low]) / math.log(found[high] / found[low])
            guess = math.floor(low * (high / low) ** share)
            guess = min(max(guess, low + 1), high - 1)
    return low


def untruncated(phase):
    """Returns the phase as if no batch were ever cut: cheaper to compose, and a lower bound."""
    sampling = phase.sampling
    if not isinstance(sampling, PoissonSampling) or sampling.physical_batch_size is None:
        return phase
    return replace(phase, sampling=replace(sampling, physical_batch_size=None))


def _checked(phases, accountant, max_examples_per_user):
    if accountant not in _ACCOUNTANTS:
        raise PrivacyError(f"Unknown accountant {accountant!r}; use 'pld' or 'rdp'.")
    if max_examples_per_user != int(max_examples_per_user) or max_examples_per_user < 1:
        raise PrivacyError(
            f"max_examples_per_user is {max_examples_per_user}; it must be a whole number of at "
            "least 1."
        )
    if accountant == "rdp" and max_examples_per_user > 1:
        raise PrivacyError(
            "Renyi accounting is offered for single examples only; use accountant='pld' for users."
        )
    return mechanisms(phases)


def _is_without_noise(parts):
    return any(noise == 0 for _, noise, _ in parts)


def _loss(parts, max_examples_per_user):
    found = loss_distribution(parts, max_examples_per_user)
    if found is None:
        # Some sampling knows no tight bound for so many examples.
        return GroupLoss(loss_distribution(parts), max_examples_per_user)
    return found
