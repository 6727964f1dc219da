"""How few bit errors re-alignment yields with keys that nobody used."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_secure.arguments import is_integer
from keras_secure.errors import InputError
from keras_secure.watermark.alignment import as_model, marked_folds, realigned
from keras_secure.watermark.kernels import choose_kernels
from keras_secure.watermark.mark import Mark
from keras_secure.watermark.symmetries import structure_of
from keras_secure.watermark.unmarked import halves, unmarked
from keras_secure.watermark.verify import read_bits


@dataclass(frozen=True)
class EmpiricalNull:
    """Bit errors with keys that cannot be in the suspect, and those with the owner's.

    Args:
        num_bits: How many raw bits there are.
        bit_errors: The fewest that any reading of the suspect has with the owner's key.
        null_bit_errors: The same for each of the other keys.
    """

    num_bits: int
    bit_errors: int
    null_bit_errors: tuple[int, ...]

    @property
    def p_value(self) -> float:
        """Share of the keys that do as well, the owner's among them: it assumes nothing."""
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
) -> EmpiricalNull:
    """Repeats the whole re-alignment as if the owner had used other keys.

    For each key the owner's mark is taken out of the reference and the other one put in; then the
    suspect is re-aligned with that reference and read with that key. Whatever re-alignment adds to
    a reading by chance, or by a fault, it adds here too.

    Args:
        suspect: See `align`.
        reference: See `align`.
        mark: The mark with the owner's key.
        layers: See `align`.
        keys: How many other keys, at least 1; one re-alignment each.

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
    >>> empirical_null(other, model, mark, keys=9).p_value > 0.1
    True

    Reference:
        Phipson & Smyth 2010, Permutation p-values should never be zero, section 3.
    """
    if not is_integer(keys) or keys < 1:
        raise InputError(f"keys={keys!r} was given; an integer of at least 1 was expected.")
    suspect, reference = as_model(suspect), as_model(reference)
    chosen = choose_kernels(reference, mark, layers)
    structures = structure_of(reference), structure_of(suspect)

    def fewest_errors(own, values):
        alignment = realigned(*structures, chosen, marked_folds(chosen, values, own))
        if not alignment.report.comparable:
            raise InputError(
                f"The suspect cannot be compared with the reference: {alignment.report.obstacle}."
            )
        readings, _ = read_bits(alignment.kernels, own)
        return min(reading.bit_errors for reading in readings)

    values = [kernel.values() for kernel in chosen]
    plain = []
    for kernel, array in zip(chosen, values, strict=True):
        first = halves(mark, kernel.shape, kernel.copy)
        plain.append(
            unmarked(array, mark, kernel.copy, first) + unmarked(array, mark, kernel.copy, ~first)
        )
    null = []
    for number in range(keys):
        other = _with_key(mark, f"null {number}".encode() + mark.key)
        marked = [
            other.nearest(array, kernel.copy) for kernel, array in zip(chosen, plain, strict=True)
        ]
        null.append(fewest_errors(other, marked))
    return EmpiricalNull(mark.num_bits, fewest_errors(mark, values), tuple(null))


def _with_key(mark: Mark, key: bytes) -> Mark:
    return type(mark)(key, **mark.get_config())
