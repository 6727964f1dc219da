"""The elastic-net attack (EAD), which looks for sparse perturbations."""

from keras import ops

from keras_secure.attacks.arguments import check_counts, check_flags, check_sizes
from keras_secure.attacks.constant_search import first_trial, next_iteration
from keras_secure.attacks.losses import margin_hinge
from keras_secure.attacks.minimal_distance_attack import MinimalDistanceAttack
from keras_secure.attacks.rows import by_row, lengths
from keras_secure.errors import InputError
from keras_secure.registration import component

RULES = ("EN", "L1")


@component("attacks")
class ElasticNet(MinimalDistanceAttack):
    """Looks for a fooling input by minimizing c * hinge + l2^2 + beta * l1 (EAD).

    Carlini and Wagner's objective with an l1 term, minimized by shrinkage: a value that moved by
    no more than `beta` is put back to what it was, so that perturbations are sparse. Inside the
    objective, inputs are in units of the width of `bounds`, so that the arguments mean the same
    for inputs of any scale. The distance that is reported is l1.

    Args:
        epsilon: Radius (l1) within which to succeed, or None to look for the smallest distance.
        beta: Weight of the l1 term, at least 0, in units of the width of `bounds`.
        decision_rule: Which of the fooling iterates is kept: the one smallest in the elastic-net
            distance l2^2 + beta * l1 (`"EN"`), or in l1 (`"L1"`).
        confidence: By how much the wrong logit has to exceed the right one, at least 0 (kappa).
        binary_search_steps: Values of c that are tried.
        max_iterations: Shrinkage steps for each c.
        step_size: First step size, which falls with the square root of what is left of a trial.
        initial_const: First c.
        accelerated: Whether steps carry momentum (FISTA) or not (ISTA).
        abort_early: Whether to go on to the next c when a tenth of the iterations gained nothing.
            Accelerated steps rise on their way down, so this saves time at the price of distance.
        bounds: Smallest and largest value that an input may have.
        targeted: Whether the labels given are the classes to reach rather than to leave.

    Raises:
        InputError: If an argument cannot be used.

    Example:

    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.set_weights([np.array([[3.0], [6.0]]), np.array([-3.9])])
    >>> attack = ElasticNet(beta=0.1, decision_rule="L1", max_iterations=150)
    >>> result = attack.run(model, np.array([[0.5, 0.5]], "float32"), [1], verbose=0)
    >>> print(result.distance.round(2))  # 0.6 / 6: only the steeper of the two is moved
    [0.1]

    Reference:
        Chen et al. 2018, "EAD: elastic-net attacks to deep neural networks via adversarial
        examples", arXiv 1709.04114, algorithm 1.
    """

    passes = 2

    def __init__(
        self,
        epsilon=None,
        *,
        beta=1e-3,
        decision_rule="EN",
        confidence=0.0,
        binary_search_steps=9,
        max_iterations=1000,
        step_size=0.01,
        initial_const=1e-3,
        accelerated=True,
        abort_early=False,
        bounds=(0.0, 1.0),
        targeted=False,
    ):
        super().__init__(epsilon, norm="l1", bounds=bounds, targeted=targeted)
        check_sizes(beta=beta, confidence=confidence, above_zero=False)
        if decision_rule not in RULES:
            raise InputError(
                f"decision_rule={decision_rule!r} is not known: use one of {', '.join(RULES)}."
            )
        check_counts(binary_search_steps=binary_search_steps, max_iterations=max_iterations)
        check_sizes(step_size=step_size, initial_const=initial_const)
        check_flags(accelerated=accelerated, abort_early=abort_early)
        self.beta = float(beta)
        self.decision_rule = decision_rule
        self.confidence = float(confidence)
        self.binary_search_steps = int(binary_search_steps)
        self.max_iterations = int(max_iterations)
        self.step_size = float(step_size)
        self.initial_const = float(initial_const)
        self.accelerated = accelerated
        self.abort_early = abort_early
        self.steps = self.binary_search_steps * self.max_iterations
        self.stage = min(100, self.max_iterations)

    def begin(self, problem):
        """Starts each example's first trial at the input; see `IterativeAttack`."""
        return {
            **self.nothing_found(problem),
            **first_trial(problem.x, self.initial_const),
            # By the decision rule, of the candidate; `distance` is its l1 distance.
            "score": ops.full((ops.shape(problem.x)[0],), float("inf"), problem.x.dtype),
            "iterate": problem.x,
            "ahead": problem.x,
        }

    def step(self, problem, state, index):
        """One shrinkage step, and where it ends a trial, the next c."""
        width = self.bounds[1] - self.bounds[0]

        hinge = margin_hinge(self.confidence, self.targeted)

        _, _, gradient = problem.gradient(state["ahead"], hinge)
        gradient = ops.where(ops.isfinite(gradient), gradient, 0.0)
        x_adv = self._shrunk(problem.x, state, gradient, width)
        count = ops.cast(state["iteration"], x_adv.dtype)
        carried = by_row(count / (count + 3.0), x_adv) * (x_adv - state["iterate"])
        ahead = x_adv + carried if self.accelerated else x_adv

        losses, logits = problem.losses(x_adv, hinge)
        # At confidence zero a tie is decided by the model's answer.
        fooled = ops.logical_and(problem.fooled(logits), losses <= 0.0)
        delta = (x_adv - problem.x) / width
        elastic = ops.square(lengths(delta, "l2")) + self.beta * lengths(delta, "l1")
        objective = ops.cast(elastic, "float32") + state["const"] * losses
        entries, over = next_iteration(
            state,
            fooled,
            objective,
            max_iterations=self.max_iterations,
            abort_early=self.abort_early,
        )
        score = elastic if self.decision_rule == "EN" else lengths(delta, "l1")
        kept = self._best(problem, state, x_adv, fooled, score)
        done = entries["trial"] >= self.binary_search_steps
        again = by_row(over, x_adv)
        return {
            **entries,
            **kept,
            "found": ops.logical_or(kept["found"], done),
            "iterate": ops.where(again, problem.x, x_adv),
            "ahead": ops.where(again, problem.x, ahead),
        }

    def _shrunk(self, x, state, gradient, width):
        """A gradient step from the point ahead, shrunk towards `x` and kept in the box."""
        left = 1.0 - ops.cast(state["iteration"], x.dtype) / self.max_iterations
        step_size = by_row(self.step_size * ops.sqrt(left), x)
        const = by_row(ops.cast(state["const"], x.dtype), x)
        # By the unit input: the hinge's gradient grows with the width, the distance's does not.
        slope = const * gradient * width + 2.0 * (state["ahead"] - x) / width
        delta = state["ahead"] - width * step_size * slope - x
        threshold = self.beta * width
        delta = ops.sign(delta) * ops.maximum(ops.absolute(delta) - threshold, 0.0)
        # Clipped as a whole, so that a value that did not move keeps its very bits.
        return ops.where(ops.equal(delta, 0.0), x, ops.clip(x + delta, *self.bounds))

    def _best(self, problem, state, x_adv, fooled, score):
        better = ops.logical_and(fooled, score < state["score"])
        length = lengths(x_adv - problem.x, self.norm)
        # Whatever the rule prefers, one within the radius is what was asked for.
        within = ops.logical_and(fooled, length <= problem.epsilon)
        within = ops.logical_and(within, problem.epsilon < float("inf"))
        better = ops.logical_or(better, within)
        return {
            "x_adv": ops.where(by_row(better, x_adv), x_adv, state["x_adv"]),
            "score": ops.where(better, score, state["score"]),
            "distance": ops.where(better, length, state["distance"]),
            "found": within,
        }

    def get_config(self):
        """Returns the arguments that rebuild this attack."""
        return {
            "epsilon": self.epsilon,
            "beta": self.beta,
            "decision_rule": self.decision_rule,
            "confidence": self.confidence,
            "binary_search_steps": self.binary_search_steps,
            "max_iterations": self.max_iterations,
            "step_size": self.step_size,
            "initial_const": self.initial_const,
            "accelerated": self.accelerated,
            "abort_early": self.abort_early,
            "bounds": list(self.bounds),
            "targeted": self.targeted,
        }
