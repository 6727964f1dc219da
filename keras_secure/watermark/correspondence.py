"""Which unit of the suspect answers to which of the reference's, and at what scale."""

from dataclasses import dataclass, field

import numpy as np

from keras_secure.watermark.pairing import WeightPair


@dataclass
class UnitMap:
    """The suspect's units for one group of the reference's units.

    Args:
        size: How many units the reference has.
        available: How many the suspect has.
        source: Integer array of shape (size,): the suspect's unit for each, or -1.
        similarity: Float array of shape (size,): how alike they are, from -1 to 1.
        copies: Pairs (unit, suspect's unit): further parts of a unit that was split.
        known: Whether the units were matched yet.
        chance: The median similarity that matching finds where there is nothing to find.
    """

    size: int
    available: int
    source: np.ndarray
    similarity: np.ndarray
    copies: list[tuple[int, int]] = field(default_factory=list)
    known: bool = False
    chance: float = 0.0


class Correspondence:
    """All unit maps and scales between two models.

    Args:
        units: The reference's units, each with the suspect's.
    """

    def __init__(self, units):
        self.maps = {}
        self.scales = {}
        for own, other in units.items():
            same = own.size == other.size
            source = np.arange(own.size) if same else np.full(own.size, -1)
            self.maps[own] = UnitMap(
                own.size, other.size, source, np.ones(own.size), known=own.pinned and same
            )

    def scale(self, segment):
        """The scales of a segment's units, by the suspect's number; 1 where nothing is known."""
        available = self.maps[segment.units.root()].available
        return self.scales.setdefault(segment.scale.root(), np.ones(available))

    def known(self, weight, but=None):
        """Whether the units on all axes of a weight were matched, but for those of one axis."""
        return all(
            self.maps[segment.units.root()].known
            for role in weight.roles
            if role.axis != but
            for segment in role.layout
        )

    def aligned(self, pair: WeightPair, but=None):
        """Brings a suspect's weight into the reference's order and scale.

        Args:
            pair: The two weights.
            but: An axis that is left as it is.

        Returns:
            A float64 array of the reference's view (with the suspect's length on axis `but`);
            zero where a unit of the reference has no counterpart.
        """
        values = pair.found
        for axis in range(values.ndim):
            if axis != but:
                values = self._along(axis, pair, values)
        return values

    def present(self, pair: WeightPair, but):
        """The reference's values, zero where the suspect has no unit to compare with."""
        values = pair.values
        for role in pair.reference.roles:
            if role.axis == but:
                continue
            for segment in role.layout:
                missing = self.maps[segment.units.root()].source < 0
                if missing.any():
                    values = np.moveaxis(values.copy(), role.axis, 0)
                    values[segment.grid[:, missing].ravel()] = 0
                    values = np.moveaxis(values, 0, role.axis)
        return values

    def _along(self, axis, pair, values):
        roles = [
            (own, other)
            for own, other in zip(pair.reference.roles, pair.suspect.roles, strict=True)
            if own.axis == axis
        ]
        if not roles:
            return values
        values = np.moveaxis(values, axis, 0)
        result = np.zeros((pair.reference.view[axis], *values.shape[1:]))
        shape = (-1,) + (1,) * (values.ndim - 1)
        for place, (own, other) in enumerate(roles):
            for mine, theirs in zip(own.layout, other.layout, strict=True):
                unit_map = self.maps[mine.units.root()]
                scale = self.scale(mine)
                units = np.flatnonzero(unit_map.source >= 0)
                found = unit_map.source[units]
                target = mine.grid[:, units].ravel()
                taken = values[theirs.grid[:, found].ravel()] if place == 0 else result[target]
                factor = np.tile(scale[found], len(mine.grid)).reshape(shape)
                result[target] = _restored(taken, factor, own.power, pair.suspect.epsilon)
                if own.power == "in" and len(roles) == 1:
                    for unit, copy in unit_map.copies:
                        result[mine.grid[:, unit]] += values[theirs.grid[:, copy]] * scale[copy]
        return np.moveaxis(result, 0, axis)


def _restored(values, scale, power, epsilon):
    if power == "out":
        return values / scale
    if power == "in":
        return values * scale
    if power == "variance":
        return (values + epsilon) / np.square(scale) - epsilon
    if power == "sign":
        return values * np.sign(scale)
    return values
