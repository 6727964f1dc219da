"""Randomized smoothing: a classifier whose answers are votes, with a radius proven for each."""

import math
import secrets

import keras
import numpy as np
from keras import ops

from keras_secure import backend
from keras_secure.arguments import check_integer, check_number, is_number
from keras_secure.certification.binomial_bounds import certified_radius, lower_bound
from keras_secure.certification.certificate import Certificate
from keras_secure.certification.early_decision import EarlyDecision
from keras_secure.certification.noisy_votes import NoisyVotes
from keras_secure.errors import InputError


class RandomizedSmoothing:
    """The class that a model gives most often to an input under Gaussian noise.

    That answer provably does not change within an l2 radius that follows from how often it is
    given, for any model whatever: a defence, with a certificate for each input. It is worth what
    the model can tell under noise, so train the model with Gaussian noise of the same `stddev`:
    `keras_secure.objectives.GaussianAugmentation` or `Consistency`, or a `GaussianNoise` layer in
    front. More noise certifies larger radii and costs accuracy.

    To attack the smoothed classifier rather than the model inside, average over the noise:
    `keras_secure.attacks.Expectation` of the model behind
    `keras_secure.layers.GaussianNoise(stddev, active="always")`. No attack can succeed within a
    certified radius but with a probability of alpha for each certificate. The mathematics is that
    of real numbers; a model computes in floating point, and inputs made to exploit its rounding
    are outside of the proof (Jin et al. 2022, arXiv 2205.10159).

    Args:
        model: Classifier with one output, called with `training=False`; it must not use
            randomness of its own nor mix the examples of a batch. Where `model.abstains` is true,
            its last column is an abstention.
        stddev: Standard deviation of the noise, in units of the inputs, above 0.
        bounds: None (the default), or a pair of floats that noisy inputs are clipped to before the
            model sees them. The clipping counts as part of the model; the certificate holds.
        from_logits: Whether the outputs are logits; only asked for a single output unit, where
            nothing else tells. Defaults to None: found out.
        jit_compile: Whether XLA compiles the counting loop. Defaults to None: on accelerators.

    Raises:
        InputError: If an argument cannot be used.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    >>> model.set_weights([np.array([[1.0, 0.0], [0.0, 1.0]]), np.zeros(2)])
    >>> smoothed = RandomizedSmoothing(model, stddev=0.5)
    >>> x = np.array([[1.0, 0.0], [0.0, 3.0], [1.0, 1.0]], "float32")
    >>> smoothed.predict(x, seed=1)
    array([ 0,  1, -1])
    >>> certificate = smoothed.certify(x, num_estimation=10_000, seed=1)
    >>> certificate.prediction
    array([ 0,  1, -1])
    >>> [round(float(radius), 2) for radius in certificate.radius]  # the truths: 0.71, 2.12, 0
    [0.68, 1.6, 0.0]

    Reference:
        Cohen, Rosenfeld & Kolter 2019, Certified Adversarial Robustness via Randomized Smoothing,
        arXiv 1902.02918.
    """

    def __init__(self, model, stddev, bounds=None, *, from_logits=None, jit_compile=None):
        check_number("stddev", stddev, "(0, inf)")
        if bounds is not None:
            try:
                low, high = (float(bound) for bound in bounds)
            except (TypeError, ValueError):
                low = high = math.nan
            if not -math.inf < low < high < math.inf:
                raise InputError(
                    f"bounds={bounds!r} cannot be used: give None or a pair (low, high) of finite "
                    "numbers with low < high."
                )
            bounds = (low, high)
        if not callable(model):
            raise InputError(f"model={model!r} cannot be called; give a keras.Model.")
        self.model, self.stddev, self.bounds = model, float(stddev), bounds
        self.from_logits, self.jit_compile = from_logits, jit_compile
        self._counters: dict[tuple, NoisyVotes] = {}

    def predict(self, x, num_samples=1000, alpha=0.001, *, batch_size=1024, seed=None):
        """Classifies by vote, or abstains where the vote is too close to call.

        Args:
            x: Floating point array of shape (num_examples, ...).
            num_samples: Noisy copies of each example.
            alpha: Probability, at most, of an answer that is not the smoothed classifier's.
            batch_size: Noisy copies in one pass, about. Has no influence on the answers.
            seed: Integer that makes the noise repeatable, or None for noise nobody can foresee.

        Returns:
            Int64 array of shape (num_examples,): class indices, -1 for an abstention.

        Raises:
            InputError: If an argument cannot be used.

        Reference:
            Cohen et al. 2019, arXiv 1902.02918, section 3.2.1, PREDICT.
        """
        from scipy.stats import binom

        x = self._checked_x(x)
        check_integer("num_samples", num_samples, most=2**31 - 1)
        check_number("alpha", alpha, "(0, 1)")
        votes = self._votes(x, batch_size)
        counts = votes.count(x, np.arange(len(x)), _checked_seed(seed), 0, num_samples)
        runner_up, first = np.sort(counts, axis=1)[:, -2:].T
        # The two-sided test of Hung & Fithian: whether the first beats the second by luck.
        luck = 2 * binom.sf(first - 1, first + runner_up, 0.5)
        decided = (first > runner_up) & (luck <= alpha)
        return self._without_abstentions(np.where(decided, counts.argmax(axis=1), -1), votes)

    def certify(
        self,
        x,
        num_selection=100,
        num_estimation=100_000,
        alpha=0.001,
        *,
        adaptive=False,
        radii=None,
        batch_size=1024,
        seed=None,
        verbose=0,
    ):
        """Classifies by vote and proves a radius for each example.

        The class is selected on samples of its own; how often it is voted for is then estimated on
        others. `adaptive=True` asks only whether each of `radii` is certified, and stops sampling
        an example once that is settled: see `EarlyDecision` for what this means and guarantees. The
        samples are then the first of those that the fixed sample would take.

        Args:
            x: Floating point array of shape (num_examples, ...).
            num_selection: Samples that select the class.
            num_estimation: Samples that estimate its probability; at most this many if adaptive.
            alpha: Probability, at most, that the certificate of an example is wrong.
            adaptive: Whether to stop as soon as `radii` are decided. Defaults to False.
            radii: The radii in question, numbers of at least 0, if adaptive. Leave 0 out if it does
                not matter whether an example below the others is certified at all.
            batch_size: Noisy copies in one pass, about. Has no influence on the certificates, but
                for rounding in the model.
            seed: Integer that makes the noise repeatable, or None for noise nobody can foresee.
            verbose: 0 for silence (the default), 1 for a progress bar.

        Returns:
            A `Certificate` in l2. Abstentions (-1) are wrong whatever the label. If adaptive, the
            radius is the largest of `radii` that is certified. `details` holds, for each example,
            `selected` (the class the votes are for), `successes` (votes for it), `samples`
            (estimation samples taken) and, unless adaptive, `probability` (its lower bound); for
            all, `alpha`, `stddev`, `num_selection`, `num_estimation` and `seed`.

        Raises:
            InputError: If an argument cannot be used.

        Reference:
            Cohen et al. 2019, arXiv 1902.02918, section 3.2.2, CERTIFY.
        """
        x = self._checked_x(x)
        check_integer("num_selection", num_selection, most=2**31 - 1)
        check_integer("num_estimation", num_estimation, most=2**31 - 1)
        check_number("alpha", alpha, "(0, 1)")
        radii = _checked_radii(radii, adaptive)
        seed = _checked_seed(seed)
        votes = self._votes(x, batch_size)
        progress = _Progress(len(x) * num_estimation, verbose)

        rows = np.arange(len(x))
        selection = votes.count(x, rows, seed, 0, num_selection, second_stream=True)
        selected = selection.argmax(axis=1)
        if adaptive:
            rule = EarlyDecision(radii, self.stddev, num_estimation, alpha, votes.block)
            successes, samples, radius = _sample_until_decided(
                votes, x, selected, seed, rule, progress
            )
            certified = radius >= 0
            details = {"radii": tuple(radii), "disagreement": rule.disagreement}
        else:
            counts = votes.count(x, rows, seed, 0, num_estimation, progress=progress.add)
            successes = counts[rows, selected]
            samples = np.full(len(x), num_estimation)
            probability = lower_bound(successes, samples, alpha)
            radius = certified_radius(probability, self.stddev)
            certified = probability > 0.5
            details = {"probability": probability}
        progress.end()
        prediction = self._without_abstentions(np.where(certified, selected, -1), votes)
        return Certificate(
            prediction,
            np.where(prediction >= 0, radius, 0.0),
            "l2",
            {
                **details,
                "selected": selected,
                "successes": successes,
                "samples": samples,
                "alpha": float(alpha),
                "stddev": self.stddev,
                "num_selection": int(num_selection),
                "num_estimation": int(num_estimation),
                "seed": seed,
            },
        )

    def _votes(self, x, batch_size):
        check_integer("batch_size", batch_size, most=2**31 - 1)
        key = (x.shape[1:], int(batch_size))
        if key not in self._counters:
            jit_compile = self.jit_compile
            self._counters[key] = NoisyVotes(
                self.model,
                self.stddev,
                self.bounds,
                self.from_logits,
                x.shape[1:],
                batch_size,
                backend.has_accelerator() if jit_compile is None else bool(jit_compile),
            )
        return self._counters[key]

    def _without_abstentions(self, prediction, votes):
        """The model's own abstention is an answer that counts as none."""
        if getattr(self.model, "abstains", False):
            return np.where(prediction == votes.num_classes - 1, -1, prediction)
        return prediction

    def _checked_x(self, x):
        if isinstance(x, (dict, list, tuple)):
            raise InputError(
                f"Noise is added to one array, and x is a {type(x).__name__}. Pass a NumPy array "
                "or tensor of shape (num_examples, ...)."
            )
        x = np.asarray(ops.convert_to_numpy(x))
        if not np.issubdtype(x.dtype, np.floating):
            raise InputError(
                f"x is of the type {x.dtype}; noise is added to floating point numbers. Scale "
                "images first, x.astype('float32') / 255, and give the model the same."
            )
        if x.ndim < 2 or x.size == 0:
            raise InputError(
                f"x has the shape {x.shape}; expected (num_examples, ...) with at least one "
                "example and one value each."
            )
        if not np.isfinite(x).all():
            raise InputError("x holds NaN or infinity. Remove or repair those examples first.")
        return x.astype("float32", copy=False)


