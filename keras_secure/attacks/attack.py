"""The frame of every attack: it validates, differentiates, projects and judges."""

import math

import keras
from keras import ops

from keras_secure.arguments import is_integer, is_number
from keras_secure.attacks.arrays import check_floating
from keras_secure.attacks.directions import uniform_in_ball
from keras_secure.attacks.input_gradient import input_gradient_of_sum
from keras_secure.attacks.labels import class_indices
from keras_secure.attacks.log_odds import log_odds_against
from keras_secure.attacks.projections import PROJECTIONS, project
from keras_secure.attacks.search import search
from keras_secure.errors import InputError
from keras_secure.logits import classification_logits


class Attack:
    """Base of all attacks: gradient steps on the input, each projected onto ball and box.

    A subclass writes `update`, sets `steps` if it takes more than one, and adds its own arguments
    to `get_config`. What happens to one example depends on that example alone: losses are summed
    over the batch, never averaged, so an attack may run inside differentially private training.

    Args:
        epsilon: Largest distance from the input, in the units of the input. At least 0.
        norm: `"linf"`, `"l2"` or `"l1"`: how the distance is measured, over one example.
        bounds: Smallest and largest value that an input may have.
        targeted: Whether the labels given are the classes to reach rather than to leave.
        seed: Integer that makes random starts repeatable, or None.

    Raises:
        InputError: If an argument cannot be used.

    Example:

    An attack is written by saying where one step goes.

    >>> class SignStep(Attack):
    ...     def update(self, x_adv, gradient, epsilon):
    ...         return x_adv + epsilon * ops.sign(gradient)
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> x_adv = SignStep(0.1).perturb(model, ops.full((4, 2), 0.5), [0, 1, 2, 0])
    >>> tuple(x_adv.shape)
    (4, 2)
    """

    steps = 1
    restarts = 1
    random_start = False

    def __init__(self, epsilon, *, norm="linf", bounds=(0.0, 1.0), targeted=False, seed=None):
        if not is_number(epsilon) or not 0 <= epsilon < math.inf:
            raise InputError(f"epsilon={epsilon!r} cannot be used: it must be a number >= 0.")
        if not isinstance(norm, str) or norm not in PROJECTIONS:
            raise InputError(f"norm={norm!r} is not known: use one of {', '.join(PROJECTIONS)}.")
        if (
            not isinstance(bounds, (tuple, list))
            or len(bounds) != 2
            or not all(is_number(bound) and math.isfinite(bound) for bound in bounds)
            or bounds[0] >= bounds[1]
        ):
            raise InputError(
                f"bounds={bounds!r} cannot be used: give the smallest and the largest value of an "
                "input as two finite numbers, for example bounds=(0.0, 1.0)."
            )
        if not isinstance(targeted, bool):
            raise InputError(f"targeted={targeted!r} cannot be used: it must be True or False.")
        if seed is not None and (not is_integer(seed) or seed < 0):
            raise InputError(f"seed={seed!r} cannot be used: give an integer >= 0, or None.")
        self.epsilon = float(epsilon)
        self.norm = norm
        self.bounds = (float(bounds[0]), float(bounds[1]))
        self.targeted = targeted
        self.seed = None if seed is None else int(seed)
        self._seed_generator = keras.random.SeedGenerator(self.seed)

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
                (batch,), raised in place of cross-entropy, whether or not `targeted`.
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
        epsilon = ops.cast(self.epsilon if epsilon is None else epsilon, origin.dtype)
        if not getattr(model, "built", True):
            model(x, training=False)  # variables cannot be created inside a loop
        if loss is None:
            if y is None:
                raise InputError(
                    f"{type(self).__name__}.perturb needs labels: pass y (true classes, or the "
                    "targets if targeted=True), or a `loss` to raise."
                )
            labels = class_indices(y)

            def loss(x_adv):
                logits = classification_logits(model, x_adv, from_logits)
                return self.objective(logits, labels)

        x_adv = origin
        if self.random_start:
            batch, size = ops.shape(ops.reshape(x, (ops.shape(x)[0], -1)))
            uniforms = keras.random.uniform(
                (batch, 1 + size), dtype="float32", seed=self._seed_generator
            )
            x_adv = self.start(origin, uniforms, epsilon)

        def step(_, x_adv):
            _, gradient = input_gradient_of_sum(loss, x_adv)
            return self.advance(x_adv, gradient, origin, epsilon)

        one_step = self.steps == 1
        x_adv = step(0, x_adv) if one_step else ops.fori_loop(0, self.steps, step, x_adv)
        return ops.stop_gradient(ops.cast(x_adv, dtype))

    def run(
        self,
        model,
        x,
        y,
        *,
        batch_size=128,
        epsilon=None,
        from_logits=None,
        verbose="auto",
    ):
        """Attacks whole arrays, example by example until it is fooled.

        Any iterate that fools the model is kept, work on that example stops, and only the others
        start again. What is reported was measured on the array that is returned: norms in
        float64, bounds, and the model's answer.

        Args:
            model: Classifier, called with `training=False`.
            x: Floating point array of shape (num_examples, ...), inside `bounds`.
            y: Class indices or one-hot rows: the true classes, or the targets if `targeted`.
            batch_size: Examples per step. The last batch is padded, so that one graph serves all.
            epsilon: Number that takes the place of `self.epsilon`; needs no new trace.
            from_logits: See `classification_logits`.
            verbose: 0 for silence, 1 or `"auto"` for a progress bar, 2 for one line.

        Returns:
            An `AttackResult`. No distance exceeds `epsilon * (1 + 1e-6)`.

        Raises:
            InputError: If `x`, `y` or the model's outputs cannot be used.
        """
        return search(
            self,
            model,
            x,
            y,
            batch_size=batch_size,
            epsilon=epsilon,
            from_logits=from_logits,
            verbose=verbose,
        )

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
        # A gradient that is not finite would spread NaN over the ball; such a step is not taken.
        gradient = ops.where(ops.isfinite(gradient), gradient, 0.0)
        return project(self.update(x_adv, gradient, epsilon), x, epsilon, self.norm, self.bounds)

    def get_config(self):
        """Returns the arguments that rebuild this attack."""
        return {
            "epsilon": self.epsilon,
            "norm": self.norm,
            "bounds": list(self.bounds),
            "targeted": self.targeted,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config):
        """Builds the attack that `get_config` described."""
        return cls(**config)

    def __repr__(self):
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"
