"""What all probes share: the examples, the attack, and two graphs of the model."""

import math
from functools import cached_property, partial

import numpy as np
from keras import ops

from keras_secure import backend
from keras_secure.attacks.arrays import check_arrays
from keras_secure.attacks.expectation import Expectation
from keras_secure.attacks.input_gradient import input_gradient_of_sum
from keras_secure.attacks.settle import settle
from keras_secure.attacks.trust.answers import log_odds, wrong
from keras_secure.attacks.trust.points import corners
from keras_secure.attacks.trust.precision import rounding_of
from keras_secure.attacks.trust.reference import strong_search
from keras_secure.logits import classification_logits

BATCH = 64
"""Rows of the probes' own graphs; whatever is asked is padded to it, so that each traces once."""


class Subject:
    """A model under an attack, on examples that it answers rightly.

    Args:
        model: A built classifier.
        x: Array of shape (num_examples, ...).
        labels: Int32 array of the true classes.
        attack: The `Attack` whose figure is to be trusted.
        epsilon: Radius at which it is.
        from_logits: See `classification_logits`.
        output: Output of the model that is attacked, None if there is but one.
        seed: Integer behind every draw of the probes.
    """

    def __init__(self, model, x, labels, attack, *, epsilon, from_logits, output, seed):
        self.model, self.attack = model, attack
        self.x, self.labels = check_arrays(x, labels, attack.bounds, "trust_check")
        self.epsilon, self.norm, self.bounds = float(epsilon), attack.norm, attack.bounds
        self.from_logits, self.output, self.seed = from_logits, output, seed
        self._answer = backend.compiled(partial(self._traced_answer))
        self._slope = backend.compiled(partial(self._traced_slope))

    def __len__(self):
        return len(self.x)

    def generator(self, stream):
        """Returns a NumPy generator; every probe draws from a stream of its own."""
        return np.random.default_rng([self.seed, *stream.encode()])

    def restricted(self, rows):
        """Keeps the examples numbered `rows` only."""
        self.x, self.labels = self.x[rows], self.labels[rows]

    # What the model says.

    def logits(self, x):
        """Returns the logits of an array of any length, float32."""
        x = np.asarray(x)
        parts = [
            ops.convert_to_numpy(self._answer(ops.convert_to_tensor(padded)))[:size]
            for padded, size in _batches(x.astype(self._dtype))
        ]
        return np.concatenate(parts)

    def fooled(self, x, labels):
        """Whether each row is answered otherwise than by its label; NaN is no answer."""
        return wrong(self.logits(x), self.own(labels))

    def own(self, labels):
        """Columns of the logits that count as not fooled: the label's, and the abstention's."""
        own = np.arange(self.num_classes) == np.asarray(labels)[:, None]
        if getattr(self.model, "abstains", False):
            own[:, -1] = True
        return own

    def slopes(self, x, labels, rivals=None):
        """Returns loss and gradient of each row.

        Args:
            x: Array of any number of rows.
            labels: Class of each row.
            rivals: Boolean array (rows, num_classes), the classes that may win; all by default.

        Returns:
            (loss, gradient): the log odds of the rivals against the label, float64, and its
            gradient by the input as the attacks receive it.
        """
        chosen = self.own(labels)
        rivals = ~chosen if rivals is None else rivals
        losses, gradients = [], []
        for start in range(0, len(x), BATCH):
            rows = slice(start, start + BATCH)
            size = len(x[rows])
            tensors = [
                ops.convert_to_tensor(_padded(part[rows]))
                for part in (np.asarray(x).astype(self._dtype), chosen, rivals)
            ]
            loss, gradient = self._slope(*tensors)
            losses.append(ops.convert_to_numpy(loss)[:size])
            gradients.append(ops.convert_to_numpy(gradient)[:size])
        return np.concatenate(losses).astype("float64"), np.concatenate(gradients)

    def losses(self, x, labels):
        """Returns the log odds of all other classes against the label, in float64."""
        return log_odds(self.logits(x), self.own(labels))

    # What is known about it.

    @cached_property
    def clean_logits(self):
        """Logits of the untouched examples."""
        return self.logits(self.x)

    @cached_property
    def num_classes(self):
        """How many logits there are, an abstention included."""
        return self.logits(self.x[:1]).shape[1]

    @cached_property
    def rounding(self):
        """What arithmetic may lose, as a share of the largest logit."""
        return rounding_of(self.model)

    @cached_property
    def noise(self):
        """What arithmetic may lose of a loss; for an average over randomness, what it leaves."""
        largest = self.rounding * max(1e-3, float(np.nanmax(np.abs(self.clean_logits))))
        if isinstance(self.model, Expectation):
            largest += 2 * float(np.nanmax(np.abs(self.logits(self.x) - self.clean_logits)))
        return largest

    @cached_property
    def flat(self):
        """Which examples have the same loss all over the ball, so that there is nothing to find."""
        rows = np.arange(len(self))
        points = corners(self, rows, 16, self.generator("flat"))
        losses = self.losses(points.reshape(-1, *self.x.shape[1:]), np.repeat(self.labels, 16))
        losses = np.column_stack([losses.reshape(len(rows), 16), self.losses(self.x, self.labels)])
        return np.ptp(losses, axis=1) <= self.noise

    @cached_property
    def spread(self):
        """Typical distance of the largest from the smallest logit: the scale of differences."""
        clean = self.clean_logits[np.isfinite(self.clean_logits).all(axis=1)]
        return float(np.median(np.ptp(clean, axis=1))) if len(clean) else math.nan

    @cached_property
    def result(self):
        """What the attack finds at the radius under check."""
        return self.attacked(self.epsilon)

    @cached_property
    def survivors(self):
        """Numbers of the examples that the attack could not fool."""
        return np.flatnonzero(~self.result.success)

    @cached_property
    def strongly_fooled(self):
        """Which of the survivors a longer gradient search fools."""
        fooled = np.zeros(len(self), bool)
        if len(self.survivors):
            fooled[self.survivors] = strong_search(self, self.survivors)
        return fooled

    def attacked(self, epsilon, attack=None, rows=slice(None)):
        """Runs the attack, or a variant of it, at another radius."""
        attack = self.attack if attack is None else attack
        labels = self.labels[rows]
        return attack.run(
            self.model,
            self.x[rows],
            labels if self.output is None else {self.output: labels},
            batch_size=min(BATCH, len(self.x)),
            epsilon=epsilon,
            from_logits=self.from_logits,
            verbose=0,
        )

    def held(self, x_adv, rows):
        """Returns candidates for the examples `rows`, with ball and box held in float64."""
        return settle(x_adv, self.x[rows], self.epsilon, self.norm, self.bounds)

    @property
    def full_range(self):
        """The radius that reaches every input within the bounds."""
        width, size = self.bounds[1] - self.bounds[0], math.prod(self.x.shape[1:])
        return width * {"linf": 1.0, "l2": math.sqrt(size), "l1": float(size)}[self.norm]

    @property
    def _dtype(self):
        return "float64" if self.x.dtype == "float64" else "float32"

    # The graphs.

    def _traced_answer(self, x):
        return classification_logits(self.model, x, self.from_logits, self.output)

    def _traced_slope(self, x, chosen, rivals):
        def loss(x):
            logits = self._traced_answer(x)
            others = ops.logsumexp(ops.where(rivals, logits, -float("inf")), axis=1)
            return others - ops.max(ops.where(chosen, logits, -float("inf")), axis=1)

        return input_gradient_of_sum(loss, x)


def _batches(rows):
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        yield _padded(part), len(part)


def _padded(rows):
    filling = np.repeat(rows[:1], BATCH - len(rows), axis=0)
    return np.concatenate([rows, filling])
