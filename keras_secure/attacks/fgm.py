"""The fast gradient method in l2."""

from keras_secure.attacks.directions import ascent_direction
from keras_secure.attacks.gradient_attack import GradientAttack
from keras_secure.registration import component


@component("attacks")
class FGM(GradientAttack):
    """One step of length `epsilon` along the gradient (l2).

    Args:
        epsilon: Largest Euclidean distance from the input. At least 0.
        bounds: Smallest and largest value that an input may have.
        targeted: Whether the labels given are the classes to reach rather than to leave.

    Raises:
        InputError: If an argument cannot be used.

    Example:

    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> result = FGM(0.5).run(model, np.full((2, 4), 0.5, "float32"), [0, 1], verbose=0)
    >>> bool((result.distance <= 0.5 * (1 + 1e-6)).all())
    True

    Reference:
        Goodfellow, Shlens & Szegedy 2015, "Explaining and harnessing adversarial examples",
        arXiv 1412.6572, section 4, with the gradient normalized in place of its sign.
    """

    def __init__(self, epsilon, *, bounds=(0.0, 1.0), targeted=False):
        super().__init__(epsilon, norm="l2", bounds=bounds, targeted=targeted)

    def update(self, x_adv, gradient, epsilon):
        """Moves by `epsilon` along the gradient."""
        return x_adv + epsilon * ascent_direction(gradient, x_adv, self.norm, self.bounds)

    def get_config(self):
        """Returns the arguments that rebuild this attack."""
        return {"epsilon": self.epsilon, "bounds": list(self.bounds), "targeted": self.targeted}
