"""Consistency regularization: noisy copies of one input must be answered alike."""

import math

from keras import ops

from keras_secure.arguments import check_number, is_integer
from keras_secure.errors import InputError
from keras_secure.logits import logits_of
from keras_secure.objectives.divergence import divergence
from keras_secure.objectives.gaussian_augmentation import GaussianAugmentation
from keras_secure.registration import component


@component("objectives")
class Consistency(GaussianAugmentation):
    """The compiled loss on noisy copies, plus a penalty where the copies are answered differently.

    With f_1 .. f_m the probabilities for m noisy copies of one input and f their mean, the loss is
    `mean_i loss(y, f_i) + weight * mean_i KL(f || f_i) + entropy_weight * H(f)`. Smoothing with the
    same noise then votes more clearly, which is what its certified radius grows with. Training
    metrics are measured on the first copy. A step costs `num_copies` passes through the model.

    Args:
        stddev: Standard deviation of the noise, in units of the inputs.
        num_copies: Noisy copies of each input, an integer of at least 2. Defaults to 2.
        weight: Non-negative weight of the divergence. Defaults to 10; the paper uses 5 to 20, more
            for less noise.
        entropy_weight: Non-negative weight of the entropy. Defaults to 0.5.
        seed: Integer that makes the noise repeatable, or None.

    Raises:
        InputError: if an argument cannot be used.

    Example:

    >>> Consistency(stddev=0.5, num_copies=2, weight=10.0).weight
    10.0

    Reference: Jeong & Shin 2020 (arXiv 2006.04062), section 3.
    """

    def __init__(self, stddev, num_copies=2, weight=10.0, entropy_weight=0.5, seed=None):
        super().__init__(stddev, seed)
        if not is_integer(num_copies) or num_copies < 2:
            raise InputError(
                f"num_copies={num_copies!r} cannot be used: it must be an integer >= 2, since one "
                "copy has none to agree with; for one, use GaussianAugmentation."
            )
        for name, value in (("weight", weight), ("entropy_weight", entropy_weight)):
            check_number(name, value, "[0, inf)")
        self.num_copies = int(num_copies)
        self.weight, self.entropy_weight = float(weight), float(entropy_weight)

    def perturb(self, model, x, y, loss):
        """See `Objective`."""
        return [super(Consistency, self).perturb(model, x, y, loss) for _ in range(self.num_copies)]

    def __call__(self, model, x, y, perturbed, loss, sample_weight=None):
        """See `Objective`."""
        outputs = [model(copy, training=True) for copy in perturbed]
        logits = [logits_of(output, model, loss.from_logits) for output in outputs]
        log_probabilities = [ops.log_softmax(values, axis=-1) for values in logits]
        # The logarithm of the mean probability, without leaving the logarithms.
        mean = ops.logsumexp(ops.stack(log_probabilities), axis=0) - math.log(self.num_copies)
        entropy = -ops.sum(ops.exp(mean) * mean, axis=-1)
        apart = sum(divergence(mean, values) for values in logits) / self.num_copies
        penalty = self.weight * apart + self.entropy_weight * entropy
        natural = sum(loss(y, output, sample_weight) for output in outputs) / self.num_copies
        return natural + loss.weigh(penalty, sample_weight), outputs[0]

    def get_config(self):
        """See `Objective`."""
        return {
            **super().get_config(),
            "num_copies": self.num_copies,
            "weight": self.weight,
            "entropy_weight": self.entropy_weight,
        }
