"""Random points of a ball, in NumPy."""

import numpy as np

from keras_secure.attacks.settle import settle


def corners(subject, rows, count, generator, radius=1.0):
    """Draws points on the sphere around each example.

    Args:
        subject: A `Subject`.
        rows: Numbers of the examples.
        count: Points of each.
        generator: NumPy generator.
        radius: Distance as a share of epsilon.

    Returns:
        An array of shape (len(rows), count, ...): corners of the box for linf, uniform directions
        for l2, a tenth of the values moved alike for l1; clipped to the bounds.
    """
    shape = (len(rows), count, *subject.x.shape[1:])
    if subject.norm == "linf":
        offsets = generator.integers(0, 2, shape).astype("float32") * 2 - 1
    else:
        offsets = generator.standard_normal(shape, dtype="float32")
        flat = offsets.reshape(len(rows), count, -1)
        if subject.norm == "l1":
            keep = max(1, flat.shape[-1] // 10)
            smallest = np.partition(np.abs(flat), -keep, axis=-1)[..., -keep, None]
            flat[:] = np.sign(flat) * (np.abs(flat) >= smallest)
        flat /= np.linalg.norm(flat, ord=1 if subject.norm == "l1" else 2, axis=-1, keepdims=True)
    return moved(subject, rows, offsets * (radius * subject.epsilon))


def inner(subject, rows, count, generator, radius=0.95):
    """Draws points inside the ball around each example.

    Args:
        subject: A `Subject`.
        rows: Numbers of the examples.
        count: Points of each.
        generator: NumPy generator.
        radius: Largest distance as a share of epsilon.

    Returns:
        An array of shape (len(rows), count, ...), clipped to the bounds.
    """
    if subject.norm == "linf":
        shape = (len(rows), count, *subject.x.shape[1:])
        offsets = generator.uniform(-1, 1, shape).astype("float32")
        return moved(subject, rows, offsets * (radius * subject.epsilon))
    on_sphere = corners(subject, rows, count, generator, radius)
    origin = subject.x[rows][:, None]
    shares = generator.random((len(rows), count) + (1,) * (subject.x.ndim - 1)).astype("float32")
    return origin + (on_sphere - origin) * shares


def moved(subject, rows, offsets):
    """Adds offsets of shape (len(rows), count, ...) and holds ball and box."""
    origin = np.repeat(subject.x[rows], offsets.shape[1], axis=0)
    candidates = origin + offsets.reshape(origin.shape).astype(origin.dtype)
    held = settle(candidates, origin, subject.epsilon, subject.norm, subject.bounds)
    return held.reshape(offsets.shape)
