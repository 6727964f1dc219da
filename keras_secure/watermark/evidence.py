"""How alike units are, by the weights that lead to them and from them."""

from dataclasses import dataclass

import numpy as np

from keras_secure.watermark.symmetries import SIGN


@dataclass
class Evidence:
    """Inner products of the weights of units, for weights that share one scale.

    Args:
        products: Array of shape (units, suspect's units).
        norms: Of the reference's weights, shape (units, 1).
        found_norms: Of the suspect's that they are compared with, shape (units, suspect's units).
        own: Inner products of the suspect's units with each other.
        coordinates: How many weights of each unit were compared.
        direct: Whether no other scale, which may be unknown yet, was taken out of them.
    """

    products: np.ndarray
    norms: np.ndarray
    found_norms: np.ndarray
    own: np.ndarray
    coordinates: int
    direct: bool

    def cosines(self):
        """Cosines of the angles between units, shape (units, suspect's units)."""
        return self.products / np.maximum(self.norms * self.found_norms, 1e-30)

    def own_cosines(self):
        """Those between the suspect's own units."""
        norms = self.own_norms()
        return self.own / np.maximum(np.outer(norms, norms), 1e-30)

    def own_norms(self):
        """Norms of the suspect's units, shape (suspect's units,)."""
        return np.sqrt(np.diag(self.own))


def gather(pairs, units, correspondence, shuffle=None):
    """Compares the units of one group by all weights whose other axes are aligned.

    Every weight is divided by the root mean square of the reference's, so that each of its values
    counts as much as one of a kernel.

    Args:
        pairs: The `WeightPair`s that know the units.
        units: The reference's units.
        correspondence: What is matched so far.
        shuffle: A numpy random generator that puts the suspect's values out of order, to learn
            what matching finds in noise.

    Returns:
        A dictionary from (scale, power) to `Evidence`, power "out" or "in".
    """
    rows: dict = {}
    for pair in pairs:
        for axis, segment, theirs, power in _sides(pair, units):
            if not correspondence.known(pair.reference, but=axis):
                continue
            mine = _by_unit(correspondence.present(pair, axis), axis, segment.grid)
            counted = np.ones_like(mine)
            if pair.counted is not None:
                counted = _by_unit(pair.counted.astype("float64"), axis, segment.grid)
                mine = mine * counted
            size = np.sqrt(np.sum(np.square(mine)) / max(counted.sum(), 1))
            if size < 1e-12:
                continue
            values = correspondence.aligned(pair, but=axis)
            values = _with_other_scales(pair, axis, segment, values, correspondence)
            found = _by_unit(values, axis, theirs.grid)
            if shuffle is not None:
                found = shuffle.permuted(found, axis=1)
            direct = sum(role.axis == axis for role in pair.reference.roles) == 1
            key = (segment.scale.root(), power)
            rows.setdefault(key, []).append((mine / size, found / size, counted, direct))
    evidence = {}
    for key, parts in rows.items():
        *sides, direct = zip(*parts, strict=True)
        mine, found, counted = (np.concatenate(side, axis=1) for side in sides)
        evidence[key] = Evidence(
            mine @ found.T,
            np.linalg.norm(mine, axis=1, keepdims=True),
            np.sqrt(counted @ np.square(found).T),
            found @ found.T,
            max(round(float(counted.sum()) / len(counted)), 1),
            all(direct),
        )
    return evidence


def similarity(evidence):
    """Weighs all evidence to one number from -1 to 1 for each two units.

    What may be flipped counts alike with both signs, but with the same sign in all that shares
    its scale.
    """
    total, weight = 0.0, 0
    scales = {scale: None for scale, _ in evidence}
    for scale in scales:
        part = 0.0
        for (other, _), one in evidence.items():
            if other is scale:
                part = part + one.coordinates * one.cosines()
                weight += one.coordinates
        total = total + (np.abs(part) if SIGN in scale.freedoms else part)
    return total / weight


def _sides(pair, units):
    """The axes on which a weight knows the units: (axis, segment, suspect's segment, power)."""
    for own, other in zip(pair.reference.roles, pair.suspect.roles, strict=True):
        power = "out" if own.power == "none" else own.power
        if power not in ("out", "in"):
            continue
        roles = [role for role in pair.reference.roles if role.axis == own.axis]
        if power == "in" and len(roles) > 1:
            continue  # a depthwise kernel speaks for the scale behind it
        for mine, theirs in zip(own.layout, other.layout, strict=True):
            if mine.units.root() is units:
                yield own.axis, mine, theirs, power


def _with_other_scales(pair, axis, segment, values, correspondence):
    """Takes out the scales of other roles on the same axis."""
    for own, other in zip(pair.reference.roles, pair.suspect.roles, strict=True):
        if own.axis != axis or own.power not in ("in", "sign"):
            continue
        for mine, theirs in zip(own.layout, other.layout, strict=True):
            if mine.scale.root() is segment.scale.root():
                continue
            values = np.moveaxis(values.copy(), axis, 0)
            scale = correspondence.scale(mine).reshape((1, -1) + (1,) * (values.ndim - 1))
            values[theirs.grid] *= scale if own.power == "in" else np.sign(scale)
            values = np.moveaxis(values, 0, axis)
    return values


def _by_unit(values, axis, grid):
    values = np.moveaxis(values, axis, 0)
    rows = values.reshape(len(values), -1)[grid]
    return np.swapaxes(rows, 0, 1).reshape(grid.shape[1], -1)
