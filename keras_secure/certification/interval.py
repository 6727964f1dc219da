"""Boxes of values, and the arithmetic in which they are bounded."""

import math
from dataclasses import dataclass
from typing import Any

from keras import ops

# Unit roundoff of what models compute in, and of the float64 that bounds are computed in.
_ROUNDOFF = {"float32": 2.0**-24, "float64": 2.0**-53}
_OWN_ROUNDOFF = 2.0**-53
_LARGEST = {"float32": 2.0**127, "float64": 2.0**1022}
# What a product loses where hardware rounds its factors to ten bits (TensorFloat-32), or takes a
# detour by transforms that lose as much.
_REDUCED_PRODUCTS = 2.0**-10
# Transcendental functions are right to a few units in the last place; this allows for 32.
_FUNCTION_UNITS = 32.0
# Below the smallest normal float32 nothing is held against rounding: hardware may flush it to 0.
_SMALLEST = 2.0**-126


@dataclass(frozen=True)
class Interval:
    """All tensors between `lower` and `upper`, element by element.

    Attributes:
        lower: Tensor of shape (batch, ...).
        upper: Tensor of that shape, nowhere below `lower`.

    Example:

    >>> box = Interval(ops.convert_to_tensor([[-1.0]]), ops.convert_to_tensor([[3.0]]))
    >>> float(box.center[0, 0]), float(box.radius[0, 0]), float(box.magnitude[0, 0])
    (1.0, 2.0, 3.0)
    """

    lower: Any
    upper: Any

    @property
    def center(self):
        """The middle of the box."""
        return (self.lower + self.upper) * 0.5

    @property
    def radius(self):
        """Half the width of the box."""
        return (self.upper - self.lower) * 0.5

    @property
    def magnitude(self):
        """The largest absolute value in the box."""
        return ops.maximum(ops.abs(self.lower), ops.abs(self.upper))

    def map(self, function):
        """Applies an increasing function that rounds nothing to both ends."""
        return Interval(function(self.lower), function(self.upper))

    def widened(self, margin):
        """Moves both ends outwards."""
        return Interval(self.lower - margin, self.upper + margin)


@dataclass(frozen=True)
class Arithmetic:
    """In what precision bounds are computed, and what the model's own rounding is allowed for.

    A margin is added where the model rounds: a sum of n products of a model in float32 differs from
    the exact one by at most `gamma(n) * sum of |products|`, in whatever order it is added up, with
    `gamma(n) = n u / (1 - n u)` and u = 2**-24. The bounds' own rounding, in float64, is added.

    Args:
        dtype: `"float64"` for bounds that hold, `"float32"` for bounds to train with.
        sound: Whether margins are added.
        reduced_products: Whether products may lose all but ten bits, as they do where an
            accelerator computes in TensorFloat-32.

    Example:

    >>> Arithmetic().margin(100, "float32") > 100 * 2.0**-24
    True
    >>> Arithmetic("float32", sound=False).margin(100, "float32")
    0.0

    Reference: Higham 2002, "Accuracy and stability of numerical algorithms", section 3.1.
    """

    dtype: str = "float64"
    sound: bool = True
    reduced_products: bool = False

    def cast(self, values):
        """Returns values in the precision of the bounds."""
        return ops.cast(values, self.dtype)

    def margin(self, terms, dtype, products=False):
        """Relative error of a sum of `terms` terms that a model computes in `dtype`.

        Args:
            terms: Number of terms, an integer.
            dtype: What the layer computes in.
            products: Whether the terms are products of a matrix product or convolution.
        """
        if not self.sound:
            return 0.0
        # Two more: for the bias, and for what is rounded before the sum begins.
        n = (terms + 2) * _ROUNDOFF[dtype]
        gamma = n / (1.0 - n) if n < 1.0 else math.inf
        if products and self.reduced_products and dtype == "float32":
            gamma += 2.0 * _REDUCED_PRODUCTS
        return gamma + (2 * terms + 16) * _OWN_ROUNDOFF

    def rounded(self, interval, sizes, terms, dtype, products=False):
        """Widens by the error of a sum whose terms have the absolute sum `sizes`.

        Args:
            interval: The `Interval` of the exact sum.
            sizes: Tensor: bound on the sum of the terms' absolute values.
            terms: See `margin`.
            dtype: See `margin`.
            products: See `margin`.
        """
        return interval.widened(self.error(sizes, terms, dtype, products))

    def error(self, sizes, terms, dtype, products=False):
        """The error that `rounded` widens by; without end where the model would overflow."""
        if not self.sound:
            return ops.zeros_like(sizes)
        error = self.margin(terms, dtype, products) * sizes + 4 * (terms + 2) * _SMALLEST
        return ops.where(sizes < _LARGEST[dtype], error, math.inf)

    def function(self, interval, dtype):
        """Widens by the error of a function from numbers to numbers."""
        if not self.sound:
            return interval
        units = _FUNCTION_UNITS * _ROUNDOFF[dtype]
        return interval.widened(units * ops.maximum(interval.magnitude, 1.0))

    def accepts(self, dtype):
        """Whether rounding in `dtype` can be allowed for."""
        return not self.sound or dtype in _ROUNDOFF
