"""Units that may change places, scales they may take, and where they stand on a tensor's axes."""

from dataclasses import dataclass

import numpy as np

MAGNITUDE, SIGN = "magnitude", "sign"


class _Joined:
    """A node of a union-find forest: what was joined answers as one."""

    def __init__(self):
        self._parent = None

    def root(self):
        """Returns the object that stands for all that were joined with this one."""
        node = self
        while node._parent is not None:
            node = node._parent
        return node


class Units(_Joined):
    """Neurons, channels or heads of which a network computes the same in any order.

    Args:
        size: How many there are.
        name: The layer that makes them, for reports.
        pinned: Whether their order is fixed: inputs, outputs, and what no rule follows.
        blocks: Number of equal runs that only change places as wholes, or None: heads, groups.
        family: Units of one family have their blocks in one order: a head's keys and its values.
        resizable: Whether a silent unit more leaves the others alone; not behind a layer norm.
    """

    def __init__(self, size, name="", pinned=False, blocks=None, family=None, resizable=True):
        super().__init__()
        self.size = size
        self.name = name
        self.pinned = pinned
        self.blocks = blocks
        self.family = self if family is None else family
        self.resizable = resizable

    def join(self, other):
        """Makes both one: a sum has one order for all that it adds."""
        mine, theirs = self.root(), other.root()
        if mine is theirs:
            return
        if mine.blocks != theirs.blocks:
            mine.blocks, mine.family = None, mine
        mine.pinned |= theirs.pinned
        mine.resizable &= theirs.resizable
        theirs._parent = mine


class Scale(_Joined):
    """One factor for each unit, which the next layer takes back.

    Args:
        freedoms: What it may be: `MAGNITUDE` any positive factor, `SIGN` a flip, both, or none.
    """

    def __init__(self, *freedoms):
        super().__init__()
        self.freedoms = frozenset(freedoms)

    def restrict(self, freedoms):
        """Keeps only what a function lets through."""
        root = self.root()
        root.freedoms &= frozenset(freedoms)

    def join(self, other):
        """Makes both one."""
        mine, theirs = self.root(), other.root()
        if mine is not theirs:
            mine.freedoms &= theirs.freedoms
            theirs._parent = mine


@dataclass(frozen=True)
class Segment:
    """Where some units stand on one axis.

    Args:
        units: The `Units`.
        scale: The `Scale` that their entries carry.
        grid: Integer array of shape (places, units): the entries of each unit. A dense layer has
            one place; flattened images have one for each pixel, an LSTM's kernel one for each gate.
    """

    units: Units
    scale: Scale
    grid: np.ndarray


# All units of one axis.
Layout = tuple[Segment, ...]


def new_layout(size, name="", freedoms=(MAGNITUDE, SIGN), **options) -> Layout:
    """Returns the layout of an axis with units of its own, one entry each.

    Args:
        size: Length of the axis.
        name: The layer that makes the units.
        freedoms: Of their scale.
        **options: Of `Units`.
    """
    return (Segment(Units(size, name, **options), Scale(*freedoms), np.arange(size)[None]),)


def rescaled(layout, freedoms=(MAGNITUDE, SIGN)) -> Layout:
    """Returns the same units in the same places with a scale of their own: behind a norm."""
    return tuple(Segment(one.units, Scale(*freedoms), one.grid) for one in layout)


def restrict(layout, freedoms):
    """Restricts the scales of a layout; None, an axis without units, is left alone."""
    for segment in layout or ():
        segment.scale.restrict(freedoms)


def pin(*layouts):
    """Fixes order and scale of all units of layouts that no rule follows any further."""
    for layout in layouts:
        for segment in layout or ():
            segment.units.root().pinned = True
            segment.scale.restrict(())


def join(first, second):
    """Makes two layouts of tensors that are added one; returns it.

    Where only one of them has units, or where they stand differently, all are pinned.
    """
    if first is None or second is None:
        pin(first, second)
        return None
    if not _alike(first, second):
        pin(first, second)
        return first
    for one, other in zip(first, second, strict=True):
        one.units.join(other.units)
        one.scale.join(other.scale)
    return first


def concatenated(layouts, sizes) -> Layout | None:
    """Returns the layout of several axes behind each other; those without units become pinned.

    Args:
        layouts: A layout or None for each.
        sizes: Their lengths.
    """
    if all(layout is None for layout in layouts):
        return None
    segments: list[Segment] = []
    start = 0
    for layout, size in zip(layouts, sizes, strict=True):
        if layout is None:
            layout = new_layout(size, freedoms=(), pinned=True)
        segments += [Segment(one.units, one.scale, one.grid + start) for one in layout]
        start += size
    return tuple(segments)


def flattened(layout, size, before, behind) -> Layout:
    """Returns the layout of an axis of `size` after axes around it were merged into it.

    Args:
        layout: The axis' layout.
        size: Its length.
        before: Product of the lengths of the axes before it.
        behind: Product of those behind it.
    """
    outer = np.arange(before)[:, None, None, None] * size
    inner = np.arange(behind)[None, :, None, None]
    return tuple(
        Segment(
            one.units,
            one.scale,
            ((outer + one.grid) * behind + inner).reshape(-1, one.grid.shape[1]),
        )
        for one in layout
    )


def _alike(first, second):
    return len(first) == len(second) and all(
        np.array_equal(one.grid, other.grid) for one, other in zip(first, second, strict=True)
    )
