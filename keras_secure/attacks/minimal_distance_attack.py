"""Attacks that look for the nearest input that fools the model."""

from keras import ops

from keras_secure.attacks.attack import Attack
from keras_secure.attacks.iterative_attack import IterativeAttack
from keras_secure.attacks.rows import by_row, lengths


class MinimalDistanceAttack(IterativeAttack):
    """Base of attacks that shorten a perturbation instead of filling a ball.

    With `epsilon=None` an example is worked on to the end, and what is returned is the nearest
    input that fools the model. With a radius, work on an example stops once one lies within it.
    In the state, `"x_adv"` is the nearest found so far and `"distance"` how far it is, infinite
    while there is none. Such a search says nothing about an example that it does not fool, so
    there is nothing to train on, and `perturb` refuses.

    Args:
        epsilon: Radius, or None for no limit.
        norm: See `Attack`.
        bounds: See `Attack`.
        targeted: See `Attack`.
        seed: See `Attack`.
    """

    minimal_distance = True
    looks_first = False
    perturb = Attack.perturb

    def nothing_found(self, problem):
        """Returns the entries of the state that this class keeps, before anything is found."""
        batch = ops.shape(problem.x)[0]
        return {
            "x_adv": problem.x,
            "distance": ops.full((batch,), float("inf"), problem.x.dtype),
            "found": ops.zeros((batch,), "bool"),
        }

    def nearest(self, problem, state, x_adv, fooled):
        """Returns those entries after `x_adv` was tried.

        Args:
            problem: The `Problem`.
            state: The state so far.
            x_adv: Tensor like `problem.x`.
            fooled: Boolean tensor of shape (batch,): whether `x_adv` does what is wanted.
        """
        distance = lengths(x_adv - problem.x, self.norm)
        nearer = ops.logical_and(fooled, distance < state["distance"])
        distance = ops.where(nearer, distance, state["distance"])
        within = ops.logical_and(distance <= problem.epsilon, problem.epsilon < float("inf"))
        return {
            "x_adv": ops.where(by_row(nearer, x_adv), x_adv, state["x_adv"]),
            "distance": distance,
            "found": within,
        }
