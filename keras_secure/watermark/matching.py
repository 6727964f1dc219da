"""Matching the units of two models by their weights."""

import numpy as np

from keras_secure.watermark.correspondence import Correspondence, UnitMap
from keras_secure.watermark.evidence import gather, similarity
from keras_secure.watermark.symmetries import MAGNITUDE, SIGN

_MAX_SWEEPS = 20
# Two units of a suspect whose incoming weights point this much in one direction are one unit.
_SAME_DIRECTION = 0.98
_FEWEST_COORDINATES = 4
_EXTREME = 1e6
_TOLERANCE = 1e-4


def match(pairing, seed=0) -> Correspondence:
    """Finds which unit of a suspect answers to which of the reference's.

    From the inputs on, the units about which most is known already are matched next, by
    linear assignment over the cosines of their weights; then all are matched again by what leads to
    them and what they lead to, until nothing changes.

    Args:
        pairing: The `Pairing` of the two models.
        seed: For the control that tells what matching finds in noise.

    Returns:
        A `Correspondence`.

    Reference:
        Ainsworth et al. 2023, Git Re-Basin (arXiv 2209.04836), section 3.2, which takes inner
        products of models of one size; here are scales, signs and sizes too.
    """
    correspondence = Correspondence(pairing.units)
    by_units = {
        units: [pair for pair in pairing.pairs if _knows(pair, units)] for units in pairing.units
    }
    families: dict = {}
    for units in pairing.units:
        families.setdefault(units.family.root(), []).append(units)
    waiting = [family for family in families.values() if not family[0].pinned]
    order = []
    while waiting:
        best = max(waiting, key=lambda family: _coordinates(family, by_units, correspondence))
        waiting = [family for family in waiting if family is not best]
        order.append(best)
        _match_family(best, pairing, by_units, correspondence)
    pinned = [units for units in pairing.units if units.pinned]
    for units in pinned:
        _rescale(units, by_units[units], correspondence)
    for _ in range(_MAX_SWEEPS):
        changed = [_match_family(family, pairing, by_units, correspondence) for family in order]
        for units in pinned:
            _rescale(units, by_units[units], correspondence)
        if not any(changed):
            break
    generator = np.random.default_rng(seed)
    for family in order:
        for units in family:
            _control(units, by_units[units], correspondence, generator)
    return correspondence


