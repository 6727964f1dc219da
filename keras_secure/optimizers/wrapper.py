"""What every optimizer around another one hands through to it."""

import keras


class OptimizerWrapper(keras.optimizers.Optimizer):
    """Base of optimizers that change gradients and leave the update to `inner_optimizer`.

    A subclass sets or offers `inner_optimizer`, the user's own `keras.optimizers.Optimizer`.
    """

    @property
    def learning_rate(self):
        """The inner optimizer's learning rate."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        self.inner_optimizer.learning_rate = learning_rate

    @property
    def iterations(self):
        """The inner optimizer's count of updates."""
        return self.inner_optimizer.iterations

    def finalize_variable_values(self, var_list):
        """Ends training as the inner optimizer does (moving averages)."""
        self.inner_optimizer.finalize_variable_values(var_list)
