"""Mixup: training between the examples."""

import keras
from keras import ops, tree

from keras_secure.arguments import check_integer, check_number
from keras_secure.errors import InputError
from keras_secure.objectives.mixed_loss import MixedLoss, beta_share
from keras_secure.objectives.objective import Objective, Standard
from keras_secure.registration import component


@component("objectives")
class Mixup(Objective):
    """Any other objective, on inputs that are each mixed with another one of the batch.

    Each input becomes `share * x_a + (1 - share) * x_b` and each loss
    `share * loss(y_a) + (1 - share) * loss(y_b)`, with a share drawn from Beta(alpha, alpha) once a
    step. Labels may be integers or one-hot, since losses rather than labels are mixed. The larger
    share goes to the example in whose place the mixture stands, which changes nothing in
    distribution; training metrics, and the label that an attack leaves, are of that example.

    A mixture has two examples in it, so no example's influence can be clipped: private training
    refuses this objective with a `PrivacyError`.

    Args:
        objective: The `Objective` to train with on the mixtures; the compiled loss if None.
        alpha: Positive number: the smaller, the closer a mixture is to one example. Defaults to
            0.2; the paper uses 0.2 on ImageNet and 1 on CIFAR-10.
        seed: Integer that makes the mixtures repeatable, or None.

    Raises:
        InputError: if an argument cannot be used, or the objective mixes examples already.

    Example:

    >>> import keras_secure as ks
    >>> objective = Mixup(ks.objectives.TRADES(ks.attacks.PGD(epsilon=0.1)), alpha=1.0)
    >>> objective.mixes_examples
    True

    Reference: Zhang et al. 2018 (arXiv 1710.09412), section 2.
    """

    mixes_examples = True

    def __init__(self, objective=None, alpha=0.2, seed=None):
        objective = Standard() if objective is None else objective
        if not isinstance(objective, Objective):
            raise InputError(
                f"objective is a {type(objective).__name__}; give one of keras_secure.objectives."
            )
        if any(part.mixes_examples for part in objective.parts()):
            raise InputError("The objective mixes examples already; use one Mixup.")
        check_number("alpha", alpha, "(0, inf)")
        if seed is not None:
            check_integer("seed", seed, 0)
        self.objective, self.alpha = objective, float(alpha)
        self.seed = None if seed is None else int(seed)
        self._seed_generator = keras.random.SeedGenerator(self.seed)

    def perturb(self, model, x, y, loss):
        """See `Objective`."""
        batch = ops.shape(tree.flatten(x)[0])[0]
        share = beta_share(self.alpha, self._seed_generator)
        share = ops.maximum(share, 1.0 - share)
        # Ranks of random numbers: a shuffle that compiles everywhere.
        partners = ops.argsort(keras.random.uniform((batch,), seed=self._seed_generator))

        def mixed(values):
            values = ops.convert_to_tensor(values)
            if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(values.dtype)):
                raise InputError(
                    f"Mixup got inputs of dtype {values.dtype}, which have nothing between them. "
                    "Rescale images to floats first; for token ids, start after the embedding."
                )
            own = ops.cast(values, "float32")
            return ops.cast(
                share * own + (1.0 - share) * ops.take(own, partners, axis=0), values.dtype
            )

        inputs = tree.map_structure(mixed, x)
        inner = self.objective.perturb(model, inputs, y, MixedLoss(loss, partners, share))
        return inputs, partners, share, inner

    def __call__(self, model, x, y, perturbed, loss, sample_weight=None):
        """See `Objective`."""
        inputs, partners, share, inner = perturbed
        loss = MixedLoss(loss, partners, share)
        return self.objective(model, inputs, y, inner, loss, sample_weight)

    def get_config(self):
        """See `Objective`."""
        return {
            "objective": keras.saving.serialize_keras_object(self.objective),
            "alpha": self.alpha,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config):
        """See `Objective`."""
        inner = keras.saving.deserialize_keras_object(config["objective"])
        return cls(**{**config, "objective": inner})
