"""Rules for recurrent layers, whose state is read by the layer itself."""

import numpy as np
from keras import layers

from keras_secure.watermark.symmetries.structure import weight
from keras_secure.watermark.symmetries.units import (
    Layout,
    Scale,
    Segment,
    Units,
    concatenated,
    join,
    pin,
)

# How many gates a kernel has side by side, and which of them carries the state's scale.
_GATES = {layers.SimpleRNN: (1, 0), layers.LSTM: (4, 2), layers.GRU: (3, 2)}


def recurrent(walk, layer, value):
    """`SimpleRNN`, `LSTM`, `GRU`: a unit keeps its gates together.

    The state of a unit may change its sign, where the activation is odd, by the one gate that
    writes it; the gates that open and close are not touched.
    """
    count, writer = next(gates for kind, gates in _GATES.items() if isinstance(layer, kind))
    units = Units(layer.units, layer.name)
    freedoms, alone = walk.freedoms(layer.activation)
    units.resizable = alone
    scale = Scale(*freedoms)
    grid = np.arange(layer.units * count).reshape(count, -1)
    others = [gate for gate in range(count) if gate != writer]
    gates: Layout = (Segment(units, scale, grid[[writer]]),)
    if others:
        gates += (Segment(units, Scale(), grid[others]),)
    state = (Segment(units, scale, np.arange(layer.units)[None]),)
    cell = layer.cell
    walk.structure.add(
        layer,
        [
            weight("kernel", cell.kernel, (0, value[-1], "in"), (1, gates, "out")),
            weight("recurrent", cell.recurrent_kernel, (0, state, "in"), (1, gates, "out")),
            weight("bias", cell.bias, (-1, gates, "out")),
        ],
    )
    made = (None, None, state) if layer.return_sequences else (None, state)
    if not layer.return_state:
        return made
    return [made] + [(None, state)] * (2 if isinstance(layer, layers.LSTM) else 1)


def bidirectional(walk, layer, value):
    """`Bidirectional`: two layers, whose states stand side by side or are added."""
    both = [layer.forward_layer, layer.backward_layer]
    if not all(isinstance(one, tuple(_GATES)) for one in both) or both[0].return_state:
        return walk.opaque(layer, [value])
    first, second = (recurrent(walk, one, value) for one in both)
    if layer.merge_mode == "concat":
        sizes = [one.units for one in both]
        return (*first[:-1], concatenated([first[-1], second[-1]], sizes))
    if layer.merge_mode in ("sum", "ave"):
        return (*first[:-1], join(first[-1], second[-1]))
    pin(first[-1], second[-1])
    return [first, second] if layer.merge_mode is None else (*first[:-1], None)
