"""DeepFool."""

import math

from keras import ops

from keras_secure.attacks.arguments import check_counts, check_sizes
from keras_secure.attacks.labels import likeliest_wrong_classes
from keras_secure.attacks.minimal_distance_attack import MinimalDistanceAttack
from keras_secure.attacks.rows import by_row, lengths
from keras_secure.errors import InputError
from keras_secure.registration import component


@component("attacks")
class DeepFool(MinimalDistanceAttack):
    """Walks to the nearest boundary of the linearized model until the model itself is fooled.

    In a few steps it comes near the smallest distance, which `CarliniWagnerL2` and others find
    more exactly at many times the price. A linear model is solved in one step. As in the authors'
    code, gradients are taken at the point with the overshoot; what leaves the box is clipped.

    Args:
        epsilon: Radius within which to succeed, or None for no limit.
        norm: `"l2"` or `"linf"`.
        steps: Most linearizations.
        overshoot: Share by which each perturbation is lengthened to cross the boundary.
        num_candidates: How many of the classes with the largest logits at the input are looked at,
            the right one included; at least 2. None for all. Costs one gradient for each.
        bounds: Smallest and largest value that an input may have.

    Raises:
        InputError: If an argument cannot be used.

    Example:

    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.set_weights([np.array([[3.0], [4.0]]), np.array([-3.0])])
    >>> result = DeepFool().run(model, np.array([[0.5, 0.5]], "float32"), [1], verbose=0)
    >>> print(result.distance.round(3), result.first_success_step)  # 1.02 * 0.1, in one step
    [0.102] [1]

    Reference:
        Moosavi-Dezfooli, Fawzi & Frossard 2016, arXiv 1511.04599, algorithm 2 and section 3.3.
    """

    looks_first = True

    def __init__(
        self,
        epsilon=None,
        *,
        norm="l2",
        steps=50,
        overshoot=0.02,
        num_candidates=10,
        bounds=(0.0, 1.0),
    ):
        super().__init__(epsilon, norm=norm, bounds=bounds)
        if norm == "l1":
            raise InputError("norm='l1' cannot be used: DeepFool is offered for 'l2' and 'linf'.")
        check_counts(steps=steps)
        check_sizes(overshoot=overshoot, above_zero=False)
        if num_candidates is not None:
            check_counts(num_candidates=num_candidates)
            if num_candidates < 2:
                raise InputError(
                    "num_candidates=1 leaves no other class: use 2 or more, or None for all."
                )
        self.steps = int(steps)
        self.overshoot = float(overshoot)
        self.num_candidates = None if num_candidates is None else int(num_candidates)

    def begin(self, problem):
        """Chooses the candidates at the input; see `IterativeAttack`."""
        logits = problem.logits(problem.x)
        classes = logits.shape[1]
        others = min(self.num_candidates or classes, classes) - 1
        batch = ops.shape(problem.x)[0]
        return {
            "x_adv": problem.x,
            "found": problem.fooled(logits),
            "moved": ops.zeros_like(problem.x),
            "candidates": likeliest_wrong_classes(logits, problem.labels, others),
            "evaluations": ops.ones((batch,), "int32"),
        }

    def step(self, problem, state, index):
        """Judges the point and adds the shortest way to a boundary of the linearized model."""
        x_adv = state["x_adv"]
        labels = problem.labels
        others = state["candidates"].shape[1]

        def look(number, nearest):
            best, way, _ = nearest
            candidate = ops.take(state["candidates"], number, axis=1)
            gap, logits, gradient = problem.gradient(
                x_adv, lambda logits, _: _of_class(logits, candidate) - _of_class(logits, labels)
            )
            fooled = problem.fooled(logits)
            gradient = ops.where(ops.isfinite(gradient), gradient, 0.0)
            slope = lengths(gradient, "l2" if self.norm == "l2" else "l1")
            distance = ops.absolute(ops.cast(gap, x_adv.dtype)) / ops.where(slope > 0, slope, 1.0)
            distance = ops.where(slope > 0, distance, float("inf"))
            if self.norm == "l2":
                direction = gradient / by_row(ops.where(slope > 0, slope, 1.0), gradient)
            else:
                direction = ops.sign(gradient)
            nearer = distance < best
            way = ops.where(by_row(nearer, way), by_row(distance, way) * direction, way)
            return ops.where(nearer, distance, best), way, fooled

        batch = ops.shape(x_adv)[0]
        _, way, fooled = ops.fori_loop(
            0,
            others,
            look,
            (
                ops.full((batch,), float("inf"), x_adv.dtype),
                ops.zeros_like(x_adv),
                ops.zeros((batch,), "bool"),
            ),
        )
        # Where it stands on the boundary itself the way is of length zero, and none would follow.
        floor = 1e-6 * (self.bounds[1] - self.bounds[0])
        length = lengths(way, self.norm)
        way = way * by_row(1.0 + floor / ops.where(length > 0, length, math.inf), way)
        moved = state["moved"] + way
        evaluations = ops.where(state["found"], 0, others)
        return {
            **state,
            "x_adv": ops.clip(problem.x + (1.0 + self.overshoot) * moved, *self.bounds),
            "moved": moved,
            "found": fooled,
            "evaluations": state["evaluations"] + evaluations,
        }

    def get_config(self):
        """Returns the arguments that rebuild this attack."""
        return {
            "epsilon": self.epsilon,
            "norm": self.norm,
            "steps": self.steps,
            "overshoot": self.overshoot,
            "num_candidates": self.num_candidates,
            "bounds": list(self.bounds),
        }


def _of_class(logits, classes):
    return ops.sum(logits * ops.one_hot(classes, logits.shape[1], dtype=logits.dtype), axis=1)
