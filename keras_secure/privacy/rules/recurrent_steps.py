"""The steps of Keras' recurrent cells over inputs that were projected before the loop."""

import keras
from keras import ops


def gates_of(cell):
    """How many gates share the cell's kernels, side by side."""
    if isinstance(cell, keras.layers.LSTMCell):
        return 4
    return 3 if isinstance(cell, keras.layers.GRUCell) else 1


class RecurrentSteps:
    """A cell for `keras.layers.RNN` that takes projected inputs of shape (batch, gates * units).

    Beside its output it gives out the state that each step started from (and, for a GRU, the reset
    gate), which the gradients of the recurrent kernel need.

    Args:
        cell: A SimpleRNNCell, LSTMCell or GRUCell.
        dropped: Recurrent dropout's masks: None, one of shape (batch, units), or a list with one
            for each gate.
    """

    def __init__(self, cell, dropped):
        self.cell, self.dropped = cell, dropped
        self.gates, self.units = gates_of(cell), cell.units
        self.compute_dtype = cell.compute_dtype
        self.state_size = cell.state_size
        self.is_gru = isinstance(cell, keras.layers.GRUCell)
        self.resets_after = self.is_gru and cell.reset_after
        self.output_size = self.units * (3 if self.is_gru else 2)
        self.kernel = ops.cast(cell.recurrent_kernel, self.compute_dtype)
        self.input_bias = self.state_bias = None
        if cell.use_bias:
            bias = ops.cast(cell.bias, self.compute_dtype)
            self.input_bias = bias[0] if self.resets_after else bias
            self.state_bias = bias[1] if self.resets_after else None

    def __call__(self, projected, states):
        """One step; see `keras.layers.RNN` for cells."""
        before = states[0]
        if self.is_gru:
            after, reset = self._gru(projected, before)
            states, seen = [after], [ops.stop_gradient(before), ops.stop_gradient(reset)]
        else:
            z = projected + self._recurrent(before, 0, self.gates)
            if self.gates == 4:
                after, carry = self._lstm(z, states[1])
                states = [after, carry]
            else:
                activation = self.cell.activation
                after = z if activation is None else activation(z)
                states = [after]
            seen = [ops.stop_gradient(before)]
        return ops.concatenate([after, *seen], axis=-1), states

    call = __call__

    def record(self, everything):
        """Sorts the outputs of all steps into what the rule needs.

        Returns:
            A dict with "state", the inputs of the recurrent kernel, shape (batch, 1 or gates, time,
            units), and where it is not one, "gain", the factor from the gradient by the projected
            inputs to that by the recurrent kernel's product.
        """
        units = self.units
        state = everything[:, :, units : 2 * units]
        found = {}
        states = [self._masked(state, gate, axis=1) for gate in range(self.gates)]
        if self.is_gru:
            reset = everything[:, :, 2 * units :]
            if self.resets_after:
                ones = ops.ones_like(reset)
                found["gain"] = ops.concatenate([ones, ones, reset], axis=-1)
            else:
                states[2] = reset * states[2]
        shared = not isinstance(self.dropped, list) and (self.resets_after or not self.is_gru)
        found["state"] = states[0][:, None] if shared else ops.stack(states, axis=1)
        return found

    def _masked(self, state, gate, axis=None):
        if self.dropped is None:
            return state
        mask = self.dropped[gate] if isinstance(self.dropped, list) else self.dropped
        return state * (mask if axis is None else ops.expand_dims(mask, axis))

    def _recurrent(self, state, start, stop):
        """The product of the state and the recurrent kernel for gates `start` to `stop`."""
        units, kernel = self.units, self.kernel
        if not isinstance(self.dropped, list):
            columns = kernel[:, start * units : stop * units]
            return ops.matmul(self._masked(state, start), columns)
        parts = [
            ops.matmul(self._masked(state, gate), kernel[:, gate * units : (gate + 1) * units])
            for gate in range(start, stop)
        ]
        return ops.concatenate(parts, axis=-1)

    def _lstm(self, z, carry):
        cell = self.cell
        enter, forget, candidate, leave = ops.split(z, 4, axis=-1)
        carry = cell.recurrent_activation(forget) * carry + cell.recurrent_activation(
            enter
        ) * cell.activation(candidate)
        return cell.recurrent_activation(leave) * cell.activation(carry), carry

    def _gru(self, projected, before):
        cell, units = self.cell, self.units
        if self.resets_after:
            inner = self._recurrent(before, 0, 3)
            if self.state_bias is not None:
                inner = inner + self.state_bias
        else:
            inner = self._recurrent(before, 0, 2)
        opened = projected[:, : 2 * units] + inner[:, : 2 * units]
        update = cell.recurrent_activation(opened[:, :units])
        reset = cell.recurrent_activation(opened[:, units:])
        if self.resets_after:
            inner = reset * inner[:, 2 * units :]
        else:
            inner = ops.matmul(reset * self._masked(before, 2), self.kernel[:, 2 * units :])
        candidate = cell.activation(projected[:, 2 * units :] + inner)
        return update * before + (1 - update) * candidate, reset
