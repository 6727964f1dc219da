"""How few bit errors re-alignment yields where there is nothing to read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_secure.arguments import check_integer
from keras_secure.errors import InputError
from keras_secure.watermark.alignment import as_model, marked_folds, realigned
from keras_secure.watermark.kernels import choose_kernels
from keras_secure.watermark.mark import Mark
from keras_secure.watermark.quantized_layers import as_floats
from keras_secure.watermark.symmetries import structure_of
from keras_secure.watermark.unmarked import halves, unmarked
from keras_secure.watermark.verify import read_bits


@dataclass(frozen=True)
class EmpiricalNull:
    """Bit errors of a suspect, and of what cannot carry the mark.

    Args:
        num_bits: How many raw bits there are.
        bit_errors: The fewest that any reading of the suspect has with the owner's key.
        null_bit_errors: The same for each of the other keys, or of the innocent models.
    """

    num_bits: int
    bit_errors: int
    null_bit_errors: tuple[int, ...]

    @property
    def p_value(self) -> float:
        """Share of all readings that are as good, the suspect's among them: assumes nothing."""
        as_good = sum(errors <= self.bit_errors for errors in self.null_bit_errors)
        return (1 + as_good) / (1 + len(self.null_bit_errors))

    @property
    def extrapolated_p_value(self) -> float:
        """Tail of a normal distribution with the null's mean and spread.

        The spread is at least that of fair coins. Beyond what the number of keys can show this
        rests on the shape of a normal tail, which for sums of bits is wider than the true one.
        """
        from scipy.stats import norm

        mean = min(float(np.mean(self.null_bit_errors)), self.num_bits / 2)
        spread = max(float(np.std(self.null_bit_errors)), 0.5 * self.num_bits**0.5)
        return float(norm.cdf((self.bit_errors + 0.5 - mean) / spread))


def empirical_null(
    suspect: Any,
    reference: Any,
    mark: Mark,
    layers: str | Sequence[str] | None = None,
    keys: int = 99,
    innocents: Sequence[Any] = (),
) -> EmpiricalNull:
    """Repeats the whole re-alignment with other keys, or with models known to be innocent.

    For each key the owner's mark is taken out of the reference and the other one put in; then the
    suspect is re-aligned with that reference and read with that key. Whatever re-alignment adds to
    a reading by chance, or by a fault, it adds here too.

    It cannot add what training did: a model that learns under the penalty from its first step on
    puts what every model learns where the key would have it, and an innocent model, brought into
    that order, agrees a little with the mark (`docs/watermarks.md`). For such a mark give
    `innocents`: they are re-aligned with the reference and read with the owner's key.

    Args:
        suspect: See `align`.
        reference: See `align`.
        mark: The mark with the owner's key.
        layers: See `align`.
        keys: How many other keys, at least 1; one re-alignment each.
        innocents: Models trained apart, of the reference's architecture, to use in place of keys.

    Returns:
        An `EmpiricalNull`.

    Raises:
        InputError: See `align`; or the suspect cannot be compared.

    Example:

    >>> import keras
    >>> from keras_secure.watermark import SpreadSpectrum, embed
    >>> model, other = (keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, "relu"),
    ...                                   keras.layers.Dense(4)]) for _ in range(2))
    >>> mark = SpreadSpectrum("a secret")
    >>> _ = embed(model, mark)
    >>> empirical_null(model, model, mark, keys=9).p_value
    0.1
    >>> null = empirical_null(other, model, mark, keys=9)
    >>> null.bit_errors > null.num_bits / 4
    True

    Reference:
        Phipson & Smyth 2010, Permutation p-values should never be zero, section 3.
    """
    check_integer("keys", keys)
    suspect, reference = as_floats(as_model(suspect)), as_floats(as_model(reference))
    chosen = choose_kernels(reference, mark, layers)
    own = structure_of(reference)

    def fewest_errors(model, read_mark, marked):
        folds = marked_folds(chosen, marked, read_mark)
        alignment = realigned(own, model, chosen, folds)
        if not alignment.report.comparable:
            raise InputError(
                f"Model {model.model.name!r} cannot be compared with the reference: "
                f"{alignment.report.obstacle}."
            )
        readings, _ = read_bits(alignment.kernels, read_mark)
        return min(reading.bit_errors for reading in readings)

    values = [kernel.values() for kernel in chosen]
    other = structure_of(suspect)
    found = fewest_errors(other, mark, values)
    if innocents:
        null = [
            fewest_errors(structure_of(as_floats(as_model(one))), mark, values) for one in innocents
        ]
    else:
        null = [
            fewest_errors(other, drawn, marked)
            for drawn, marked in _other_marks(mark, chosen, values, keys)
        ]
    return EmpiricalNull(mark.num_bits, found, tuple(null))


def _other_marks(mark: Mark, kernels, values, keys):
    """Yields other keys' marks, and the weights as they would be with those in place of `mark`."""
    plain = []
    for kernel, array in zip(kernels, values, strict=True):
        first = halves(mark, kernel.shape, kernel.copy)
        plain.append(
            unmarked(array, mark, kernel.copy, first) + unmarked(array, mark, kernel.copy, ~first)
        )
    for number in range(keys):
        other = _with_key(mark, f"null {number}".encode() + mark.key)
        yield (
            other,
            [other.nearest(one, kernel.copy) for one, kernel in zip(plain, kernels, strict=True)],
        )


def _with_key(mark: Mark, key: bytes) -> Mark:
    return type(mark)(key, **mark.get_config())
