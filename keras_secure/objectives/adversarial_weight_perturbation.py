"""Adversarial weight perturbation."""

import keras
from keras import ops

from keras_secure.arguments import check_number
from keras_secure.errors import InputError
from keras_secure.objectives.objective import Objective
from keras_secure.registration import component


@component("objectives")
class AdversarialWeightPerturbation(Objective):
    """Any other objective, at weights that were just made worse for it.

    After the attack on the inputs, every kernel (weights of two axes or more) moves along the
    gradient that raises the loss, by `gamma` times its own norm; the update is taken with the
    gradient there, from where the weights really are. It flattens the loss around the weights,
    which closes much of the gap between robustness in training and on new data.

    The weights themselves never move: the model is called on others in their stead. Statistics
    (BatchNormalization) are those of the second pass, at the moved weights. The cost is one more
    forward and backward pass per step. Under `MirroredStrategy` each replica moves its weights by
    its own part of the batch. Private training refuses this objective, which takes two gradients of
    each batch.

    Args:
        objective: The `Objective` to train with, such as `AdversarialTraining` or `TRADES`.
        gamma: Size of the move relative to each kernel, at least 0. Defaults to 0.01; the paper
            uses 0.01 with adversarial training and 0.005 with TRADES.

    Raises:
        InputError: if an argument cannot be used, or the objective takes a step of its own.

    Example:

    >>> import keras_secure as ks
    >>> inner = ks.objectives.TRADES(ks.attacks.PGD(epsilon=0.1))
    >>> AdversarialWeightPerturbation(inner, gamma=0.005).gamma
    0.005

    Reference: Wu, Xia and Wang 2020 (arXiv 2004.05884), equations 8 to 12 and algorithm 1, with one
    step of the weights (K2 = 1) as in the authors' experiments.
    """

    def __init__(self, objective, gamma=0.01):
        if not isinstance(objective, Objective):
            raise InputError(
                f"objective is a {type(objective).__name__}; give one of keras_secure.objectives."
            )
        if any(part.takes_over for part in objective.parts()):
            raise InputError(
                f"{type(objective).__name__} takes a step of its own, and only one objective can. "
                "Use AdversarialTraining, TRADES or another that does not."
            )
        check_number("gamma", gamma, "[0, inf)")
        self.objective, self.gamma = objective, float(gamma)

    def descend(self, step):
        """See `Objective`: the gradient is taken at the moved weights."""
        model = step.model
        if not model.built:
            model(step.x, training=False)  # what has no weights yet cannot be called on others
        perturbed = self.objective.perturb(model, step.x, step.y, step.loss)

        def per_example():
            return self(model, step.x, step.y, perturbed, step.loss, step.sample_weight)

        moved = self._moved(step, per_example)
        weights = model.trainable_variables
        scope = _OtherWeights([(v, moved[id(v)]) for v in weights if id(v) in moved])
        with scope:
            value, y_pred, gradients = step.gradients(
                per_example, by=[moved.get(id(v), v) for v in weights]
            )
        scope.keep_updates()
        step.apply(gradients)
        return value, y_pred

    def _moved(self, step, per_example):
        """The kernels after their move, by the identity of their variables."""
        kernels = [v for v in step.model.trainable_variables if len(v.shape) > 1]
        # Without a trace: statistics stay, and random numbers will be drawn again alike.
        with keras.StatelessScope():
            _, _, gradients = step.gradients(per_example, by=kernels, penalties=False, dense=True)
        moved = {}
        for variable, gradient in zip(kernels, gradients, strict=True):
            if gradient is None:
                continue
            value = ops.convert_to_tensor(variable)
            gradient = ops.cast(gradient, "float32")
            # Divided by the largest entry first: squares would overflow, or vanish.
            largest = ops.max(ops.absolute(gradient))
            usable = ops.logical_and(ops.isfinite(largest), largest > 0)
            unit = ops.where(usable, gradient / ops.where(usable, largest, 1.0), 0.0)
            length = ops.where(usable, _norm(unit), 1.0)
            reach = self.gamma * _norm(ops.cast(value, "float32"))
            moved[id(variable)] = value + ops.cast(reach / length * unit, value.dtype)
        return moved

    def perturb(self, model, x, y, loss):
        """See `Objective`."""
        return self.objective.perturb(model, x, y, loss)

    def __call__(self, model, x, y, perturbed, loss, sample_weight=None):
        """See `Objective`."""
        return self.objective(model, x, y, perturbed, loss, sample_weight)

    def get_config(self):
        """See `Objective`."""
        inner = keras.saving.serialize_keras_object(self.objective)
        return {"objective": inner, "gamma": self.gamma}

    @classmethod
    def from_config(cls, config):
        """See `Objective`."""
        return cls(keras.saving.deserialize_keras_object(config["objective"]), config["gamma"])


class _OtherWeights(keras.StatelessScope):
    """Calls on other weights, and knows which variables the calls would have changed.

    Args:
        state_mapping: Pairs (variable, tensor in its stead).
    """

    def __init__(self, state_mapping):
        super().__init__(state_mapping=state_mapping, collect_losses=True)
        self._updated = {}

    def add_update(self, update):
        """Notes an assignment in place of making it."""
        super().add_update(update)
        self._updated[id(update[0])] = update[0]

    def keep_updates(self):
        """Makes the assignments that were noted: statistics, and seeds of random numbers."""
        for variable in self._updated.values():
            variable.assign(self.get_current_value(variable))


def _norm(tensor):
    return ops.sqrt(ops.sum(ops.square(tensor)))
