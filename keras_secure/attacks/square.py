"""Square: random search over windows of the image, without any gradient."""

import numpy as np
from keras import ops

from keras_secure import backend
from keras_secure.arguments import is_number
from keras_secure.attacks.arguments import check_counts
from keras_secure.attacks.iterative_attack import IterativeAttack
from keras_secure.attacks.log_odds import log_odds_against
from keras_secure.attacks.losses import margin
from keras_secure.attacks.square_patterns import exchange_windows, half_norms, pattern
from keras_secure.attacks.square_windows import (
    fill_windows,
    first_queries,
    image_shape,
    window_sizes,
)
from keras_secure.errors import InputError
from keras_secure.registration import component

TILES = 5
"""Patterns along each side of the image at the start in l2 and l1."""


@component("attacks")
class Square(IterativeAttack):
    """Random search that asks the model for its answers only, and so cannot be misled by gradients.

    A query tries a change inside one window of the image, and keeps it if the loss rises or the
    model is fooled. Windows shrink on the paper's schedule. They are placed for each example on its
    own, and may touch every border.

    Args:
        epsilon: Largest distance from the input, in the units of the input. At least 0.
        norm: `"linf"` (windows of +-epsilon), or `"l2"` and `"l1"` (pyramids that take over the
            perturbation of another window).
        queries: Evaluations of the model in one start, at least 1; the schedule is stretched to
            them.
        p_init: Share of the image that the first windows cover, in (0, 1].
        restarts: Starts that `run` tries on an example until one fools the model.
        loss: `"margin"` between the label's logit and the largest other, or `"ce"` for
            cross-entropy, of which the log odds are taken, which rank inputs alike and never fade.
        bounds: Smallest and largest value that an input may have.
        targeted: Whether the labels given are the classes to reach rather than to leave.
        seed: Integer that makes the search repeatable, or None.

    Inputs of shape (size,) are searched by blocks of neighbours, (length, channels) by stretches of
    time; more axes are an image with the channels last.

    Raises:
        InputError: If an argument cannot be used.

    Example:

    >>> import keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> attack = Square(0.2, queries=20, seed=0)
    >>> result = attack.run(model, np.full((2, 4), 0.5, "float32"), [0, 1], verbose=0)
    >>> bool((result.distance <= 0.2 * (1 + 1e-6)).all())
    True

    Reference:
        Andriushchenko et al. 2020, "Square attack: a query-efficient black-box adversarial attack
        via random search", arXiv 1912.00049, algorithms 1 to 3. l1: Croce & Hein 2021,
        arXiv 2103.01208, section 5.
    """

    stage = 250
    looks_first = False

    def __init__(
        self,
        epsilon,
        *,
        norm="linf",
        queries=5000,
        p_init=0.8,
        restarts=1,
        loss="margin",
        bounds=(0.0, 1.0),
        targeted=False,
        seed=None,
    ):
        super().__init__(epsilon, norm=norm, bounds=bounds, targeted=targeted, seed=seed)
        check_counts(queries=queries, restarts=restarts)
        if not is_number(p_init) or not 0 < p_init <= 1:
            raise InputError(f"p_init={p_init!r} cannot be used: it must be in (0, 1].")
        if loss not in ("margin", "ce"):
            raise InputError(f"loss={loss!r} is not known: use 'margin' or 'ce'.")
        self.steps = int(queries)
        self.p_init = float(p_init)
        self.restarts = int(restarts)
        self.loss = loss

    @property
    def queries(self):
        """Evaluations of the model in one start."""
        return self.steps

    def begin(self, problem):
        """Starts with stripes (linf) or with tiles of pyramids (l2, l1); see `IterativeAttack`."""
        x = problem.x
        shape = image_shape(x.shape[1:])
        fill = self._stripes if self.norm == "linf" else self._tiles
        delta = ops.reshape(fill(problem, *shape), ops.shape(x))
        batch = ops.shape(x)[0]
        return {
            "x_adv": ops.clip(x + delta, *self.bounds),
            "found": ops.zeros((batch,), "bool"),
            "score": ops.full((batch,), -float("inf"), "float32"),
        }

    def step(self, problem, state, index):
        """Tries one window; the first query looks at the start itself."""
        x_adv = state["x_adv"]
        candidate = self._candidate(problem, x_adv, index)
        score, logits = problem.losses(candidate, self.objective)
        fooled = problem.fooled(logits)
        score = ops.where(ops.isnan(score), -float("inf"), ops.cast(score, "float32"))
        better = ops.logical_or(score > state["score"], index == 0)
        better = ops.logical_or(better, fooled)
        return {
            "x_adv": backend.fused(_chosen)(better, candidate, x_adv),
            "found": fooled,
            "score": ops.where(better, score, state["score"]),
        }

    def objective(self, logits, labels):
        """Per-example loss to raise."""
        loss = (margin if self.loss == "margin" else log_odds_against)(logits, labels)
        return -loss if self.targeted else loss

    def get_config(self):
        """Returns the arguments that rebuild this attack."""
        return {
            **super().get_config(),
            "queries": self.steps,
            "p_init": self.p_init,
            "restarts": self.restarts,
            "loss": self.loss,
        }

    def _candidate(self, problem, x_adv, index):
        x = problem.x
        height, width, channels = image_shape(x.shape[1:])
        rows = (-1, height, width * channels)
        flat = ops.reshape(x, rows), ops.reshape(x_adv, rows)
        bounds = ops.convert_to_tensor(self.bounds, x.dtype)
        sizes = window_sizes(self.p_init, height, width, self.norm)
        halvings = ops.sum(
            ops.cast(index >= np.asarray(first_queries(self.steps), "int32"), "int32")
        )
        size = ops.take(ops.convert_to_tensor(sizes), halvings, axis=0)
        size = ops.where(index > 0, size, 0)
        if self.norm == "linf":
            uniforms = problem.uniform(index + 1, 2 + channels)
            kernel = backend.fused(fill_windows)
            moved = kernel(*flat, uniforms, size, problem.epsilon, bounds)
        else:
            uniforms = problem.uniform(index + 1, 5 + channels)
            norms = np.stack([half_norms(int(tall), int(wide), self.norm) for tall, wide in sizes])
            norms = ops.take(ops.convert_to_tensor(norms, x.dtype), halvings, axis=0)
            kernel = backend.fused(exchange_windows)
            moved = kernel(*flat, uniforms, size, norms, problem.epsilon, bounds, self.norm)
        return ops.reshape(moved, ops.shape(x))

    def _stripes(self, problem, height, width, channels):
        signs = ops.where(problem.uniform(0, width * channels) < 0.5, -1.0, 1.0)
        stripes = problem.epsilon * ops.cast(signs, problem.x.dtype)
        return ops.tile(ops.reshape(stripes, (-1, 1, width, channels)), (1, height, 1, 1))

    def _tiles(self, problem, height, width, channels):
        tall, wide = max(height // TILES, 1), max(width // TILES, 1)
        down, across = height // tall, width // wide
        drawn = problem.uniform(0, 1 + down * across * channels)
        signs = ops.where(drawn[:, 1:] < 0.5, -1.0, 1.0)
        signs = ops.cast(ops.reshape(signs, (-1, down, across, channels)), problem.x.dtype)
        signs = ops.repeat(ops.repeat(signs, tall, axis=1), wide, axis=2)
        split = [
            np.tile(pattern(tall, wide, self.norm, beside), (down, across))
            for beside in (False, True)
        ]
        split = ops.convert_to_tensor(np.stack(split)[..., None], problem.x.dtype)
        # A tile of one pixel across cannot have two pyramids side by side.
        beside = ops.logical_and(wide > 1, ops.logical_or(drawn[:, 0] < 0.5, tall < 2))
        tiles = signs * ops.where(beside[:, None, None, None], split[1], split[0])
        # Every tile has norm one in each channel.
        count = down * across * channels
        scale = problem.epsilon / (count**0.5 if self.norm == "l2" else count)
        above, left = (height - down * tall) // 2, (width - across * wide) // 2
        margins = (
            (0, 0),
            (above, height - down * tall - above),
            (left, width - across * wide - left),
            (0, 0),
        )
        return ops.pad(scale * tiles, margins)


def _chosen(better, candidate, x_adv):
    mask = ops.reshape(better, (-1,) + (1,) * (len(x_adv.shape) - 1))
    return ops.where(mask, candidate, x_adv)
