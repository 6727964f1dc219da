"""Virtual adversarial training: smoothness that needs no labels."""

import keras
from keras import ops, tree

from keras_secure.arguments import check_integer, check_number
from keras_secure.attacks.arrays import check_floating
from keras_secure.attacks.input_gradient import input_gradient_of_sum
from keras_secure.logits import classification_logits, logits_of
from keras_secure.objectives.divergence import divergence
from keras_secure.objectives.objective import Objective
from keras_secure.registration import component


@component("objectives")
class VirtualAdversarialTraining(Objective):
    """The compiled loss plus a penalty on the direction in which the prediction changes most.

    The penalty is `alpha * KL(f(x) || f(x + r))`, where r has the l2 norm `epsilon` and follows the
    dominant eigenvector of the divergence's Hessian at x, found by power iteration. It does not
    look at the label, so examples may lack one: an integer label of -1, or a one-hot row of zeros,
    marks an example whose own loss counts 0 while its penalty counts.

    The loss of a batch is the mean over all its examples; with a share s of labelled ones, `alpha`
    of s is the balance that the paper calls 1. Training metrics are measured on the clean inputs,
    and an accuracy counts every unlabelled example as wrong: watch validation metrics.

    Args:
        epsilon: Length of the perturbation in l2, in units of the inputs. At least 0.
        alpha: Non-negative weight of the penalty. Defaults to 1, as in the paper.
        steps: Power iterations, at least 1. Defaults to 1, which the paper found to suffice.
        xi: Length of the step that the Hessian is estimated with. Defaults to 0.01: in float32 a
            much shorter one vanishes in the rounding of inputs and probabilities.
        seed: Integer that makes the first directions repeatable, or None.

    Raises:
        InputError: if an argument cannot be used.

    Example:

    >>> VirtualAdversarialTraining(epsilon=2.0).steps
    1

    Reference: Miyato et al. 2018 (arXiv 1704.03976), section 3 and algorithm 1.
    """

    def __init__(self, epsilon, alpha=1.0, steps=1, xi=0.01, seed=None):
        for name, value in (("epsilon", epsilon), ("alpha", alpha)):
            check_number(name, value, "[0, inf)")
        check_integer("steps", steps)
        check_number("xi", xi, "(0, inf)")
        if seed is not None:
            check_integer("seed", seed, 0)
        self.epsilon, self.alpha, self.xi = float(epsilon), float(alpha), float(xi)
        self.steps, self.seed = int(steps), None if seed is None else int(seed)
        self._seed_generator = keras.random.SeedGenerator(self.seed)

    def perturb(self, model, x, y, loss):
        """See `Objective`."""
        check_floating(x, type(self).__name__)
        x = ops.convert_to_tensor(x)
        origin = ops.cast(x, "float32")
        if not getattr(model, "built", True):
            model(x, training=False)  # variables cannot be created inside a loop
        from_logits = loss.from_logits
        clean = ops.stop_gradient(classification_logits(model, x, from_logits))

        def diverging(moved):
            return divergence(clean, classification_logits(model, moved, from_logits))

        def step(_, direction):
            _, gradient = input_gradient_of_sum(diverging, origin + self.xi * direction)
            return _unit(gradient, otherwise=direction)

        noise = keras.random.normal(ops.shape(x), dtype="float32", seed=self._seed_generator)
        direction = _unit(noise, otherwise=noise)
        one = self.steps == 1
        direction = step(0, direction) if one else ops.fori_loop(0, self.steps, step, direction)
        return ops.stop_gradient(ops.cast(origin + self.scaled(self.epsilon) * direction, x.dtype))

    def __call__(self, model, x, y, perturbed, loss, sample_weight=None):
        """See `Objective`."""
        y_pred = model(x, training=True)
        # The paper holds the clean prediction constant: only the perturbed one is drawn to it.
        clean = ops.stop_gradient(logits_of(y_pred, model, loss.from_logits))
        moved = logits_of(model(perturbed, training=True), model, loss.from_logits)

        def term(loss, y, weight):
            labelled, labels = _labels(y)
            return ops.where(labelled, loss(labels, y_pred, weight), 0.0)

        penalty = loss.weigh(self.alpha * divergence(clean, moved), sample_weight)
        return loss.over_labels(term, y, sample_weight) + penalty, y_pred

    def get_config(self):
        """See `Objective`."""
        return {
            "epsilon": self.epsilon,
            "alpha": self.alpha,
            "steps": self.steps,
            "xi": self.xi,
            "seed": self.seed,
        }


def _labels(y):
    """Returns which examples are labelled, and labels that are valid for the others, too."""
    y = ops.convert_to_tensor(tree.flatten(y)[0])
    if len(y.shape) == 2 and y.shape[1] != 1:
        labelled = ops.any(y != 0, axis=1)
        return labelled, ops.where(labelled[:, None], y, ops.ones_like(y))
    return ops.reshape(y >= 0, (-1,)), ops.maximum(y, ops.zeros_like(y))


def _unit(rows, otherwise):
    """Scales each row to l2 norm 1, or takes the other's row where it cannot be."""
    flat = ops.reshape(rows, (ops.shape(rows)[0], -1))
    # Squares of what is left of a gradient in a flat region would underflow.
    largest = ops.max(ops.abs(flat), axis=1, keepdims=True)
    usable = ops.logical_and(largest > 0, ops.isfinite(largest))
    flat = flat / ops.where(usable, largest, 1.0)
    norm = ops.sqrt(ops.sum(ops.square(flat), axis=1, keepdims=True))
    unit = ops.reshape(flat / ops.where(usable, norm, 1.0), ops.shape(rows))
    usable = ops.reshape(usable, (-1,) + (1,) * (len(rows.shape) - 1))
    return ops.where(usable, unit, otherwise)
