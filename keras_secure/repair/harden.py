"""Fine-tuning a classifier until it withstands an attack."""

import keras
import numpy as np
from keras import ops

from keras_secure.arguments import check_integer, check_number
from keras_secure.attacks import APGD, PGD, Attack, Square, evaluate
from keras_secure.errors import InputError, PrivacyError
from keras_secure.logits import outputs_are_logits
from keras_secure.objectives import AdversarialTraining
from keras_secure.optimizers import DPOptimizer
from keras_secure.repair.hardening_findings import hardening_findings
from keras_secure.repair.hardening_report import HardeningReport
from keras_secure.repair.hardening_watch import HardeningWatch
from keras_secure.training import SecureModel, inner_model
from keras_secure.training.fit_guards import last_private_optimizer

TRAINING_STEPS = 7
"""Steps of the attack that is trained on, by default."""


def harden(
    model,
    data,
    attack,
    *,
    target_robust_accuracy,
    max_clean_drop,
    validation_data=None,
    objective=None,
    optimizer=None,
    loss=None,
    epochs=30,
    warmup_epochs=3,
    batch_size=128,
    stronger_attacks=None,
    keep_best=False,
    confidence=0.95,
    seed=0,
    verbose=0,
):
    """Fine-tunes a classifier by adversarial training until it withstands an attack.

    After every epoch clean and robust accuracy are measured on held-out examples, and training ends
    with the first epoch that meets both bounds. Then other held-out examples, which decided
    nothing, are attacked by the given and by stronger attacks, before and after. If the bounds were
    not met, or the stronger evaluation refutes them, the model gets its original weights back:
    it is never left worse in silence.

    Args:
        model: Classifier, compiled or not (or a `SecureModel` around one); trained in place.
        data: (x, y) to train on: floating point array of shape (num_examples, ...) inside the
            attack's bounds, and labels as the compiled loss takes them (class indices or one-hot
            rows if the model is not compiled).
        attack: The untargeted `Attack` that robustness is measured by; given a radius.
        target_robust_accuracy: Share of the examples that are to withstand it, in (0, 1].
        max_clean_drop: How much clean accuracy may fall, for example 0.02.
        validation_data: (x, y) to measure on, half of it to decide when to end and half for the
            report; None to hold out a fifth of `data`.
        objective: Objective to train on; None for a mix of three parts of clean loss and seven
            parts of the loss under PGD at the attack's radius. `TRADES` is an alternative.
        optimizer: Optimizer of the fine-tuning; None for Adam at 1e-3.
        loss: Loss; None for the compiled one, or cross-entropy as the labels and outputs suggest.
        epochs: At most how many epochs are trained.
        warmup_epochs: Over how many of them the radius trained on grows to its size.
        batch_size: Examples per step, of training and of attacks.
        stronger_attacks: Attacks of the final evaluation beside the given one; None for APGD on
            both losses (50 steps, the second with restarts) and Square (300 queries).
        keep_best: Whether to keep the best weights within `max_clean_drop` although the target was
            missed.
        confidence: Coverage of the intervals.
        seed: Integer behind the split of the data and the attacks.
        verbose: As of `fit`.

    Returns:
        A `HardeningReport`.

    Raises:
        InputError: If arguments cannot be used.
        PrivacyError: If the model was trained privately, and `optimizer` is no `DPOptimizer`.

    Example:

    >>> from keras_secure.attacks import FGSM
    >>> x = np.random.default_rng(0).random((200, 2), "float32")
    >>> y = (x[:, 0] > 0.5).astype("int32")
    >>> x[:, 0] = 0.6 * x[:, 0] + 0.4 * y  # a gap between the classes
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    >>> report = harden(
    ...     model, (x, y), FGSM(0.05), target_robust_accuracy=0.6, max_clean_drop=0.1,
    ...     optimizer=keras.optimizers.Adam(0.1), stronger_attacks=[],
    ... )
    >>> report.met, report.restored
    (True, False)

    Reference:
        Madry et al. 2018, arXiv 1706.06083; the mixture: Goodfellow et al. 2015, arXiv 1412.6572,
        section 6; the growing radius: Cai et al. 2018, arXiv 1805.04807.
    """
    model = inner_model(model)
    _check(model, attack, target_robust_accuracy, max_clean_drop, epochs, warmup_epochs)
    _refuse_loss_of_privacy(model, optimizer)
    (x, y), (x_decide, y_decide), (x_report, y_report) = _split(data, validation_data, seed)
    if not model.built:
        model(x[:1], training=False)
    if objective is None:
        objective = AdversarialTraining(_training_attack(attack, seed), clean_share=0.3)
    if loss is None:
        loss = getattr(model, "loss", None) or _loss_for(model, y)
    if stronger_attacks is None:
        stronger_attacks = _stronger(attack, seed)

    measured = {"batch_size": batch_size, "confidence": confidence, "verbose": 0}
    measured["from_logits"] = getattr(loss, "from_logits", None)
    judges = [attack, *stronger_attacks]
    before = evaluate(model, x_report, y_report, judges, **measured)
    original = model.get_weights()
    watch = HardeningWatch(
        lambda: evaluate(model, x_decide, y_decide, attack, **measured),
        model,
        target_robust_accuracy,
        max_clean_drop,
        warmup_epochs,
    )
    watch.look(0)
    trained = not watch.done
    if trained:
        secure = SecureModel(model, objective=objective)
        secure.compile(optimizer or keras.optimizers.Adam(1e-3), loss)
        try:
            secure.fit(
                x, y, batch_size=batch_size, epochs=epochs, verbose=verbose, callbacks=[watch]
            )
        except BaseException:
            # Interrupted, the weights are neither what they were nor what was asked for.
            model.set_weights(original)
            raise
        finally:
            objective.restore_attack()
    model.set_weights(watch.best if trained else original)
    after = evaluate(model, x_report, y_report, judges, **measured) if trained else before
    reached = watch.done
    refuted = reached and after.worst_case.high < target_robust_accuracy
    too_dear = after.clean.high < before.clean.value - max_clean_drop
    met = reached and not refuted and not too_dear
    restored = trained and not met and not (keep_best and watch.improved)
    if restored:
        model.set_weights(original)
    return HardeningReport(
        target_robust_accuracy=float(target_robust_accuracy),
        max_clean_drop=float(max_clean_drop),
        met=met,
        restored=restored,
        epochs=len(watch.history) - 1,
        history=tuple(watch.history),
        before=before,
        after=after,
        findings=hardening_findings(
            watch,
            before,
            after,
            target_robust_accuracy,
            max_clean_drop,
            refuted,
            too_dear,
            restored,
        ),
    )


