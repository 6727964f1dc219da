"""Which weight of a suspect model stands where which weight of the reference stands."""

from dataclasses import dataclass, field

import numpy as np

from keras_secure.watermark.symmetries import Step, Structure, Units, Weight

# Weights that one of two layers may lack: what they add can be nothing.
_OPTIONAL = ("bias", "beta")


@dataclass(frozen=True)
class WeightPair:
    """Two weights with the same roles.

    Args:
        reference: The reference's weight.
        suspect: The suspect's.
        layer: The reference's layer.
        values: The reference's values, float64 in its view, without its marks.
        found: The suspect's values in its view.
        counted: Of which values matching may make use, a boolean array; None for all.
    """

    reference: Weight
    suspect: Weight
    layer: str
    values: np.ndarray
    found: np.ndarray
    counted: np.ndarray | None = None


@dataclass
class Pairing:
    """What two structures have in common, from the input on.

    Args:
        pairs: The weights.
        units: The reference's groups of units, each with the suspect's.
        steps: How many layers with weights were paired.
        obstacle: Why pairing ended before the reference's last layer; empty when it did not.
    """

    pairs: list[WeightPair] = field(default_factory=list)
    units: dict[Units, Units] = field(default_factory=dict)
    steps: int = 0
    obstacle: str = ""


def pair(reference: Structure, suspect: Structure, marked=None) -> Pairing:
    """Pairs the weights of two models layer by layer, by structure and never by name.

    It ends at the first layers that differ: a model with a new head is paired up to the head.

    Args:
        reference: The structure of the reference.
        suspect: That of the suspect.
        marked: By the `id` of a variable, values to take in place of the reference's own and
            those of them that count, a boolean array.

    Returns:
        A `Pairing`.
    """
    result = Pairing()
    marked = marked or {}
    for place, own in enumerate(reference.steps):
        if place == len(suspect.steps):
            result.obstacle = (
                f"the suspect has no layer with weights for {own.name!r} and what follows it"
            )
            return result
        other = suspect.steps[place]
        units = dict(result.units)
        obstacle = _obstacle(own, other, units)
        if obstacle:
            result.obstacle = (
                f"layer {own.name!r} of the reference and {other.name!r} of the suspect, number "
                f"{place + 1} from the input, differ: {obstacle}"
            )
            return result
        result.units = units
        result.steps += 1
        for kind in own.weights.keys() & other.weights.keys():
            mine, theirs = own.weights[kind], other.weights[kind]
            values, counted = marked.get(id(mine.tensor), (None, None))
            values = mine.array() if values is None else np.asarray(values, "float64")
            counted = None if counted is None else counted.reshape(mine.view)
            result.pairs.append(
                WeightPair(
                    mine, theirs, own.name, values.reshape(mine.view), theirs.array(), counted
                )
            )
    return result


def _obstacle(own: Step, other: Step, units: dict[Units, Units]) -> str:
    lacking = [
        kind
        for kind in own.weights.keys() ^ other.weights.keys()
        if not any(kind.endswith(optional) for optional in _OPTIONAL)
    ]
    if lacking:
        return f"only one of them has a {sorted(lacking)[0]}"
    for kind in own.weights.keys() & other.weights.keys():
        mine, theirs = own.weights[kind], other.weights[kind]
        if not _coupled_alike(mine, theirs, units):
            return f"their {kind}s of shapes {mine.view} and {theirs.view} cannot correspond"
    return ""


def _coupled_alike(mine: Weight, theirs: Weight, units: dict[Units, Units]) -> bool:
    signatures = [[(role.axis, role.power) for role in one.roles] for one in (mine, theirs)]
    if len(mine.view) != len(theirs.view) or signatures[0] != signatures[1]:
        return False
    free = {role.axis for role in mine.roles}
    if any(
        one != other
        for axis, (one, other) in enumerate(zip(mine.view, theirs.view, strict=True))
        if axis not in free
    ):
        return False
    for one, other in zip(mine.roles, theirs.roles, strict=True):
        if len(one.layout) != len(other.layout):
            return False
        for ours, found in zip(one.layout, other.layout, strict=True):
            root, found_root = ours.units.root(), found.units.root()
            if units.setdefault(root, found_root) is not found_root:
                return False
            if ours.grid.shape[0] != found.grid.shape[0]:
                return False
            if root.pinned and root.size != found_root.size:
                return False
    return True
