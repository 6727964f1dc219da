"""Accounting: the figures of the ledger against closed forms and dp-accounting itself."""

import math

import keras
import numpy as np

from keras_secure import privacy
from keras_secure.audit.self_check.checks.check import require
from keras_secure.audit.self_check.checks.subjects import examples, secure_model

_DELTA = 1e-5


def _gaussian_delta(epsilon, spread):
    """Delta of a Gaussian mechanism (Balle and Wang 2018, arXiv 1805.06530, theorem 8)."""
    from scipy.stats import norm

    half, ratio = 0.5 / spread, epsilon * spread
    return norm.cdf(half - ratio) - math.exp(epsilon) * norm.cdf(-half - ratio)


def unsampled_steps_cost_the_full_gaussian():
    """Batches that the user forms are accounted as if each step had seen every example."""

    class Shuffled(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return examples(4, seed=index)

    secure = secure_model(noise_multiplier=4.0, expected_batch_size=4)
    secure.fit(Shuffled(), epochs=2, verbose=0)
    spent = secure.optimizer.epsilon(_DELTA)
    least = _gaussian_delta(spent * 1.001, 4.0 / math.sqrt(6))
    require(least <= _DELTA, f"6 unsampled steps at noise 4 are said to cost only {spent:.3f}")
    most = _gaussian_delta(spent * 0.98, 4.0 / math.sqrt(6))
    require(most > _DELTA, f"6 unsampled steps at noise 4 are said to cost as much as {spent:.3f}")


def sampled_steps_cost_what_dp_accounting_says():
    """Poisson batches, cut to a static shape and composed over phases."""
    from dp_accounting.pld import privacy_loss_distribution as pld

    def truth(noise, steps, rows):
        step = pld.from_truncated_subsampled_gaussian_mechanism(
            dataset_size=200,
            sampling_probability=0.1,
            truncated_batch_size=rows,
            noise_multiplier=noise,
        )
        return step.self_compose(steps)

    rows = privacy.physical_batch_size(200, 20)
    sampling = privacy.PoissonSampling(0.1, 200, rows)
    phases = [
        privacy.Phase(sampling, noise, 1.0, 20, steps) for noise, steps in ((1.0, 9), (2.0, 5))
    ]
    expected = truth(1.0, 9, rows).compose(truth(2.0, 5, rows)).get_epsilon_for_delta(_DELTA)
    found = privacy.epsilon(phases, _DELTA)
    require(
        abs(found / expected - 1) < 1e-3,
        f"two phases cost {expected:.4f}, the ledger says {found:.4f}",
    )


def arrays_are_entered_as_they_are_drawn():
    """`fit` on arrays enters the probability and the static size with which it really draws."""
    secure = secure_model(noise_multiplier=1.0)
    x, y = examples(40, seed=8)
    secure.fit(x, y, batch_size=8, verbose=0)
    (phase,) = secure.optimizer.ledger.phases(secure.optimizer.executed_steps)
    sampling = phase.sampling
    rows = privacy.physical_batch_size(40, 8)
    stated = (sampling.sampling_probability, sampling.dataset_size, sampling.physical_batch_size)
    require(
        phase.sampling.kind == "poisson" and stated == (0.2, 40, rows),
        f"8 of 40 examples are drawn in {rows} rows, but the ledger states {sampling}",
    )


def batches_are_poisson_samples():
    """Every example enters a batch on its own: sizes vary, pairs meet by chance."""
    draws, count, probability = 4000, 30, 0.3
    sampling = privacy.PoissonSampling(probability, count, count)
    batches = privacy.PoissonBatches({"x": np.arange(count)}, sampling)
    seen = np.zeros((draws, count))
    for row in seen:
        np.add.at(row, batches.draw(), 1)
    require(seen.max() <= 1, "an example enters a batch more than once")
    rates = seen.mean(axis=0)
    spread = math.sqrt(probability * (1 - probability) / draws)
    require(
        np.all(np.abs(rates - probability) < 6.5 * spread), "examples are drawn unequally often"
    )
    variance = np.var(seen.sum(axis=1)) / (count * probability * (1 - probability))
    require(
        abs(variance - 1) < 0.15, f"batch sizes vary {variance:.2f} times as a Poisson sample's"
    )
