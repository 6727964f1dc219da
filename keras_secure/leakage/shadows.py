"""Shadow models: what the scores of an example look like with it in training, and without."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_secure.arguments import check_integer
from keras_secure.errors import InputError
from keras_secure.leakage.confidences import logit_confidences


@dataclass(frozen=True, eq=False)
class ShadowScores:
    """The scores that shadow models gave to one pool of examples; reusable over targets.

    Args:
        scores: Log odds of the label, shape (num_shadows, n), finite.
        members: Which examples each shadow model was trained on, boolean, the same shape.

    Raises:
        InputError: If the shapes differ or a score is not finite.

    Example:

    >>> shadows = ShadowScores([[0.0, 2.0], [1.5, 0.3]], [[False, True], [True, False]])
    >>> shadows.num_shadows, shadows.num_examples
    (2, 2)
    """

    scores: np.ndarray
    members: np.ndarray

    def __post_init__(self):
        scores = np.asarray(self.scores, dtype=np.float64)
        members = np.asarray(self.members)
        if scores.ndim != 2 or scores.shape != members.shape or members.dtype != bool:
            raise InputError(
                f"Shadow scores have shape {scores.shape} and members {members.shape} of "
                f"{members.dtype}; expected both (num_shadows, num_examples), members boolean."
            )
        if not np.isfinite(scores).all():
            raise InputError(
                f"{int((~np.isfinite(scores)).sum())} shadow scores are not finite; a shadow model "
                f"has diverged: train it anew with a smaller learning rate."
            )
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "members", members)

    @property
    def num_shadows(self) -> int:
        """How many shadow models there are."""
        return len(self.scores)

    @property
    def num_examples(self) -> int:
        """How many examples the pool has."""
        return self.scores.shape[1]


def random_halves(num_shadows: int, num_examples: int, seed: int | None = None) -> np.ndarray:
    """Draws the training sets of shadow models: each example is in half of them.

    Args:
        num_shadows: Number of models, at least 2.
        num_examples: Size of the pool.
        seed: For a repeatable draw; None for a fresh one.

    Returns:
        Booleans of shape (num_shadows, num_examples). With an even number of shadows every example
        is in exactly half of them, so that "in" and "out" are known equally well.

    Example:

    >>> random_halves(4, 100, seed=0).sum(axis=0).tolist() == [2] * 100
    True
    """
    check_integer("num_shadows", num_shadows, 2)
    ranks = np.random.default_rng(seed).random((num_shadows, num_examples)).argsort(axis=0)
    return ranks < num_shadows // 2


def train_shadows(
    train: Callable[[Any, np.ndarray], keras.Model],
    x,
    y,
    *,
    num_shadows: int = 16,
    seed: int | None = None,
    batch_size: int = 256,
    from_logits=None,
) -> ShadowScores:
    """Trains shadow models on random halves of a pool and scores the whole pool with each.

    Args:
        train: `train(x, y)` returns a trained Keras classifier. It should train as the target was
            trained, and start from fresh weights. The model is scored before the next call, so the
            same object may come back every time.
        x: The pool's inputs: an array of shape (n, ...) or a nested structure of them. About twice
            the size of the target's training set, so that halves are as large as that.
        y: The pool's labels: integers of shape (n,) or (n, 1), or one-hot rows.
        num_shadows: Models to train. 16 is a start; the paper uses 64 to 256.
        seed: Of the halves; None for a fresh draw.
        batch_size: Examples per forward pass when scoring.
        from_logits: Whether the models give logits; None to find out.

    Returns:
        A `ShadowScores`.

    Example:

    >>> def train(x, y):
    ...     model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    ...     return model  # trained, in real life
    >>> x, y = np.zeros((10, 2), "float32"), np.zeros(10, int)
    >>> train_shadows(train, x, y, num_shadows=2).num_examples
    10

    Reference: Shokri et al. 2017, arXiv 1610.05820, section V-C.
    """
    y = np.asarray(y)
    members = random_halves(num_shadows, len(y), seed)
    scores = []
    for chosen in members:
        half = keras.tree.map_structure(lambda array, rows=chosen: np.asarray(array)[rows], x)
        model = train(half, y[chosen])
        scores.append(
            logit_confidences(model, x, y, batch_size=batch_size, from_logits=from_logits)
        )
    return ShadowScores(np.stack(scores), members)
