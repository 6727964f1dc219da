"""Attacks that are a loop over the state of each example."""

import keras
from keras import ops

from keras_secure.attacks.arrays import check_floating
from keras_secure.attacks.attack import Attack
from keras_secure.attacks.labels import class_indices
from keras_secure.attacks.problem import Problem
from keras_secure.errors import InputError


class IterativeAttack(Attack):
    """Base of attacks that repeat one step on a state that they keep for each example.

    A subclass writes `begin` and `step`; both the search over arrays and the use inside a training
    step follow from them. During a search the rows that are found are dropped between stages and
    the rest packed into batches of a few fixed sizes, so that nothing is traced twice.

    Args:
        epsilon: See `Attack`.
        norm: See `Attack`.
        bounds: See `Attack`.
        targeted: See `Attack`.
        seed: See `Attack`.

    Example:

    A random walk that knows no gradient.

    >>> class Walk(IterativeAttack):
    ...     steps = 8
    ...     looks_first = False
    ...     def begin(self, problem):
    ...         return {"x_adv": problem.x, "found": problem.fooled(problem.logits(problem.x))}
    ...     def step(self, problem, state, index):
    ...         shift = 2 * problem.uniform(index, state["x_adv"].shape[1]) - 1
    ...         x_adv = problem.x + problem.epsilon * shift
    ...         return {"x_adv": x_adv, "found": problem.fooled(problem.logits(x_adv))}
    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> result = Walk(0.1).run(model, np.full((4, 2), 0.5, "float32"), [0, 1, 2, 0], verbose=0)
    >>> result.success.shape
    (4,)
    """

    steps = 1
    """Steps of one start."""
    stage = 25
    """Steps between two looks at which examples are left."""
    passes = 1
    """Evaluations of the model in one step."""
    looks_first = True
    """Whether a step judges the iterate that it is given, rather than the one that it makes."""

    def begin(self, problem):
        """Returns the state before the first step; traced once.

        Args:
            problem: A `Problem`: the batch, and what may be asked of the model.

        Returns:
            A dictionary of tensors whose first axis is the batch, among them `"x_adv"`, the
            candidate of each example, and `"found"`, boolean: whether it fools the model, or
            nothing is left to be done for it. Two more are read where they are there:
            `"evaluations"`, int32, how often the model was asked about each example, for attacks
            whose steps differ in that; `"size"`, floating, for attacks that no norm bounds.
        """
        raise NotImplementedError(f"{type(self).__name__} must write `begin`.")

    def step(self, problem, state, index):
        """Returns the state after one more step; traced once.

        The candidate of a row that was found stays what it is, whatever this returns for it.

        Args:
            problem: A `Problem`.
            state: What `begin` or the last step returned.
            index: Int32 scalar tensor: the number of the step, from 0.

        Returns:
            A dictionary like `state`.
        """
        raise NotImplementedError(f"{type(self).__name__} must write `step`.")

    def perturb(self, model, x, y=None, *, epsilon=None, loss=None, from_logits=None):
        """Perturbs one batch; traceable, for use inside a training step.

        Returns the last iterate of one start, as Madry et al. 2018 train on it; `restarts` are
        for `run`. Call it before the forward pass that is trained on, outside its gradient.

        Args:
            model: Classifier, called with `training=False`.
            x: Floating point tensor of shape (batch, ...).
            y: Class indices or one-hot rows: the true classes, or the targets if `targeted`. Not
                used when `loss` is given.
            epsilon: Scalar (a tensor, if you like) that takes the place of `self.epsilon`.
            loss: Function of the perturbed batch that returns per-example losses of shape
                (batch,), raised in place of the attack's own, whether or not `targeted`.
            from_logits: See `classification_logits`.

        Returns:
            A tensor of the shape and dtype of `x`, through which no gradient flows.

        Raises:
            InputError: If `x`, `y` or the model's outputs cannot be used.
        """
        check_floating(x, type(self).__name__)
        x = ops.convert_to_tensor(x)
        dtype = keras.backend.standardize_dtype(x.dtype)
        # Half precision cannot hold a ball around x: its rounding is as large as the radius.
        origin = ops.cast(x, "float64" if dtype == "float64" else "float32")
        if not getattr(model, "built", True):
            model(x, training=False)  # variables cannot be created inside a loop
        if loss is None and y is None:
            raise InputError(
                f"{type(self).__name__}.perturb needs labels: pass y (true classes, or the "
                "targets if targeted=True), or a `loss` to raise."
            )
        epsilon = self.epsilon if epsilon is None else epsilon
        problem = Problem(
            model,
            origin,
            None if loss is not None else class_indices(y),
            float("inf") if epsilon is None else epsilon,
            targeted=self.targeted,
            from_logits=from_logits,
            given_loss=loss,
            draw=self._draw,
        )
        state = self.begin(problem)
        if self.steps == 1:
            state = self.step(problem, state, ops.convert_to_tensor(0, "int32"))
        else:
            names = sorted(state)

            def body(index, values):
                after = self.step(problem, dict(zip(names, values, strict=True)), index)
                return tuple(after[name] for name in names)

            values = tuple(state[name] for name in names)
            state = dict(zip(names, ops.fori_loop(0, self.steps, body, values), strict=True))
        return ops.stop_gradient(ops.cast(state["x_adv"], dtype))

    def seek(self, search, rows, restart):
        """See `Attack`."""
        return search.iterate(rows, restart)

    def _draw(self, batch, counter, count):
        return keras.random.uniform((batch, count), dtype="float32", seed=self._seed_generator)
