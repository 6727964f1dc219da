"""The privacy loss of several phases together, kept while training goes on."""

import functools

from keras_secure.privacy.ledger import Phase


def as_phases(phases):
    """Returns a list of phases, given one or an iterable of them; without those of no step."""
    phases = [phases] if isinstance(phases, Phase) else phases
    return [phase for phase in phases if phase.steps]


def mechanisms(phases):
    """Returns ((sampling, noise multiplier, steps), ...) of all phases that executed steps.

    Steps under one mechanism are joined, since the order of composition does not matter; phases
    that are accounted by passes over the data stay apart.
    """
    joined: dict = {}
    for position, phase in enumerate(as_phases(phases)):
        apart = position if phase.sampling.counts_passes else None
        key = (phase.sampling, phase.noise_multiplier, apart)
        joined[key] = joined.get(key, 0) + phase.steps
    return tuple((sampling, noise, steps) for (sampling, noise, _), steps in joined.items())


def loss_distribution(parts, max_examples_per_user=1):
    """Returns dp-accounting's privacy loss distribution of all `mechanisms` together.

    Args:
        parts: What `mechanisms` returned; not empty, every noise positive.
        max_examples_per_user: Examples that may change together.

    Returns:
        A `PrivacyLossDistribution`, or None if some sampling knows none for so many examples.
    """
    laws: list[tuple] = []
    for sampling, noise, steps in parts:
        if max_examples_per_user == 1:
            # The function is part of the key under which results are kept.
            laws.append((type(sampling).loss_distribution, sampling, noise, steps))
        else:
            law = type(sampling).group_loss_distribution
            laws.append((law, sampling, noise, steps, max_examples_per_user))
    return _composed(tuple(laws))


# Each takes up to tens of megabytes. Finished phases stay, while the last one grows.
@functools.lru_cache(maxsize=4)
def _composed(laws):
    law, *arguments = laws[-1]
    last = law(*arguments)
    if last is None or len(laws) == 1:
        return last
    before = _composed(laws[:-1])
    return None if before is None else before.compose(last)
