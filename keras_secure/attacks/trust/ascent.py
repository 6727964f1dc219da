"""A gradient search of the probes' own, over the graphs that they share."""

import numpy as np
from keras import ops

from keras_secure.attacks.directions import ascent_direction
from keras_secure.attacks.projections import project


def ascend(subject, rows, *, start, steps, step_size, rivals=None):
    """Climbs the log odds from `start`, keeping whatever fools the model.

    Args:
        subject: A `Subject`.
        rows: Numbers of the examples.
        start: Array of as many first iterates.
        steps: Gradient steps.
        step_size: Length of the first step as a share of epsilon; it shrinks to a tenth of it.
        rivals: Boolean array (len(rows), num_classes): the classes that may win, or None.

    Returns:
        Boolean array: which examples were fooled by a point that holds ball and box in float64.
    """
    origin, labels = subject.x[rows], subject.labels[rows]
    fooled = subject.fooled(subject.held(start, rows), labels)
    x_adv = start.copy()
    for step in range(steps):
        left = np.flatnonzero(~fooled)
        if not len(left):
            break
        among = None if rivals is None else rivals[left]
        _, gradient = subject.slopes(x_adv[left], labels[left], among)
        gradient = np.where(np.isfinite(gradient), gradient, 0.0).astype(gradient.dtype)
        size = step_size * subject.epsilon * 0.1 ** (step / max(steps - 1, 1))
        moved = x_adv[left] + size * ops.convert_to_numpy(
            ascent_direction(gradient, x_adv[left], subject.norm, subject.bounds)
        )
        x_adv[left] = ops.convert_to_numpy(
            project(
                ops.convert_to_tensor(moved.astype(origin.dtype)),
                ops.convert_to_tensor(origin[left]),
                subject.epsilon,
                subject.norm,
                subject.bounds,
            )
        )
        fooled[left] = subject.fooled(subject.held(x_adv[left], rows[left]), labels[left])
    return fooled
