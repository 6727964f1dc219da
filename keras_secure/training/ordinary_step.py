"""One training step without privacy, as objectives see it."""

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from keras_secure import backend


@dataclass(frozen=True)
class OrdinaryStep:
    """A batch, and what can be done with it: differentiate, and update the weights.

    Attributes:
        secure: The `SecureModel` in training.
        x: Inputs, nested.
        y: Targets, nested.
        sample_weight: Weights of the examples, or None.

    Example:

    An objective that takes two updates from every batch:

    >>> import keras, numpy as np, keras_secure as ks
    >>> class Twice(ks.objectives.Standard):
    ...     def descend(self, step):
    ...         super().descend(step)
    ...         return super().descend(step)
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> secure = ks.SecureModel(model, objective=Twice())
    >>> secure.compile("sgd", loss="mse")
    >>> history = secure.fit(np.ones((4, 2)), np.ones((4, 1)), batch_size=2, verbose=0)
    >>> int(secure.optimizer.iterations)
    4
    """

    secure: Any
    x: Any
    y: Any
    sample_weight: Any = None

    @property
    def model(self):
        """The wrapped model."""
        return self.secure.model

    @property
    def loss(self):
        """The compiled `PerExampleLoss`."""
        return self.secure.per_example_loss

    def gradients(self, per_example, *, by=None, penalties=True, dense=False):
        """Differentiates the mean of per-example losses and the model's penalties, in one pass.

        Args:
            per_example: Function without arguments that returns (losses of shape (batch,),
                predictions).
            by: Tensors that take part and whose gradients are wanted in place of those of the
                trainable weights, which may be named among them.
            penalties: Whether the penalties of weights and activities count.
            dense: Whether gradients of what was looked up in are tensors, too.

        Returns:
            (mean loss, predictions, gradients): the gradients are of the loss as the optimizer
            scales it, and None where something does not take part.
        """
        replicas = backend.replica_count()

        def objective():
            losses, y_pred = per_example()
            value = self.loss.reduce(losses)
            for penalty in self.model.losses if penalties else ():
                value = value + ops.cast(penalty, value.dtype)
            return self.secure.optimizer.scale_loss(value / replicas), (value, y_pred)

        given = () if by is None else [s for s in by if not isinstance(s, keras.Variable)]
        # A subclassed model has its variables only after it was called.
        _, (value, y_pred), gradients = backend.gradients(
            objective,
            lambda: self.model.trainable_variables if by is None else by,
            dense=dense,
            constants=given,
        )
        return value, y_pred, gradients

    def apply(self, gradients):
        """Updates the trainable weights with gradients as `gradients` gives them."""
        self.secure.optimizer.apply(gradients, self.model.trainable_variables)
