"""HopSkipJump: an attack on labels alone."""

import math

from keras import ops

from keras_secure.attacks.arguments import check_counts, check_sizes
from keras_secure.attacks.minimal_distance_attack import MinimalDistanceAttack
from keras_secure.attacks.rows import by_row, lengths
from keras_secure.errors import InputError
from keras_secure.registration import component

# Draws of one step are numbered below this, so that no two of the attack share a number.
_DRAWS = 2**14
# Halvings of a step before the point is kept where it is; the last is shorter than any rounding.
_HALVINGS = 30
# Narrower than this, float32 cannot tell the two ends of a bisection apart.
_NARROWEST = 2e-6


@component("attacks")
class HopSkipJump(MinimalDistanceAttack):
    """Walks along the boundary of the right class, asking the model for nothing but its answer.

    Each step bisects to the boundary, estimates the direction that leads away from the right class
    from the answers at random points around, and goes as far along it as still fools the model.
    No score and no gradient is used, so it works on any classifier, and against defences that
    only hide their gradients: what it finds and a gradient attack does not, speaks against the
    latter. It costs thousands of queries an example; `queries` counts them.

    The first point is random noise in the box that fools the model: uniform, or, so that models
    which call all such noise by one name are reached as well, noise of low contrast and of two
    values. Examples for which none is found are given up.

    Args:
        epsilon: Radius within which to succeed, or None to look for the smallest distance.
        norm: `"l2"` or `"linf"`.
        steps: Walks to the boundary and along it.
        initial_evaluations: Random points around the first boundary point; grows with the square
            root of the step.
        max_evaluations: Most random points in one step, at most 10,000.
        initial_draws: Noise images that are tried for a first point, at most 10,000.
        gamma: Width at which a bisection ends, in units of d^-1.5 (l2) or d^-2 (linf), with d
            values in an input.
        restarts: How often the whole is begun anew, with other noise.
        bounds: Smallest and largest value that an input may have.
        targeted: Whether the labels given are the classes to reach rather than to leave. Noise
            has to reach the target first, which it often does not.
        seed: Integer that makes the noise repeatable, or None.

    Raises:
        InputError: If an argument cannot be used.

    Example:

    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.set_weights([np.array([[3.0], [4.0]]), np.array([-3.0])])
    >>> attack = HopSkipJump(steps=8, initial_evaluations=40, seed=0)
    >>> result = attack.run(model, np.array([[0.5, 0.5]], "float32"), [1], verbose=0)
    >>> print(result.distance.round(2))  # (3 * 0.5 + 4 * 0.5 - 3) / 5
    [0.1]

    Reference:
        Chen, Jordan & Wainwright 2020, "HopSkipJumpAttack: a query-efficient decision-based
        attack", arXiv 1904.02144, algorithms 1 and 2.
    """

    stage = 4

    def __init__(
        self,
        epsilon=None,
        *,
        norm="l2",
        steps=40,
        initial_evaluations=100,
        max_evaluations=10_000,
        initial_draws=1000,
        gamma=1.0,
        restarts=1,
        bounds=(0.0, 1.0),
        targeted=False,
        seed=None,
    ):
        super().__init__(epsilon, norm=norm, bounds=bounds, targeted=targeted, seed=seed)
        if norm == "l1":
            raise InputError("norm='l1' cannot be used: HopSkipJump knows 'l2' and 'linf'.")
        check_counts(
            steps=steps,
            initial_evaluations=initial_evaluations,
            max_evaluations=max_evaluations,
            initial_draws=initial_draws,
            restarts=restarts,
        )
        for name, value in (("max_evaluations", max_evaluations), ("initial_draws", initial_draws)):
            if value > 10_000:
                raise InputError(f"{name}={value!r} cannot be used: it must be at most 10,000.")
        check_sizes(gamma=gamma)
        self.steps = int(steps)
        self.initial_evaluations = int(initial_evaluations)
        self.max_evaluations = int(max_evaluations)
        self.initial_draws = int(initial_draws)
        self.gamma = float(gamma)
        self.restarts = int(restarts)

    def begin(self, problem):
        """Looks for noise that fools the model and goes to the boundary; see `IterativeAttack`."""
        x_adv, fooled, asked = self._noise(problem)
        boundary, asked_more = self._bisected(problem, x_adv)
        state = self.nothing_found(problem)
        kept = self.nearest(problem, state, boundary, fooled)
        return {
            **kept,
            "found": ops.logical_or(kept["found"], ops.logical_not(fooled)),
            "boundary": boundary,
            "evaluations": asked + ops.where(fooled, asked_more, 0),
        }

    def step(self, problem, state, index):
        """Estimates the direction at the boundary, goes along it, and back to the boundary."""
        x, boundary = problem.x, state["boundary"]
        distance = lengths(boundary - x, self.norm)
        direction, asked = self._direction(problem, boundary, distance, index)
        root = ops.sqrt(ops.cast(index + 1, x.dtype))

        def halving(count, _length, _x_adv, fooled, _asked):
            return ops.logical_and(count < _HALVINGS, ops.logical_not(ops.all(fooled)))

        def halve(count, length, x_adv, fooled, asked):
            tried = ops.clip(boundary + by_row(length, x) * direction, *self.bounds)
            now = self._fooled(problem, tried)
            asked = asked + ops.cast(ops.logical_not(fooled), "int32")
            taken = ops.logical_and(now, ops.logical_not(fooled))
            x_adv = ops.where(by_row(taken, x), tried, x_adv)
            return count + 1, length / 2, x_adv, ops.logical_or(fooled, now), asked

        _, _, x_adv, _, asked_walking = ops.while_loop(
            halving,
            halve,
            (
                ops.convert_to_tensor(0, "int32"),
                distance / root,
                boundary,
                ops.zeros_like(state["found"]),
                ops.zeros_like(problem.labels),
            ),
        )
        boundary, asked_back = self._bisected(problem, x_adv)
        kept = self.nearest(problem, state, boundary, ops.ones_like(state["found"]))
        asked = asked + asked_walking + asked_back
        return {
            **kept,
            "boundary": boundary,
            "evaluations": state["evaluations"] + ops.where(state["found"], 0, asked),
        }

    def _fooled(self, problem, x_adv):
        """All that the attack ever learns of the model: which answers are as wanted."""
        return problem.fooled(problem.logits(x_adv))

    def _noise(self, problem):
        """Draws noise until it fools; returns (noise, whether it does, evaluations)."""
        shape = ops.shape(problem.x)
        size = _size(problem.x)
        low, high = self.bounds

        def drawing(count, _x_adv, fooled, _asked):
            return ops.logical_and(count < self.initial_draws, ops.logical_not(ops.all(fooled)))

        def draw(count, x_adv, fooled, asked):
            uniforms = ops.cast(problem.uniform(count, size + 2), problem.x.dtype)
            values, brightness, share = uniforms[:, 2:], uniforms[:, :1], uniforms[:, 1:2]
            kinds = (
                values,
                ops.clip(brightness + share * (values - 0.5), 0.0, 1.0),
                ops.where(values < share, brightness, ops.round(1.0 - brightness)),
            )
            noise = ops.stack(kinds)[count % len(kinds)]
            noise = ops.reshape(low + (high - low) * noise, shape)
            now = self._fooled(problem, noise)
            asked = asked + ops.cast(ops.logical_not(fooled), "int32")
            taken = ops.logical_and(now, ops.logical_not(fooled))
            x_adv = ops.where(by_row(taken, noise), noise, x_adv)
            return count + 1, x_adv, ops.logical_or(fooled, now), asked

        _, x_adv, fooled, asked = ops.while_loop(
            drawing,
            draw,
            (
                ops.convert_to_tensor(0, "int32"),
                problem.x,
                ops.zeros_like(problem.labels, dtype="bool"),
                ops.zeros_like(problem.labels),
            ),
        )
        return x_adv, fooled, asked

    def _bisected(self, problem, x_adv):
        """The point of the way from the input to `x_adv` next to the boundary, where it fools."""
        x = problem.x
        width = self._width(_size(x))
        halvings = max(1, math.ceil(math.log2(1.0 / width)))
        distance = lengths(x_adv - x, self.norm)

        def point(share):
            if self.norm == "l2":
                return x + by_row(share, x) * (x_adv - x)
            reach = by_row(share * distance, x)
            return x + ops.clip(x_adv - x, -reach, reach)

        def halve(_, ends):
            low, high = ends
            middle = (low + high) / 2
            fooled = self._fooled(problem, ops.clip(point(middle), *self.bounds))
            return ops.where(fooled, low, middle), ops.where(fooled, middle, high)

        ends = ops.zeros_like(distance), ops.ones_like(distance)
        _, high = ops.fori_loop(0, halvings, halve, ends)
        # At the far end stands the point itself: forming it anew may round it across the boundary.
        moved = by_row(high < 1.0, x)
        nearest = ops.where(moved, ops.clip(point(high), *self.bounds), x_adv)
        return nearest, ops.full_like(problem.labels, halvings)

    def _direction(self, problem, boundary, distance, index):
        """Monte Carlo estimate of the direction in which answers turn into what is wanted."""
        x = problem.x
        shape, size = ops.shape(x), _size(x)
        root = math.sqrt(size) if self.norm == "l2" else float(size)
        radius = root * self._width(size) * distance
        first = ops.full_like(radius, 0.1 * (self.bounds[1] - self.bounds[0]))
        radius = ops.where(ops.equal(index, 0), first, radius)
        # On the input itself there is no scale, and nothing to be gained.
        radius = by_row(ops.where(radius > 0, radius, first), x)
        grown = self.initial_evaluations * ops.sqrt(ops.cast(index + 1, "float32"))
        count = ops.minimum(ops.cast(grown, "int32"), self.max_evaluations)

        def ask(number, sums):
            offsets, signed, answers = sums
            uniforms = problem.uniform((index + 1) * _DRAWS + number, size)
            signs = 2.0 * uniforms - 1.0
            if self.norm == "l2":
                limit = 1.0 - 2.0**-23  # the normal distribution has no end
                signs = ops.erfinv(ops.clip(signs, -limit, limit))
            offset = ops.reshape(ops.cast(signs, x.dtype), shape)
            offset = offset / by_row(ops.maximum(lengths(offset, "l2"), 1e-12), x)
            tried = ops.clip(boundary + radius * offset, *self.bounds)
            offset = (tried - boundary) / radius
            answer = 2.0 * ops.cast(self._fooled(problem, tried), x.dtype) - 1.0
            return offsets + offset, signed + by_row(answer, x) * offset, answers + answer

        zeros = ops.zeros_like(x)
        offsets, signed, answers = ops.fori_loop(
            0, count, ask, (zeros, zeros, ops.zeros_like(distance))
        )
        mean = answers / ops.cast(count, x.dtype)
        # Where all answers are alike, their mean says nothing about their differences.
        alike = by_row(ops.absolute(mean) >= 1.0, x)
        estimate = ops.where(alike, by_row(mean, x) * offsets, signed - by_row(mean, x) * offsets)
        if self.norm == "linf":
            direction = ops.sign(estimate)
        else:
            length = lengths(estimate, "l2")
            direction = estimate / by_row(ops.where(length > 0, length, 1.0), x)
        return direction, ops.broadcast_to(count, ops.shape(problem.labels))

    def _width(self, size):
        power = -1.5 if self.norm == "l2" else -2.0
        return min(0.5, max(self.gamma * float(size) ** power, _NARROWEST))

    def get_config(self):
        """Returns the arguments that rebuild this attack."""
        return {
            **super().get_config(),
            "steps": self.steps,
            "initial_evaluations": self.initial_evaluations,
            "max_evaluations": self.max_evaluations,
            "initial_draws": self.initial_draws,
            "gamma": self.gamma,
            "restarts": self.restarts,
        }


def _size(x):
    return math.prod(x.shape[1:])
