"""What was read out of a model, what it proves, and what it does not."""

import math
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Literal

from keras_secure.watermark.matching_chance import CLAIM_THRESHOLD

Verdict = Literal["proved", "refuted", "inconclusive", "failed"]

_NEAR_CHANCE = 1e-3
"""Bits that fair coins would read as well once in this many times are no sign of a mark."""


@dataclass(frozen=True)
class Reading:
    """Raw bits read from one weight, or from all of them together.

    Args:
        name: The weight, or "all" for the scores of all weights added up.
        shape: The weight's shape; of "all", empty.
        bit_errors: How many raw bits differ from those of the message.
    """

    name: str
    shape: tuple[int, ...]
    bit_errors: int


@dataclass(frozen=True)
class WatermarkReport:
    """What `verify` found, and its verdict.

    Args:
        num_bits: Raw bits of the message.
        readings: One for each weight that was compared, and first one of all of them together when
            they are several.
        tries: How many readings, alignments and keys the evidence was chosen from.
        p_value: Probability that weights which know nothing of the key show so few errors in any
            of the tries.
        payload: The payload that the bits decode to, 16 hexadecimal digits; None where nothing
            legible was read, and for a message without a code.
        payload_matches: Whether that is the mark's own payload; None for a message without a code.
        other_payload_p_value: Where the decoded payload is another one: probability that random
            bits lie so close to the raw bits of any payload at all.
        not_compared: Weights that should carry the mark and could not be compared, and why.
        aligned: Whether the weights were first re-aligned with the owner's reference.
        contradictions: What speaks against the claim whatever the weights say: a commitment that is
            not to this key, a date after the release.
        notes: What a reader should know besides.
    """

    num_bits: int
    readings: tuple[Reading, ...]
    tries: int
    p_value: float
    payload: str | None = None
    payload_matches: bool | None = None
    other_payload_p_value: float | None = None
    not_compared: tuple[str, ...] = ()
    aligned: bool = False
    contradictions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> Reading | None:
        """The reading with the fewest errors, which the p-value is about."""
        return min(self.readings, key=lambda reading: reading.bit_errors, default=None)

    @property
    def bit_errors(self) -> int | None:
        """Raw bits read wrong in the best reading; None where nothing was compared."""
        return None if self.best is None else self.best.bit_errors

    @property
    def bit_error_rate(self) -> float | None:
        """Share of the raw bits that were read wrong: 0 for an intact mark, about 0.5 for none."""
        return None if self.best is None else self.best.bit_errors / self.num_bits

    @property
    def message_matches(self) -> bool:
        """Whether every raw bit was read right."""
        return self.bit_errors == 0

    @property
    def claim(self) -> bool:
        """Whether the bits alone are a proof: p below 2**-40, the tries counted in."""
        return bool(self.readings) and self.p_value < CLAIM_THRESHOLD

    @property
    def verdict(self) -> Verdict:
        """What the evidence amounts to.

        "proved": the claim holds. "refuted": there is evidence against it, either a contradiction
        or bits that read like coins where a mark that is there would have been read. "failed":
        nothing could be compared, which is no evidence at all. "inconclusive": anything else.
        """
        if self.contradictions:
            return "refuted"
        if not self.readings:
            return "failed"
        if self.claim:
            return "proved"
        if self.other_payload_p_value is not None and self.other_payload_p_value < CLAIM_THRESHOLD:
            return "refuted"
        could_have = self.tries * 2.0**-self.num_bits < CLAIM_THRESHOLD
        if could_have and not self.not_compared and self.p_value >= _NEAR_CHANCE:
            return "refuted"
        return "inconclusive"

    @property
    def statement(self) -> str:
        """The verdict in words, with what it rests on."""
        return " ".join(_sentences(self))

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as a JSON-serializable dictionary, which holds no key."""
        names = ("bit_errors", "bit_error_rate", "message_matches", "claim", "verdict", "statement")
        return {**asdict(self), **{name: getattr(self, name) for name in names}}


def matching_probability(matches: int, num_bits: int) -> Fraction:
    """Probability that at least `matches` of `num_bits` fair coins come up right, exactly.

    Example:

    >>> matching_probability(3, 4)
    Fraction(5, 16)
    """
    ways = sum(math.comb(num_bits, count) for count in range(matches, num_bits + 1))
    return Fraction(ways, 2**num_bits)


def power_of_two(p_value: float) -> str:
    """Writes a probability as a power of two, rounded to the weaker side.

    Example:

    >>> power_of_two(2.0**-256), power_of_two(0.3), power_of_two(1.0)
    ('2^-256', '0.3', '1')
    """
    if p_value > 1e-3:
        return f"{p_value:.2g}"
    return f"2^{math.ceil(math.log2(p_value) - 1e-9)}" if p_value > 0 else "0"


def _sentences(report: WatermarkReport) -> list[str]:
    words = {
        "proved": "PROVED: the key's mark is in this model.",
        "refuted": "REFUTED: the evidence speaks against this claim.",
        "inconclusive": "INCONCLUSIVE: this neither proves the claim nor refutes it.",
        "failed": "NOT COMPARED: nothing could be read, so this says nothing either way.",
    }
    said = [words[report.verdict], *(f"{one}." for one in report.contradictions)]
    if report.best is not None:
        where = report.best.name if report.best.name != "all" else "all weights together"
        after = ", after re-alignment with the reference" if report.aligned else ""
        tries = f" over {report.tries} tries" if report.tries > 1 else ""
        said.append(
            f"{report.num_bits - report.best.bit_errors} of {report.num_bits} raw bits agree in "
            f"{where}{after}; p = {power_of_two(report.p_value)}{tries}, and a claim needs less "
            "than 2^-40."
        )
        said += _about_payload(report)
        if report.verdict == "refuted" and not report.contradictions and not report.aligned:
            said.append(
                "Neurons that were permuted or rescaled read like this too: give the owner's "
                "reference to re-align them first."
            )
    said += [f"Not compared: {one}." for one in report.not_compared]
    return [*said, *(f"{one}." for one in report.notes)]


def _about_payload(report: WatermarkReport) -> list[str]:
    if report.payload is None:
        return []
    if report.payload_matches:
        return [f"The payload {report.payload} was decoded and is the mark's own."]
    if report.other_payload_p_value is not None and report.other_payload_p_value < CLAIM_THRESHOLD:
        chance = power_of_two(report.other_payload_p_value)
        return [
            f"The key reads another payload, {report.payload}, than the one claimed (p = {chance} "
            "for any payload)."
        ]
    return [f"The bits decode to {report.payload}, which is not the mark's payload."]