def _check(model, attack, target, max_clean_drop, epochs, warmup_epochs):
    if not isinstance(model, keras.Model):
        raise InputError(f"harden trains a keras.Model and was given a {type(model).__name__}.")
    if not isinstance(attack, Attack) or attack.targeted or not attack.epsilon:
        raise InputError(
            f"{attack!r} cannot be hardened against: give one untargeted Attack whose epsilon is "
            "above 0."
        )
    check_number("target_robust_accuracy", target, "(0, 1]")
    check_number("max_clean_drop", max_clean_drop, "[0, 1]")
    for name, value, least in (("epochs", epochs, 1), ("warmup_epochs", warmup_epochs, 0)):
        check_integer(name, value, least)


def _refuse_loss_of_privacy(model, optimizer):
    private = last_private_optimizer(model)
    if private is not None and private.executed_steps and not isinstance(optimizer, DPOptimizer):
        raise PrivacyError(
            f"{private.executed_steps} private steps were executed on this model, and hardening it "
            "without privacy would void them. Pass a DPOptimizer as `optimizer`; if the data is "
            "public, harden a copy of the model."
        )


def _split(data, validation_data, seed):
    parts = [data] if validation_data is None else [data, validation_data]
    if not all(isinstance(part, (tuple, list)) and len(part) == 2 for part in parts):
        given = " and ".join(type(part).__name__ for part in parts)
        raise InputError(
            f"data and validation_data must be pairs of arrays (x, y), not {given}. Gather the "
            "examples of a dataset in two arrays first."
        )
    arrays = [tuple(np.asarray(ops.convert_to_numpy(each)) for each in part) for part in parts]
    for x, y in arrays:
        if len(x) != len(y):
            raise InputError(f"x has {len(x)} examples and y has {len(y)} labels: give one each.")
    generator = np.random.default_rng(seed)
    x, y = arrays[-1]
    order = generator.permutation(len(x))
    held = order if validation_data is not None else order[: len(x) // 5]
    if len(held) < 20:
        raise InputError(
            f"Only {len(held)} examples are left to measure on; give at least 20 as "
            "validation_data, or 100 as data."
        )
    rest = order[len(held) :]
    training = arrays[0] if validation_data is not None else (x[rest], y[rest])
    half = len(held) // 2
    decide, report = held[:half], held[half:]
    return training, (x[decide], y[decide]), (x[report], y[report])


def _training_attack(attack, seed):
    if attack.norm not in ("linf", "l2", "l1"):
        raise InputError(
            f"{type(attack).__name__} is bounded by no norm, so there is no default to train on: "
            "pass an `objective`, such as AdversarialTraining(attack)."
        )
    return PGD(
        attack.epsilon, norm=attack.norm, steps=TRAINING_STEPS, bounds=attack.bounds, seed=seed
    )


def _stronger(attack, seed):
    if attack.norm not in ("linf", "l2", "l1"):
        return []
    shared = {"norm": attack.norm, "bounds": attack.bounds, "seed": seed + 1}
    return [
        APGD(attack.epsilon, loss="ce", steps=50, **shared),
        APGD(attack.epsilon, loss="dlr", steps=50, restarts=2, **shared),
        Square(attack.epsilon, queries=300, **shared),
    ]


def _loss_for(model, y):
    try:
        from_logits = outputs_are_logits(model)
    except InputError as error:
        raise InputError(
            f"harden was given no loss for the uncompiled model {model.name!r}, and nothing tells "
            "whether its outputs are logits or probabilities. Give it, for example "
            "loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)."
        ) from error
    if model.output_shape[-1] == 1:
        return keras.losses.BinaryCrossentropy(from_logits=from_logits)
    if y.ndim == 2 and y.shape[1] > 1:
        return keras.losses.CategoricalCrossentropy(from_logits=from_logits)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)
