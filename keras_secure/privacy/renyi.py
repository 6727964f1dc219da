"""Renyi accounting, for comparison with what others report (Mironov 2017, arXiv 1702.07476)."""

import math

import numpy as np

from keras_secure.privacy.sampling import PoissonSampling


def divergences(parts):
    """Returns (orders, Renyi divergences) of all `composition.mechanisms` together.

    Raises:
        PrivacyError: if Renyi accounting does not know a sampling.
    """
    total = 0.0
    for sampling, noise, steps in parts:
        if isinstance(sampling, PoissonSampling) and sampling.physical_batch_size is not None:
            total = total + _truncated(sampling, noise, steps)
        else:
            total = total + _accountant(sampling.event(noise, steps)).rdp
    return _accountant().orders, total


def _truncated(sampling, noise, steps):
    """An upper bound for Poisson batches that are cut to a static size.

    Whether the other examples alone would fill the batch, so that one of them makes room, does not
    depend on the example in question. Told which, an observer sees a Poisson-sampled Gaussian of
    sensitivity 1, or else of at most 2 (itself, and the one that made room). The divergence of such
    a mixture with known component is that of its moments.
    """
    from scipy import stats

    rows, probability = sampling.physical_batch_size, sampling.sampling_probability
    full = stats.binom.sf(rows - 1, sampling.dataset_size, probability)
    free = PoissonSampling(probability, sampling.dataset_size)
    usual = _accountant(free.event(noise, 1))
    moments = usual.orders - 1.0
    displacing = _accountant(free.event(noise / 2, 1)).rdp
    # Moments may be infinite, and what never happens counts as nothing all the same.
    terms = [
        math.log(chance) + moments * divergence if chance > 0 else np.full_like(moments, -np.inf)
        for chance, divergence in ((1.0 - full, usual.rdp), (full, displacing))
    ]
    mixed = np.logaddexp(*terms)
    return steps * mixed / moments


def _accountant(event=None):
    from dp_accounting import rdp

    accountant = rdp.RdpAccountant()
    return accountant if event is None else accountant.compose(event)
