"""What the demo measures on the trained models."""

import sys

import keras
import numpy as np

import keras_secure as ks

NUM_PICTURES = 8


def measure_accuracy(trained, dataset):
    """Returns the report's section on one model: test accuracy with its interval, and its cost."""
    predicted = np.argmax(trained.model.predict(dataset.x_test, verbose=0), axis=1)
    correct = int(np.sum(predicted == dataset.y_test))
    low, high = ks.attacks.proportion_interval(correct, len(predicted), 0.95)
    return {
        "accuracy": correct / len(predicted),
        "low": low,
        "high": high,
        "training_seconds": trained.seconds,
        "num_parameters": trained.model.count_params(),
        "description": trained.description,
    }


def measure_robustness(models, dataset, plan):
    """Returns the report's section on robustness: one curve per model, by the same PGD."""
    attack = ks.attacks.PGD(
        epsilon=plan.epsilon, steps=plan.attack_steps, restarts=plan.attack_restarts
    )
    x, y = dataset.x_test[: plan.num_attacked], dataset.y_test[: plan.num_attacked]
    reports = {}
    for name, trained in models.items():
        print(f"attacking the {name} model", flush=True)
        reports[name] = ks.attacks.evaluate(
            trained.model,
            x,
            y,
            attack,
            epsilons=plan.epsilons,
            verbose=1 if sys.stdout.isatty() else 0,
        )
    return ks.audit.robustness_section(reports)


def measure_privacy(optimizer, budget, trained, dataset):
    """Returns the report's section on privacy, from the optimizer's ledger."""
    return {
        "epsilon": optimizer.epsilon(budget.target_delta),
        "target_epsilon": budget.target_epsilon,
        "target_delta": budget.target_delta,
        "noise_multiplier": optimizer.noise_multiplier,
        "l2_norm_clip": optimizer.l2_norm_clip,
        "sampling": "Poisson, drawn by the library",
        "accountant": "PLD (dp-accounting)",
        "steps": optimizer.executed_steps,
        "num_train": len(dataset.x_train),
        "model": "private",
        "burn_down": budget.burn_down,
        "exact_metrics": ["loss", "accuracy"],
    }


def measure_membership(models, dataset):
    """Returns model name to `MembershipReport`, training examples against test examples."""
    found = {}
    for name, trained in models.items():
        members = ks.leakage.membership_losses(trained.model, dataset.x_train, dataset.y_train)
        others = ks.leakage.membership_losses(trained.model, dataset.x_test, dataset.y_test)
        found[name] = ks.leakage.threshold_membership_attack(members, others)
    return found


def collect_pictures(models, dataset, plan):
    """Returns images that the attack turns for the plain model, and what each model answers."""
    if not dataset.is_image:
        return []
    attack = ks.attacks.PGD(epsilon=plan.epsilon, steps=plan.attack_steps)
    x, y = dataset.x_test[:64], dataset.y_test[:64]
    answers = {name: _labels(trained.model, x) for name, trained in models.items()}
    right = answers["plain"] == y
    attacked = attack.run(models["plain"].model, x, y, verbose=0)
    # The image made against the plain model for everyone to see; each model is asked about the one
    # made against itself.
    own = {
        name: attack.run(trained.model, x, y, verbose=0).x_adv for name, trained in models.items()
    }
    after = {name: _labels(trained.model, own[name]) for name, trained in models.items()}
    rows = np.flatnonzero(right & attacked.success)[:NUM_PICTURES]
    return [
        {
            "original": x[row],
            "adversarial": attacked.x_adv[row],
            "label": int(y[row]),
            "before": {name: int(labels[row]) for name, labels in answers.items()},
            "after": {name: int(labels[row]) for name, labels in after.items()},
        }
        for row in rows
    ]


def _labels(model, x):
    return np.argmax(keras.ops.convert_to_numpy(model(x, training=False)), axis=1)
