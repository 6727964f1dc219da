"""Carlini and Wagner's attack in l2."""

import math

from keras import ops

from keras_secure.attacks.arguments import check_counts, check_flags, check_sizes
from keras_secure.attacks.constant_search import first_trial, next_iteration
from keras_secure.attacks.losses import margin_hinge
from keras_secure.attacks.minimal_distance_attack import MinimalDistanceAttack
from keras_secure.attacks.rows import by_row
from keras_secure.registration import component


@component("attacks")
class CarliniWagnerL2(MinimalDistanceAttack):
    """Looks for the nearest fooling input (l2) by minimizing distance^2 + c * hinge.

    The input is written as a tanh, so that the box needs no projection; Adam minimizes; and c, by
    which the hinge on the logits is weighed, is searched by bisection for every example. Distances
    inside the objective are in units of the width of `bounds`, so that the arguments mean the
    same for inputs of any scale.

    Args:
        epsilon: Radius within which to succeed, or None to look for the smallest distance.
        confidence: By how much the wrong logit has to exceed the right one, at least 0 (kappa).
        binary_search_steps: Values of c that are tried.
        max_iterations: Adam's iterations for each c.
        learning_rate: Adam's step size, in the tanh's argument.
        initial_const: First c.
        abort_early: Whether to go on to the next c when a tenth of the iterations gained nothing.
        bounds: Smallest and largest value that an input may have.
        targeted: Whether the labels given are the classes to reach rather than to leave.

    Raises:
        InputError: If an argument cannot be used.

    Example:

    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.set_weights([np.array([[3.0], [4.0]]), np.array([-3.0])])
    >>> attack = CarliniWagnerL2(binary_search_steps=5, max_iterations=150, learning_rate=0.05)
    >>> result = attack.run(model, np.array([[0.5, 0.5]], "float32"), [1], verbose=0)
    >>> print(result.distance.round(2))  # (3 * 0.5 + 4 * 0.5 - 3) / 5
    [0.1]

    Reference:
        Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks",
        arXiv 1608.04644, sections V and VI-A.
    """

    def __init__(
        self,
        epsilon=None,
        *,
        confidence=0.0,
        binary_search_steps=9,
        max_iterations=1000,
        learning_rate=0.01,
        initial_const=1e-3,
        abort_early=True,
        bounds=(0.0, 1.0),
        targeted=False,
    ):
        super().__init__(epsilon, norm="l2", bounds=bounds, targeted=targeted)
        check_sizes(confidence=confidence, above_zero=False)
        check_counts(binary_search_steps=binary_search_steps, max_iterations=max_iterations)
        check_sizes(learning_rate=learning_rate, initial_const=initial_const)
        check_flags(abort_early=abort_early)
        self.confidence = float(confidence)
        self.binary_search_steps = int(binary_search_steps)
        self.max_iterations = int(max_iterations)
        self.learning_rate = float(learning_rate)
        self.initial_const = float(initial_const)
        self.abort_early = abort_early
        self.steps = self.binary_search_steps * self.max_iterations
        self.stage = min(100, self.max_iterations)

    def begin(self, problem):
        """Starts each example's first trial at the input; see `IterativeAttack`."""
        return {
            **self.nothing_found(problem),
            **first_trial(problem.x, self.initial_const),
            "argument": self._argument(problem.x),
            "mean": ops.zeros_like(problem.x),
            "square": ops.zeros_like(problem.x),
        }

    def step(self, problem, state, index):
        """One iteration of Adam, and where it ends a trial, the next c."""
        width = self.bounds[1] - self.bounds[0]
        tanh = ops.tanh(state["argument"])
        x_adv = self.bounds[0] + width * (tanh + 1.0) / 2.0
        x_adv = ops.clip(x_adv, *self.bounds)

        hinge = margin_hinge(self.confidence, self.targeted)

        losses, logits, gradient = problem.gradient(x_adv, hinge)
        # At confidence zero a tie is decided by the model's answer.
        fooled = ops.logical_and(problem.fooled(logits), losses <= 0.0)
        delta = (x_adv - problem.x) / width
        axes = tuple(range(1, len(delta.shape)))
        objective = ops.cast(ops.sum(ops.square(delta), axis=axes), "float32")
        objective = objective + state["const"] * losses

        const = by_row(ops.cast(state["const"], delta.dtype), delta)
        gradient = 2.0 * delta / width + const * gradient
        gradient = gradient * (width / 2.0) * (1.0 - ops.square(tanh))
        gradient = ops.where(ops.isfinite(gradient), gradient, 0.0)
        argument, mean, square = self._adam(state, gradient)

        entries, over = next_iteration(
            state,
            fooled,
            objective,
            max_iterations=self.max_iterations,
            abort_early=self.abort_early,
        )
        kept = self.nearest(problem, state, x_adv, fooled)
        done = entries["trial"] >= self.binary_search_steps
        again = by_row(over, delta)
        return {
            **entries,
            **kept,
            "found": ops.logical_or(kept["found"], done),
            "argument": ops.where(again, self._argument(problem.x), argument),
            "mean": ops.where(again, 0.0, mean),
            "square": ops.where(again, 0.0, square),
        }

    def _argument(self, x):
        """The argument of the tanh at `x`, kept finite where `x` lies on the border of the box."""
        unit = 2.0 * (x - self.bounds[0]) / (self.bounds[1] - self.bounds[0]) - 1.0
        return ops.arctanh(0.999999 * ops.clip(unit, -1.0, 1.0))

    def _adam(self, state, gradient):
        mean = 0.9 * state["mean"] + 0.1 * gradient
        square = 0.999 * state["square"] + 0.001 * ops.square(gradient)
        count = by_row(ops.cast(state["iteration"] + 1, gradient.dtype), gradient)
        unbiased = mean / (1.0 - ops.exp(count * math.log(0.9)))
        spread = ops.sqrt(square / (1.0 - ops.exp(count * math.log(0.999))))
        return state["argument"] - self.learning_rate * unbiased / (spread + 1e-8), mean, square

    def get_config(self):
        """Returns the arguments that rebuild this attack."""
        return {
            "epsilon": self.epsilon,
            "confidence": self.confidence,
            "binary_search_steps": self.binary_search_steps,
            "max_iterations": self.max_iterations,
            "learning_rate": self.learning_rate,
            "initial_const": self.initial_const,
            "abort_early": self.abort_early,
            "bounds": list(self.bounds),
            "targeted": self.targeted,
        }
