"""A planted adversarial example: does the attack find one where there surely is one?

The binarization test. Each example gets a detector of its own, a line drawn in the logits of the
very model under check, that answers "1" for one known point of the sphere and "0" for the example
and for hundreds of points inside the ball. An adversarial example for it is certain to exist; the
attack, run on this detector, shows whether it can find any.

Reference: Zimmermann et al. 2022, arXiv 2206.13991, algorithm 1. There a classifier is fitted to
features of inner and boundary points; here the line across the furthest point needs no fitting.
"""

import keras
import numpy as np
from keras import ops

from keras_secure.attacks.trust.points import corners, inner
from keras_secure.attacks.trust.verdict import remark, verdict
from keras_secure.logits import classification_logits

EXAMPLES = 16
BOUNDARY = 96
INNER = 160


class Planted(keras.Model):
    """The model under check, followed by a line through its logits.

    Args:
        inner: The model.
        num_classes: Number of its logits.
        from_logits: See `classification_logits`.
        output: See `classification_logits`.
    """

    def __init__(self, inner, num_classes, from_logits, output):
        super().__init__(name="planted")
        self.inner = inner
        self._asked = from_logits, output
        self.line = self.add_weight(shape=(num_classes,), initializer="zeros", name="line")
        self.offset = self.add_weight(shape=(), initializer="zeros", name="offset")
        self.built = True

    def call(self, x, training=False):
        """Returns two logits, the second being that of the planted class."""
        logits = classification_logits(self.inner, x, *self._asked)
        score = ops.sum(logits * ops.convert_to_tensor(self.line), axis=1) - self.offset
        return ops.stack([ops.zeros_like(score), score], axis=1)

    def plant(self, line, offset):
        """Draws the line of the next example."""
        self.line.assign(line)
        self.offset.assign(offset)


def probe_planted(subject):
    """Plants one adversarial example each and counts how many the attack finds."""
    rows = np.arange(min(len(subject), EXAMPLES))
    generator = subject.generator("planted")
    outer = _logits(subject, corners(subject, rows, BOUNDARY, generator))
    inside = _logits(subject, inner(subject, rows, INNER, generator))
    fresh = _logits(subject, corners(subject, rows, BOUNDARY, generator))
    clean = subject.clean_logits[rows].astype("float64")

    model = Planted(subject.model, subject.num_classes, subject.from_logits, subject.output)
    planted = found = chance = 0
    for row in rows:
        line = draw_line(clean[row], inside[row], outer[row])
        if line is None:
            continue
        weights, offset = line
        planted += 1
        chance += bool((fresh[row] @ weights > offset).any())
        model.plant(weights, offset)
        result = subject.attack.run(
            model,
            subject.x[row : row + 1],
            np.zeros(1, "int32"),
            batch_size=1,
            epsilon=subject.epsilon,
            from_logits=True,
            verbose=0,
        )
        found += bool(result.success[0])
    evidence = {"planted": planted, "found": found, "found_by_random_points": chance}
    if planted < len(rows) / 2:
        return remark(
            "planted",
            f"Only {planted} of {len(rows)} examples could be planted: the logits hardly change "
            "within the ball.",
            evidence,
            "Look at trust.saturation and trust.gradients; raise epsilon.",
        )
    failed = found < 0.75 * planted
    statement = f"The attack finds {found} of {planted} planted adversarial examples."
    if failed:
        return verdict(
            "planted",
            True,
            statement + " It misses what is certainly there, so that what it does not find on the "
            "model itself means little.",
            evidence,
            "Adapt the attack to the model until it passes: smooth or replace what has no gradient "
            "(BPDA), average over randomness (EOT), other losses, more steps, no gradients.",
        )
    if found < 0.9 * planted:
        return remark("planted", statement, evidence, "Use more steps and restarts.")
    return verdict("planted", False, statement, evidence)


def draw_line(clean, inside, outside):
    """Separates one point of the sphere from everything else, if any stands out.

    The point whose logits lie furthest from their centre is further along its own direction than
    all others (Cauchy and Schwarz), so a line across it separates it.

    Args:
        clean: Logits of the example, shape (num_classes,).
        inside: Logits of points inside the ball, (count, num_classes).
        outside: Logits of points on the sphere, (count, num_classes).

    Returns:
        (weights, offset): `logits @ weights > offset` holds for that point alone; None if the
        logits do not change.

    Example:

    >>> outside = np.array([[0.0, 2.0], [0.0, -1.0]])
    >>> weights, offset = draw_line(np.zeros(2), np.array([[0.0, 0.5]]), outside)
    >>> outside @ weights > offset
    array([ True, False])
    """
    everything = np.concatenate([clean[None], inside, outside])
    if not np.isfinite(everything).all():
        return None
    # What all logits share decides nothing.
    level = everything - everything.mean(axis=1, keepdims=True)
    centre = level.mean(axis=0)
    length = np.linalg.norm(level - centre, axis=1)
    first = 1 + len(inside)
    furthest = first + int(length[first:].argmax())
    weights = level[furthest] - centre
    scores = level @ weights
    others = np.delete(scores, furthest).max()
    gap = scores[furthest] - others
    if not length[furthest] > 1e-5 * max(1.0, np.abs(level).max()) or not gap > 0:
        return None
    weights = weights - weights.mean()
    # The example itself gets a margin of ten, as a confident model has.
    scale = 10.0 / max(others + gap / 2 - scores[0], 1e-30)
    offset = (others + gap / 2) * scale
    return weights * scale, float(offset)


def _logits(subject, points):
    flat = subject.logits(points.reshape(-1, *subject.x.shape[1:]))
    return flat.reshape(*points.shape[:2], -1).astype("float64")
