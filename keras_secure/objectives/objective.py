"""The frame of every training objective."""

from typing import Any

from keras import ops

from keras_secure import backend
from keras_secure.registration import component


class Objective:
    """What a training step minimizes: one loss per example.

    A step first calls `perturb`, outside the gradient, then the objective itself. Both treat every
    example on its own, so any objective may be trained with differential privacy, but for those
    that say otherwise in `mixes_examples` or `reads_weights`. What needs more than one gradient of
    one batch also writes `descend`, and is refused there.

    An objective that holds an `attack` calls it by `attacked`, and one that holds an `epsilon` of
    its own reads it by `scaled`: that is all it takes for `keras_secure.callbacks` to change the
    size of an attack, or the attack, while a traced step runs.

    Attributes:
        attack: Only of objectives that hold one: the `keras_secure.attacks.Attack`.
        epsilon_scale: None, or a variable that a callback set: what the radius is multiplied by.
        mixes_examples: Whether a loss has several examples in it, so that private training refuses.
        reads_weights: Whether it uses weights beside the layers' own forward pass, where no
            per-example gradients are formed, so that private training refuses.
        models: Further models that belong to it, such as a teacher, saved with the `SecureModel`.

    Example:

    >>> import keras
    >>> from keras_secure.objectives import PerExampleLoss, Standard
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> x, y = keras.ops.ones((3, 2)), keras.ops.ones((3, 1))
    >>> losses, _ = Standard()(model, x, y, None, PerExampleLoss("mse"))
    >>> tuple(losses.shape)
    (3,)
    """

    attack: Any
    epsilon_scale: Any = None
    mixes_examples = False
    reads_weights = False
    models: Any = ()
    _relief: Any = None

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

    def descend(self, step):
        """Takes the update of one batch, where training is not private.

        Args:
            step: The `keras_secure.training.OrdinaryStep`: the batch, its gradients, the update.

        Returns:
            (mean loss of the batch, predictions): what loss and metrics record.
        """
        perturbed = self.perturb(step.model, step.x, step.y, step.loss)

        def per_example():
            return self(step.model, step.x, step.y, perturbed, step.loss, step.sample_weight)

        value, y_pred, gradients = step.gradients(per_example)
        step.apply(gradients)
        return value, y_pred

    @property
    def takes_over(self):
        """Whether this objective writes `descend`, and so has to be the outermost one."""
        return type(self).descend is not Objective.descend

    def parts(self):
        """Returns this objective and those it is made of."""
        inner = [part for value in vars(self).values() for part in _objectives(value)]
        return [self, *inner]

    def scaled(self, epsilon):
        """Returns a radius as this step is to use it: `epsilon`, or a share of it.

        Without an `epsilon_scale` nothing is computed, and the number comes back as it is.
        """
        if self.epsilon_scale is None:
            return epsilon
        return epsilon * ops.convert_to_tensor(self.epsilon_scale)

    def attacked(self, model, x, y=None, **options):
        """Calls `self.attack.perturb` with the radius, and the attack, that are in force.

        Args:
            model: The model in training.
            x: Inputs of the batch.
            y: Targets of the batch, or None where `options` has the `loss` to raise.
            **options: Further arguments of `perturb`.
        """

        def by(attack):
            if self.epsilon_scale is not None:
                options["epsilon"] = self.scaled(attack.epsilon)
            return attack.perturb(model, x, y, **options)

        if self._relief is None:
            return by(self.attack)
        relief, in_force = self._relief
        return ops.cond(
            ops.convert_to_tensor(in_force), lambda: by(relief), lambda: by(self.attack)
        )

    def scale_epsilon(self):
        """Makes `epsilon_scale`, 1 at first, for this objective and its parts.

        Returns:
            (variable, whether it is new, so that a step traced before has to be traced again).
        """
        is_new = self.epsilon_scale is None
        variable = backend.state_variable(1.0) if is_new else self.epsilon_scale
        for part in self.parts():
            part.epsilon_scale = variable
        return variable, is_new

    def relieve(self, attack):
        """Lets `attack` stand in for every part's own while a variable, false at first, is true.

        Args:
            attack: A `keras_secure.attacks.Attack`.

        Returns:
            (variable, whether it is new, so that a step traced before has to be traced again).
        """
        is_new = self._relief is None or self._relief[0].get_config() != attack.get_config()
        relief = (attack, backend.state_variable(False)) if is_new else self._relief
        for part in self.parts():
            part._relief = relief
        return relief[1], is_new

    def restore_attack(self):
        """Takes back what a callback changed about the attack."""
        if self.epsilon_scale is not None:
            self.epsilon_scale.assign(1.0)
        if self._relief is not None:
            self._relief[1].assign(False)

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


def _objectives(value):
    """The objectives that an attribute holds, with theirs."""
    held = value if isinstance(value, (list, tuple)) else [value]
    return [part for item in held if isinstance(item, Objective) for part in item.parts()]
