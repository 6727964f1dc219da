"""What a membership attack achieved, with the confidence it deserves."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from keras_secure.arguments import check_number
from keras_secure.errors import InputError
from keras_secure.intervals import proportion_interval
from keras_secure.leakage.roc import auc_with_interval

FALSE_POSITIVE_RATES = (0.001, 0.01, 0.1)
"""Where true-positive rates are reported: an attack that is sure about a few people harms them even
if it guesses on the average (Carlini et al. 2022, arXiv 2112.03570)."""


@dataclass(frozen=True)
class OperatingPoint:
    """How many members are found while few non-members are accused.

    Args:
        max_fpr: The false-positive rate that the threshold was allowed.
        fpr: The rate it has on the non-members, at most `max_fpr`.
        fpr_interval: Clopper-Pearson bounds of `fpr`.
        tpr: The share of members beyond the threshold.
        tpr_interval: Clopper-Pearson bounds of `tpr`.
    """

    max_fpr: float
    fpr: float
    fpr_interval: tuple[float, float]
    tpr: float
    tpr_interval: tuple[float, float]


@dataclass(frozen=True)
class Contradiction:
    """An operating point that no model with the stated guarantee has.

    Args:
        max_fpr: The false-positive rate that the threshold was allowed.
        tpr_low: What the true-positive rate is at least.
        allowed: What the guarantee allows it to be at most.
    """

    max_fpr: float
    tpr_low: float
    allowed: float


@dataclass(frozen=True)
class MembershipReport:
    """What a membership attack learns about who was in the training set.

    Args:
        attack: What attacked: `"threshold"`, `"lira online"` or `"lira offline"`.
        auc: Chance that a random member looks more like one than a random non-member; 0.5 is
            guessing.
        auc_interval: DeLong bounds of `auc`.
        tpr_at_fpr: One `OperatingPoint` per rate in `FALSE_POSITIVE_RATES`. Fewer non-members than
            one over the rate cannot measure it: the interval of the rate says so.
        advantage: True- minus false-positive rate at the threshold that the attack fixes before it
            sees the outcome, an unbiased picture of it; None if it fixes none.
        best_advantage: The same at the best threshold in hindsight, an optimistic bound for the
            attacker (it is above zero by chance alone).
        num_members: Training examples measured.
        num_non_members: Held-out examples measured.
        confidence: Two-sided level of every interval.
        num_shadows: Shadow models used.
        mean_member_loss: Mean loss of the members, where losses were measured.
        mean_non_member_loss: Mean loss of the non-members, where losses were measured.
    """

    attack: str
    auc: float
    auc_interval: tuple[float, float]
    tpr_at_fpr: tuple[OperatingPoint, ...]
    advantage: float | None
    best_advantage: float
    num_members: int
    num_non_members: int
    confidence: float
    num_shadows: int = 0
    mean_member_loss: float | None = None
    mean_non_member_loss: float | None = None

    def contradiction(self, epsilon: float, delta: float) -> Contradiction | None:
        """The first operating point that an (epsilon, delta)-private model could not have.

        No attack on such a model has a true-positive rate above `e^epsilon * FPR + delta`. All
        bounds hold together at `confidence`, so each is taken at a share of the error allowed. They
        treat examples as independent, which those that trained one model are not quite; the audit
        with a proof is `OneRunAudit`.

        Args:
            epsilon: The stated epsilon; infinity contradicts nothing.
            delta: The stated delta.

        Returns:
            A `Contradiction`, or None.

        Reference: Kairouz, Oh and Viswanath 2015, arXiv 1311.0776, theorem 2.1.
        """
        if not math.isfinite(epsilon):
            return None
        joint = 1.0 - (1.0 - self.confidence) / len(self.tpr_at_fpr)
        for point in self.tpr_at_fpr:
            hits = round(point.tpr * self.num_members)
            alarms = round(point.fpr * self.num_non_members)
            tpr_low, _ = proportion_interval(hits, self.num_members, joint)
            # The threshold sits at an order statistic, for which this bound is exact as well.
            _, fpr_high = proportion_interval(alarms, self.num_non_members, joint)
            allowed = math.exp(min(epsilon, 700.0)) * fpr_high + delta
            if tpr_low > allowed:
                return Contradiction(point.max_fpr, tpr_low, allowed)
        return None

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as a JSON-serializable dictionary."""
        return asdict(self)


def measure(
    attack: str,
    members: np.ndarray,
    others: np.ndarray,
    *,
    threshold: float | None = None,
    confidence: float = 0.95,
    **details,
) -> MembershipReport:
    """Measures an attack by the scores it gives.

    Args:
        attack: Its name.
        members: Scores of members, shape (m,), m at least 2, higher meaning surer to be a member.
        others: Scores of non-members, shape (n,), n at least 2.
        threshold: From which score the attack says "member"; None if it fixes no threshold.
        confidence: Two-sided confidence level of every interval, in (0, 1).
        **details: Further fields of `MembershipReport`.

    Returns:
        A `MembershipReport`.

    Raises:
        InputError: If `confidence` is out of range or a group has fewer than 2 members.

    Example:

    >>> measure("mine", np.array([2.0, 3.0]), np.array([1.0, 2.5])).auc
    0.75
    """
    check_number("confidence", confidence, "(0, 1)")
    if min(len(members), len(others)) < 2:
        raise InputError(
            f"There are {len(members)} members and {len(others)} non-members; at least 2 of each "
            f"are needed to measure an attack."
        )
    area, area_interval = auc_with_interval(members, others, confidence)
    thresholds = np.unique(np.concatenate([members, others]))
    rates = _share_from(members, thresholds) - _share_from(others, thresholds)
    advantage = None
    if threshold is not None:
        advantage = float(np.mean(members >= threshold) - np.mean(others >= threshold))
    return MembershipReport(
        attack=attack,
        auc=area,
        auc_interval=area_interval,
        tpr_at_fpr=tuple(
            _operating_point(members, others, rate, confidence) for rate in FALSE_POSITIVE_RATES
        ),
        advantage=advantage,
        best_advantage=max(0.0, float(np.max(rates))),
        num_members=len(members),
        num_non_members=len(others),
        confidence=confidence,
        **details,
    )


def _operating_point(members, others, max_fpr, confidence) -> OperatingPoint:
    # Everything strictly above the (k+1)-th largest non-member score accuses at most k of them,
    # ties included; the small term keeps 0.1 * 30 from being floored to 2.
    allowed = int(np.floor(max_fpr * len(others) + 1e-9))
    limit = np.sort(others)[::-1][min(allowed, len(others) - 1)]
    hits, alarms = int(np.sum(members > limit)), int(np.sum(others > limit))
    return OperatingPoint(
        max_fpr=max_fpr,
        fpr=alarms / len(others),
        fpr_interval=proportion_interval(alarms, len(others), confidence),
        tpr=hits / len(members),
        tpr_interval=proportion_interval(hits, len(members), confidence),
    )


def _share_from(scores, thresholds):
    return 1.0 - np.searchsorted(np.sort(scores), thresholds, side="left") / len(scores)
