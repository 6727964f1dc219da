"""Sample measurements for the tests of the audit room."""

import dataclasses

import numpy as np

from keras_secure.attacks import proportion_interval
from keras_secure.audit import AuditReport
from keras_secure.leakage import OneRunAudit, threshold_membership_attack

EPSILONS = (0.0, 0.05, 0.1, 0.2)


def curve(*accuracies, trials=400):
    """A robustness curve over `EPSILONS` with exact intervals."""
    points = []
    for epsilon, accuracy in zip(EPSILONS, accuracies, strict=False):
        low, high = proportion_interval(round(accuracy * trials), trials)
        points.append({"epsilon": epsilon, "accuracy": accuracy, "low": low, "high": high})
    return points


def leakage(shift, members=600, others=300, seed=0):
    """The membership report of exponential losses, with non-members `shift` above."""
    generator = np.random.default_rng(seed)
    return threshold_membership_attack(
        generator.exponential(1.0, members), generator.exponential(1.0, others) + shift
    )


def shadow_leakage(shift, **options):
    """The same, as if shadow models had found it."""
    return dataclasses.replace(
        leakage(shift, **options),
        attack="lira offline",
        advantage=None,
        num_shadows=16,
        mean_member_loss=None,
        mean_non_member_loss=None,
    )


def canary_bound(share_right, num_canaries=400, delta=1e-4):
    """The outcome of an audit in one run in which a share of the coins was given away."""
    audit = OneRunAudit(np.zeros((num_canaries, 1)), np.zeros(num_canaries, int), seed=0)
    scores = np.random.default_rng(0).random(num_canaries)
    given_away = np.arange(num_canaries) < share_right * num_canaries
    return audit.lower_bound(np.where(given_away, audit.included * 2.0 - 0.5, scores), delta)


def full_report(**changes):
    """An audit with every section."""
    generator = np.random.default_rng(0)
    originals = generator.uniform(size=(3, 8, 8, 1))
    sections = {
        "title": "Security audit",
        "data": {"name": "digits", "num_train": 1437, "num_test": 360, "shape": (8, 8, 1)},
        "models": {
            "plain": {"accuracy": 0.98, "low": 0.96, "high": 0.99, "training_seconds": 6.0},
            "robust": {"accuracy": 0.97, "low": 0.95, "high": 0.98, "training_seconds": 35.0},
            "private": {"accuracy": 0.91, "low": 0.88, "high": 0.94, "num_parameters": 1234},
        },
        "robustness": {
            "attack": "PGD, 50 steps",
            "norm": "linf",
            "num_examples": 400,
            "curves": {
                "plain": curve(0.98, 0.6, 0.1, 0.0),
                "robust": curve(0.97, 0.9, 0.8, 0.6),
                "private": curve(0.91, 0.5, 0.12, 0.0),
            },
        },
        "privacy": {
            "model": "private",
            "epsilon": 2.9,
            "target_epsilon": 3.0,
            "target_delta": 1e-4,
            "noise_multiplier": 1.1,
            "num_train": 1437,
            "sampling": "Poisson",
            "burn_down": [{"step": step, "epsilon": 0.29 * step} for step in range(1, 11)],
            "exact_metrics": ["loss", "accuracy"],
        },
        "membership": {"plain": leakage(0.5), "robust": leakage(0.1), "private": leakage(0.0)},
        "lira": {"plain": shadow_leakage(0.8), "private": shadow_leakage(0.0)},
        "one_run": {"private": canary_bound(0.3)},
        "watermark": {
            "bits": 64,
            "ber": 0.0,
            "p_value": 5.4e-20,
            "layer": "conv",
            "model": "robust",
        },
        "integrity": {
            "verified": True,
            "files": ["saved_model.pb", "variables/variables.index"],
            "key_fingerprint": "9f2c",
            "tamper": {"file": "saved_model.pb", "detected": True, "named": "saved_model.pb"},
        },
        "serving": {
            "max_difference": 3e-7,
            "nan_handled": True,
            "out_of_range_handled": True,
            "guards": ["InputGuard"],
        },
        "adversarial_examples": [
            {
                "original": original,
                "adversarial": np.clip(original + 0.1, 0, 1),
                "label": np.int32(index),
                "before": {"plain": index, "robust": index},
                "after": {"plain": 9, "robust": index},
            }
            for index, original in enumerate(originals)
        ],
        "timings": {"training": 41.0, "attacks": 20.5},
        "created": "2026-01-02T03:04:05+00:00",
        "environment": {"python": "3.11", "keras": "3.15"},
    }
    return AuditReport(**{**sections, **changes})
