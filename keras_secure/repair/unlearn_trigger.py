"""Fine-tuning on inputs that carry a trigger and their right labels."""

import keras
import numpy as np

from keras_secure.arguments import check_number
from keras_secure.detection import BackdoorReport
from keras_secure.errors import InputError
from keras_secure.repair.backdoor_repair_report import BackdoorRepairReport, measure_backdoor
from keras_secure.repair.retrain_without import check_measurable


def unlearn_trigger(
    model,
    x,
    y,
    triggers,
    *,
    validation,
    share=0.5,
    learning_rate=None,
    stamp=None,
    target=None,
    max_attack_success=0.05,
    max_clean_cost=0.01,
    confidence=0.95,
    seed=0,
    **fit_arguments,
):
    """Fine-tunes a model until it ignores a trigger, on clean data and by Keras' `fit`.

    A share of the clean inputs is stamped with the trigger and keeps its right labels. The trigger
    may be one that was reverse-engineered: it is rarely the planted one pixel by pixel, but uses
    the same short cut through the model. Measure with the planted one where you know it (`stamp`
    and `target`); the reverse-engineered one is what the model was trained to ignore, so success
    against it alone proves little.

    Args:
        model: Compiled classifier; repaired in place.
        x: Clean inputs, shape (num_examples, ...).
        y: Their labels, integers of shape (num_examples,).
        triggers: A `BackdoorReport`, whose flagged classes' triggers are unlearned (the most
            suspicious one if none is flagged), or a function from inputs to stamped inputs.
        validation: (x, y) to measure on, clean and not trained on.
        share: Share of the examples that is stamped, split evenly among the triggers, in (0, 1).
        learning_rate: Of the fine-tuning; None for the one the model is compiled with.
        stamp: Function from inputs to inputs with the trigger to measure with; None for the first
            of `triggers`.
        target: The class it leads to; needed with `stamp`.
        max_attack_success: Attack success above which the report calls the repair failed.
        max_clean_cost: Loss of accuracy above which it does.
        confidence: Coverage of the intervals.
        seed: Integer that decides which examples are stamped.
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
    >>> white = lambda x: np.concatenate([x[:, :2], np.full_like(x[:, 2:], 9)], axis=1)
    >>> report = unlearn_trigger(model, x, y, white, validation=(x, y), stamp=white, target=1,
    ...     verbose=0)
    >>> report.attack_after.count == (y != 1).sum()
    np.True_

    Reference: Wang et al. 2019, "Neural Cleanse", IEEE S&P, section VI.B.
    """
    check_number("share", share, "(0, 1)")
    x, y = np.asarray(x), np.asarray(y)
    if len(x) != len(y):
        raise InputError(f"x has {len(x)} examples and y has {len(y)} labels: give one each.")
    check_measurable(model, stamp, target)
    stamps = [triggers]
    if isinstance(triggers, BackdoorReport):
        classes = triggers.flagged_classes or (triggers.most_suspicious_class,)
        stamps = [_stamp_of(triggers, label) for label in classes]
        if stamp is None:
            stamp, target = stamps[0], classes[0]
    measured = {"stamp": stamp, "target": target, "confidence": confidence}
    before = measure_backdoor(model, *validation, **measured)
    rows = np.random.default_rng(seed).permutation(len(x))[: max(1, round(share * len(x)))]
    stamped = x.copy()
    for part, put in zip(np.array_split(rows, len(stamps)), stamps, strict=True):
        if len(part):
            stamped[part] = put(x[part])
    usual = keras.ops.convert_to_numpy(model.optimizer.learning_rate)
    if learning_rate is not None:
        model.optimizer.learning_rate = learning_rate
    try:
        model.fit(stamped, y, **fit_arguments)
    finally:
        if learning_rate is not None:
            model.optimizer.learning_rate = usual
    after = measure_backdoor(model, *validation, **measured)
    return BackdoorRepairReport(
        f"fine-tuned on {len(x)} clean examples, {len(rows)} of them stamped with "
        f"{len(stamps)} trigger{'' if len(stamps) == 1 else 's'}",
        before[0],
        after[0],
        before[1],
        after[1],
        max_attack_success,
        max_clean_cost,
    )


def _stamp_of(report, label):
    return lambda inputs: report.stamp(inputs, label)
