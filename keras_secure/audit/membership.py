"""Membership leakage: does the loss of an example tell that the model was trained on it?"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from keras_secure.attacks import proportion_interval
from keras_secure.audit.roc import auc_with_interval
from keras_secure.errors import InputError

FALSE_POSITIVE_RATES = (0.01, 0.1)
"""Where true-positive rates are reported: an attack that is sure about a few people harms them even
if it guesses on the average (Carlini et al. 2022, arXiv 2112.03570)."""


@dataclass(frozen=True)
class OperatingPoint:
    """How many members are found while few non-members are accused.

    Args:
        max_fpr: The false-positive rate that the threshold was allowed.
        fpr: The rate it has on the non-members, at most `max_fpr`.
        fpr_interval: Clopper-Pearson bounds of `fpr`.
        tpr: The share of members below the threshold.
        tpr_interval: Clopper-Pearson bounds of `tpr`.
    """

    max_fpr: float
    fpr: float
    fpr_interval: tuple[float, float]
    tpr: float
    tpr_interval: tuple[float, float]


@dataclass(frozen=True)
class MembershipReport:
    """What a loss-threshold attack learns about who was in the training set.

    Args:
        auc: Chance that a random member has a lower loss than a random non-member; 0.5 is guessing.
        auc_interval: DeLong bounds of `auc`.
        tpr_at_fpr: One `OperatingPoint` per rate in `FALSE_POSITIVE_RATES`.
        advantage: True- minus false-positive rate at the mean loss of the members, the threshold of
            Yeom et al.; it needs no tuning, so it is an unbiased picture of that attack.
        best_advantage: The same at the best threshold in hindsight, an optimistic bound for the
            attacker (it is above zero by chance alone).
        num_members: Training examples measured.
        num_non_members: Held-out examples measured.
        mean_member_loss: Mean loss of the members.
        mean_non_member_loss: Mean loss of the non-members.
        confidence: Two-sided level of every interval.
    """

    auc: float
    auc_interval: tuple[float, float]
    tpr_at_fpr: tuple[OperatingPoint, ...]
    advantage: float
    best_advantage: float
    num_members: int
    num_non_members: int
    mean_member_loss: float
    mean_non_member_loss: float
    confidence: float

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as a JSON-serializable dictionary."""
        return asdict(self)


def threshold_membership_attack(
    member_losses, non_member_losses, *, confidence: float = 0.95
) -> MembershipReport:
    """Attacks membership by one threshold on the loss: low loss means "was trained on".

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
    if not 0.0 < confidence < 1.0:
        raise InputError(f"confidence lies strictly between 0 and 1; got {confidence}.")
    area, area_interval = auc_with_interval(-members, -others, confidence)
    thresholds = np.unique(np.concatenate([members, others]))
    rates = _share_at_most(members, thresholds) - _share_at_most(others, thresholds)
    mean = float(np.mean(members))
    return MembershipReport(
        auc=area,
        auc_interval=area_interval,
        tpr_at_fpr=tuple(
            _operating_point(members, others, rate, confidence) for rate in FALSE_POSITIVE_RATES
        ),
        advantage=float(np.mean(members <= mean) - np.mean(others <= mean)),
        best_advantage=max(0.0, float(np.max(rates))),
        num_members=len(members),
        num_non_members=len(others),
        mean_member_loss=mean,
        mean_non_member_loss=float(np.mean(others)),
        confidence=confidence,
    )


def _operating_point(members, others, max_fpr, confidence) -> OperatingPoint:
    # Everything strictly below the (k+1)-th smallest non-member loss accuses at most k of them,
    # ties included; the small term keeps 0.1 * 30 from being floored to 2.
    allowed = int(np.floor(max_fpr * len(others) + 1e-9))
    limit = np.sort(others)[min(allowed, len(others) - 1)]
    hits, alarms = int(np.sum(members < limit)), int(np.sum(others < limit))
    return OperatingPoint(
        max_fpr=max_fpr,
        fpr=alarms / len(others),
        fpr_interval=proportion_interval(alarms, len(others), confidence),
        tpr=hits / len(members),
        tpr_interval=proportion_interval(hits, len(members), confidence),
    )


def _share_at_most(losses, thresholds):
    return np.searchsorted(np.sort(losses), thresholds, side="right") / len(losses)


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