def assign(similarities, blocks=None, found_blocks=None):
    """Gives every unit one of the suspect's, so that the sum of similarities is largest.

    Args:
        similarities: A list of arrays of shape (units, suspect's units), whose blocks are in one
            order.
        blocks: Number of equal runs of units that only change places as wholes, or None.
        found_blocks: The suspect's number.

    Returns:
        A list of integer arrays of shape (units,), -1 where there are too few.

    Example:

    >>> [order] = assign([np.array([[0.1, 0.9, 0.2], [0.8, 0.7, 0.0]])])
    >>> order.tolist()
    [1, 0]
    """
    if not blocks or not found_blocks:
        return [_assign(one) for one in similarities]
    inner: dict = {}
    value = np.zeros((blocks, found_blocks))
    cut = [
        one.reshape(blocks, len(one) // blocks, found_blocks, -1).transpose(0, 2, 1, 3)
        for one in similarities
    ]
    for mine in range(blocks):
        for found in range(found_blocks):
            for place, one in enumerate(cut):
                chosen = _assign(one[mine, found])
                inner[mine, found, place] = chosen
                taken = np.flatnonzero(chosen >= 0)
                value[mine, found] += one[mine, found][taken, chosen[taken]].sum()
    heads = _assign(value)
    results = []
    for place, one in enumerate(cut):
        _, _, size, found_size = one.shape
        result = np.full((blocks, size), -1)
        for mine, found in enumerate(heads):
            if found >= 0:
                chosen = inner[mine, found, place]
                result[mine] = np.where(chosen >= 0, chosen + found * found_size, -1)
        results.append(result.ravel())
    return results


def _assign(similarity_matrix):
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(similarity_matrix, maximize=True)
    result = np.full(len(similarity_matrix), -1)
    result[rows] = columns
    return result


def _knows(pair, units):
    return any(
        segment.units.root() is units for role in pair.reference.roles for segment in role.layout
    )


def _coordinates(family, by_units, correspondence):
    """How many aligned weights tell each unit apart."""
    return min(
        sum(
            pair.reference.array().size // units.size
            for pair in by_units[units]
            for role in pair.reference.roles
            if any(segment.units.root() is units for segment in role.layout)
            and correspondence.known(pair.reference, but=role.axis)
        )
        for units in family
    )


def _match_family(family, pairing, by_units, correspondence):
    """Matches units whose blocks go together; returns whether anything changed."""
    gathered = [gather(by_units[units], units, correspondence) for units in family]
    if not all(gathered):
        return False  # nothing leads there from what is known
    similarities = [similarity(evidence) for evidence in gathered]
    own = family[0].blocks
    found = pairing.units[family[0]].blocks
    changed = False
    for units, evidence, alike, order in zip(
        family, gathered, similarities, assign(similarities, own, found), strict=True
    ):
        unit_map = correspondence.maps[units]
        changed |= not unit_map.known or not np.array_equal(order, unit_map.source)
        unit_map.source, unit_map.known = order, True
        rows = np.flatnonzero(order >= 0)
        unit_map.similarity = np.zeros(units.size)
        unit_map.similarity[rows] = alike[rows, order[rows]]
        changed |= _set_scales(unit_map, evidence, correspondence)
        if own is None:
            changed |= _find_copies(unit_map, evidence, correspondence)
    return changed


def _rescale(units, pairs, correspondence):
    """Finds the scales of units whose order is fixed."""
    if correspondence.maps[units].known:
        _set_scales(
            correspondence.maps[units], gather(pairs, units, correspondence), correspondence
        )


def _set_scales(unit_map: UnitMap, evidence, correspondence):
    """Recovers scales as ratios of norms; returns whether any of them moved."""
    moved = False
    rows = np.flatnonzero(unit_map.source >= 0)
    columns = unit_map.source[rows]
    split = np.isin(rows, [unit for unit, _ in unit_map.copies])
    for scale in {scale for scale, _ in evidence}:
        signed, logs, weight = np.zeros(len(rows)), np.zeros(len(rows)), np.zeros(len(rows))
        for (other, power), one in evidence.items():
            if other is not scale:
                continue
            signed += one.coordinates * one.cosines()[rows, columns]
            norms, found = one.norms[rows, 0], one.found_norms[rows, columns]
            # What leads away from a unit that was split is only a part of it.
            usable = (norms > 1e-12) & (found > 1e-12) & ~(split & (power == "in"))
            ratio = np.log(np.where(usable, found, 1) / np.where(usable, norms, 1))
            logs += np.where(usable, ratio if power == "out" else -ratio, 0)
            weight += usable
        factor = np.ones(len(rows))
        if MAGNITUDE in scale.freedoms:
            factor = np.exp(
                np.clip(logs / np.maximum(weight, 1), *np.log([1 / _EXTREME, _EXTREME]))
            )
        if SIGN in scale.freedoms:
            factor = np.where(signed < 0, -factor, factor)
        values = correspondence.scales.setdefault(scale, np.ones(unit_map.available))
        moved |= not np.allclose(values[columns], factor, rtol=_TOLERANCE)
        values[columns] = factor
    return moved


def _find_copies(unit_map: UnitMap, evidence, correspondence):
    """Finds units of the suspect that are further parts of units already matched.

    Returns whether anything changed.
    """
    before, unit_map.copies, moved = unit_map.copies, [], False
    left = np.setdiff1d(np.arange(unit_map.available), unit_map.source)
    incoming = {scale: one for (scale, power), one in evidence.items() if power == "out"}
    telling = [one.direct and one.coordinates >= _FEWEST_COORDINATES for one in incoming.values()]
    if not len(left) or not any(telling):
        return bool(before)
    rows = np.flatnonzero(unit_map.source >= 0)
    columns = unit_map.source[rows]
    closeness = np.ones((len(left), len(rows)))
    for (scale, one), tells in zip(incoming.items(), telling, strict=True):
        if not tells:
            continue  # any two numbers are nearly parallel to some others
        cosines = one.own_cosines()[np.ix_(left, columns)]
        closeness = np.minimum(closeness, np.abs(cosines) if SIGN in scale.freedoms else cosines)
    best = closeness.argmax(axis=1)
    for place, candidate in enumerate(left):
        if closeness[place, best[place]] < _SAME_DIRECTION:
            continue
        twin = columns[best[place]]
        unit_map.copies.append((int(rows[best[place]]), int(candidate)))
        for scale, one in incoming.items():
            values = correspondence.scales[scale]
            norms = one.own_norms()
            ratio = norms[candidate] / max(norms[twin], 1e-30)
            sign = np.sign(one.own[candidate, twin]) if SIGN in scale.freedoms else 1.0
            magnitude = ratio if MAGNITUDE in scale.freedoms else 1.0
            scaled = values[twin] * magnitude * sign
            moved |= abs(values[candidate] - scaled) > _TOLERANCE * abs(scaled)
            values[candidate] = scaled
    return moved or before != unit_map.copies


def _control(units, pairs, correspondence, generator):
    unit_map = correspondence.maps[units]
    evidence = gather(pairs, units, correspondence, shuffle=generator)
    if evidence:
        alike = similarity(evidence)
        order = _assign(alike)
        rows = np.flatnonzero(order >= 0)
        unit_map.chance = float(np.median(alike[rows, order[rows]]))