def _sample_until_decided(votes, x, selected, seed, rule, progress):
    """Samples every example up to the first look that leaves no radius undecided.

    Returns successes, samples and the largest certified radius (-1 for none), by example.
    """
    successes = np.zeros(len(x), "int64")
    samples = np.zeros(len(x), "int64")
    radius = np.full(len(x), -1.0)
    decided = np.zeros((len(x), len(rule.radii)), "int8")
    rows, before = np.arange(len(x)), 0
    for look in rule.looks:
        counts = votes.count(x, rows, seed, before, look, progress=progress.add)
        successes[rows] += counts[np.arange(len(rows)), selected[rows]]
        samples[rows] = look
        # What was decided once stays decided.
        fresh = rule.verdicts(successes[rows], look)
        decided[rows] = np.where(decided[rows] == 0, fresh, decided[rows])
        rows, before = rows[(decided[rows] == 0).any(axis=1)], look
        if not len(rows):
            break
    for column, value in enumerate(rule.radii):
        radius = np.where(decided[:, column] == 1, value, radius)
    return successes, samples, radius


class _Progress:
    """A progress bar of samples, or silence."""

    def __init__(self, total, verbose):
        self._total, self._done = total, 0
        self._bar = keras.utils.Progbar(total, unit_name="sample") if verbose else None

    def add(self, count):
        self._done += count
        if self._bar is not None:
            self._bar.update(self._done)

    def end(self):
        """Fills the bar where sampling ended early."""
        if self._bar is not None and self._done < self._total:
            self._bar.update(self._total, finalize=True)


def _checked_seed(seed):
    if seed is None:
        return secrets.randbits(63)
    return check_integer("seed", seed, 0, 2**63 - 1)


def _checked_radii(radii, adaptive):
    if not adaptive:
        if radii is not None:
            raise InputError(
                f"radii={radii!r} were given without adaptive=True: a fixed sample gives each "
                "example the largest radius that it proves. Leave radii out or set adaptive=True."
            )
        return None
    radii = [] if radii is None else list(np.atleast_1d(np.asarray(radii)).tolist())
    if not radii or not all(is_number(each) and 0 <= each < math.inf for each in radii):
        raise InputError(
            f"radii={radii!r} cannot be used with adaptive=True: give the list of radii, numbers "
            "of at least 0, that are to be decided."
        )
    return sorted({float(each) for each in radii})
