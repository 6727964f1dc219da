"""FAB: the fast adaptive boundary attack, which looks for the smallest perturbation."""

import math

from keras import ops

from keras_secure import backend
from keras_secure.arguments import is_integer, is_number
from keras_secure.attacks.boundary_step import boundary_distance, boundary_step, keep_nearest
from keras_secure.attacks.directions import uniform_in_ball
from keras_secure.attacks.labels import likeliest_wrong_classes
from keras_secure.attacks.log_odds import predicts
from keras_secure.attacks.losses import margin
from keras_secure.attacks.minimal_distance_attack import MinimalDistanceAttack
from keras_secure.attacks.rows import by_row
from keras_secure.errors import InputError
from keras_secure.registration import component

SEARCHING = 6
"""Most steps that look for the boundary between the input and the nearest point found."""


@component("attacks")
class FAB(MinimalDistanceAttack):
    """Walks along the decision boundary, drawn towards the input, and keeps the nearest point.

    Each step linearizes the nearest boundary and projects both the current point and the input
    onto it, exactly and inside the bounds. A step that has crossed the boundary is drawn back. The
    last steps, a quarter of them and at most 6, close in on the boundary between the input and the
    nearest point, unless there is a radius to be within.

    Args:
        epsilon: Radius that is enough, in the units of the input, or None for the smallest.
        norm: `"linf"`, `"l2"` or `"l1"`.
        steps: Passes through the model of one start, at least 2; for each wrong class if
            `num_targets` is None.
        restarts: Starts on each target. The first is at the input, further ones at random points
            within half of `epsilon`, or without one of the distance to first order.
        num_targets: None to go for whichever boundary is nearest, which takes as many backward
            passes a step as there are wrong classes. An integer makes it FAB-T, with one: each
            start goes for one class, the most likely wrong one at the input first.
        alpha_max: Most weight of the input's projection against the current point's, in [0, 1].
        eta: How far beyond the boundary a step leads; 1 is onto it.
        beta: What part of its distance a point that fools keeps, in (0, 1].
        bounds: Smallest and largest value that an input may have.
        seed: Integer that makes random starts repeatable, or None.

    Raises:
        InputError: If an argument cannot be used.

    Example:

    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    >>> model.set_weights([np.array([[0.0, 3.0], [0.0, 4.0]]), np.array([0.0, -4.5])])
    >>> x = np.array([[0.5, 0.5]], "float32")
    >>> FAB(norm="l2", steps=20).run(model, x, [0], verbose=0).distance.round(3)
    array([0.2])

    Reference:
        Croce & Hein 2020, "Minimally distorted adversarial examples with a fast adaptive boundary
        attack", arXiv 1907.02044; FAB-T: Croce & Hein 2020, arXiv 2003.01690, section 5.
    """

    def __init__(
        self,
        epsilon=None,
        *,
        norm="linf",
        steps=100,
        restarts=1,
        num_targets=None,
        alpha_max=0.1,
        eta=1.05,
        beta=0.9,
        bounds=(0.0, 1.0),
        seed=None,
    ):
        super().__init__(epsilon, norm=norm, bounds=bounds, seed=seed)
        smallest = {"steps": (steps, 2), "restarts": (restarts, 1), "num_targets": (num_targets, 1)}
        for name, (value, least) in smallest.items():
            if value is None and name == "num_targets":
                continue
            if not is_integer(value) or value < least:
                raise InputError(
                    f"{name}={value!r} cannot be used: it must be an integer >= {least}."
                )
        if not is_number(alpha_max) or not 0 <= alpha_max <= 1:
            raise InputError(f"alpha_max={alpha_max!r} cannot be used: it must be in [0, 1].")
        if not is_number(eta) or not 1 <= eta < math.inf:
            raise InputError(f"eta={eta!r} cannot be used: it must be a number >= 1.")
        if not is_number(beta) or not 0 < beta <= 1:
            raise InputError(f"beta={beta!r} cannot be used: it must be in (0, 1].")
        self.steps = int(steps)
        self.restarts = int(restarts)
        self.num_targets = None if num_targets is None else int(num_targets)
        self.alpha_max = float(alpha_max)
        self.eta = float(eta)
        self.beta = float(beta)

    def starts(self, num_classes):
        """See `Attack`: `restarts` on each target."""
        return self.restarts * self._targets(num_classes)

    def begin(self, problem):
        """Chooses the classes to go for, and a random point in a restart."""
        logits = problem.logits(problem.x)
        others = likeliest_wrong_classes(logits, problem.labels, logits.shape[1] - 1)
        targets = self._targets(logits.shape[1])
        if self.num_targets is not None:
            others = ops.take(others, problem.restart % targets, axis=1)[:, None]
        iterate = ops.cond(
            problem.restart < targets, lambda: problem.x, lambda: self._random_point(problem)
        )
        clean = ops.cast(margin(logits, problem.labels), problem.x.dtype)
        return {
            **self.nothing_found(problem),
            "evaluations": ops.ones_like(problem.labels),
            "iterate": iterate,
            "others": others,
            "margin": clean,
            # For the search at the end: a point that does not fool, as a part of the way.
            "low": ops.zeros_like(clean),
            "margin_low": clean,
        }

    def step(self, problem, state, index):
        """Walks, or closes in at the end; see `IterativeAttack`."""
        unlimited = problem.epsilon == float("inf")
        searching = max(min(self.steps // 4, SEARCHING), 1)
        # The last point is judged in any case.
        walking = ops.where(unlimited, self.steps - searching, self.steps - 1)

        def walk():
            return self._walk(problem, state)

        def close_in():
            return self._close_in(problem, state, index == walking)

        state = ops.cond(index < walking, walk, close_in)
        within = ops.logical_and(state["distance"] <= problem.epsilon, ops.logical_not(unlimited))
        return {**state, "found": within}

    def get_config(self):
        """Returns the arguments that rebuild this attack."""
        config = {
            **super().get_config(),
            "steps": self.steps,
            "restarts": self.restarts,
            "num_targets": self.num_targets,
            "alpha_max": self.alpha_max,
            "eta": self.eta,
            "beta": self.beta,
        }
        del config["targeted"]
        return config

    def _targets(self, num_classes):
        return 1 if self.num_targets is None else min(self.num_targets, num_classes - 1)

    def _walk(self, problem, state):
        count = state["others"].shape[1]
        if count == 1:
            wrong, by, lead, gradient = self._linearized(problem, state, state["others"][:, 0])
        else:
            wrong, by, lead, gradient = self._nearest_boundary(problem, state, count)
        walked = backend.fused(boundary_step)(
            {name: state[name] for name in ("x_adv", "iterate", "distance", "margin")},
            problem.x,
            wrong,
            by,
            lead,
            gradient,
            self.bounds,
            self.norm,
            self.alpha_max,
            self.eta,
            self.beta,
        )
        return {**state, **walked, "evaluations": state["evaluations"] + count}

    def _linearized(self, problem, state, other):
        lead, logits, gradient = problem.gradient(
            state["iterate"],
            lambda logits, labels: _at(logits, other) - _at(logits, labels),
        )
        wrong = ops.logical_not(predicts(logits, problem.labels))
        by = ops.cast(margin(logits, problem.labels), problem.x.dtype)
        return wrong, by, ops.cast(lead, problem.x.dtype), gradient

    def _nearest_boundary(self, problem, state, count):
        def look(number, nearest):
            other = ops.take(state["others"], number, axis=1)
            seen = self._linearized(problem, state, other)
            wrong, by, lead, gradient = seen
            distance = backend.fused(boundary_distance)(
                problem.x, state["iterate"], wrong, lead, gradient, self.norm, self.beta
            )
            nearer = distance < nearest[0]
            return (
                ops.where(nearer, distance, nearest[0]),
                wrong,
                by,
                ops.where(nearer, lead, nearest[3]),
                ops.where(by_row(nearer, gradient), gradient, nearest[4]),
            )

        nothing = ops.zeros_like(state["distance"])
        first = (
            nothing + float("inf"),
            state["found"],
            nothing,
            nothing,
            ops.zeros_like(problem.x),
        )
        return ops.fori_loop(0, count, look, first)[1:]

    def _close_in(self, problem, state, is_first):
        """Judges the last point walked to, then points between the input and the nearest."""
        low, margin_low = state["low"], state["margin_low"]
        # Where the margin would be zero if it were linear, but never too near to either end.
        root = margin_low / ops.where(
            margin_low < state["margin"], margin_low - state["margin"], -1
        )
        root = ops.where(ops.isfinite(root), root, 0.5)
        part = low + (1.0 - low) * ops.clip(root, 0.02, 0.98)
        between = problem.x + by_row(part, problem.x) * (state["x_adv"] - problem.x)
        between = ops.clip(between, *self.bounds)
        tried = ops.where(is_first, state["iterate"], between)
        logits = problem.logits(tried)
        wrong = ops.logical_not(predicts(logits, problem.labels))
        by = ops.cast(margin(logits, problem.labels), problem.x.dtype)
        kept = keep_nearest(state, problem.x, tried, wrong, by, self.norm)
        # Parts are of the way to the nearest point, which has become shorter if this one fools.
        lower = ops.where(wrong, low / part, part)
        return {
            **state,
            **kept,
            "low": ops.where(is_first, low, lower),
            "margin_low": ops.where(ops.logical_or(is_first, wrong), margin_low, by),
            "evaluations": state["evaluations"] + 1,
        }

    def _random_point(self, problem):
        x = problem.x
        size = math.prod(x.shape[1:])
        offset = uniform_in_ball(problem.uniform(0, 1 + size), self.norm)
        lead, logits, gradient = problem.gradient(x, margin)
        right = predicts(logits, problem.labels)
        distance = backend.fused(boundary_distance)(
            x, x, ops.logical_not(right), lead, gradient, self.norm, self.beta
        )
        # Where a gradient says nothing, the points of a box of half the width are as good as any.
        widest = (self.bounds[1] - self.bounds[0]) / 2
        widest *= {"linf": 1.0, "l2": size**0.5, "l1": size}[self.norm]
        distance = ops.where(distance < widest, distance, widest)
        unlimited = problem.epsilon == float("inf")
        radius = ops.where(unlimited, distance, problem.epsilon) / 2
        moved = x + ops.reshape(radius[:, None] * ops.cast(offset, x.dtype), ops.shape(x))
        return ops.clip(moved, *self.bounds)


def _at(logits, classes):
    chosen = ops.one_hot(classes, logits.shape[1], dtype="bool")
    return ops.sum(ops.where(chosen, logits, 0.0), axis=1)
