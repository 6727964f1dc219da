"""The fast gradient sign method."""

from keras import ops

from keras_secure.attacks.arguments import check_flags, check_sizes
from keras_secure.attacks.directions import ascent_direction, uniform_in_ball
from keras_secure.attacks.gradient_attack import GradientAttack
from keras_secure.registration import component


@component("attacks")
class FGSM(GradientAttack):
    """One step along the sign of the gradient (linf).

    Cheap, and weak as an evaluation: a model that withstands FGSM may fall to `PGD`. In training it
    may do, if it starts at random: `AdversarialTraining(FGSM(epsilon, random_start=True))` is the
    fast adversarial training of Wong et al. Without a random start, or with steps that are too
    long, such training can collapse (catastrophic overfitting): see
    `keras_secure.callbacks.CatastrophicOverfittingGuard`.

    Args:
        epsilon: Largest change of any one value, in the units of the input. At least 0.
        random_start: Whether to start at a uniform point of the ball rather than at the input.
        step_size: Length of the step; None for `epsilon`, or with a random start `1.25 * epsilon`,
            both of which follow an `epsilon` given later. What leaves the ball is cut off.
        bounds: Smallest and largest value that an input may have.
        targeted: Whether the labels given are the classes to reach rather than to leave.
        seed: Integer that makes random starts repeatable, or None.

    Raises:
        InputError: If an argument cannot be used.

    Example:

    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> result = FGSM(0.1).run(model, np.full((2, 4), 0.5, "float32"), [0, 1], verbose=0)
    >>> bool((result.distance <= 0.1 * (1 + 1e-6)).all())
    True

    Reference:
        Goodfellow, Shlens & Szegedy 2015, "Explaining and harnessing adversarial examples",
        arXiv 1412.6572, section 4. Random start and its step: Wong, Rice & Kolter 2020, "Fast is
        better than free: revisiting adversarial training", arXiv 2001.03994, algorithm 3 and
        section 4.1.
    """

    def __init__(
        self,
        epsilon,
        *,
        random_start=False,
        step_size=None,
        bounds=(0.0, 1.0),
        targeted=False,
        seed=None,
    ):
        super().__init__(epsilon, norm="linf", bounds=bounds, targeted=targeted, seed=seed)
        check_flags(random_start=random_start)
        if step_size is not None:
            check_sizes(step_size=step_size)
        self.random_start = random_start
        self.step_size = None if step_size is None else float(step_size)

    def begin(self, problem):
        """Starts anywhere in the ball, in training also outside the box; see `GradientAttack`."""
        if problem.searching or not self.random_start:
            return super().begin(problem)
        # As in the paper. A start that is cut off at the box puts every value that stands at its
        # edge, such as the dark pixels of a digit, into one of two corners, which overfits.
        rows = ops.shape(problem.x)[0]
        size = ops.shape(ops.reshape(problem.x, (rows, -1)))[1]
        offset = ops.cast(uniform_in_ball(problem.uniform(0, 1 + size), self.norm), problem.x.dtype)
        x_adv = problem.x + problem.epsilon * ops.reshape(offset, ops.shape(problem.x))
        return {"x_adv": x_adv, "found": ops.zeros((rows,), "bool")}

    def update(self, x_adv, gradient, epsilon):
        """Moves every value by one step size, up or down."""
        usual = 1.25 * epsilon if self.random_start else epsilon
        step_size = usual if self.step_size is None else self.step_size
        return x_adv + step_size * ascent_direction(gradient, x_adv, self.norm, self.bounds)

    def get_config(self):
        """Returns the arguments that rebuild this attack."""
        return {
            "epsilon": self.epsilon,
            "random_start": self.random_start,
            "step_size": self.step_size,
            "bounds": list(self.bounds),
            "targeted": self.targeted,
            "seed": self.seed,
        }
