"""The momentum iterative method."""

from keras import ops

from keras_secure.attacks.arguments import check_counts, check_sizes
from keras_secure.attacks.directions import ascent_direction
from keras_secure.attacks.gradient_attack import GradientAttack
from keras_secure.attacks.projections import project
from keras_secure.attacks.rows import by_row, lengths
from keras_secure.errors import InputError
from keras_secure.registration import component


@component("attacks")
class MIFGSM(GradientAttack):
    """Gradient steps along a running sum of past directions, which carries over poor maxima.

    Each gradient is divided by its l1 norm and added to `decay` times what was gathered before;
    the step goes along the sign of that (linf) or its unit vector (l2). Examples made on one model
    fool others more often than those of `PGD`, which is what the method is for; as an evaluation of
    the model at hand it is no stronger.

    Args:
        epsilon: Largest distance from the input, in the units of the input. At least 0.
        norm: `"linf"` or `"l2"`.
        steps: Gradient steps. At least 1.
        step_size: Length of one step, in `norm`; None for `epsilon / steps`, which follows an
            `epsilon` given later and never leaves the ball.
        decay: Share of the gathered direction that is kept at each step, at least 0; 0 forgets
            it, which is the basic iterative method.
        bounds: Smallest and largest value that an input may have.
        targeted: Whether the labels given are the classes to reach rather than to leave.

    Raises:
        InputError: If an argument cannot be used.

    Example:

    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> result = MIFGSM(0.1).run(model, np.full((2, 4), 0.5, "float32"), [0, 1], verbose=0)
    >>> bool((result.distance <= 0.1 * (1 + 1e-6)).all())
    True

    Reference:
        Dong et al. 2018, "Boosting adversarial attacks with momentum", arXiv 1710.06081,
        algorithm 1 (linf) and section 3.3 (l2, targeted).
    """

    def __init__(
        self,
        epsilon,
        *,
        norm="linf",
        steps=10,
        step_size=None,
        decay=1.0,
        bounds=(0.0, 1.0),
        targeted=False,
    ):
        super().__init__(epsilon, norm=norm, bounds=bounds, targeted=targeted)
        if norm == "l1":
            raise InputError("norm='l1' cannot be used: MIFGSM is defined for 'linf' and 'l2'.")
        check_counts(steps=steps)
        check_sizes(decay=decay, above_zero=False)
        if step_size is not None:
            check_sizes(step_size=step_size)
        self.steps = int(steps)
        self.step_size = None if step_size is None else float(step_size)
        self.decay = float(decay)

    def begin(self, problem):
        """Starts at the input with nothing gathered; see `IterativeAttack`."""
        return {**super().begin(problem), "momentum": ops.zeros_like(problem.x)}

    def step(self, problem, state, index):
        """Gathers the gradient and moves along what was gathered."""
        _, logits, gradient = problem.gradient(state["x_adv"], self.objective)
        # A gradient that is not finite would stay in the momentum for good.
        gradient = ops.where(ops.isfinite(gradient), gradient, 0.0)
        momentum = self.decay * state["momentum"] + _of_unit_l1(gradient)
        step_size = problem.epsilon / self.steps if self.step_size is None else self.step_size
        moved = state["x_adv"] + step_size * ascent_direction(
            momentum, state["x_adv"], self.norm, self.bounds
        )
        return {
            "x_adv": project(moved, problem.x, problem.epsilon, self.norm, self.bounds),
            "momentum": momentum,
            "found": problem.fooled(logits),
        }

    def get_config(self):
        """Returns the arguments that rebuild this attack."""
        config = super().get_config()
        del config["seed"]  # nothing is drawn
        return {
            **config,
            "steps": self.steps,
            "step_size": self.step_size,
            "decay": self.decay,
        }


def _of_unit_l1(gradient):
    # By the largest entry first: the sum of tiny ones would vanish.
    for norm in ("linf", "l1"):
        length = lengths(gradient, norm)
        gradient = gradient / by_row(ops.where(length > 0, length, 1.0), gradient)
    return gradient
