"""TRADES: accuracy on clean inputs traded against stability under attack."""

import keras
from keras import ops

from keras_secure.errors import InputError
from keras_secure.logits import classification_logits, logits_of
from keras_secure.objectives.divergence import divergence
from keras_secure.objectives.objective import Objective
from keras_secure.registration import component


@component("objectives")
class TRADES(Objective):
    """The compiled loss on clean inputs plus a penalty where an attack changes the prediction.

    The loss of one example is `loss(y, f(x)) + beta * KL(f(x) || f(x'))`, where x' maximizes the KL
    divergence within the attack's ball. Training metrics are measured on the clean inputs.

    Args:
        attack: A `keras_secure.attacks.Attack`; its labels are not used.
        beta: Non-negative float, the weight of stability. Defaults to 6.

    Raises:
        InputError: if `beta` is negative or the attack has no random start.

    Example:

    >>> import keras_secure as ks
    >>> TRADES(ks.attacks.PGD(epsilon=0.1, steps=7), beta=6.0).beta
    6.0

    Reference: Zhang et al. 2019 (arXiv 1901.08573), equation 5 and algorithm 1.
    """

    def __init__(self, attack, beta=6.0):
        if not beta >= 0:
            raise InputError(f"beta is {beta}; it must be non-negative.")
        if not getattr(attack, "random_start", False):
            raise InputError(
                f"TRADES was given {type(attack).__name__} without a random start. On the clean "
                "input the divergence and its gradient are zero, so such an attack never moves. "
                "Use PGD(..., random_start=True)."
            )
        self.attack, self.beta = attack, float(beta)

    def perturb(self, model, x, y, loss):
        """See `Objective`."""
        from_logits = loss.from_logits
        clean = ops.stop_gradient(classification_logits(model, x, from_logits))

        def departing(x_adv):
            return divergence(clean, classification_logits(model, x_adv, from_logits))

        return self.attacked(model, x, y, loss=departing)

    def __call__(self, model, x, y, perturbed, loss, sample_weight=None):
        """See `Objective`."""
        y_pred = model(x, training=True)
        clean = logits_of(y_pred, model, loss.from_logits)
        attacked = logits_of(model(perturbed, training=True), model, loss.from_logits)
        penalty = divergence(clean, attacked)
        if sample_weight is not None:
            penalty = penalty * ops.cast(sample_weight, "float32")
        return loss(y, y_pred, sample_weight) + self.beta * penalty, y_pred

    def get_config(self):
        """See `Objective`."""
        return {"attack": keras.saving.serialize_keras_object(self.attack), "beta": self.beta}

    @classmethod
    def from_config(cls, config):
        """See `Objective`."""
        return cls(keras.saving.deserialize_keras_object(config["attack"]), config["beta"])
