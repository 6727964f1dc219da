"""Projected gradient descent on the loss of the model, with restarts."""

import math

from keras_secure.arguments import is_number
from keras_secure.attacks.arguments import check_counts, check_flags
from keras_secure.attacks.directions import ascent_direction
from keras_secure.attacks.gradient_attack import GradientAttack
from keras_secure.errors import InputError
from keras_secure.registration import component


@component("attacks")
class PGD(GradientAttack):
    """Repeated steepest-ascent steps, each projected exactly onto ball and box.

    Args:
        epsilon: Largest distance from the input, in the units of the input. At least 0.
        norm: `"linf"`, `"l2"` or `"l1"`. An l1 step moves the share `sparsity` of the values.
        steps: Gradient steps of one start. At least 1.
        step_size: Length of one step, in `norm`; None for `2.5 * epsilon / steps`, which follows
            an `epsilon` given later.
        restarts: Starts that `run` tries on an example until one fools the model. More than one
            needs `random_start`.
        random_start: Whether to start at a uniform point of the ball rather than at the input.
        sparsity: Share of the values that an l1 step moves, in (0, 1]. At least one value moves.
        bounds: Smallest and largest value that an input may have.
        targeted: Whether the labels given are the classes to reach rather than to leave.
        seed: Integer that makes random starts repeatable, or None.

    Raises:
        InputError: If an argument cannot be used.

    Example:

    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> attack = PGD(0.5, norm="l1", steps=5, restarts=2, seed=0)
    >>> result = attack.run(model, np.full((2, 4), 0.5, "float32"), [0, 1], verbose=0)
    >>> bool((result.distance <= 0.5 * (1 + 1e-6)).all())
    True

    Reference:
        Madry et al. 2018, "Towards deep learning models resistant to adversarial attacks",
        arXiv 1706.06083, section 2.1. l1: Tramèr & Boneh 2019, arXiv 1904.13000 (sparse step);
        Croce & Hein 2021, arXiv 2103.01208 (joint projection).
    """

    def __init__(
        self,
        epsilon,
        *,
        norm="linf",
        steps=10,
        step_size=None,
        restarts=1,
        random_start=True,
        sparsity=0.05,
        bounds=(0.0, 1.0),
        targeted=False,
        seed=None,
    ):
        super().__init__(epsilon, norm=norm, bounds=bounds, targeted=targeted, seed=seed)
        check_counts(steps=steps, restarts=restarts)
        if step_size is not None and (not is_number(step_size) or not 0 < step_size < math.inf):
            raise InputError(
                f"step_size={step_size!r} cannot be used: it must be a number > 0, or None for "
                "2.5 * epsilon / steps."
            )
        check_flags(random_start=random_start)
        if restarts > 1 and not random_start:
            raise InputError(
                f"restarts={restarts} with random_start=False would repeat one search: set "
                "random_start=True or restarts=1."
            )
        if not is_number(sparsity) or not 0 < sparsity <= 1:
            raise InputError(f"sparsity={sparsity!r} cannot be used: it must be in (0, 1].")
        self.steps = int(steps)
        self.step_size = None if step_size is None else float(step_size)
        self.restarts = int(restarts)
        self.random_start = random_start
        self.sparsity = float(sparsity)

    def update(self, x_adv, gradient, epsilon):
        """Moves by one step size along the direction of steepest ascent."""
        step_size = 2.5 * epsilon / self.steps if self.step_size is None else self.step_size
        return x_adv + step_size * ascent_direction(
            gradient, x_adv, self.norm, self.bounds, self.sparsity
        )

    def get_config(self):
        """Returns the arguments that rebuild this attack."""
        return {
            **super().get_config(),
            "steps": self.steps,
            "step_size": self.step_size,
            "restarts": self.restarts,
            "random_start": self.random_start,
            "sparsity": self.sparsity,
        }
