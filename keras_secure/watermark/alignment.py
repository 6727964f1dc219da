"""Bringing a suspect's weights into the order and scale of the owner's reference."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_secure.errors import InputError
from keras_secure.watermark.alignment_report import AlignmentReport, MatchedUnits
from keras_secure.watermark.kernels import Kernel, choose_kernels
from keras_secure.watermark.mark import Mark
from keras_secure.watermark.matching import match
from keras_secure.watermark.pairing import pair
from keras_secure.watermark.symmetries import structure_of
from keras_secure.watermark.unmarked import unmarked


@dataclass(frozen=True)
class Alignment:
    """A suspect's weights as they would stand in the reference.

    Args:
        weights: The suspect's weights by the reference's paths, in the reference's shapes, float64.
            A unit without counterpart is zero.
        report: How they were found.
        kernels: Those that the mark is read from, with the reference's names and numbers.
    """

    weights: dict[str, np.ndarray]
    report: AlignmentReport
    kernels: tuple[Kernel, ...] = ()


def align(
    suspect: Any,
    reference: Any,
    mark: Mark | None = None,
    layers: str | Sequence[str] | None = None,
) -> Alignment:
    """Undoes what can be done to a model's neurons without changing what it computes.

    Neurons, channels, heads and recurrent units are matched to the reference's by the weights that
    lead to them and from them, from the input on; scales and signs are recovered, silent units
    dropped and the parts of split ones put together. Layers correspond by structure: neither names
    nor the class of the container matter. See `structure_of` for what is followed.

    The mark is projected out of the reference before anything is compared, so nothing is chosen by
    looking at the message: on the bits of a model that knows nothing of the key, re-alignment has
    no influence (`docs/watermarks.md` has the argument, and what it rests on: that the reference
    was fixed before the suspect was seen). Without a `mark` the reference is taken as it is, and
    what is read from the result is evidence of nothing.

    Args:
        suspect: A built model, or the path of a `.keras` file.
        reference: The owner's marked model, or the path of its `.keras` file.
        mark: The mark that is going to be read.
        layers: The layers that it was put on, as given to `attach` or `embed`.

    Returns:
        An `Alignment`. Its `report.status` says "cannot be compared" where the suspect has another
        architecture, and "not matching" where it has the same one and other weights.

    Raises:
        InputError: One of the models cannot be followed, or the mark is dormant or fits no weight
            of the reference.

    Example:

    >>> model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(32, "relu"),
    ...                           keras.layers.Dense(4)])
    >>> first, bias, second, offset = model.get_weights()
    >>> other = keras.models.clone_model(model)
    >>> other.set_weights([2 * first[:, ::-1], 2 * bias[::-1], second[::-1] / 2, offset])
    >>> alignment = align(other, model)
    >>> alignment.report.status
    'matching'
    >>> bool(np.allclose(alignment.weights[model.layers[0].kernel.path], first, atol=1e-5))
    True

    Reference:
        Ainsworth et al. 2023, Git Re-Basin (arXiv 2209.04836), section 3.2.
    """
    suspect, reference = as_model(suspect), as_model(reference)
    wanted = [] if mark is None else choose_kernels(reference, mark, layers)
    values = {id(kernel.weight): unmarked(kernel.values(), mark, kernel.copy) for kernel in wanted}
    own, other = structure_of(reference), structure_of(suspect)
    pairing = pair(own, other, values)
    found = {id(one.reference.tensor): one.reference for one in pairing.pairs}
    if not found or (wanted and not found.keys() & values.keys()):
        report = AlignmentReport(obstacle=pairing.obstacle, comparable=False)
        return Alignment({}, report)
    correspondence = match(pairing)
    weights = {
        one.reference.path: correspondence.aligned(one).reshape(one.reference.tensor.shape)
        for one in pairing.pairs
    }
    kernels = tuple(
        Kernel(kernel.name, kernel.copy, weights[found[id(kernel.weight)].path])
        for kernel in wanted
        if id(kernel.weight) in found
    )
    report = AlignmentReport(
        layers=tuple(
            _matched(units.name, correspondence.maps[units])
            for units in pairing.units
            if not units.pinned
        ),
        compared=tuple(weights),
        obstacle=pairing.obstacle,
        unfollowed=tuple(dict.fromkeys(own.unfollowed)),
    )
    return Alignment(weights, report, kernels)


def as_model(target: Any) -> Any:
    """Returns a model as it is, and loads one from the path of a `.keras` file."""
    if not isinstance(target, (str, Path)):
        return target
    if not Path(target).is_file():
        raise InputError(f"There is no model file {str(target)!r}.")
    return keras.saving.load_model(target, compile=False)


def _matched(name, unit_map):
    matched = int(np.sum(unit_map.source >= 0))
    merged = len(unit_map.copies)
    return MatchedUnits(
        layer=name,
        units=unit_map.size,
        suspect_units=unit_map.available,
        matched=matched,
        dropped=unit_map.available - matched - merged,
        merged=merged,
        similarity=float(np.median(unit_map.similarity)),
        chance=unit_map.chance,
    )
