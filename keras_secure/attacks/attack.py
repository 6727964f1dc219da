"""The frame of every attack: its radius, and the search over whole arrays."""

import math

import keras

from keras_secure.arguments import is_integer, is_number
from keras_secure.attacks.arguments import check_flags
from keras_secure.attacks.journal import Journal
from keras_secure.attacks.projections import PROJECTIONS
from keras_secure.attacks.search import search
from keras_secure.errors import InputError


class Attack:
    """Base of all attacks: says how far an input may be moved, and searches over arrays.

    Most attacks are loops over batches: see `IterativeAttack`, and `GradientAttack` for those that
    follow a gradient. An attack that is neither writes `seek`. What happens to one example depends
    on that example alone.

    Args:
        epsilon: Largest distance from the input, in the units of the input. At least 0; None, for
            attacks that look for the smallest distance, is no limit.
        norm: `"linf"`, `"l2"` or `"l1"`: how the distance is measured, over one example.
        bounds: Smallest and largest value that an input may have.
        targeted: Whether the labels given are the classes to reach rather than to leave.
        seed: Integer that makes the attack repeatable, or None.

    Raises:
        InputError: If an argument cannot be used.

    Example:

    >>> from keras_secure.attacks import PGD
    >>> isinstance(PGD(0.1), Attack)
    True
    """

    restarts = 1
    minimal_distance = False
    """Whether the attack looks for the smallest distance, so that `epsilon` may be None."""
    journal: Journal | None = None
    """What keeps the progress of a search from one process to the next, or None."""

    def __init__(self, epsilon, *, norm="linf", bounds=(0.0, 1.0), targeted=False, seed=None):
        unlimited = epsilon is None and self.minimal_distance
        if not unlimited and (not is_number(epsilon) or not 0 <= epsilon < math.inf):
            raise InputError(
                f"epsilon={epsilon!r} cannot be used: it must be a number >= 0"
                + (", or None for no limit." if self.minimal_distance else ".")
            )
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
        check_flags(targeted=targeted)
        if seed is not None and (not is_integer(seed) or seed < 0):
            raise InputError(f"seed={seed!r} cannot be used: give an integer >= 0, or None.")
        self.epsilon = None if unlimited else float(epsilon)
        self.norm = norm
        self.bounds = (float(bounds[0]), float(bounds[1]))
        self.targeted = targeted
        self.seed = None if seed is None else int(seed)
        self._seed_generator = keras.random.SeedGenerator(self.seed)

    def perturb(self, model, x, y=None, *, epsilon=None, loss=None, from_logits=None):
        """Refuses: this attack searches over arrays and cannot stand inside a training step."""
        raise InputError(
            f"{type(self).__name__} searches over whole arrays (`run`) and gives nothing to train "
            "on. Train on an attack such as PGD or FGSM, and evaluate with this one."
        )

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

        Any input met that fools the model is kept, work on that example stops, and only the others
        start again. What is reported was measured on the array that is returned: norms in
        float64, bounds, and the model's answer.

        Args:
            model: Classifier, called with `training=False`. With `abstains = True` on it, its last
                column is an abstention, which is not being fooled; with `randomized = True`, all
                steps are taken, since what fools one draw may not fool the next.
            x: Floating point array of shape (num_examples, ...), inside `bounds`.
            y: Class indices or one-hot rows: the true classes, or the targets if `targeted`. For a
                model with several outputs, a dictionary from the name of the output that is
                attacked, or a list with None for the others.
            batch_size: Examples per step. Batches are padded to a few fixed sizes, so that
                nothing is traced again.
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

    def starts(self, num_classes):
        """Returns how often `seek` is called on what is left, at most.

        Args:
            num_classes: How many classes the model tells apart.
        """
        return self.restarts

    def seek(self, search, rows, restart):
        """Looks once for inputs that fool the model.

        Args:
            search: The `Search` that is running: inputs, labels, radius and graphs.
            rows: Integer array: the numbers of the examples to attack.
            restart: How many times they were attacked before, from 0.

        Returns:
            `Candidates`, one for each of `rows`. They are projected and judged by the caller.
        """
        raise NotImplementedError(f"{type(self).__name__} must write `seek`.")

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
