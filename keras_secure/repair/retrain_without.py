"""Training anew without the examples that were found to be poisoned."""

import keras
import numpy as np

from keras_secure.errors import InputError
from keras_secure.repair.backdoor_repair_report import (
    BackdoorRepairReport,
    measure_backdoor,
    predicted_classes,
)


def retrain_without(
    model,
    x,
    y,
    flagged,
    *,
    validation,
    relabel=None,
    stamp=None,
    target=None,
    max_attack_success=0.05,
    max_clean_cost=0.01,
    confidence=0.95,
    **fit_arguments,
):
    """Trains a model from scratch without its flagged examples, or with better labels for them.

    A copy with fresh weights is compiled as `model` was, fitted by Keras, and its weights are put
    into `model`. From scratch, because a backdoor that was learned is not forgotten by merely not
    being shown.

    Args:
        model: Compiled Sequential or functional classifier; repaired in place.
        x: Training inputs, shape (num_examples, ...).
        y: Their labels, integers of shape (num_examples,).
        flagged: Boolean array of shape (num_examples,), as `PoisonReport.flagged`. Where it holds
            none, the model is left as it is.
        validation: (x, y) to measure on, clean and not trained on.
        relabel: None to drop flagged examples. An array like `y` to train on them with its labels
            (only those of flagged examples are read). `"model"` to drop them first, let the
            retrained model label them, and fit it once more to all examples: it then sees the
            trigger with the classes it would have given without.
        stamp: Function from inputs to inputs with the trigger, to measure with, or None.
        target: The class the trigger leads to; needed with `stamp`.
        max_attack_success: Attack success above which the report calls the repair failed.
        max_clean_cost: Loss of accuracy above which it does.
        confidence: Coverage of the intervals.
        **fit_arguments: For `fit`, such as `epochs` and `batch_size`.

    Returns:
        A `BackdoorRepairReport`.

    Raises:
        InputError: If the model is not compiled, or arguments do not fit together.

    Example:

    >>> x = np.random.default_rng(0).normal(size=(60, 3)).astype("float32")
    >>> y = (x[:, 0] > 0).astype("int32")
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="softmax")])
    >>> model.compile("adam", "sparse_categorical_crossentropy")
    >>> report = retrain_without(model, x, y, np.arange(60) < 6, validation=(x, y), verbose=0)
    >>> report.clean_after.count
    60
    """
    x, y, flagged = np.asarray(x), np.asarray(y), np.asarray(flagged)
    if flagged.dtype != bool or not flagged.shape == x.shape[:1] == y.shape[:1] != ():
        raise InputError(
            f"flagged has type {flagged.dtype} and shape {flagged.shape} for inputs of shape "
            f"{x.shape} and labels of shape {y.shape}; expected one boolean for each example."
        )
    if flagged.all():
        raise InputError("Every example is flagged, so nothing is left to train on. Flag fewer.")
    if isinstance(relabel, str) and relabel != "model":
        raise InputError(f"relabel={relabel!r} is not known: use None, 'model' or an array.")
    given = relabel is not None and not isinstance(relabel, str)
    if given and np.shape(relabel) != y.shape:
        raise InputError(f"relabel has shape {np.shape(relabel)}; expected {y.shape}, like y.")
    check_measurable(model, stamp, target)
    measured = {"stamp": stamp, "target": target, "confidence": confidence}
    before = measure_backdoor(model, *validation, **measured)
    if not flagged.any():
        # Training anew would cost accuracy and mend nothing.
        limits = max_attack_success, max_clean_cost
        done = f"left as it was, since none of {len(y)} examples is flagged"
        return BackdoorRepairReport(done, before[0], before[0], before[1], before[1], *limits)
    fresh = keras.models.clone_model(model)
    fresh.compile_from_config(model.get_compile_config())
    if given:
        fresh.fit(x, np.where(flagged, relabel, y), **fit_arguments)
    else:
        fresh.fit(x[~flagged], y[~flagged], **fit_arguments)
    if not given and relabel == "model":
        labels = y.copy()
        labels[flagged] = predicted_classes(fresh, x[flagged])
        fresh.fit(x, labels, **fit_arguments)
    model.set_weights(fresh.get_weights())
    after = measure_backdoor(model, *validation, **measured)
    done = "dropped" if relabel is None else "relabelled"
    return BackdoorRepairReport(
        f"retrained from scratch, {int(flagged.sum())} of {len(y)} examples {done}",
        before[0],
        after[0],
        before[1],
        after[1],
        max_attack_success,
        max_clean_cost,
    )


def check_measurable(model, stamp, target):
    """Refuses a model that cannot be fitted, and a trigger without its class.

    Args:
        model: A Keras model.
        stamp: Function that puts a trigger on inputs, or None.
        target: The class it leads to, or None.

    Raises:
        InputError: If one of them is missing.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> model.compile(loss="mse")
    >>> check_measurable(model, None, None)
    """
    if not model.compiled:
        raise InputError(
            f"Model {model.name!r} is not compiled, and repair trains it through `fit`. Compile it "
            "with the optimizer and loss to train with."
        )
    if (stamp is None) != (target is None):
        raise InputError("Pass `stamp` and `target` together: a trigger and the class it leads to.")
