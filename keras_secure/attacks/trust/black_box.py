"""Whether searches without gradients fool what the gradient attacks could not."""

import numpy as np

from keras_secure.attacks.square import Square
from keras_secure.attacks.trust.points import corners, moved
from keras_secure.attacks.trust.verdict import remark, verdict
from keras_secure.intervals import proportion_interval

CHUNK = 32
QUERIES = 200


def probe_black_box(subject):
    """Random points, ways to other examples, a smoothed copy, and random search.

    Counted are the examples that withstand the attack and the longer gradient search alike.
    """
    rows = np.flatnonzero(~subject.result.success & ~subject.strongly_fooled)
    searches = {
        "random_points": _random_points,
        "towards_other_examples": _towards_others,
        "smoothed_copy": _smoothed_copy,
        "random_search": _random_search,
    }
    beaten, left = {}, rows
    for name, searching in searches.items():
        fooled = searching(subject, left) if len(left) else np.zeros(0, bool)
        beaten[name] = int(fooled.sum())
        left = left[~fooled]
    total = sum(beaten.values())
    evidence = {"survivors": len(rows), **beaten}
    certain, _ = proportion_interval(total, len(subject))
    if certain > 0.01:
        return verdict(
            "black_box",
            True,
            f"Searches that use no gradient fool {total} of the {len(rows)} examples that gradient "
            "attacks could not: the gradients mislead.",
            evidence,
            "The figure is at most what the searches leave. Find what masks the gradient (the "
            "other "
            "findings), attack through it (BPDA, EOT), and keep Square among the attacks.",
        )
    if total:
        return remark(
            "black_box",
            f"A search that uses no gradient fools {total} of the {len(rows)} examples that "
            "gradient attacks could not.",
            evidence,
            "Add Square to the attacks and use more restarts.",
        )
    return verdict("black_box", False, "No search without gradients finds more.", evidence)


def _fooled_by_any(subject, rows, candidates):
    flat = candidates.reshape(-1, *subject.x.shape[1:])
    labels = np.repeat(subject.labels[rows], candidates.shape[1])
    return subject.fooled(flat, labels).reshape(candidates.shape[:2]).any(axis=1)


def _random_points(subject, rows):
    generator = subject.generator("random points")
    return _fooled_by_any(subject, rows, corners(subject, rows, CHUNK, generator))


def _towards_others(subject, rows):
    """Steps towards examples of other classes, which need no scores but the answer."""
    generator = subject.generator("others")
    offsets = np.empty((len(rows), 8, *subject.x.shape[1:]), "float32")
    for place, row in enumerate(rows):
        others = np.flatnonzero(subject.labels != subject.labels[row])
        if not len(others):
            return np.zeros(len(rows), bool)
        away = subject.x[generator.choice(others, 8)] - subject.x[row]
        offsets[place] = _onto_sphere(subject, away)
    return _fooled_by_any(subject, rows, moved(subject, rows, offsets))


def _onto_sphere(subject, offsets):
    if subject.norm == "linf":
        return subject.epsilon * np.sign(offsets)
    flat = offsets.reshape(len(offsets), -1)
    order = 2 if subject.norm == "l2" else 1
    length = np.linalg.norm(flat, ord=order, axis=1, keepdims=True)
    return (flat * (subject.epsilon / np.maximum(length, 1e-12))).reshape(offsets.shape)


def _smoothed_copy(subject, rows, rounds=3):
    """Climbs the model averaged over the ball, whose slope random points give.

    A line fitted to the losses of random points is the gradient of the smoothed model, whatever the
    gradient of the model itself is; what fools the copy is tried on the model.
    """
    generator = subject.generator("smoothed")
    fooled = np.zeros(len(rows), bool)
    size = int(np.prod(subject.x.shape[1:]))
    count = int(np.clip(size, 64, 128))
    slope = np.zeros((len(rows), size))
    for _ in range(rounds):
        left = np.flatnonzero(~fooled)
        if not len(left):
            break
        points = corners(subject, rows[left], count, generator)
        labels = np.repeat(subject.labels[rows[left]], count)
        losses = subject.losses(points.reshape(-1, *subject.x.shape[1:]), labels)
        losses = np.nan_to_num(losses.reshape(len(left), count), posinf=0.0, neginf=0.0)
        offsets = (points - subject.x[rows[left]][:, None]).reshape(len(left), count, -1)
        losses -= losses.mean(axis=1, keepdims=True)
        slope[left] += np.einsum("nc,ncd->nd", losses, offsets.astype("float64"))
        direction = slope[left].reshape(len(left), *subject.x.shape[1:])
        step = _onto_sphere(subject, direction.astype("float32"))
        fooled[left] = _fooled_by_any(
            subject, rows[left], moved(subject, rows[left], step[:, None])
        )
    return fooled


def _random_search(subject, rows):
    """Square, which only ever compares answers."""
    attack = Square(
        subject.epsilon,
        norm=subject.norm,
        queries=QUERIES,
        bounds=subject.bounds,
        seed=subject.seed,
    )
    return subject.attacked(subject.epsilon, attack, rows).success
