"""Measuring how a model withstands attacks."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_secure.arguments import check_integer, is_number
from keras_secure.attacks.arrays import check_arrays, check_model
from keras_secure.attacks.attack import Attack
from keras_secure.attacks.certified import certify
from keras_secure.attacks.cross_entropy import cross_entropy
from keras_secure.attacks.estimates import Accuracy, Distances, MeanLoss
from keras_secure.attacks.labels import labelled_output
from keras_secure.attacks.pgd import PGD
from keras_secure.attacks.report import NOTES, UNCHECKED, RobustnessReport
from keras_secure.attacks.sweep import Sweep
from keras_secure.attacks.trust_check import trust_check as check_trust
from keras_secure.errors import InputError

BALLS = {"linf": "change of any value", "l2": "Euclidean distance", "l1": "sum of changes"}


def evaluate(
    model,
    x,
    y,
    attacks,
    *,
    epsilons=None,
    certifier=None,
    trust_check=False,
    batch_size=128,
    confidence=0.95,
    from_logits=None,
    verbose="auto",
):
    """Attacks a classifier and reports how robust it is, with confidence intervals.

    Every attack runs at its own `epsilon`, and at each of `epsilons` if given, in ascending order.
    An example fooled at one radius counts as fooled at every larger one, because the same input
    is allowed there, and is not attacked again. An attack that looks for the nearest fooling input
    runs once for the whole curve. The worst case takes, for each example, the attack that fools it;
    with attacks of several norms it is that over the union of their threat models.

    A model that may abstain (attribute `abstains`, one column more than classes) is right untouched
    if it answers rightly, and robust if it then answers rightly or abstains.

    Args:
        model: Classifier, called with `training=False`.
        x: Floating point array of shape (num_examples, ...), inside the attacks' `bounds`.
        y: True classes: class indices or one-hot rows. For a model with several outputs, a
            dictionary with the labels of the one to attack.
        attacks: An untargeted `Attack`, or a list of them.
        epsilons: Radii of the robustness curve, all attacks of one norm; None for no curve.
        certifier: Object with `certify(x)`, such as those of `keras_secure.certification`, or a
            certificate that it has given for `x`. None for no certified accuracy.
        trust_check: Whether to check by `keras_secure.attacks.trust_check` if the figure of the
            strongest attack can be believed; or a dictionary of its arguments. PGD stands in for an
            attack that is made of several.
        batch_size: Examples per step.
        confidence: Coverage of the intervals, between 0 and 1: Clopper-Pearson's for shares,
            Student's for losses, order statistics for distances.
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
    >>> report.threat_model
    'change of any value (linf) at most 0.1'
    """
    attacks = check_attacks(attacks)
    epsilons = _checked_epsilons(epsilons, attacks)
    # An interval that cannot be formed should fail before the attacks run.
    Accuracy.of(np.ones(1, bool), confidence)

    check_integer("batch_size", batch_size)
    output, y = labelled_output(y)
    check_model(model, "evaluate")
    x, labels = check_arrays(x, y, attacks[0].bounds, "evaluate")
    for attack in attacks[1:]:
        check_arrays(x, y, attack.bounds, "evaluate")
    if not model.built:
        model(x[:1], training=False)
    asked = {"from_logits": from_logits, "output": output, "batch_size": batch_size}
    clean_loss, abstained = cross_entropy(model, x, labels, **asked)
    options = {"batch_size": batch_size, "from_logits": from_logits, "verbose": verbose}
    clean_correct: Any = None  # the first attack finds out
    measurements, losses = [], []
    for name, attack in zip(attack_names(attacks), attacks, strict=True):
        sweep = Sweep(attack, x, labels, output, clean_correct, abstained)
        sweep.run(model, epsilons, own_radius(attack, attacks, epsilons), options)
        clean_correct = sweep.clean_correct
        loss, _ = cross_entropy(model, sweep.x_adv, labels, **asked)
        # The untouched input is always allowed.
        losses.append(np.maximum(loss, clean_loss))
        measurements.append(sweep.measurement(name, epsilons, losses[-1], confidence))

    worst_at = np.min([measurement.fooled_at for measurement in measurements], axis=0)
    worst_case_correct = np.all([measurement.robust for measurement in measurements], axis=0)
    nearest = _nearest(measurements)
    radii = {norm: set(epsilons) for norm in nearest}
    for measurement in measurements:
        if math.isfinite(measurement.epsilon):
            radii[measurement.norm].add(measurement.epsilon)
    certified = None
    if certifier is not None:
        certified = certify(
            certifier,
            x,
            labels,
            radii,
            {norm: distances for norm, (distances, _) in nearest.items()},
            confidence,
        )
    trust, notes = None, list(NOTES)
    if trust_check is not False and trust_check is not None:
        strongest, radius = _to_check(attacks, measurements)
        if strongest is None:
            notes.append("The trust check needs an attack bounded by a norm and a radius.")
        else:
            if not hasattr(strongest, "steps"):
                notes.append(
                    f"{type(strongest).__name__} is made of several attacks and too dear to run on "
                    "every probe; PGD stood in for it in the trust check."
                )
                strongest = PGD(
                    radius, norm=strongest.norm, steps=40, bounds=strongest.bounds, seed=0
                )
            arguments = trust_check if isinstance(trust_check, dict) else {}
            labelled = labels if output is None else {output: labels}
            trust = check_trust(
                model,
                x,
                labelled,
                strongest,
                **{"epsilon": radius, "from_logits": from_logits, **arguments},
            )
            notes.append(
                "The trust check found nothing that voids the figure."
                if trust.trusted
                else "The figure cannot be believed: "
                + ", ".join(finding.id for finding in trust.failed)
                + "."
            )
    else:
        notes.append(UNCHECKED)
    notes += _further_notes(measurements, abstained, certified)
    return RobustnessReport(
        num_examples=len(x),
        confidence=float(confidence),
        clean=Accuracy.of(clean_correct, confidence),
        attacks=tuple(measurements),
        threat_model=_threat_model(measurements),
        worst_case=Accuracy.of(worst_case_correct, confidence),
        worst_case_curve=tuple(
            (epsilon, Accuracy.of(worst_at > epsilon, confidence)) for epsilon in epsilons
        ),
        clean_loss=MeanLoss.of(clean_loss, confidence),
        adversarial_loss=MeanLoss.of(np.max(losses, axis=0), confidence),
        distances={
            norm: Distances.of(distances, upper_bound, confidence)
            for norm, (distances, upper_bound) in nearest.items()
        },
        certified=certified,
        abstained=None if abstained is None else Accuracy.of(abstained, confidence),
        trust=trust,
        notes=tuple(notes),
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
    # An object that is no list is named in the error below.
    one = isinstance(attacks, Attack) or not isinstance(attacks, Iterable)
    attacks = [attacks] if one else list(attacks)
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


def own_radius(attack, attacks, epsilons):
    """Returns the radius that an attack's accuracy is for.

    Args:
        attack: One of `attacks`.
        attacks: List of attacks.
        epsilons: Radii of the curve.

    Returns:
        Its `epsilon`; where it has none the largest one of the attacks of its norm, or of the
        curve; infinity if there is neither.

    Example:

    >>> from keras_secure.attacks import DeepFool, PGD
    >>> nearest = DeepFool(norm="linf")
    >>> own_radius(nearest, [nearest, PGD(0.1)], []), own_radius(nearest, [nearest], [])
    (0.1, inf)
    """
    if attack.epsilon is not None:
        return attack.epsilon
    beside = [each.epsilon for each in attacks if each.norm == attack.norm and each.epsilon]
    return max(beside or epsilons, default=math.inf)


def _nearest(measurements):
    """Norm to (distance of the nearest fooling input of any attack, whether balls were filled)."""
    nearest: dict[str, tuple[np.ndarray, bool]] = {}
    for measurement in measurements:
        distances, upper = measurement.distances.nearest, measurement.distances.upper_bound
        if measurement.norm in nearest:
            before, before_upper = nearest[measurement.norm]
            distances, upper = np.minimum(before, distances), upper and before_upper
        nearest[measurement.norm] = distances, upper
    return nearest


def _to_check(attacks, measurements):
    """The strongest attack bounded by a norm; composites only if there is no other."""
    able = [
        (not hasattr(attack, "steps"), measurement.accuracy.value, place)
        for place, (attack, measurement) in enumerate(zip(attacks, measurements, strict=True))
        if attack.norm in BALLS and 0 < measurement.epsilon < math.inf
    ]
    if not able:
        return None, None
    *_, place = min(able)
    return attacks[place], measurements[place].epsilon


def _threat_model(measurements):
    parts = []
    for measurement in measurements:
        norm, epsilon = measurement.norm, measurement.epsilon
        if norm not in BALLS:
            part = f"{measurement.name}: transformations up to {epsilon:g} of its ranges (no norm)"
        elif math.isinf(epsilon):
            part = f"{BALLS[norm]} ({norm}) without limit"
        else:
            part = f"{BALLS[norm]} ({norm}) at most {epsilon:g}"
        parts.append(part)
    parts = list(dict.fromkeys(parts))
    return parts[0] if len(parts) == 1 else "the union of: " + "; ".join(parts)


def _further_notes(measurements, abstained, certified):
    notes = []
    threats = {(each.norm, each.epsilon) for each in measurements}
    if len(threats) > 1:
        notes.append(
            "The attacks differ in norm or radius: the worst case is that over the union of their "
            "threat models, and no figure for any one of them."
        )
    for each in measurements:
        if each.norm not in BALLS:
            note = f"{each.name} is bounded by no norm; its distance is a share of its ranges."
            notes.append(note)
        elif math.isinf(each.epsilon):
            notes.append(
                f"{each.name} has no radius, and neither an attack of its norm nor a curve gives "
                "one: its accuracy counts the examples for which it found nothing at any distance."
            )
    if abstained is not None:
        notes.append(
            "The model may abstain: an example is right untouched if it is answered rightly, and "
            "robust if it is then answered rightly or abstained on."
        )
    if certified is not None:
        notes.append(
            "Certified accuracy is a lower bound for the classifier that was certified; a smoothed "
            "classifier is not the model inside it."
        )
    return notes


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
