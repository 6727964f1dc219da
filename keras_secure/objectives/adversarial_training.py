"""Adversarial training."""

import keras
from keras import tree

from keras_secure.errors import InputError
from keras_secure.objectives.objective import Objective
from keras_secure.registration import component


@component("objectives")
class AdversarialTraining(Objective):
    """The compiled loss on inputs that an attack has just made worse for the model.

    Training metrics are measured on the clean inputs if these take part, otherwise on the attacked
    ones. Where the model has several outputs, the attack raises the compiled loss of all of them.

    Args:
        attack: A `keras_secure.attacks.Attack`.
        clean_share: Float in [0, 1): the weight of the loss on clean inputs. Defaults to 0, the
            training of Madry et al.

    Raises:
        InputError: if `clean_share` is out of range; in `fit`, if the model has several outputs and
            the attack is targeted.

    Example:

    >>> import keras_secure as ks
    >>> objective = AdversarialTraining(ks.attacks.PGD(epsilon=0.1, steps=7), clean_share=0.5)
    >>> objective.clean_share
    0.5

    Reference: Madry et al. 2018 (arXiv 1706.06083) section 2; the mixture is that of Goodfellow et
    al. 2015 (arXiv 1412.6572) section 6.
    """

    def __init__(self, attack, clean_share=0.0):
        if isinstance(attack, type) or not callable(getattr(attack, "perturb", None)):
            raise InputError(
                f"attack={attack!r} cannot be trained on: give an object such as "
                "PGD(epsilon=0.1, steps=7)."
            )
        if not 0.0 <= clean_share < 1.0:
            raise InputError(f"clean_share is {clean_share}; it must lie in [0, 1).")
        self.attack, self.clean_share = attack, float(clean_share)

    def perturb(self, model, x, y, loss):
        """See `Objective`."""
        count = len(getattr(model, "outputs", None) or tree.flatten(y))
        if count == 1:
            return self.attacked(model, x, y, from_logits=loss.from_logits)
        if self.attack.targeted:
            raise InputError(
                f"The model has {count} outputs, and a targeted attack reaches for a class of one. "
                "Use an untargeted attack, which raises the compiled loss of all outputs together."
            )
        # No one output is the classifier: what is trained down is what the attack drives up.
        return self.attacked(model, x, loss=lambda x_adv: loss(y, model(x_adv, training=False)))

    def __call__(self, model, x, y, perturbed, loss, sample_weight=None):
        """See `Objective`."""
        attacked = model(perturbed, training=True)
        losses = loss(y, attacked, sample_weight)
        if not self.clean_share:
            return losses, attacked
        clean = model(x, training=True)
        share = self.clean_share
        return share * loss(y, clean, sample_weight) + (1.0 - share) * losses, clean

    def get_config(self):
        """See `Objective`."""
        attack = keras.saving.serialize_keras_object(self.attack)
        return {"attack": attack, "clean_share": self.clean_share}

    @classmethod
    def from_config(cls, config):
        """See `Objective`."""
        attack = keras.saving.deserialize_keras_object(config["attack"])
        return cls(attack, config["clean_share"])
