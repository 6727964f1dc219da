"""MART: adversarial training that tells misclassified examples from the others."""

import keras
from keras import ops

from keras_secure.arguments import check_number
from keras_secure.attacks.labels import class_indices
from keras_secure.logits import logits_of
from keras_secure.objectives.divergence import divergence
from keras_secure.objectives.objective import Objective
from keras_secure.registration import component


@component("objectives")
class MART(Objective):
    """Boosted cross-entropy under attack, plus stability where the model is unsure of the label.

    With p the clean and q the attacked probabilities, the loss of one example with label y is
    `-log q_y - log(1 - max of q over other classes) + beta * KL(p || q) * (1 - p_y)`. It takes the
    place of the compiled loss, which only says whether the outputs are logits. Training metrics are
    measured on the clean inputs.

    Args:
        attack: A `keras_secure.attacks.Attack`; it raises cross-entropy, as in the paper.
        beta: Non-negative float, the weight of stability. Defaults to 6.

    Raises:
        InputError: if `beta` is negative.

    Example:

    >>> import keras_secure as ks
    >>> MART(ks.attacks.PGD(epsilon=0.1, steps=7)).beta
    6.0

    Reference: Wang et al. 2020, "Improving adversarial robustness requires revisiting misclassified
    examples", ICLR, section 3.
    """

    def __init__(self, attack, beta=6.0):
        check_number("beta", beta, "[0, inf)")
        self.attack, self.beta = attack, float(beta)

    def perturb(self, model, x, y, loss):
        """See `Objective`."""
        return self.attacked(model, x, y, from_logits=loss.from_logits)

    def __call__(self, model, x, y, perturbed, loss, sample_weight=None):
        """See `Objective`."""
        y_pred = model(x, training=True)
        clean = logits_of(y_pred, model, loss.from_logits)
        attacked = logits_of(model(perturbed, training=True), model, loss.from_logits)
        unstable = divergence(clean, attacked)
        log_probabilities = ops.log_softmax(clean, axis=-1)

        def term(loss, y, weight):
            labels = class_indices(y)
            labelled = ops.one_hot(labels, clean.shape[1], dtype="float32")
            confidence = ops.exp(ops.sum(labelled * log_probabilities, axis=-1))
            boosted = boosted_cross_entropy(attacked, labels)
            return loss.weigh(boosted + self.beta * unstable * (1.0 - confidence), weight)

        return loss.over_labels(term, y, sample_weight), y_pred

    def get_config(self):
        """See `Objective`."""
        return {"attack": keras.saving.serialize_keras_object(self.attack), "beta": self.beta}

    @classmethod
    def from_config(cls, config):
        """See `Objective`."""
        return cls(keras.saving.deserialize_keras_object(config["attack"]), config["beta"])


def boosted_cross_entropy(logits, labels):
    """Cross-entropy plus a margin: the best other class is pushed down as well.

    Both logarithms are taken of sums of exponentials, so that a saturated model keeps a gradient.

    Args:
        logits: Float32 tensor of shape (batch, num_classes).
        labels: Int32 tensor of shape (batch,).

    Returns:
        `-log q_y - log(1 - max of q over other classes)`, shape (batch,).

    Example:

    >>> loss = boosted_cross_entropy(ops.zeros((1, 2)), ops.convert_to_tensor([0]))
    >>> round(float(loss[0]), 4)  # 2 log 2
    1.3863
    """
    count = logits.shape[1]
    labelled = ops.one_hot(labels, count, dtype="bool")
    others = ops.where(labelled, -float("inf"), logits)
    rival = ops.one_hot(ops.argmax(others, axis=1), count, dtype="bool")
    total = ops.logsumexp(logits, axis=1)
    chosen = ops.sum(ops.where(labelled, logits, 0.0), axis=1)
    without_rival = ops.logsumexp(ops.where(rival, -float("inf"), logits), axis=1)
    return (total - chosen) + (total - without_rival)
