"""Noise from the ball: what a model must withstand before anything else."""

from keras import ops

from keras_secure.attacks.arguments import check_counts
from keras_secure.attacks.directions import uniform_in_ball
from keras_secure.attacks.iterative_attack import IterativeAttack
from keras_secure.attacks.log_odds import log_odds_against
from keras_secure.attacks.projections import project
from keras_secure.attacks.rows import by_row
from keras_secure.registration import component


@component("attacks")
class RandomNoise(IterativeAttack):
    """Draws points uniformly from the ball and keeps the one with the highest loss.

    A black-box baseline: an attack that finds less than this is broken, and a model that falls to
    it has no robustness to speak of. Surviving it means next to nothing.

    Args:
        epsilon: Largest distance from the input, in the units of the input. At least 0.
        norm: `"linf"`, `"l2"` or `"l1"`.
        draws: How many points are tried. At least 1.
        bounds: Smallest and largest value that an input may have; points outside are moved to the
            nearest one that is in both the ball and the box.
        targeted: Whether the labels given are the classes to reach rather than to leave.
        seed: Integer that makes the draws repeatable, or None.

    Raises:
        InputError: If an argument cannot be used.

    Example:

    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> attack = RandomNoise(0.1, norm="l2", draws=10, seed=0)
    >>> result = attack.run(model, np.full((2, 4), 0.5, "float32"), [0, 1], verbose=0)
    >>> bool((result.distance <= 0.1 * (1 + 1e-6)).all())
    True
    """

    looks_first = False

    def __init__(
        self, epsilon, *, norm="linf", draws=100, bounds=(0.0, 1.0), targeted=False, seed=None
    ):
        super().__init__(epsilon, norm=norm, bounds=bounds, targeted=targeted, seed=seed)
        check_counts(draws=draws)
        self.steps = self.draws = int(draws)

    def begin(self, problem):
        """Nothing is drawn yet; see `IterativeAttack`."""
        batch = ops.shape(problem.x)[0]
        return {
            "x_adv": problem.x,
            "loss": ops.full((batch,), -float("inf"), "float32"),
            "found": ops.zeros((batch,), "bool"),
        }

    def step(self, problem, state, index):
        """Tries one more point."""
        shape = ops.shape(problem.x)
        size = ops.shape(ops.reshape(problem.x, (shape[0], -1)))[1]
        offset = uniform_in_ball(problem.uniform(index, 1 + size), self.norm)
        moved = problem.x + problem.epsilon * ops.reshape(ops.cast(offset, problem.x.dtype), shape)
        drawn = project(moved, problem.x, problem.epsilon, self.norm, self.bounds)
        return keep_worst(problem, state, drawn, self.targeted)

    def get_config(self):
        """Returns the arguments that rebuild this attack."""
        return {**super().get_config(), "draws": self.draws}


def keep_worst(problem, state, x_adv, targeted):
    """Returns a state with `x_adv` where it fools the model or its loss is the highest yet.

    Args:
        problem: A `Problem`.
        state: Dictionary with `"x_adv"` and `"loss"`.
        x_adv: Tensor like `problem.x`: what is tried.
        targeted: Whether the labels are the classes to reach.
    """

    def objective(logits, labels):
        against = log_odds_against(logits, labels)
        return -against if targeted else against

    loss, logits = problem.losses(x_adv, objective)
    fooled = problem.fooled(logits)
    loss = ops.cast(loss, "float32")
    worse = ops.logical_or(fooled, loss > state["loss"])
    return {
        "x_adv": ops.where(by_row(worse, x_adv), x_adv, state["x_adv"]),
        "loss": ops.where(worse, loss, state["loss"]),
        "found": fooled,
    }
