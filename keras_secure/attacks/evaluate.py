"""Measuring how a model withstands attacks."""

import math
from typing import Any

import numpy as np

from keras_secure.arguments import is_number
from keras_secure.attacks.arrays import check_arrays
from keras_secure.attacks.attack import Attack
from keras_secure.attacks.report import Accuracy, AttackMeasurement, RobustnessReport
from keras_secure.errors import InputError


def evaluate(
    model,
    x,
    y,
    attacks,
    *,
    epsilons=None,
    batch_size=128,
    confidence=0.95,
    from_logits=None,
    verbose="auto",
):
    """Attacks a classifier and reports its clean and robust accuracy with confidence intervals.

    Every attack runs at its own `epsilon`, and at each of `epsilons` if given, in ascending order.
    An example fooled at one radius counts as fooled at every larger one, because the same input
    is allowed there, and is not attacked again. The worst case takes, for each example, the attack
    that fools it.

    Args:
        model: Classifier, called with `training=False`.
        x: Floating point array of shape (num_examples, ...), inside the attacks' `bounds`.
        y: True classes: class indices or one-hot rows.
        attacks: An untargeted `Attack`, or a list of them.
        epsilons: Radii of the robustness curve, all attacks of one norm; None for no curve.
        batch_size: Examples per step.
        confidence: Coverage of the Clopper-Pearson intervals, between 0 and 1.
        from_logits: See `classification_logits`.
        verbose: 0 for silence, 1 or `"auto"` for a progress bar per attack and radius.

    Returns:
        A `RobustnessReport`.

    Raises:
        InputError: If the data, the attacks or the radii cannot be used.

    Example:

    >>> import keras
    >>> from keras_secure.attacks import FGSM
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> x, y = np.full((8, 4), 0.5, "float32"), np.zeros(8, int)
    >>> report = evaluate(model, x, y, FGSM(0.1), epsilons=[0.1, 0.2], verbose=0)
    >>> report.worst_case.value <= report.clean.value
    True
    """
    attacks = check_attacks(attacks)
    epsilons = _checked_epsilons(epsilons, attacks)
    # An interval that cannot be formed should fail before the attacks run.
    Accuracy.of(np.ones(1, bool), confidence)

    x, labels = check_arrays(x, y, attacks[0].bounds, "evaluate")
    options = {"batch_size": batch_size, "from_logits": from_logits, "verbose": verbose}
    clean_correct: Any = None  # the first attack finds out
    measurements = []
    for name, attack in zip(attack_names(attacks), attacks, strict=True):
        sweep = _Sweep(attack, x, labels, clean_correct)
        for epsilon in sorted({*epsilons, attack.epsilon}):
            sweep.extend(model, epsilon, options)
        clean_correct = sweep.clean_correct
        measurements.append(sweep.measurement(name, epsilons, confidence))

    worst_at = np.min([measurement.fooled_at for measurement in measurements], axis=0)
    worst_case_correct = np.all([measurement.robust for measurement in measurements], axis=0)
    return RobustnessReport(
        num_examples=len(x),
        confidence=float(confidence),
        clean=Accuracy.of(clean_correct, confidence),
        attacks=tuple(measurements),
        worst_case=Accuracy.of(worst_case_correct, confidence),
        worst_case_curve=_curve(worst_at, epsilons, confidence),
        clean_correct=clean_correct,
        worst_case_correct=worst_case_correct,
    )


def check_attacks(attacks):
    """Returns untargeted attacks as a list.

    Args:
        attacks: An `Attack`, or a list of them.

    Returns:
        A list of at least one attack.

    Raises:
        InputError: If there is none, one is no attack, or one is targeted.

    Example:

    >>> from keras_secure.attacks import FGSM
    >>> len(check_attacks(FGSM(0.1)))
    1
    """
    attacks = [attacks] if isinstance(attacks, Attack) else list(attacks)
    if not attacks:
        raise InputError("No attack was given: pass an Attack or a list of at least one.")
    for attack in attacks:
        if not isinstance(attack, Attack):
            raise InputError(f"{attack!r} is not an Attack: pass objects such as PGD(epsilon=0.1).")
        if attack.targeted:
            raise InputError(
                f"{attack!r} is targeted, and robust accuracy is measured with the true classes. "
                "Pass targeted=False, or call its `run` with the targets."
            )
    return attacks


