"""What re-alignment found, layer by layer."""

from dataclasses import asdict, dataclass, field
from typing import Any

# Models trained apart on the same data came to 0.17 at most, copies pruned by 90% to 0.25 and more.
_MATCHING = 0.25


@dataclass(frozen=True)
class MatchedUnits:
    """How the units of one layer were matched.

    Args:
        layer: The reference's layer that makes them.
        units: How many the reference has.
        suspect_units: How many the suspect has.
        matched: How many of the reference's units have a counterpart.
        dropped: Units of the suspect that answer to none: put in without a purpose.
        merged: Further parts of units that were split.
        similarity: Median cosine of the matched units' weights, from -1 to 1.
        chance: The same after the suspect's values were put out of order: what matching finds
            where there is nothing to find.
    """

    layer: str
    units: int
    suspect_units: int
    matched: int
    dropped: int
    merged: int
    similarity: float
    chance: float


@dataclass(frozen=True)
class AlignmentReport:
    """What could be compared, and how well it matches.

    Args:
        layers: A `MatchedUnits` for each group of units that may change places.
        compared: Paths of the reference's weights that have a counterpart.
        obstacle: Where the structures part and why; empty if they agree to the end.
        comparable: Whether what was asked for is among what could be compared.
        unfollowed: Layers whose symmetries are not known; units at their ends were left in place.
    """

    layers: tuple[MatchedUnits, ...] = ()
    compared: tuple[str, ...] = ()
    obstacle: str = ""
    comparable: bool = True
    unfollowed: tuple[str, ...] = field(default_factory=tuple)

    @property
    def confidence(self) -> float:
        """How far similarity is above chance, from 0 to 1 for equal weights, over all units."""
        total = sum(one.units for one in self.layers)
        if not total:
            return 1.0 if self.comparable else 0.0
        above = sum(
            one.units * (one.similarity - one.chance) / max(1 - one.chance, 1e-9)
            for one in self.layers
        )
        return max(0.0, min(1.0, above / total))

    @property
    def status(self) -> str:
        """One of "matching", "not matching" and "cannot be compared".

        "matching" says that the weights are alike, as those of copies are, and proves nothing by
        itself: evidence is what a mark reads.
        """
        if not self.comparable:
            return "cannot be compared"
        return "matching" if self.confidence >= _MATCHING else "not matching"

    def __str__(self):
        lines = [f"{self.status} (confidence {self.confidence:.2f})"]
        lines += [
            f"  {one.layer}: {one.matched} of {one.units} units matched in {one.suspect_units}, "
            f"{one.dropped} dropped, {one.merged} merged, similarity {one.similarity:.2f} "
            f"(chance {one.chance:.2f})"
            for one in self.layers
        ]
        if self.obstacle:
            lines.append(f"  {self.obstacle}")
        if self.unfollowed:
            lines.append(f"  left in place around {', '.join(self.unfollowed)}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as a JSON-serializable dictionary."""
        return {**asdict(self), "status": self.status, "confidence": self.confidence}
