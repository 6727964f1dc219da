"""Membership by the loss: does it tell that the model was trained on an example?"""

import numpy as np

from keras_secure.errors import InputError
from keras_secure.leakage.report import MembershipReport, measure


def threshold_membership_attack(
    member_losses, non_member_losses, *, confidence: float = 0.95
) -> MembershipReport:
    """Attacks membership by one threshold on the loss: low loss means "was trained on".

    It needs no other model. The report's `advantage` is taken at the mean loss of the members, the
    threshold of Yeom et al.

    Args:
        member_losses: Losses of training examples, shape (m,), m at least 2. Draw them at random
            from the training set.
        non_member_losses: Losses of held-out examples of the same distribution, shape (n,).
        confidence: Two-sided confidence level of every interval, in (0, 1).

    Returns:
        A `MembershipReport`.

    Raises:
        InputError: If an array is not one-dimensional, has fewer than 2 values, or holds NaN.

    Example:

    >>> report = threshold_membership_attack([0.1, 0.2, 0.1, 0.3], [0.2, 0.9, 0.8, 0.7])
    >>> round(report.auc, 3), report.num_members
    (0.906, 4)

    Reference: Yeom et al. 2018, arXiv 1709.01604, section 3 (adversary 1, bounded loss).
    """
    members = _losses("member_losses", member_losses)
    others = _losses("non_member_losses", non_member_losses)
    mean = float(np.mean(members))
    return measure(
        "threshold",
        -members,
        -others,
        threshold=-mean,
        confidence=confidence,
        mean_member_loss=mean,
        mean_non_member_loss=float(np.mean(others)),
    )


def _losses(name, values) -> np.ndarray:
    losses = np.asarray(values, dtype=np.float64)
    if losses.ndim != 1 or len(losses) < 2:
        raise InputError(
            f"{name} has shape {losses.shape}; expected at least 2 losses in one dimension: pass "
            f"one loss per example, for instance from membership_losses(model, x, y)."
        )
    if np.isnan(losses).any():
        raise InputError(
            f"{name} holds {int(np.isnan(losses).sum())} NaN; expected a number per example: "
            f"check the model's predictions on those examples."
        )
    # An infinite loss is a legitimate "certainly wrong"; only its mean could not be printed.
    return np.minimum(losses, np.finfo(np.float64).max / max(1, len(losses)))
