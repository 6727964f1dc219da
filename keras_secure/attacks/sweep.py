"""One attack at ascending radii."""

import math

import numpy as np

from keras_secure.attacks.estimates import Accuracy, Distances, MeanLoss
from keras_secure.attacks.report import AttackMeasurement
from keras_secure.attacks.settle import SLACK


class Sweep:
    """One attack at ascending radii, each only on the examples that withstood the last.

    Args:
        attack: An `Attack`.
        x: Array of shape (num_examples, ...).
        labels: Int32 array of the true classes.
        output: Output of the model that is attacked, None if there is but one.
        clean_correct: Boolean array: which examples are answered rightly untouched; None to find
            out.
        abstained: Boolean array: on which the model abstains untouched; None if it never does.
    """

    def __init__(self, attack, x, labels, output, clean_correct, abstained):
        self.attack = attack
        self.x, self.labels, self.output = x, labels, output
        self.clean_correct = clean_correct
        self.abstained = abstained
        self.fooled_at = np.full(len(x), np.inf)
        self.nearest = np.full(len(x), np.inf)
        self.distance = np.zeros(len(x))
        self.x_adv = x.copy()
        if clean_correct is not None:
            self.set_wrong(~clean_correct)

    def set_wrong(self, wrong):
        """Notes which examples need no attack."""
        self.fooled_at[wrong] = self.nearest[wrong] = 0.0

    def run(self, model, epsilons, own, options):
        """Attacks at each of `epsilons` and at `own`, or once if the attack looks for distances."""
        self.own = own
        attack = self.attack
        whole_curve = attack.minimal_distance and (epsilons or attack.epsilon is None)
        if whole_curve:
            # The nearest fooling input answers for every radius at once.
            unlimited = type(attack).from_config({**attack.get_config(), "epsilon": None})
            self._attack(model, unlimited, None, options)
            return
        for epsilon in sorted({*epsilons, own}):
            self._attack(model, attack, epsilon, options)

    def _attack(self, model, attack, epsilon, options):
        rows = np.flatnonzero(np.isinf(self.fooled_at))
        if not len(rows):
            return
        labels = self.labels[rows] if self.output is None else {self.output: self.labels[rows]}
        result = attack.run(model, self.x[rows], labels, epsilon=epsilon, **options)
        if self.clean_correct is None:
            self.clean_correct = ~(result.success & (result.distance == 0))
            if self.abstained is not None:
                self.clean_correct &= ~self.abstained
            self.set_wrong(~self.clean_correct)
        fooled = result.success & self.clean_correct[rows]
        hit = rows[fooled]
        self.nearest[hit] = result.distance[fooled]
        self.fooled_at[hit] = result.distance[fooled] if epsilon is None else epsilon
        # What lies beyond the radius that the report is for is not part of it.
        within = np.full(len(rows), True)
        if epsilon is None:
            within = result.distance <= self.own * (1 + SLACK)
        if epsilon is None or epsilon <= self.own:
            self.x_adv[rows[within]] = result.x_adv[within]
            self.distance[rows[within]] = result.distance[within]

    def measurement(self, name, epsilons, losses, confidence):
        """Returns the `AttackMeasurement`.

        Args:
            name: Name of the attack in the report.
            epsilons: Radii of the curve.
            losses: Array of shape (num_examples,): cross-entropy at `x_adv`.
            confidence: Coverage of the intervals.
        """
        unlimited = math.isinf(self.own)
        robust = np.isinf(self.fooled_at) if unlimited else self.fooled_at > self.own
        fooled = self.clean_correct & ~robust
        return AttackMeasurement(
            name=name,
            config=self.attack.get_config(),
            norm=self.attack.norm,
            epsilon=self.own,
            accuracy=Accuracy.of(robust, confidence),
            mean_distance=float(self.distance[fooled].mean()) if fooled.any() else None,
            curve=tuple(
                (epsilon, Accuracy.of(self.fooled_at > epsilon, confidence)) for epsilon in epsilons
            ),
            distances=Distances.of(self.nearest, not self.attack.minimal_distance, confidence),
            loss=MeanLoss.of(losses, confidence),
            fooled_at=self.fooled_at,
            x_adv=self.x_adv,
        )
