"""Attacks that follow the gradient of a loss by the input."""

from keras import ops

from keras_secure import backend
from keras_secure.attacks.directions import uniform_in_ball
from keras_secure.attacks.iterative_attack import IterativeAttack
from keras_secure.attacks.log_odds import log_odds_against
from keras_secure.attacks.projections import project


class GradientAttack(IterativeAttack):
    """Base of attacks that take gradient steps, each projected onto ball and box.

    A subclass writes `update`, sets `steps` if it takes more than one, and adds its own arguments
    to `get_config`. Losses are summed over the batch, never averaged, so such an attack may run
    inside differentially private training.

    Args:
        epsilon: See `Attack`.
        norm: See `Attack`.
        bounds: See `Attack`.
        targeted: See `Attack`.
        seed: See `Attack`.

    Example:

    An attack is written by saying where one step goes.

    >>> class SignStep(GradientAttack):
    ...     def update(self, x_adv, gradient, epsilon):
    ...         return x_adv + epsilon * ops.sign(gradient)
    >>> import keras
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> x_adv = SignStep(0.1).perturb(model, ops.full((4, 2), 0.5), [0, 1, 2, 0])
    >>> tuple(x_adv.shape)
    (4, 2)
    """

    random_start = False
    update_compiles = True
    """Whether `update` consists of operations that XLA can compile. Set it to False where not."""

    def update(self, x_adv, gradient, epsilon):
        """Returns where one step leads, before it is projected onto ball and box.

        Args:
            x_adv: Tensor of shape (batch, ...), the current iterate.
            gradient: Tensor like `x_adv`: the loss to raise, of each example, by its input.
            epsilon: Scalar tensor, the radius of the ball.

        Returns:
            A tensor like `x_adv`.
        """
        raise NotImplementedError(f"{type(self).__name__} must write `update`.")

    def begin(self, problem):
        """Starts at the input, or at a random point of the ball; see `IterativeAttack`."""
        x_adv = problem.x
        if self.random_start:
            # Drawn before the loop: a first iterate has as many values as the input, and one more.
            size = ops.shape(ops.reshape(x_adv, (ops.shape(x_adv)[0], -1)))[1]
            x_adv = self.start(x_adv, problem.uniform(0, 1 + size), problem.epsilon)
        return {"x_adv": x_adv, "found": ops.zeros((ops.shape(x_adv)[0],), "bool")}

    def step(self, problem, state, index):
        """Takes one step from every input that does not fool the model yet."""
        x_adv = state["x_adv"]
        _, logits, gradient = problem.gradient(x_adv, self.objective)
        moved = self.advance(x_adv, gradient, problem.x, problem.epsilon)
        return {"x_adv": moved, "found": problem.fooled(logits)}

    def objective(self, logits, labels):
        """Per-example loss to raise; its gradient is parallel to that of cross-entropy."""
        against = log_odds_against(logits, labels)
        return -against if self.targeted else against

    def start(self, x, uniforms, epsilon):
        """Returns a first iterate drawn uniformly from the ball, inside the box.

        Args:
            x: Tensor of shape (batch, ...).
            uniforms: Tensor of shape (batch, 1 + size) with values in [0, 1).
            epsilon: Scalar tensor, the radius of the ball.

        Returns:
            A tensor like `x`.
        """
        offset = ops.cast(uniform_in_ball(uniforms, self.norm), x.dtype)
        moved = x + epsilon * ops.reshape(offset, ops.shape(x))
        return project(moved, x, epsilon, self.norm, self.bounds)

    def advance(self, x_adv, gradient, x, epsilon):
        """Takes one step and returns to the ball around `x` and the box."""

        def advanced(x_adv, gradient, x, epsilon):
            # A gradient that is not finite would spread NaN over the ball; that step is not taken.
            gradient = ops.where(ops.isfinite(gradient), gradient, 0.0)
            moved = self.update(x_adv, gradient, epsilon)
            return project(moved, x, epsilon, self.norm, self.bounds)

        tensors = (x_adv, gradient, x, epsilon)
        # What is done value by value is nearly free in one kernel; l2 and l1 sort, or loop.
        fuses = self.update_compiles and self.norm == "linf"
        return backend.fused_call(advanced, tensors) if fuses else advanced(*tensors)
