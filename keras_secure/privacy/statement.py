"""What a guarantee says and does not say, in plain words."""

import math
import textwrap

from keras_secure.privacy.accounting import epsilon
from keras_secure.privacy.composition import as_phases
from keras_secure.privacy.trade_off import max_true_positive_rate

_WIDTH = 96
_FALSE_POSITIVE_RATE = 0.01
# Kinds of sampling under which an example can be added or removed; the others replace it.
_ADDED_OR_REMOVED = {"poisson", "balls_in_bins"}


def privacy_statement(phases, target_delta, *, accountant="pld", max_examples_per_user=1):
    """Words what the executed phases guarantee, on what assumptions, and what is not covered.

    Args:
        phases: A `Phase` or an iterable of them, as a ledger holds them.
        target_delta: Float in (0, 1).
        accountant: `"pld"` or `"rdp"`.
        max_examples_per_user: See `epsilon`.

    Returns:
        str, several paragraphs of at most 96 columns.

    Raises:
        PrivacyError: if the accountant does not know a phase's mechanism.

    Example:

    >>> from keras_secure.privacy import Phase, UnstatedSampling
    >>> phase = Phase(UnstatedSampling(), 4.0, 1.0, 64.0, steps=4)
    >>> print(privacy_statement(phase, 1e-5).splitlines()[0])
    The training is (epsilon = 2, delta = 1e-05)-differentially private for single examples.

    Reference: Ponomareva et al. 2023, How to DP-fy ML, section 5.3 on what should be reported
    (arXiv 2303.00654).
    """
    phases = as_phases(phases)
    if not phases:
        return "No private step was executed, so nothing of the data was released by training."
    users = max_examples_per_user
    spent = epsilon(phases, target_delta, accountant=accountant, max_examples_per_user=users)
    paragraphs = [_headline(phases, spent, target_delta, users)]
    if math.isfinite(spent) and not _is_reproducible(phases):
        paragraphs += [_meaning(phases, target_delta, users), _test(phases, users)]
    paragraphs += [_mechanism(phases), *_phases(phases), _accounting(accountant), _not_covered()]
    return "\n\n".join(_wrapped(paragraph) for paragraph in paragraphs)


def _headline(phases, spent, target_delta, users):
    if _is_reproducible(phases):
        return (
            "NOT PRIVATE: a seed was given, so that whoever knows or guesses it can compute the "
            f"noise and subtract it. Without a seed, epsilon would be {_up(spent)} at delta "
            f"{target_delta:g}."
        )
    if not math.isfinite(spent):
        return "NOT PRIVATE: steps without noise were executed, so epsilon is infinite."
    return (
        f"The training is (epsilon = {_up(spent)}, delta = {target_delta:g})-differentially "
        f"private for {_unit(users)}."
    )


def _unit(users):
    if users == 1:
        return "single examples"
    return f"users who contributed at most {users} examples each"


def _meaning(phases, target_delta, users):
    one = "one example" if users == 1 else "all examples of one user"
    if {phase.sampling.kind for phase in phases} <= _ADDED_OR_REMOVED:
        change = f"{one} added or removed"
    else:
        change = f"{one} replaced by empty ones" if users > 1 else f"{one} replaced by an empty one"
    text = (
        f"That is: with {change}, every result computed from the trained weights becomes at most "
        "e^epsilon times as likely, up to a probability of delta. It holds whatever else is known "
        "of the data, and whoever looks. The number of examples counts as public."
    )
    if users > 1:
        text += (
            f" It holds only if no user contributed more than {users} examples, as "
            "bound_contributions makes sure."
        )
    sizes = [getattr(phase.sampling, "dataset_size", 0) for phase in phases]
    if any(sizes) and target_delta > 1 / max(sizes):
        text += (
            f" Note: delta {target_delta:g} is larger than one over the number of examples, "
            f"{1 / max(sizes):.2g}, so it would allow publishing an example outright. Ask for a "
            "smaller delta."
        )
    return text


def _test(phases, users):
    power = max_true_positive_rate(phases, _FALSE_POSITIVE_RATE, max_examples_per_user=users)
    power = math.ceil(power * 1000) / 10
    who = "an example" if users == 1 else "a user"
    return (
        f"As a test: whoever tries to tell whether {who} was in the training data, knowing all "
        f"others, and is wrong for at most {_FALSE_POSITIVE_RATE:.0%} of those that were not, "
        f"recognizes at most {power:.1f}% of those that were (guessing: "
        f"{_FALSE_POSITIVE_RATE:.0%})."
    )


def _mechanism(phases):
    steps = sum(phase.steps for phase in phases)
    return (
        f"What was done: {steps} steps in {len(phases)} phase{'s' * (len(phases) > 1)}. Each step "
        "released one sum of gradients, clipped by example to a fixed norm, with Gaussian noise of "
        "noise multiplier times that norm. Steps that a crash may have lost count as executed."
    )


def _phases(phases):
    for phase in phases:
        yield (
            f"- {phase.steps} steps: clip {phase.l2_norm_clip:g}, noise multiplier "
            f"{phase.noise_multiplier:g}; {_sampling(phase.sampling)}"
        )


def _sampling(sampling):
    """How batches were drawn, and who has to answer for it."""
    if sampling.kind == "unstated":
        return (
            "nothing assumed of how batches were formed except that an example occurs at most once "
            "in each, so sampling hides nothing."
        )
    if sampling.kind == "poisson":
        text = (
            "Poisson sampling, every example in every batch independently with probability "
            f"{sampling.sampling_probability:.3g} of {sampling.dataset_size} examples"
        )
        if sampling.physical_batch_size is not None:
            text += f", cut at random to {sampling.physical_batch_size}, which is accounted for"
    elif sampling.kind == "balls_in_bins":
        text = (
            f"balls in bins, every example in one random batch of {sampling.steps_per_epoch} anew "
            "in each pass"
        )
    elif sampling.kind == "deterministic":
        text = (
            "fixed passes, every example in one of "
            f"{sampling.steps_per_epoch} batches, which hides nothing"
        )
    else:
        config = sampling.get_config()
        arguments = ", ".join(f"{name} {value}" for name, value in config.items() if name != "kind")
        text = f"sampling of the kind {sampling.kind} ({arguments})"
    return text + ". Batches that fit drew itself are such; for others their owner said so."


def _accounting(accountant):
    method = "privacy loss distributions" if accountant == "pld" else "Renyi divergences"
    return (
        f"How epsilon was computed: by {method} of Google's dp-accounting, for the steps actually "
        "executed, every weight after every step being seen."
    )


def _not_covered():
    return (
        "Not covered: losses and metrics shown while training, which are exact; choices made by "
        "looking at the data, such as hyperparameters or preprocessing; other models trained on "
        "the same data, unless their phases are given together; data used without privacy, such "
        "as public data before; a random generator or rounding that an attacker exploits. As a "
        "rule of thumb, epsilon up to 1 is called strong and up to 10 reasonable."
    )


def _is_reproducible(phases):
    return any(phase.reproducible for phase in phases)


def _up(value):
    """Three significant digits, never fewer than were spent."""
    if value == 0.0 or not math.isfinite(value):
        return f"{value:g}"
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return f"{math.ceil(value / unit - 1e-9) * unit:.3g}"


def _wrapped(paragraph):
    indent = "  " if paragraph.startswith("- ") else ""
    return textwrap.fill(paragraph, _WIDTH, subsequent_indent=indent, break_long_words=False)
