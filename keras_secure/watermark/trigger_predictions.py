"""What a suspect answers to triggers, whether it is a model, a function or a list of answers."""

from typing import Any

import keras
import numpy as np

from keras_secure.errors import InputError
from keras_secure.logits import logits_of

NO_ANSWER = -1
"""The class of an input that got no usable answer; it matches no label."""


def predicted_classes(suspect: Any, triggers: Any, variants: int = 1, batch_size: int = 128):
    """Asks a suspect for the class of each trigger.

    With several variants of each trigger, the answer given most often counts, and of two given
    equally often the smaller class: which one it is depends on the answers alone and never on the
    labels.

    Args:
        suspect: A Keras model; a function from a batch of inputs to classes or to scores; or an
            array of answers to `triggers.inputs()`, of shape (count,) or (variants, count) for
            classes, with a last axis of `num_classes` for scores.
        triggers: A `TriggerSet`.
        variants: How many of `triggers.inputs(0)`, `inputs(1)`, ... to ask for.
        batch_size: Inputs of one request.

    Returns:
        int64 classes of shape (count,), -1 where there was no answer (classes out of range or
        scores that are no numbers).

    Raises:
        InputError: The answers have another shape.
    """
    if isinstance(suspect, keras.Model) or callable(suspect):
        answers = np.stack(
            [_ask(suspect, triggers, variant, batch_size) for variant in range(variants)]
        )
    else:
        answers = _given(suspect, triggers, variants)
    if len(answers) == 1:
        return answers[0]
    votes = np.stack([(answers == c).sum(0) for c in range(triggers.num_classes)])
    return np.where(votes.max(0) > 0, votes.argmax(0), NO_ANSWER).astype(np.int64)


def _ask(suspect, triggers, variant, batch_size):
    inputs = triggers.inputs(variant)
    parts = []
    for start in range(0, len(inputs), batch_size):
        batch = inputs[start : start + batch_size]
        if isinstance(suspect, keras.Model):
            outputs = suspect(keras.ops.convert_to_tensor(batch), training=False)
            # A single unit becomes two columns here; the order of logits is that of scores.
            parts.append(keras.ops.convert_to_numpy(_columns(outputs, suspect)))
        else:
            parts.append(np.asarray(suspect(batch)))
        if parts[-1].shape[:1] != (len(batch),):
            raise InputError(
                f"The suspect answered {len(batch)} inputs by something of shape "
                f"{parts[-1].shape} and dtype {parts[-1].dtype}; expected a class or a row of "
                "scores for each."
            )
    return _classes(np.concatenate(parts), triggers)


def _columns(outputs, model):
    several = isinstance(outputs, (dict, list, tuple)) and len(outputs) != 1
    if not several and getattr(outputs, "shape", (None, 2))[-1] != 1:
        # Whether these are logits or probabilities, the largest one is the answer.
        return logits_of(outputs, model, from_logits=True)
    return logits_of(outputs, model)


def _given(answers, triggers, variants):
    answers = np.asarray(answers)
    leading = (triggers.count,) if variants == 1 else (variants, triggers.count)
    if answers.shape[: len(leading)] != leading:
        raise InputError(
            f"The answers have shape {answers.shape}; expected {leading}, one class for each "
            f"trigger in order, or {(*leading, triggers.num_classes)} for scores."
        )
    rows = answers.reshape((-1, triggers.count, *answers.shape[len(leading) :]))
    return np.stack([_classes(row, triggers) for row in rows])


def _classes(answers, triggers):
    """Reads classes of shape (count,) or (count, 1), or scores of shape (count, num_classes)."""
    if answers.shape == (triggers.count, triggers.num_classes):
        scores = answers.astype(np.float64)
        best = np.where(np.isnan(scores), -np.inf, scores).argmax(1)
        return np.where(np.isfinite(scores).any(1), best, NO_ANSWER)
    flat = answers.reshape(-1) if answers.shape == (triggers.count, 1) else answers
    if flat.shape != (triggers.count,) or flat.dtype.kind not in "fiub":
        raise InputError(
            f"The suspect's answers have shape {answers.shape} and dtype {answers.dtype}; expected "
            f"{(triggers.count,)} classes or {(triggers.count, triggers.num_classes)} scores."
        )
    whole = np.isfinite(flat) & (flat == np.round(np.where(np.isfinite(flat), flat, 0.5)))
    if flat.dtype.kind == "f" and not whole.all() and np.isfinite(flat).all():
        raise InputError(
            "The suspect's answers are single fractions, which may be probabilities or logits. "
            "Give classes instead, such as (probabilities > 0.5).astype(int)."
        )
    valid = whole & (flat >= 0) & (flat < triggers.num_classes)
    return np.where(valid, np.where(whole, flat, 0), NO_ANSWER).astype(np.int64)
