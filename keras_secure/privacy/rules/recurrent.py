"""Rules for recurrent layers: SimpleRNN, LSTM, GRU, and RNN around their cells.

The input projections of all steps are formed at once, before the loop. Their gradient is that of
the gates at every step, from which the gradients of all weights of the cell follow.
"""

import keras
from keras import ops, tree

from keras_secure.privacy.contributions import Materialized, OuterProducts
from keras_secure.privacy.rules.recurrent_steps import RecurrentSteps, gates_of
from keras_secure.privacy.rules.registry import register_rule

_LAYERS = (keras.layers.RNN, keras.layers.SimpleRNN, keras.layers.LSTM, keras.layers.GRU)
_CELLS = (keras.layers.SimpleRNNCell, keras.layers.LSTMCell, keras.layers.GRUCell)


def _is_standard(layer):
    # Subclasses may replace any part of the loop, and state kept between batches is the user's.
    return (
        type(layer) in _LAYERS
        and not layer.stateful
        and all(
            type(cell) in _CELLS
            and cell.dropout < 1
            and cell.recurrent_dropout < 1
            and not any(part.weights for part in cell._flatten_layers(include_self=False))
            for cell in _cells(layer)
        )
    )


def _observe(layer, call, watch, sequences, initial_state=None, mask=None, training=False):
    """Runs the layer cell by cell: in a stack, each sees the whole sequence of the one before."""
    cells = _cells(layer)
    stacked = isinstance(layer.cell, keras.layers.StackedRNNCells)
    if initial_state is None:
        initial_state = layer.get_initial_state(batch_size=ops.shape(sequences)[0])
    elif not tree.is_nested(initial_state):
        initial_state = [initial_state]
    mask = tree.flatten(mask)[0] if tree.is_nested(mask) else mask
    if layer.go_backwards:
        sequences = ops.flip(sequences, axis=1)
        mask = None if mask is None else ops.flip(mask, axis=1)
    outputs, states, inputs = sequences, [], []
    for cell, state in zip(cells, initial_state if stacked else [initial_state], strict=True):
        state = state if tree.is_nested(state) else [state]
        outputs, state, seen = _run(layer, cell, watch, outputs, state, mask, training)
        states.append(list(state))
        inputs.append(seen)
    result = outputs if layer.return_sequences else outputs[:, -1]
    result = ops.cast(result, layer.compute_dtype)
    if layer.return_state:
        states = tree.map_structure(lambda leaf: ops.cast(leaf, layer.compute_dtype), states)
        result = (result, *(states if len(cells) > 1 else states[0]))
    return result, inputs


def _run(layer, cell, watch, sequences, state, mask, training):
    """Runs one cell over (batch, time, inputs) and watches its projected inputs.

    Returns:
        (outputs of all steps, last state, what the rule needs to know).
    """
    dtype, gates = cell.compute_dtype, gates_of(cell)
    state = [ops.cast(leaf, dtype) for leaf in state]
    # Keras draws the masks whether they are used or not.
    dropped = cell.get_dropout_mask(sequences[:, 0, :])
    recurrent_dropped = cell.get_recurrent_dropout_mask(state[0])
    cell.reset_dropout_mask()
    cell.reset_recurrent_dropout_mask()
    if not training:
        dropped = recurrent_dropped = None
    kernel = ops.cast(cell.kernel, dtype)
    x = ops.cast(sequences, dtype)[:, None]
    if isinstance(dropped, list):
        # One mask for each gate, and so one input.
        x = x * ops.stack(dropped, axis=1)[:, :, None]
        width = kernel.shape[0]
        projected = ops.einsum("bgti,igo->btgo", x, ops.reshape(kernel, (width, gates, cell.units)))
        projected = ops.reshape(projected, (*ops.shape(sequences)[:2], gates * cell.units))
    else:
        x = x if dropped is None else x * dropped[:, None, None]
        projected = ops.matmul(ops.reshape(x, (-1, kernel.shape[0])), kernel)
        projected = ops.reshape(projected, (*ops.shape(sequences)[:2], kernel.shape[1]))
    steps = RecurrentSteps(cell, recurrent_dropped)
    if cell.use_bias:
        projected = ops.add(projected, steps.input_bias)
    projected = watch(projected)
    loop = keras.layers.RNN(
        steps,
        return_sequences=True,
        return_state=True,
        unroll=layer.unroll,
        zero_output_for_mask=layer.zero_output_for_mask,
        dtype=layer.dtype_policy,
        name=f"{layer.name}_observed",
    )
    everything, *state = loop.call(projected, initial_state=state, mask=mask)
    outputs = everything[:, :, : cell.units]
    seen = {"x": ops.stop_gradient(x), **steps.record(ops.stop_gradient(everything))}
    return outputs, state, seen


@register_rule(*_LAYERS, covers=_is_standard, observe=_observe, parts=True)
def recurrent(layer, calls):
    """Recurrent layer: a Dense layer on inputs and one on states, a position for every step."""
    found = []
    cells = _cells(layer)
    for number, cell in enumerate(cells):
        # Each use of the layer was recorded cell by cell.
        found += _cell_gradients(cell, calls[number :: len(cells)])
    return found


def _cell_gradients(cell, records):
    kernel, recurrent_kernel, bias = cell.kernel, cell.recurrent_kernel, cell.bias
    state_grads = [grads * seen.get("gain", 1.0) for seen, grads in records]
    found = []
    if kernel.trainable:
        inputs = [seen["x"] for seen, _ in records]
        found += [(kernel, _outer_products(kernel, inputs, [dz for _, dz in records]))]
    if recurrent_kernel.trainable:
        states = [seen["state"] for seen, _ in records]
        products = _outer_products(recurrent_kernel, states, state_grads)
        found += [(recurrent_kernel, products)]
    if bias is not None and bias.trainable:
        total = sum(ops.sum(dz, axis=1) for _, dz in records)
        if len(bias.shape) == 2:
            # GRU with reset_after: one bias for the inputs and one for the state.
            total = ops.stack([total, sum(ops.sum(dz, axis=1) for dz in state_grads)], axis=1)
        found += [(bias, Materialized(total))]
    return found


def _outer_products(variable, inputs, grads):
    """`inputs` have shape (batch, 1 or gates, time, width), `grads` (batch, time, gates * units).

    Where each gate has an input of its own, gates are groups.
    """
    groups, width = inputs[0].shape[1], variable.shape[0]
    grads = [
        ops.transpose(
            ops.reshape(dz, (*ops.shape(dz)[:2], groups, variable.shape[1] // groups)),
            (0, 2, 1, 3),
        )
        for dz in grads
    ]

    def finish(total):
        return ops.reshape(ops.transpose(total, (1, 0, 2)), (width, variable.shape[1]))

    return OuterProducts(ops.concatenate(inputs, axis=2), ops.concatenate(grads, axis=2), finish)


def _cells(layer):
    stacked = isinstance(layer.cell, keras.layers.StackedRNNCells)
    return layer.cell.cells if stacked else [layer.cell]
