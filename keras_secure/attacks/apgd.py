"""Auto-PGD: gradient steps whose size follows from the attack's own progress."""

from keras import ops

from keras_secure import backend
from keras_secure.arguments import is_number
from keras_secure.attacks import sparse_schedule, step_schedule
from keras_secure.attacks.arguments import check_counts, check_flags
from keras_secure.attacks.directions import uniform_in_ball
from keras_secure.attacks.iterative_attack import IterativeAttack
from keras_secure.attacks.labels import likeliest_wrong_classes
from keras_secure.attacks.log_odds import log_odds_against
from keras_secure.attacks.losses import (
    logit_ratio,
    reached_logit_ratio,
    targeted_logit_ratio,
)
from keras_secure.attacks.projections import project
from keras_secure.errors import InputError
from keras_secure.registration import component

INERTIA = 0.75
"""Weight alpha of the new direction against the last step, in section 3.1 of the paper."""


@component("attacks")
class APGD(IterativeAttack):
    """Auto-PGD: momentum, and steps that halve by themselves where they stop raising the loss.

    Each example has a step size of its own, 2 epsilon at first. At checkpoints it is halved where
    fewer than the share `rho` of the steps raised the loss, or where nothing better was found since
    the last; the search then goes on from the best point. Nothing has to be tuned.

    In l1 a step moves only the values with the largest gradients, as many as two thirds of those in
    which the best point differs from the input; three tenths of the steps are taken in a ball of
    three times the radius, three tenths in one of twice the radius, the rest in the ball itself.

    Args:
        epsilon: Largest distance from the input, in the units of the input. At least 0.
        norm: `"linf"`, `"l2"` or `"l1"`.
        loss: `"ce"` for cross-entropy, raised as log odds, which rank points alike, have the same
            direction and never fade; `"dlr"` for the difference of logits ratio, on which the scale
            of the logits has no influence. With three classes the targeted ratio divides by the
            distance from the first to the third logit, having no fourth; with two it is the margin.
        steps: Gradient steps of one start. At least 1.
        restarts: Starts that `run` tries on an example (and on each target) until one fools the
            model. More than one needs `random_start`.
        num_targets: None to leave the label for any class. An integer makes it the targeted
            version: one start goes for each of that many classes, the most likely wrong one at the
            input first, as far as there are as many.
        rho: Share of the steps of a period that have to raise the loss, in [0, 1].
        random_start: Whether to start at a random point of the ball rather than at the input.
        bounds: Smallest and largest value that an input may have.
        targeted: Whether the labels given are the classes to reach rather than to leave.
        seed: Integer that makes random starts repeatable, or None.

    Raises:
        InputError: If an argument cannot be used.

    Example:

    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)])
    >>> attack = APGD(0.1, loss="dlr", steps=10, num_targets=2, seed=0)
    >>> result = attack.run(model, np.full((2, 4), 0.5, "float32"), [0, 1], verbose=0)
    >>> bool((result.distance <= 0.1 * (1 + 1e-6)).all())
    True

    Reference:
        Croce & Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of
        diverse parameter-free attacks", arXiv 2003.01690, sections 3 and 4. l1: Croce & Hein 2021,
        "Mind the box: l1-APGD for sparse adversarial attacks on image classifiers",
        arXiv 2103.01208, section 4.
    """

    def __init__(
        self,
        epsilon,
        *,
        norm="linf",
        loss="ce",
        steps=100,
        restarts=1,
        num_targets=None,
        rho=0.75,
        random_start=True,
        bounds=(0.0, 1.0),
        targeted=False,
        seed=None,
    ):
        super().__init__(epsilon, norm=norm, bounds=bounds, targeted=targeted, seed=seed)
        if loss not in ("ce", "dlr"):
            raise InputError(f"loss={loss!r} is not known: use 'ce' or 'dlr'.")
        check_counts(steps=steps, restarts=restarts)
        if num_targets is not None:
            check_counts(num_targets=num_targets)
        if num_targets is not None and targeted:
            raise InputError(
                "targeted=True says that the labels are the classes to reach, num_targets that the "
                "attack chooses them: give one of the two."
            )
        if not is_number(rho) or not 0 <= rho <= 1:
            raise InputError(f"rho={rho!r} cannot be used: it must be in [0, 1].")
        check_flags(random_start=random_start)
        if restarts > 1 and not random_start:
            raise InputError(
                f"restarts={restarts} with random_start=False would repeat one search: set "
                "random_start=True or restarts=1."
            )
        self.loss = loss
        self.steps = int(steps)
        self.restarts = int(restarts)
        self.num_targets = None if num_targets is None else int(num_targets)
        self.rho = float(rho)
        self.random_start = random_start

    def starts(self, num_classes):
        """See `Attack`: `restarts` on each target."""
        if self.num_targets is None:
            return self.restarts
        return self.restarts * min(self.num_targets, num_classes - 1)

    def begin(self, problem):
        """Starts at a random point; see `IterativeAttack`."""
        x_adv = problem.x
        if self.random_start:
            size = ops.shape(ops.reshape(x_adv, (ops.shape(x_adv)[0], -1)))[1]
            x_adv = self._random_point(problem, problem.uniform(0, 1 + size))
        if self.norm == "l1":
            state = sparse_schedule.first_iterate(x_adv, problem.epsilon, self.steps)
        else:
            state = step_schedule.first_iterate(x_adv, problem.epsilon)
        state["found"] = ops.zeros((ops.shape(x_adv)[0],), "bool")
        if self.num_targets is not None and problem.labels is not None:
            state["target"] = self._targets(problem)
        return state

    def step(self, problem, state, index):
        """Takes one iteration of algorithm 1; see `IterativeAttack`."""
        target = state.get("target")

        def objective(logits, labels):
            return self.objective(logits, labels, target)

        losses, logits, gradient = problem.gradient(state["x_adv"], objective)
        losses = ops.cast(losses, "float32")
        scheduled = {name: state[name] for name in state if name not in ("found", "target")}
        if self.norm == "l1":
            inside, after = backend.fused(sparse_schedule.next_iterate)(
                scheduled,
                losses,
                gradient,
                problem.x,
                problem.epsilon,
                index,
                self.steps,
                self.bounds,
            )
        else:
            period = ops.take(ops.convert_to_tensor(step_schedule.periods(self.steps)), index)
            inside = True
            after = backend.fused(step_schedule.next_iterate)(
                scheduled,
                losses,
                gradient,
                problem.x,
                problem.epsilon,
                index,
                period,
                self.norm,
                self.bounds,
                self.rho,
                INERTIA,
            )
        found = ops.logical_and(problem.fooled(logits), inside)
        return {**state, **after, "found": found}

    def objective(self, logits, labels, target=None):
        """Per-example loss to raise.

        Args:
            logits: Float32 tensor of shape (batch, num_classes).
            labels: Int32 tensor of shape (batch,).
            target: Int32 tensor of shape (batch,): the class to go for, or None for any.

        Returns:
            A tensor of shape (batch,).
        """
        if self.loss == "dlr":
            if self.targeted:
                return reached_logit_ratio(logits, labels)
            if target is not None:
                return targeted_logit_ratio(logits, labels, target)
            return logit_ratio(logits, labels)
        if self.targeted:
            return -log_odds_against(logits, labels)
        if target is not None:
            return -log_odds_against(logits, target)
        return log_odds_against(logits, labels)

    def get_config(self):
        """Returns the arguments that rebuild this attack."""
        return {
            **super().get_config(),
            "loss": self.loss,
            "steps": self.steps,
            "restarts": self.restarts,
            "num_targets": self.num_targets,
            "rho": self.rho,
            "random_start": self.random_start,
        }

    def _random_point(self, problem, uniforms):
        if self.norm == "l1":
            return sparse_schedule.random_point(
                problem.x, uniforms, problem.epsilon, self.steps, self.bounds
            )
        offset = ops.cast(uniform_in_ball(uniforms, self.norm), problem.x.dtype)
        moved = problem.x + problem.epsilon * ops.reshape(offset, ops.shape(problem.x))
        return project(moved, problem.x, problem.epsilon, self.norm, self.bounds)

    def _targets(self, problem):
        logits = problem.logits(problem.x)
        count = min(self.num_targets, logits.shape[1] - 1)
        ranked = likeliest_wrong_classes(logits, problem.labels, count)
        return ops.take(ranked, problem.restart % count, axis=1)
