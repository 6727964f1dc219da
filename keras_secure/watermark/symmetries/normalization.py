"""Rules for normalization layers, which take scales in and give new ones out."""

from keras_secure.watermark.symmetries.structure import weight
from keras_secure.watermark.symmetries.units import (
    MAGNITUDE,
    SIGN,
    Units,
    new_layout,
    pin,
    rescaled,
    restrict,
)


def batch_normalization(walk, layer, value):
    """`BatchNormalization`: statistics follow the scale before it, gamma and beta make a new one.

    A channel that comes in negated goes on unchanged when gamma is negated with it.
    """
    before = _last_axis(layer, value)
    if before is None:
        return walk.opaque(layer, [value])
    gamma, beta = layer.gamma, layer.beta
    if gamma is None:
        restrict(before, (MAGNITUDE,))
    after = rescaled(before, () if gamma is None else (MAGNITUDE, SIGN))
    walk.structure.add(
        layer,
        [
            weight("gamma", gamma, (0, after, "out"), (0, before, "sign")),
            weight("beta", beta, (0, after, "out")),
            weight("mean", layer.moving_mean, (0, before, "out")),
            weight(
                "variance", layer.moving_variance, (0, before, "variance"), epsilon=layer.epsilon
            ),
        ],
    )
    return (*value[:-1], after)


def layer_normalization(walk, layer, value):
    """`LayerNormalization`, `RMSNormalization`: units share one statistic, so none may be added."""
    before = _last_axis(layer, value)
    if before is None:
        return walk.opaque(layer, [value])
    restrict(before, ())
    for segment in before:
        segment.units.root().resizable = False
    after = rescaled(before)
    gamma = getattr(layer, "gamma", None)
    if gamma is None:
        gamma = getattr(layer, "scale", None)
    gamma = None if isinstance(gamma, bool) else gamma
    if gamma is None:
        restrict(after, ())
    walk.structure.add(
        layer,
        [
            weight("gamma", gamma, (0, after, "out")),
            weight("beta", getattr(layer, "beta", None), (0, after, "out")),
        ],
    )
    return (*value[:-1], after)


def group_normalization(walk, layer, value):
    """`GroupNormalization`: channels change places within a group, and groups as wholes."""
    before = _last_axis(layer, value)
    if before is None:
        return walk.opaque(layer, [value])
    size = sum(segment.grid.size for segment in before)
    groups = size if layer.groups == -1 else layer.groups
    restrict(before, ())
    if 1 < groups < size:
        if len(before) > 1 or before[0].grid.shape[0] > 1:
            pin(before)
        else:
            before[0].units.join(Units(size, layer.name, blocks=groups))
            before[0].units.root().blocks = groups
    for segment in before:
        segment.units.root().resizable = False
    after = rescaled(before)
    walk.structure.add(
        layer,
        [
            weight("gamma", layer.gamma, (0, after, "out")),
            weight("beta", layer.beta, (0, after, "out")),
        ],
    )
    return (*value[:-1], after)


def prelu(walk, layer, value):
    """`PReLU`: slopes travel with their units; a positive scale passes."""
    restrict(value[-1], (MAGNITUDE,))
    roles = [] if layer.alpha.shape[-1] == 1 else [(-1, value[-1], "none")]
    if any(layout is not None for layout in value[:-1]):
        return walk.opaque(layer, [value])
    walk.structure.add(layer, [weight("alpha", layer.alpha, *roles)])
    return value


def _last_axis(layer, value):
    """The layout of the normalized axis; inputs are given one, pinned. None for another axis."""
    axis = layer.axis
    if isinstance(axis, (list, tuple)):
        axis = axis[0] if len(axis) == 1 else None
    if axis not in (-1, len(value) - 1):
        return None
    if value[-1] is not None:
        return value[-1]
    sizes = [int(one.shape[0]) for one in layer.weights if len(one.shape) == 1]
    return new_layout(sizes[0], layer.name, (), pinned=True) if sizes else None
