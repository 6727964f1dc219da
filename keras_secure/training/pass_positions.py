"""Where in its passes over the data a private fit is."""

import keras


class PassPositions(keras.callbacks.Callback):
    """Lets batches of every epoch go on where the steps of the one before ended.

    The step counter cannot be asked while an epoch runs: it is advanced while the first batch is
    still being read. So the position is set between epochs. Should steps and position part (a
    checkpoint was restored, or a budget ended and was raised), a new phase begins with a new pass.

    Args:
        optimizer: The `DPOptimizer`.
        steps: Steps of an epoch of `fit`.
        pass_length: Steps of a pass over the data.
        reopen: Function without arguments that opens a new phase.
    """

    def __init__(self, optimizer, steps, pass_length, reopen):
        super().__init__()
        self._optimizer, self._steps, self._pass_length = optimizer, steps, pass_length
        self._reopen = reopen
        self._phase_start = self._next = 0
        self.position = 0
        """Int: the step, counted over passes of this fit, that the next batch is for."""

    def on_epoch_begin(self, epoch, logs=None):
        """Moves on by an epoch."""
        is_apart = self._optimizer.phase_steps != self._next - self._phase_start
        if is_apart and not self._optimizer.is_exhausted:
            self._reopen()
            self._phase_start = self._next = -(-self._next // self._pass_length) * self._pass_length
        self.position = self._next
        self._next += self._steps
