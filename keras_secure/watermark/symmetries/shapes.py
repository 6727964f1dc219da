"""Rules for layers that move axes, and for those that bring several tensors together."""

import math

from keras_secure.watermark.symmetries.units import (
    MAGNITUDE,
    concatenated,
    flattened,
    join,
    pin,
    restrict,
)


def reshaped(value, before, after):
    """The layouts behind a reshape: merged axes keep their units, split ones are pinned.

    Args:
        value: Layouts of the input's axes.
        before: The input's shape.
        after: The output's shape.
    """
    held = [axis for axis, layout in enumerate(value) if layout is not None]
    nothing = (None,) * len(after)
    if not held:
        return nothing
    if len(held) == 1:
        axis = held[0]
        if axis == len(value) - 1 and after[-1] == before[-1]:
            return (*nothing[:-1], value[-1])
        inner = before[1:axis], before[axis + 1 :]
        if len(after) == 2 and None not in (*inner[0], *inner[1]):
            flat = flattened(value[axis], before[axis], *(math.prod(part) for part in inner))
            return (None, flat)
    pin(*value)
    return nothing


def permuted(value, order):
    """The layouts behind a transposition."""
    return tuple(value[axis] for axis in order)


def added(values):
    """The layouts of a sum, whose terms have one order and one scale."""
    rank = max(len(value) for value in values)
    result = (None,) * rank
    for axis in range(1, rank + 1):
        layouts = [value[-axis] for value in values if axis <= len(value)]
        common = layouts[0]
        for layout in layouts[1:]:
            common = join(common, layout)
        result = (*result[: rank - axis], common, *result[rank - axis + 1 :])
    return result


def extreme(values):
    """The layouts of a maximum or minimum, which a flip would turn into the other."""
    result = added(values)
    for layout in result:
        restrict(layout, (MAGNITUDE,))
    return result


def product(values):
    """The layouts of a product of two: one factor's scale passes where the other has none."""
    first, second = values
    if len(first) != len(second):
        for value in values:
            pin(*value)
        return max(values, key=len)
    result = []
    for one, other in zip(first, second, strict=True):
        if one is None or other is None:
            pin(one, other)
            result.append(one or other)
            continue
        free = [
            layout
            for layout in (one, other)
            if any(segment.scale.root().freedoms for segment in layout)
        ]
        if len(free) == 2:
            restrict(one, ())
            restrict(other, ())
        if len(one) != len(other) or any(
            (a.grid.shape != b.grid.shape) or (a.grid != b.grid).any()
            for a, b in zip(one, other, strict=False)
        ):
            pin(one, other)
        else:
            for a, b in zip(one, other, strict=True):
                a.units.join(b.units)
        result.append(free[0] if len(free) == 1 else one)
    return tuple(result)


def behind_each_other(values, shapes, axis):
    """The layouts of a concatenation."""
    result = list(added([(*value[:axis], None, *value[axis + 1 :]) for value in values]))
    if any(shape[axis] is None for shape in shapes):
        pin(*(value[axis] for value in values))
        result[axis] = None
    else:
        result[axis] = concatenated(
            [value[axis] for value in values], [shape[axis] for shape in shapes]
        )
    return tuple(result)
