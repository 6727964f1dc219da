"""What was changed to make a model trainable privately, and what was not."""

from dataclasses import dataclass, field


@dataclass
class CompatibilityReport:
    """What `make_compatible` did, by layer name.

    Args:
        replaced: Dict from the name of each BatchNormalization that became a GroupNormalization to
            its number of groups. Both have the same name.
        removed: Names of layers whose activity regularizer was removed.
        kept: Sentences on what stays although it looks suspicious, and why.
        left_for_you: Sentences on what no change of layers can settle.

    Example:

    >>> report = CompatibilityReport(replaced={"bn": 16})
    >>> print(report)
    Replaced: 'bn' is a GroupNormalization of 16 group(s).
    Scale and offset (gamma, beta) carried over; the moving statistics were dropped, since they \
were learnt from data, so outputs differ until the model is trained again.
    """

    replaced: dict[str, int] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    left_for_you: list[str] = field(default_factory=list)

    @property
    def is_complete(self):
        """Whether nothing is left for the user to do."""
        return not self.left_for_you

    def __str__(self):
        lines = [
            f"Replaced: {name!r} is a GroupNormalization of {groups} group(s)."
            for name, groups in self.replaced.items()
        ]
        if lines:
            lines.append(
                "Scale and offset (gamma, beta) carried over; the moving statistics were dropped, "
                "since they were learnt from data, so outputs differ until the model is trained "
                "again."
            )
        lines += [
            f"Removed: the activity regularizer of {name!r}, which averages over the batch; put it "
            "into the loss, which is computed by example."
            for name in self.removed
        ]
        lines += [f"Kept: {sentence}" for sentence in self.kept]
        lines += [f"Left for you: {sentence}" for sentence in self.left_for_you]
        return "\n".join(lines) or "Nothing had to change."
