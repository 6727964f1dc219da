"""Rounding to integers times a scale, with gradients for what is rounded and for the scale."""

from typing import Any

from keras import ops


def rounded(
    values: Any, multiple: Any, unit: Any, levels: tuple[int, int], count: float
) -> tuple[Any, Any]:
    """Rounds values to integers times `multiple * unit`; traceable.

    The gradient passes rounding unchanged where a value is in range, and is none where it is
    clipped; that of the scale is the paper's. It is weighted once more, so that the multiple, which
    is about 1, moves by the share of itself by which plain descent on the scale would move it.

    Args:
        values: float32 tensor.
        multiple: float32 tensor that broadcasts, trained.
        unit: Powers of two of that shape, fixed.
        levels: The smallest and the largest integer.
        count: How many values share a scale.

    Returns:
        The rounded values, exactly integers times scales, and the integers.

    Reference:
        Esser et al. 2020, Learned step size quantization (arXiv 1902.08153), equations 1 to 5 and
        section 2.2.
    """
    least, most = levels
    # Both without rounding: the unit is a power of two.
    scale = ops.stop_gradient(multiple) * unit
    ratio = ops.stop_gradient(values) / scale
    passing = ops.cast(ops.logical_and(ratio >= least, ratio <= most), "float32")
    integers = ops.round(ops.clip(ratio, least, most))
    # Once over the unit because the scale is a multiple of it, and once more for relative steps.
    slope = (integers - passing * ratio) / (unit * float((count * most) ** 0.5))
    # Zero, with the gradient that rounding has not: so the value is exact to the last bit.
    moved = values * passing + multiple * slope
    return integers * scale + (moved - ops.stop_gradient(moved)), integers
