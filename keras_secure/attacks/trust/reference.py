"""Variants of the attack under check, and the stronger search that it is held against."""

import numpy as np

from keras_secure.attacks.trust.ascent import ascend
from keras_secure.attacks.trust.points import inner

STEPS = 60


def with_free_step(attack):
    """Returns the attack, with a step size that follows epsilon if it had a fixed one."""
    config = attack.get_config()
    if config.get("step_size") is None:
        return attack
    return type(attack).from_config({**config, "step_size": None})


def one_step(subject, rows):
    """Whether one step from the example, as long as epsilon, fools the model."""
    return ascend(subject, rows, start=subject.x[rows].copy(), steps=1, step_size=1.0)


def strong_search(subject, rows):
    """Whether a longer search than most attacks make fools the model.

    From the example itself by the log odds, from a random start, and towards each of the two
    nearest classes.
    """
    fooled = np.zeros(len(rows), bool)
    logits = np.where(subject.own(subject.labels[rows]), -np.inf, subject.clean_logits[rows])
    # The two classes next to the right one, of at least one other.
    nearest = np.argsort(-logits, axis=1)[:, : min(2, subject.num_classes - 1)]
    turns: list[np.ndarray | None] = [None, None, *nearest.T]
    generator = subject.generator("strong")
    for turn, classes in enumerate(turns):
        left = np.flatnonzero(~fooled)
        if not len(left):
            break
        start = subject.x[rows[left]].copy()
        if turn:
            start = inner(subject, rows[left], 1, generator, 1.0)[:, 0].copy()
        rivals = None
        if classes is not None:
            rivals = np.arange(subject.num_classes) == classes[left][:, None]
        fooled[left] = ascend(
            subject, rows[left], start=start, steps=STEPS, step_size=0.5, rivals=rivals
        )
    return fooled
