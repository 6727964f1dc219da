"""Bringing a suspect's weights into the order and scale of the owner's reference."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity import load_model
from keras_secure.watermark.alignment_report import AlignmentReport, MatchedUnits
from keras_secure.watermark.kernels import Kernel, choose_kernels
from keras_secure.watermark.mark import Mark
from keras_secure.watermark.matching import match
from keras_secure.watermark.pairing import pair
from keras_secure.watermark.quantized_layers import as_floats
from keras_secure.watermark.symmetries import Structure, structure_of
from keras_secure.watermark.unmarked import halves, unmarked

# The values of weights by the `id` of their variables, and which of them count.
Fold = dict[int, tuple[np.ndarray, np.ndarray]]


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
        IntegrityError: The file of a model is not safe to load.

    Example:

    >>> import keras
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
    suspect, reference = as_floats(as_model(suspect)), as_floats(as_model(reference))
    wanted = [] if mark is None else choose_kernels(reference, mark, layers)
    folds = [{}] if mark is None else marked_folds(wanted, [k.values() for k in wanted], mark)
    return realigned(structure_of(reference), structure_of(suspect), wanted, folds)


def marked_folds(kernels: Sequence[Kernel], values, mark: Mark) -> list[Fold]:
    """What two alignments may see of marked weights: a half each, without the mark.

    Args:
        kernels: The reference's marked weights.
        values: Their values, one array for each.
        mark: The mark with its key.

    Returns:
        Two dictionaries from the `id` of a variable to its values and those that count.
    """
    folds: list[Fold] = [{}, {}]
    for kernel, array in zip(kernels, values, strict=True):
        first = halves(mark, kernel.shape, kernel.copy)
        for fold, half in zip(folds, (first, ~first), strict=True):
            fold[id(kernel.weight)] = unmarked(array, mark, kernel.copy, half), half
    return folds


def realigned(
    own: Structure, other: Structure, wanted: Sequence[Kernel], folds: Sequence[Fold]
) -> Alignment:
    """Re-aligns by structures that are known already; see `align`.

    Args:
        own: The reference's structure.
        other: The suspect's.
        wanted: The reference's marked weights.
        folds: See `marked_folds`. Of a marked weight, what one alignment may see is taken from the
            other.

    Returns:
        An `Alignment`.
    """
    found: dict[int, np.ndarray] = {}
    weights: dict[str, np.ndarray] = {}
    matches = []
    for fold in folds:
        pairing = pair(own, other, fold)
        known = {id(one.reference.tensor) for one in pairing.pairs}
        if not known or (wanted and not known & fold.keys()):
            return Alignment({}, AlignmentReport(obstacle=pairing.obstacle, comparable=False))
        correspondence = match(pairing)
        matches.append([(units, correspondence.maps[units]) for units in pairing.units])
        for one in pairing.pairs:
            aligned = correspondence.aligned(one).reshape(one.reference.tensor.shape)
            if id(one.reference.tensor) in fold:
                _, seen = fold[id(one.reference.tensor)]
                aligned = np.where(seen, 0.0, aligned)
                aligned += weights.get(one.reference.path, 0.0)
                found[id(one.reference.tensor)] = aligned
            weights[one.reference.path] = aligned
    report = AlignmentReport(
        layers=tuple(
            _matched(units.name, [unit_map for _, unit_map in maps])
            for maps in zip(*matches, strict=True)
            if not (units := maps[0][0]).pinned
        ),
        compared=tuple(weights),
        obstacle=pairing.obstacle,
        unfollowed=tuple(dict.fromkeys(own.unfollowed)),
    )
    kernels = tuple(
        Kernel(kernel.name, kernel.copy, found[id(kernel.weight)])
        for kernel in wanted
        if id(kernel.weight) in found
    )
    return Alignment(weights, report, kernels)


def as_model(target: Any) -> Any:
    """Returns a model as it is, and loads one from the path of a `.keras` file."""
    if not isinstance(target, (str, Path)):
        return target
    if not Path(target).is_file():
        raise InputError(
            f"There is no model file {str(target)!r}. Give the path of a .keras file, or a model."
        )
    # Who checks a claim has the reference from the claimant, and no reason to trust its file.
    try:
        return load_model(target, trust=None, compile=False)
    except IntegrityError as error:
        raise IntegrityError(
            f"The reference was not loaded: {error} If you trust the file, load it yourself and "
            "give the model."
        ) from error


def _matched(name, unit_maps):
    """Words for the first of several matches of the same units, and the least similarity of all."""
    first = unit_maps[0]
    matched = int(np.sum(first.source >= 0))
    merged = len(first.copies)
    return MatchedUnits(
        layer=name,
        units=first.size,
        suspect_units=first.available,
        matched=matched,
        dropped=first.available - matched - merged,
        merged=merged,
        similarity=min(float(np.median(one.similarity)) for one in unit_maps),
        chance=max(one.chance for one in unit_maps),
    )
