"""From a privacy target back to the noise, the number of steps, or the batch size."""

import math
from dataclasses import replace

from keras_secure.errors import PrivacyError
from keras_secure.privacy.accounting import epsilon, max_steps, untruncated
from keras_secure.privacy.ledger import Phase
from keras_secure.privacy.sampling import PoissonSampling, physical_batch_size

# So little noise protects nobody, and so much drowns everything.
_LEAST_NOISE, _MOST_NOISE = 0.1, 1e6


def calibrate_noise_multiplier(
    *,
    target_epsilon,
    target_delta,
    num_examples=None,
    batch_size=None,
    epochs=None,
    steps=None,
    sampling=None,
    earlier=(),
    max_examples_per_user=1,
):
    """Returns the smallest noise multiplier found that keeps a training run within its budget.

    Unless a `sampling` is given, the run is the one that `SecureModel.fit` makes of arrays: Poisson
    sampling with probability `batch_size / num_examples`, batches of static shape.

    Args:
        target_epsilon: Positive float; the result never overshoots it.
        target_delta: Float in (0, 1); at most `1 / num_examples` is customary.
        num_examples: Size of the training set.
        batch_size: Expected batch size.
        epochs: Passes over the data, `ceil(num_examples / batch_size)` steps each; or
        steps: the number of steps itself.
        sampling: A `Sampling`, for other batches than those that `fit` draws from arrays.
        earlier: Phases that were executed on the same data before, and count.
        max_examples_per_user: See `epsilon`.

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
    _check_target(target_epsilon)
    steps = _steps(num_examples, batch_size, epochs, steps)
    plan = Phase(_sampling(num_examples, batch_size, sampling), 1.0, 1.0, 1.0, steps)

    def spent(phase, sigma, **options):
        phases = [*earlier, replace(phase, noise_multiplier=sigma)]
        return epsilon(phases, target_delta, **options)

    user = {"max_examples_per_user": max_examples_per_user}
    if earlier and epsilon(earlier, target_delta, **user) >= target_epsilon:
        raise PrivacyError(
            f"The phases before have spent epsilon {target_epsilon} at delta {target_delta} "
            "already. Raise the target."
        )
    cheap = untruncated(plan)
    try:
        # Renyi accounting takes milliseconds, and its bound is not far from the tight one.
        start = _least_noise(lambda s: spent(cheap, s, accountant="rdp"), target_epsilon, 1.0)
    except PrivacyError:
        start = 1.0
    # A little below the target, where the dearer accounting of truncated draws agrees.
    aim = target_epsilon * (1.0 - 5e-4)
    sigma = _least_noise(lambda s: spent(cheap, s, **user), aim, start)
    step = 2e-4
    while cheap is not plan and spent(plan, sigma, **user) > target_epsilon:
        sigma, step = sigma * (1 + step), step * 2
    return sigma


def calibrate_steps(
    *,
    target_epsilon,
    target_delta,
    noise_multiplier,
    num_examples=None,
    batch_size=None,
    sampling=None,
    earlier=(),
    max_examples_per_user=1,
):
    """Returns the largest number of steps that stays within a budget.

    Args:
        target_epsilon: Positive float; the result never overshoots it.
        target_delta: Float in (0, 1).
        noise_multiplier: Positive float.
        num_examples: Size of the training set.
        batch_size: Expected batch size.
        sampling: A `Sampling`, for other batches than those that `fit` draws from arrays.
        earlier: Phases that were executed on the same data before, and count.
        max_examples_per_user: See `epsilon`.

    Returns:
        Positive int. Divide it by `ceil(num_examples / batch_size)` for epochs.

    Raises:
        PrivacyError: if the target is not positive and finite, or holds not one step.

    Example:

    >>> from keras_secure.privacy import UnstatedSampling
    >>> calibrate_steps(
    ...     target_epsilon=2.0, target_delta=1e-4, noise_multiplier=4.0,
    ...     sampling=UnstatedSampling())
    5
    """
    _check_target(target_epsilon)
    plan = Phase(_sampling(num_examples, batch_size, sampling), noise_multiplier, 1.0, 1.0)
    steps = max_steps(
        earlier, plan, target_epsilon, target_delta, max_examples_per_user=max_examples_per_user
    )
    if not steps:
        raise PrivacyError(
            f"Epsilon {target_epsilon} at delta {target_delta} holds not one step with "
            f"noise_multiplier={noise_multiplier}. Take more noise, a smaller batch or a larger "
            "target."
        )
    return steps


def calibrate_batch_size(
    *,
    target_epsilon,
    target_delta,
    noise_multiplier,
    num_examples,
    epochs=None,
    steps=None,
    earlier=(),
    max_examples_per_user=1,
):
    """Returns the largest batch size found with which a run on arrays stays within a budget.

    Args:
        target_epsilon: Positive float; the result never overshoots it.
        target_delta: Float in (0, 1).
        noise_multiplier: Positive float.
        num_examples: Size of the training set.
        epochs: Passes over the data, `ceil(num_examples / batch_size)` steps each; or
        steps: the number of steps itself.
        earlier: Phases that were executed on the same data before, and count.
        max_examples_per_user: See `epsilon`.

    Returns:
        Int between 1 and `num_examples`.

    Raises:
        PrivacyError: if the target is not positive and finite, or no batch size meets it.

    Example:

    >>> size = calibrate_batch_size(target_epsilon=2.0, target_delta=1e-3, noise_multiplier=1.0,
    ...                             num_examples=500, steps=20)
    >>> 10 < size < 100
    True
    """
    _check_target(target_epsilon)

    def spent(size, simplify=lambda phase: phase):
        sampling = _sampling(num_examples, size, None)
        plan = Phase(
            sampling, noise_multiplier, 1.0, size, _steps(num_examples, size, epochs, steps)
        )
        return epsilon(
            [*earlier, simplify(plan)], target_delta, max_examples_per_user=max_examples_per_user
        )

    low, high = 0, num_examples + 1
    while high - low > 1:
        # Batches are small beside the data as a rule, so the first guesses are as well.
        middle = max(low + 1, math.isqrt(max(low, 1) * high)) if high > 4 * low else None
        middle = min(high - 1, middle or (low + high) // 2)
        low, high = (
            (middle, high) if spent(middle, untruncated) <= target_epsilon else (low, middle)
        )
    # With epochs the steps go down where the size goes up, so a neighbour may do without being
    # smaller; what is returned was checked itself, truncated draws included.
    while low and spent(low) > target_epsilon:
        low -= max(1, low // 500)
    if not low:
        raise PrivacyError(
            f"Epsilon {target_epsilon} at delta {target_delta} holds no batch of any size with "
            f"noise_multiplier={noise_multiplier}. Take more noise, fewer steps or a larger target."
        )
    return low


def _least_noise(spent, target, start):
    """Returns the least noise, within 0.02%, with which `spent` stays at or below a target."""
    from scipy import optimize

    high = start
    while spent(high) > target:
        high *= 1.3 if high < 4 * start else 4.0
        if high > _MOST_NOISE:
            raise PrivacyError(
                f"No noise reaches epsilon {target:g}. Take fewer steps, a smaller batch or a "
                "larger target."
            )
    low = high / 1.15
    while spent(low) <= target:
        if low < _LEAST_NOISE:
            return max(high, _LEAST_NOISE)
        high, low = low, low / 1.3
    tolerance = 2e-4 * high
    root = optimize.brentq(
        lambda sigma: math.log(max(spent(sigma), 1e-9) / target), low, high, xtol=tolerance
    )
    while spent(root) > target:
        root += tolerance / 4
    return root


def _sampling(num_examples, batch_size, sampling):
    if sampling is not None:
        return sampling
    if num_examples is None or batch_size is None or not 0 < batch_size <= num_examples:
        raise PrivacyError(
            f"num_examples is {num_examples} and batch_size {batch_size}; give both, the batch no "
            "larger than the data, or say by `sampling` how batches are drawn."
        )
    rows = physical_batch_size(num_examples, batch_size)
    return PoissonSampling(batch_size / num_examples, num_examples, rows)


def _steps(num_examples, batch_size, epochs, steps):
    if (epochs is None) == (steps is None):
        raise PrivacyError("Give either `epochs` or `steps`, not both and not neither.")
    if steps is not None:
        return steps
    if num_examples is None or batch_size is None:
        raise PrivacyError(
            "Counting steps by `epochs` needs `num_examples` and `batch_size`. "
            "Give them, or `steps`."
        )
    return epochs * math.ceil(num_examples / batch_size)


def _check_target(target_epsilon):
    if not 0 < target_epsilon < math.inf:
        raise PrivacyError(f"target_epsilon is {target_epsilon}; it must be positive and finite.")