def attack_names(attacks):
    """Names attacks by class and norm, with a number where that is not unique.

    Args:
        attacks: List of attacks.

    Returns:
        A list of as many strings, all different.

    Example:

    >>> from keras_secure.attacks import FGSM, PGD
    >>> attack_names([FGSM(0.1), PGD(0.1), PGD(0.2), PGD(1.0, norm="l2")])
    ['fgsm', 'pgd_linf', 'pgd_linf_2', 'pgd_l2']
    """
    names: list[str] = []
    counts: dict[str, int] = {}
    for attack in attacks:
        name = type(attack).__name__.lower()
        # The norm is part of the name where the attack leaves a choice.
        name = f"{name}_{attack.norm}" if "norm" in attack.get_config() else name
        counts[name] = counts.get(name, 0) + 1
        names.append(name if counts[name] == 1 else f"{name}_{counts[name]}")
    return names


class _Sweep:
    """One attack at ascending radii, each only on the examples that withstood the last."""

    def __init__(self, attack, x, labels, clean_correct):
        self.attack = attack
        self.x, self.labels = x, labels
        self.clean_correct = clean_correct
        self.fooled_at = np.full(len(x), np.inf)
        if clean_correct is not None:
            self.fooled_at[~clean_correct] = 0.0
        self.distance = np.zeros(len(x))
        self.x_adv = x.copy()

    def extend(self, model, epsilon, options):
        rows = np.flatnonzero(np.isinf(self.fooled_at))
        if not len(rows):
            return
        result = self.attack.run(model, self.x[rows], self.labels[rows], epsilon=epsilon, **options)
        if self.clean_correct is None:
            self.clean_correct = ~(result.success & (result.distance == 0))
            self.fooled_at[~self.clean_correct] = 0.0
        fooled = result.success & self.clean_correct[rows]
        self.fooled_at[rows[fooled]] = epsilon
        if epsilon <= self.attack.epsilon:
            self.x_adv[rows] = result.x_adv
            self.distance[rows] = result.distance

    def measurement(self, name, epsilons, confidence):
        fooled = self.clean_correct & (self.fooled_at <= self.attack.epsilon)
        return AttackMeasurement(
            name=name,
            config=self.attack.get_config(),
            norm=self.attack.norm,
            epsilon=self.attack.epsilon,
            accuracy=Accuracy.of(self.fooled_at > self.attack.epsilon, confidence),
            mean_distance=float(self.distance[fooled].mean()) if fooled.any() else None,
            curve=_curve(self.fooled_at, epsilons, confidence),
            fooled_at=self.fooled_at,
            x_adv=self.x_adv,
        )


def _curve(fooled_at, epsilons, confidence):
    return tuple((epsilon, Accuracy.of(fooled_at > epsilon, confidence)) for epsilon in epsilons)


def _checked_epsilons(epsilons, attacks):
    if epsilons is None:
        return []
    epsilons = list(np.atleast_1d(np.asarray(epsilons)).tolist())
    if not epsilons or not all(is_number(each) and 0 <= each < math.inf for each in epsilons):
        raise InputError(f"epsilons={epsilons!r} cannot be used: give a list of numbers >= 0.")
    norms = sorted({attack.norm for attack in attacks})
    if len(norms) > 1:
        raise InputError(
            f"epsilons were given with attacks of the norms {', '.join(norms)}: one radius means "
            "different things in them. Evaluate the attacks of each norm by themselves."
        )
    return sorted({float(each) for each in epsilons})
