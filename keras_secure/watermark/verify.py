"""Whether a model carries a mark, and how surely it does not do so by chance."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keras_secure.arguments import is_integer
from keras_secure.errors import InputError
from keras_secure.watermark.alignment import align, as_model
from keras_secure.watermark.kernels import Kernel, choose_kernels
from keras_secure.watermark.mark import Mark
from keras_secure.watermark.payload import NUM_PAYLOAD_BITS, decode, encode, payload_hex
from keras_secure.watermark.report import Reading, WatermarkReport, matching_probability
from keras_secure.watermark.spread_spectrum import SpreadSpectrum

_LEGIBLE = 1e-3


def verify(
    target: Any,
    mark: Mark | bytes | str,
    layers: str | Sequence[str] | None = None,
    *,
    reference: Any = None,
    tries: int = 1,
) -> WatermarkReport:
    """Reads a mark out of a model and weighs the evidence.

    Each weight is read by itself, and their scores are read added up. The p-value is the exact
    upper tail of a fair coin thrown once per raw bit, for the best of these readings, times the
    number of readings and of `tries` (Bonferroni). It is honest for a key that was fixed before the
    model was seen: the key's random signs make every bit of a foreign weight a fair coin,
    independent of the others, whatever the weight holds. A key found by searching for a good match
    proves nothing, so commit to yours before the release (`commit`), and count in `tries` whatever
    else the evidence was chosen from: keys, models, ways to align. A score of exactly zero, or one
    that is not a number, counts as an error; weights that are all zero or no numbers are not
    compared.

    Args:
        target: A model; or an array, a variable or a built layer.
        mark: The mark with its key, or the key alone, which means `SpreadSpectrum(key)`.
        layers: Of a model, the layers that the mark was put on, as given to `attach` or `embed`; by
            default every kernel and embedding table that is large enough.
        reference: The owner's copy of the marked model, or the path of its `.keras` file. The
            suspect's neurons are then brought back into its order and scale (`align`) before they
            are read, which undoes permutations, rescaling and neurons put in. Both readings, as it
            is and re-aligned, count as tries.
        tries: Number of independent attempts that this evidence is the best of, 1 or more.

    Returns:
        A `WatermarkReport`.

    Raises:
        InputError: The mark is dormant, or no weight can carry it.

    Example:

    >>> weight = np.random.default_rng(0).normal(size=(64, 64))
    >>> report = verify(weight, "never embedded")
    >>> 0.3 < report.bit_error_rate < 0.7, report.verdict
    (True, 'refuted')
    """
    if not isinstance(mark, Mark):
        mark = SpreadSpectrum(mark)
    check_tries(tries)
    if reference is None:
        return read(choose_kernels(target, mark, layers), mark, tries=tries)
    reference = as_model(reference)
    kernels, missing, notes = _realigned(target, reference, mark, layers)
    aligned = read(kernels, mark, tries=2 * tries, not_compared=missing, aligned=True, notes=notes)
    try:
        plain = read(choose_kernels(target, mark, layers), mark, tries=2 * tries)
    except InputError:  # its layers are not there under these names: that is what aligning is for
        return aligned
    if not aligned.readings:  # where nothing could be aligned, coins read as it is refute nothing
        return plain if plain.claim else aligned
    return plain if plain.p_value < aligned.p_value else aligned


def check_tries(tries: Any) -> None:
    """Raises `InputError` for a number of tries that would make evidence of nothing."""
    if not is_integer(tries) or tries < 1:
        raise InputError(f"tries={tries!r} was given; an integer of at least 1 was expected.")


def read(
    kernels: Sequence[Kernel],
    mark: Mark,
    *,
    tries: int = 1,
    not_compared: Sequence[str] = (),
    aligned: bool = False,
    contradictions: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> WatermarkReport:
    """Reads a mark from weights that were chosen already.

    Args:
        kernels: The weights.
        mark: The mark with its key.
        tries: See `verify`; the readings made here are counted besides.
        not_compared: Weights that are missing, and why.
        aligned: Whether the weights were re-aligned.
        contradictions: What refutes the claim whatever is read.
        notes: What the report should say besides.

    Returns:
        A `WatermarkReport`.
    """
    kernels = [replace(kernel, weight=_numbers(kernel)) for kernel in kernels]
    if not any(kernel.weight.any() for kernel in kernels):
        blank = (f"{k.name} {k.shape}: all its values are zero or no numbers" for k in kernels)
        not_compared, kernels = (*not_compared, *blank), []
    readings, total = read_bits(kernels, mark)
    tries *= max(len(readings), 1)
    fewest = min((reading.bit_errors for reading in readings), default=mark.num_bits)
    chance = tries * matching_probability(mark.num_bits - fewest, mark.num_bits)
    return WatermarkReport(
        num_bits=mark.num_bits,
        readings=tuple(readings),
        tries=tries,
        p_value=min(float(chance), 1.0),
        not_compared=tuple(not_compared),
        aligned=aligned,
        contradictions=tuple(contradictions),
        notes=tuple(notes),
        **_payload(kernels, mark, total, readings, tries, float(chance)),
    )


def read_bits(kernels: Sequence[Kernel], mark: Mark) -> tuple[list[Reading], np.ndarray]:
    """Counts the raw bits that each weight reads wrong, and all of them together.

    Args:
        kernels: The weights.
        mark: The mark with its key.

    Returns:
        (readings, scores of all weights added up); the first reading is that of all, where there
        are several.
    """
    signs = 2 * mark.message() - 1
    total = np.zeros(mark.num_bits)
    readings = []
    for kernel in kernels:
        scores = mark.scores(kernel.values(), kernel.copy)
        readings.append(Reading(kernel.name, kernel.shape, _errors(scores, signs)))
        if np.isfinite(scores).all():
            total += mark.confidence(kernel.shape) * scores
    if len(readings) > 1:
        readings.insert(0, Reading("all", (), _errors(total, signs)))
    return readings, total


def _errors(scores: np.ndarray, signs: np.ndarray) -> int:
    return int(np.sum(~(scores * signs > 0)))


def _numbers(kernel: Kernel) -> np.ndarray:
    """A kernel's values, 0 for what is no number: one of these would spoil every bit."""
    values = kernel.values()
    return np.where(np.isfinite(values), values, 0)


