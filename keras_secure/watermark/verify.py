"""Whether a weight carries a mark, and how surely it does not do so by chance."""

import math
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import keras
import numpy as np

from keras_secure.errors import InputError
from keras_secure.watermark.attach import marked_variable
from keras_secure.watermark.mark import Mark
from keras_secure.watermark.spread_spectrum import SpreadSpectrum


@dataclass(frozen=True)
class WatermarkReport:
    """What `verify` read out of a weight.

    Args:
        num_bits: Length of the message.
        bit_errors: How many bits were read wrong.
        p_value: Probability that a weight which knows nothing of the key has so few errors.
    """

    num_bits: int
    bit_errors: int
    p_value: float

    @property
    def bit_error_rate(self) -> float:
        """Share of the bits that were read wrong: 0 for an intact mark, about 0.5 for none."""
        return self.bit_errors / self.num_bits

    @property
    def message_matches(self) -> bool:
        """Whether every bit was read right."""
        return self.bit_errors == 0

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as a JSON-serializable dictionary, which holds no secret."""
        return {
            **asdict(self),
            "bit_error_rate": self.bit_error_rate,
            "message_matches": self.message_matches,
        }


def verify(target: Any, mark: Mark | bytes | str, layer: str | None = None) -> WatermarkReport:
    """Reads a mark out of a weight and weighs the evidence.

    The p-value is the exact upper tail of a fair coin thrown once per bit. It is honest for a key
    that was fixed before the weight was seen: the key's random signs make every bit of a foreign
    weight a fair coin, independent of the others, whatever the weight holds. A key found by
    searching for a good match proves nothing, so keep a dated commitment to yours (a hash of it).
    A score of exactly zero, or one that is not a number, counts as an error.

    Args:
        target: An array, a variable, a built layer, or a model together with `layer`.
        mark: The mark with its key, or the key alone, which means `SpreadSpectrum(key)`.
        layer: Name of the layer of a model.

    Returns:
        A `WatermarkReport`.

    Raises:
        InputError: The mark is dormant, or the weight cannot carry it.

    Example:

    >>> weight = np.random.default_rng(0).normal(size=(64, 64))
    >>> 0.3 < verify(weight, "never embedded").bit_error_rate < 0.7
    True
    """
    if not isinstance(mark, Mark):
        mark = SpreadSpectrum(mark)
    weights = _weights(target, layer)
    if weights.size == 0 or not np.issubdtype(weights.dtype, np.floating):
        raise InputError(
            f"A weight of shape {weights.shape} and dtype {weights.dtype} cannot carry a mark; "
            "floating point values were expected."
        )
    signs = 2 * mark.message() - 1
    matches = int(np.sum(mark.scores(weights) * signs > 0))
    return WatermarkReport(
        num_bits=mark.num_bits,
        bit_errors=mark.num_bits - matches,
        p_value=float(matching_probability(matches, mark.num_bits)),
    )


def matching_probability(matches: int, num_bits: int) -> Fraction:
    """Probability that at least `matches` of `num_bits` fair coins come up right, exactly.

    Example:

    >>> matching_probability(3, 4)
    Fraction(5, 16)
    """
    ways = sum(math.comb(num_bits, count) for count in range(matches, num_bits + 1))
    return Fraction(ways, 2**num_bits)


def _weights(target: Any, layer: str | None) -> np.ndarray:
    if layer is not None:
        if not isinstance(target, keras.Model):
            raise InputError(
                f"layer={layer!r} was given with a {type(target).__name__}; it names a layer of a "
                "keras.Model."
            )
        try:
            target = target.get_layer(layer)
        except ValueError as error:
            names = ", ".join(one.name for one in target.layers)
            raise InputError(
                f"Model {target.name!r} has no layer {layer!r}; it has {names}."
            ) from error
    if isinstance(target, (keras.Variable, keras.layers.Layer)):
        target = keras.ops.convert_to_numpy(marked_variable(target))
    return np.asarray(target)
