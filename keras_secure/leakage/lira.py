"""The likelihood ratio attack: each example is compared with itself, in and out of training."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from keras_secure.errors import InputError
from keras_secure.leakage.confidences import logit_confidences
from keras_secure.leakage.report import MembershipReport, measure
from keras_secure.leakage.shadows import ShadowScores, train_shadows

ENOUGH_FOR_OWN_VARIANCE = 32
"""Scores on a side from which an example's own variance is used. The paper does so from 64 shadow
models, half of which hold the example; below, one variance serves all (section VI-C)."""

Variant = Literal["online", "offline"]


def lira(
    target,
    train: Callable[[Any, np.ndarray], Any],
    x,
    y,
    members,
    *,
    num_shadows: int = 16,
    variant: Variant = "online",
    seed: int | None = None,
    confidence: float = 0.95,
    batch_size: int = 256,
    from_logits=None,
) -> MembershipReport:
    """Attacks membership with shadow models, the strongest attack with few assumptions.

    Args:
        target: The trained Keras classifier under attack.
        train: `train(x, y)` returns a classifier trained as the target was; see `train_shadows`.
        x: The pool: training examples of the target and others of the same distribution, drawn at
            random; an array of shape (n, ...) or a nested structure of them.
        y: The pool's labels: integers of shape (n,) or (n, 1), or one-hot rows.
        members: Booleans of shape (n,): which examples the target was trained on.
        num_shadows: Shadow models to train, at least 4. To attack several targets with the same
            ones, use `train_shadows` and `lira_from_scores`.
        variant: `"online"` compares with models trained on the example and models not trained on
            it; `"offline"` with the latter only, as an attacker must who learns of the example
            after training his models.
        seed: Of the halves that the shadow models are trained on; None for a fresh draw.
        confidence: Two-sided confidence level of every interval, in (0, 1).
        batch_size: Examples per forward pass when scoring.
        from_logits: Whether the models give logits; None to find out.

    Returns:
        A `MembershipReport`.

    Raises:
        InputError: If the arrays do not fit together or there are too few shadow models.

    Example:

    >>> import keras
    >>> x = np.random.default_rng(0).normal(size=(20, 2)).astype("float32")
    >>> y, members = np.arange(20) % 2, np.arange(20) < 10
    >>> def train(x, y):
    ...     keras.utils.set_random_seed(len(x))
    ...     model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    ...     model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    ...     model.fit(x, y, verbose=0)
    ...     return model
    >>> report = lira(train(x[members], y[members]), train, x, y, members, num_shadows=4, seed=0)
    >>> report.attack, report.num_members, report.num_shadows
    ('lira online', 10, 4)

    Reference: Carlini et al. 2022, arXiv 2112.03570, algorithm 1 and section VI-C.
    """
    _check_variant(variant)
    members = _mask(members, len(y))
    shadows = train_shadows(
        train,
        x,
        y,
        num_shadows=num_shadows,
        seed=seed,
        batch_size=batch_size,
        from_logits=from_logits,
    )
    scores = logit_confidences(target, x, y, batch_size=batch_size, from_logits=from_logits)
    return lira_from_scores(scores, members, shadows, variant=variant, confidence=confidence)


def lira_from_scores(
    target_scores,
    members,
    shadows: ShadowScores,
    *,
    variant: Variant = "online",
    confidence: float = 0.95,
) -> MembershipReport:
    """`lira` where target and shadow models have scored the pool already.

    Args:
        target_scores: What the target gives each example, shape (n,), from `logit_confidences`.
        members: Booleans of shape (n,): which examples the target was trained on.
        shadows: A `ShadowScores` over the same pool in the same order.
        variant: `"online"` or `"offline"`.
        confidence: Two-sided confidence level of every interval, in (0, 1).

    Returns:
        A `MembershipReport`. For the online variant `advantage` is taken where both hypotheses are
        equally likely; the offline variant fixes no threshold.

    Raises:
        InputError: If the arrays do not fit together or there are too few shadow models.

    Example:

    >>> generator = np.random.default_rng(0)
    >>> base = generator.normal(0, 5, 400)                       # some examples are harder
    >>> in_training = generator.random((17, 400)) < 0.5
    >>> scores = base + 2.0 * in_training + generator.normal(size=(17, 400))
    >>> shadows = ShadowScores(scores[1:], in_training[1:])
    >>> round(lira_from_scores(scores[0], in_training[0], shadows).auc, 2)
    0.9
    """
    _check_variant(variant)
    members = _mask(members, shadows.num_examples)
    scores = np.asarray(target_scores, dtype=np.float64)
    if scores.shape != members.shape or not np.isfinite(scores).all():
        raise InputError(
            f"target_scores has shape {scores.shape}; expected {members.shape}, one finite score "
            f"per example of the pool."
        )
    found = likelihood_ratios(scores, shadows, variant)
    return measure(
        f"lira {variant}",
        found[members],
        found[~members],
        threshold=0.0 if variant == "online" else None,
        confidence=confidence,
        num_shadows=shadows.num_shadows,
    )


def likelihood_ratios(scores: np.ndarray, shadows: ShadowScores, variant: Variant) -> np.ndarray:
    """How much likelier each score is with the example in training.

    Args:
        scores: The target's scores, shape (n,).
        shadows: A `ShadowScores` over the same examples.
        variant: `"online"`: the log of the ratio of two normal densities; `"offline"`: how many
            standard deviations the score lies above those of models without the example, which
            orders examples as the tail probability of the paper does, and does not saturate.

    Returns:
        Shape (n,), higher for likelier members.

    Raises:
        InputError: If an example lacks shadow models on a side, or all have one only.

    Example:

    >>> shadows = ShadowScores([[0.0], [1.0], [4.0], [5.0]], [[False], [False], [True], [True]])
    >>> likelihood_ratios(np.array([2.5]), shadows, "online")   # half way between
    array([0.])
    """
    mean_out, var_out = _fit(shadows.scores, ~shadows.members, "not trained on it")
    if variant == "offline":
        return (scores - mean_out) / np.sqrt(var_out)
    mean_in, var_in = _fit(shadows.scores, shadows.members, "trained on it")
    return 0.5 * (
        (scores - mean_out) ** 2 / var_out
        - (scores - mean_in) ** 2 / var_in
        + np.log(var_out)
        - np.log(var_in)
    )


def _fit(scores, chosen, words):
    """A normal distribution per example: its mean, and its own or the common variance."""
    counts = chosen.sum(axis=0)
    if counts.min() < 1 or counts.max() < 2:
        raise InputError(
            f"An example has {counts.min()} shadow models {words} and none has more than "
            f"{counts.max()}; expected at least 1 for every example and 2 for some: train more "
            f"shadow models, 4 or more, on random halves."
        )
    mean = np.where(chosen, scores, 0.0).sum(axis=0) / counts
    squares = np.where(chosen, (scores - mean) ** 2, 0.0).sum(axis=0)
    # Deviations from means that were fitted to the same scores: hence the degrees of freedom.
    common = squares.sum() / (counts - 1).sum()
    variance = np.full(mean.shape, common)
    own = counts >= ENOUGH_FOR_OWN_VARIANCE
    variance[own] = squares[own] / (counts[own] - 1)
    # Models that never differ would make every ratio infinite.
    return mean, np.maximum(variance, max(1e-6 * common, 1e-12))


def _mask(members, length) -> np.ndarray:
    members = np.asarray(members)
    if members.dtype != bool or members.shape != (length,):
        raise InputError(
            f"members has shape {members.shape} and dtype {members.dtype}; expected booleans of "
            f"shape ({length},): True where the target was trained on the example."
        )
    return members


def _check_variant(variant):
    if variant not in ("online", "offline"):
        raise InputError(f"variant={variant!r} is unknown; use 'online' or 'offline'.")
