"""Training on noisy inputs, which randomized smoothing needs."""

import keras
from keras import ops, tree

from keras_secure.arguments import check_integer, is_number
from keras_secure.errors import InputError
from keras_secure.objectives.objective import Objective
from keras_secure.registration import component


@component("objectives")
class GaussianAugmentation(Objective):
    """The compiled loss on inputs with Gaussian noise, drawn anew in each step.

    A model that is to be certified by randomized smoothing must know its inputs under the very
    noise that smoothing adds. Noise is not clipped to a range, since smoothing does not clip
    either. Works with several inputs (floating point ones) and several outputs. Training metrics
    are measured on the noisy inputs.

    Args:
        stddev: Standard deviation of the noise, a number of at least 0, in units of the inputs.
        seed: Integer that makes the noise repeatable, or None.

    Raises:
        InputError: if an argument cannot be used.

    Example:

    >>> GaussianAugmentation(stddev=0.25).stddev
    0.25

    Reference: Cohen et al. 2019 (arXiv 1902.02918), section 3.3; Lecuyer et al. 2019
    (arXiv 1802.03471).
    """

    def __init__(self, stddev, seed=None):
        if not is_number(stddev) or not 0 <= stddev < float("inf"):
            raise InputError(
                f"stddev={stddev!r} cannot be used: it must be a finite number >= 0, in units of "
                "the inputs."
            )
        if seed is not None:
            check_integer("seed", seed, 0)
        self.stddev, self.seed = float(stddev), None if seed is None else int(seed)
        self._seed_generator = keras.random.SeedGenerator(self.seed)

    def perturb(self, model, x, y, loss):
        """See `Objective`."""
        return tree.map_structure(self.noisy, x)

    def noisy(self, x):
        """Returns one floating point tensor with noise, in its own dtype."""
        x = ops.convert_to_tensor(x)
        if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(x.dtype)):
            raise InputError(
                f"{type(self).__name__} got inputs of dtype {x.dtype}; noise is added to floating "
                "point numbers. Rescale integer images to [0, 1] before training."
            )
        noise = keras.random.normal(
            ops.shape(x), stddev=self.stddev, dtype="float32", seed=self._seed_generator
        )
        return ops.cast(ops.cast(x, "float32") + noise, x.dtype)

    def __call__(self, model, x, y, perturbed, loss, sample_weight=None):
        """See `Objective`."""
        y_pred = model(perturbed, training=True)
        return loss(y, y_pred, sample_weight), y_pred

    def get_config(self):
        """See `Objective`."""
        return {"stddev": self.stddev, "seed": self.seed}
