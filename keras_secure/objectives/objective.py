"""The frame of every training objective."""

from keras_secure.registration import component


class Objective:
    """What a training step minimizes: one loss per example.

    A step first calls `perturb`, outside the gradient, then the objective itself. Both treat every
    example on its own, so any objective may be trained with differential privacy.

    Example:

    >>> import keras
    >>> from keras_secure.objectives import PerExampleLoss, Standard
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> x, y = keras.ops.ones((3, 2)), keras.ops.ones((3, 1))
    >>> losses, _ = Standard()(model, x, y, None, PerExampleLoss("mse"))
    >>> tuple(losses.shape)
    (3,)
    """

    def perturb(self, model, x, y, loss):
        """Returns what the step needs beyond the batch, usually adversarial inputs, or None.

        Args:
            model: The model in training.
            x: Inputs of the batch.
            y: Targets of the batch.
            loss: The compiled `PerExampleLoss`.
        """
        return None

    def __call__(self, model, x, y, perturbed, loss, sample_weight=None):
        """Runs the model with `training=True`.

        Args:
            model: The model in training.
            x: Inputs of the batch.
            y: Targets of the batch.
            perturbed: What `perturb` returned.
            loss: The compiled `PerExampleLoss`.
            sample_weight: Optional weights of the examples.

        Returns:
            (losses of shape (batch,), predictions for the metrics).
        """
        raise NotImplementedError(f"{type(self).__name__} must write `__call__`.")

    def get_config(self):
        """Returns the arguments that rebuild this objective."""
        return {}

    @classmethod
    def from_config(cls, config):
        """Builds the objective that `get_config` described."""
        return cls(**config)


@component("objectives")
class Standard(Objective):
    """The compiled loss on the inputs as they are.

    Example:

    >>> Standard().get_config()
    {}
    """

    def __call__(self, model, x, y, perturbed, loss, sample_weight=None):
        """See `Objective`."""
        y_pred = model(x, training=True)
        return loss(y, y_pred, sample_weight), y_pred