def _payload(kernels, mark, total, readings, tries, chance) -> dict[str, Any]:
    """Decodes the payload from the best reading, or from all if none is good."""
    own = mark.payload()
    if own is None or not readings:
        return {}
    best = min(range(len(readings)), key=lambda place: readings[place].bit_errors)
    scores = total
    if readings[best].name != "all" and chance < _LEGIBLE:
        kernel = kernels[best - (len(readings) > 1)]
        scores = mark.scores(kernel.values(), kernel.copy)
    found = decode(scores)
    if np.array_equal(found, own):
        return {"payload": payload_hex(found), "payload_matches": True}
    # The nearest of 2**64 codewords was chosen, which is that many tries more.
    apart = _errors(scores, 2.0 * encode(found) - 1)
    as_near = matching_probability(mark.num_bits - apart, mark.num_bits)
    other = min(float(tries * 2**NUM_PAYLOAD_BITS * as_near), 1.0)
    legible = min(chance, other) < _LEGIBLE
    return {
        "payload": payload_hex(found) if legible else None,
        "payload_matches": False,
        "other_payload_p_value": other,
    }


def _realigned(target, reference, mark, layers):
    """The suspect's weights in the reference's order, what is missing, and a note on the match."""
    alignment = align(target, reference, mark, layers)
    found = {kernel.name for kernel in alignment.kernels}
    why = alignment.report.obstacle or "it has no counterpart in this model"
    missing = [
        f"{kernel.name} {kernel.shape}: {why}"
        for kernel in choose_kernels(reference, mark, layers)
        if kernel.name not in found
    ]
    note = (
        f"Re-alignment with the reference: {alignment.report.status}, confidence "
        f"{alignment.report.confidence:.2f}"
    )
    return alignment.kernels, missing, (note,)
