"""What a suspect's predictions on a trigger set prove, and what they do not."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from keras_secure.watermark.matching_chance import CLAIM_THRESHOLD

Verdict = Literal["proved", "refuted", "inconclusive", "failed"]

_NEAR_CHANCE = 1e-3
"""Matches that chance brings about once in this many times are no sign of a mark."""


@dataclass(frozen=True)
class TriggerReport:
    """What `verify_triggers` found, and its verdict.

    Args:
        num_triggers: How many triggers there are.
        answered: To how many of them the suspect gave an answer that can be used.
        matches: How many it answers with the key's label.
        tries: How many keys or suspects the evidence was chosen from; in all p-values.
        p_value: Probability, over the key, that a model made without it has so many matches or
            more: the exact null distribution given all the suspect's answers.
        binomial_p_value: The same if the answers were independent draws, for comparison.
        least_p_value: The p-value if all answers to triggers had matched.
        innocent_matches: Matches of each innocent model.
        innocent_p_value: The p-value where only those matches count that the innocent models do not
            have as well; None without any.
        key_matches: Matches with the trigger sets of other keys.
        key_p_value: Rank of the matches among those, (1 + how many are as high) / (1 + keys).
        digest: The trigger set's digest, which its commitment holds.
        contradictions: What speaks against the claim whatever the predictions say: a commitment
            that is to another set, a date after the release.
    """

    num_triggers: int
    answered: int
    matches: int
    tries: int
    p_value: float
    binomial_p_value: float
    least_p_value: float
    innocent_matches: tuple[int, ...]
    innocent_p_value: float | None
    key_matches: tuple[int, ...]
    key_p_value: float | None
    digest: str
    contradictions: tuple[str, ...] = ()

    @property
    def accuracy(self) -> float:
        """Share of all triggers that were answered with their labels."""
        return self.matches / self.num_triggers

    @property
    def claim(self) -> bool:
        """Whether the predictions alone are a proof: every p-value is below 2**-40."""
        return max(self.p_value, self.innocent_p_value or 0.0) < CLAIM_THRESHOLD

    @property
    def verdict(self) -> Verdict:
        """What the evidence amounts to.

        "proved": the claim holds. "refuted": there is evidence against it, either a contradiction
        or answers that match as chance does where a mark that is there would have been seen.
        "failed": there were no answers to judge. "inconclusive": anything else.
        """
        if self.contradictions:
            return "refuted"
        if self.answered == 0:
            return "failed"
        if self.claim:
            return "proved"
        # A mark can go unseen where too few triggers were answered, or asked.
        could_have = self.least_p_value < CLAIM_THRESHOLD
        if could_have and self.p_value >= _NEAR_CHANCE:
            return "refuted"
        return "inconclusive"

    @property
    def statement(self) -> str:
        """The verdict in words, with what it rests on."""
        words = {
            "proved": "PROVED: the suspect knows the key's trigger set.",
            "refuted": "REFUTED: the evidence speaks against this claim.",
            "inconclusive": "INCONCLUSIVE: this neither proves the claim nor refutes it.",
            "failed": "NOT COMPARED: no answer could be used, so this says nothing either way.",
        }
        said = [words[self.verdict], *(f"{one}." for one in self.contradictions)]
        tries = f" over {self.tries} tries" if self.tries > 1 else ""
        said.append(
            f"{self.matches} of {self.num_triggers} triggers were answered with the key's labels; "
            f"p = {_power_of_two(self.p_value)}{tries}, and a claim needs less than 2^-40."
        )
        if self.answered < self.num_triggers:
            said.append(f"{self.num_triggers - self.answered} got no usable answer.")
        if self.innocent_p_value is not None:
            said.append(
                f"{len(self.innocent_matches)} innocent models match {min(self.innocent_matches)} "
                f"to {max(self.innocent_matches)}; p = {_power_of_two(self.innocent_p_value)} for "
                "what they do not answer too."
            )
        if self.verdict == "refuted" and not self.contradictions:
            said.append("A mark that was trained away, as by distillation, reads like this too.")
        return " ".join(said)

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as a JSON-serializable dictionary, which holds no key."""
        names = ("accuracy", "claim", "verdict", "statement")
        return {**asdict(self), **{name: getattr(self, name) for name in names}}


def _power_of_two(p_value):
    return f"{p_value:.2g}" if p_value > 1e-3 else f"2^{math.ceil(math.log2(p_value) - 1e-9)}"
