"""Stopping before a privacy budget is crossed."""

import keras

from keras_secure.errors import PrivacyError


class PrivacyBudget(keras.callbacks.Callback):
    """Logs the epsilon spent and stops training before a budget is crossed.

    The limit is enforced inside the compiled step: whatever `fit` is asked for, no step beyond the
    budget releases anything of the data. Steps of earlier fits, and those restored from a
    checkpoint, count.

    Adds `epsilon` to the logs of every epoch, where History, CSVLogger and TensorBoard find it.

    Args:
        target_epsilon: Positive float, the budget.
        target_delta: Float in (0, 1); at most one over the number of examples is customary.
        verbose: 1 to print a line when the budget ends training.

    Raises:
        PrivacyError: if the model is not compiled with a `DPOptimizer`.
        BudgetExhaustedError: at the start of a fit for which nothing is left.

    Example:

    >>> import keras
    >>> import keras_secure as ks
    >>> secure = ks.SecureModel(keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]))
    >>> optimizer = ks.optimizers.DPSGD(l2_norm_clip=1.0, noise_multiplier=2.0)
    >>> secure.compile(optimizer, loss="mse")
    >>> budget = PrivacyBudget(target_epsilon=2.0, target_delta=1e-3)
    >>> x, y = keras.random.normal((64, 4)), keras.random.normal((64, 1))
    >>> history = secure.fit(x, y, batch_size=16, epochs=100, verbose=0, callbacks=[budget])
    >>> bool(history.history["epsilon"][-1] <= 2.0), len(history.history["epsilon"]) < 100
    (True, True)
    """

    def __init__(self, target_epsilon, target_delta, verbose=0):
        super().__init__()
        if not target_epsilon > 0:
            raise PrivacyError(f"target_epsilon is {target_epsilon}; it must be positive.")
        if not 0 < target_delta < 1:
            raise PrivacyError(f"target_delta is {target_delta}; it must lie in (0, 1).")
        self.target_epsilon, self.target_delta = float(target_epsilon), float(target_delta)
        self.verbose = verbose
        self.burn_down = []

    def on_train_begin(self, logs=None):
        """Finds how many steps the budget holds and limits the optimizer to them."""
        optimizer = self.model.optimizer
        if not hasattr(optimizer, "limit_to"):
            raise PrivacyError(
                f"PrivacyBudget found a {type(optimizer).__name__}, which spends no accountable "
                "budget. Compile a SecureModel with keras_secure.optimizers.DPOptimizer."
            )
        optimizer.limit_to(self.target_epsilon, self.target_delta)
        if not self.burn_down:
            self._note()

    def on_train_batch_end(self, batch, logs=None):
        """Stops once the last affordable step was taken."""
        if self.model.optimizer.is_exhausted:
            self.model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        """Adds the epsilon spent to the logs."""
        if logs is not None:
            logs["epsilon"] = self._note()

    def on_train_end(self, logs=None):
        """Reports an early end; the limit stays until the next fit sets its own."""
        optimizer = self.model.optimizer
        if self.verbose and optimizer.is_exhausted:
            print(
                f"Training ended after {optimizer.executed_steps} private steps: one more would "
                f"cross epsilon {self.target_epsilon:g} at delta {self.target_delta:g}."
            )

    def _note(self):
        optimizer = self.model.optimizer
        spent = optimizer.epsilon(self.target_delta)
        self.burn_down.append({"step": optimizer.executed_steps, "epsilon": spent})
        return spent
