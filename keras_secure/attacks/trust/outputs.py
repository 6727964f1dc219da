"""What the outputs are taken for: probabilities read as logits, saturation, vanishing scale."""

import numpy as np
from keras import ops, tree

from keras_secure.attacks.trust.verdict import verdict
from keras_secure.errors import InputError
from keras_secure.logits import outputs_are_logits

UNDERFLOW = 88.0
"""Beyond this margin the probability of every other class, and so the gradient of cross-entropy, is
zero in float32."""


def probe_outputs(subject):
    """Whether the outputs are what the attack takes them for."""
    outputs = tree.flatten(subject.model(subject.x[:64], training=False))
    if subject.output is not None or len(outputs) != 1 or len(outputs[0].shape) != 2:
        return verdict("outputs", False, "The attack reads the logits of the chosen output.", {})
    attached = getattr(outputs[0], "_keras_logits", None)
    values = ops.convert_to_numpy(outputs[0]).astype("float64")
    as_logits = subject.from_logits
    if as_logits is None:
        try:
            as_logits = attached is None and outputs_are_logits(subject.model)
        except InputError:
            as_logits = True
    sums = values.sum(axis=1)
    within = (values >= 0).all() and (values <= 1).all()
    probabilities = bool(within and (values.shape[1] == 1 or np.allclose(sums, 1, atol=1e-3)))
    claimed = not as_logits and attached is None
    evidence = {
        "taken_for_logits": bool(as_logits),
        "are_probabilities": probabilities,
        "logits_attached": attached is not None,
        "smallest": float(values.min()),
        "largest": float(values.max()),
    }
    compiled_as_logits = getattr(getattr(subject.model, "loss", None), "from_logits", False)
    if probabilities and (as_logits or compiled_as_logits):
        return verdict(
            "outputs",
            True,
            "The outputs are probabilities (each row within [0, 1], adding up to 1), and the model "
            "is attacked or compiled as if they were logits: the gradient of a second softmax "
            "vanishes.",
            evidence,
            "Take the softmax out of the model, or compile with from_logits=False and attack with "
            "from_logits=None, then evaluate again.",
        )
    if claimed and not probabilities:
        return verdict(
            "outputs",
            True,
            "The outputs are taken for probabilities, and they are none: their logarithm means "
            "nothing, and is constant where they are negative.",
            evidence,
            "Compile with from_logits=True, or pass from_logits=True.",
        )
    return verdict("outputs", False, "The outputs are what the attack takes them for.", evidence)


def probe_saturation(subject):
    """Whether the loss has any room to move in float32."""
    logits = subject.clean_logits.astype("float64")
    own = subject.own(subject.labels)
    others = np.where(own, -np.inf, logits)
    margins = np.where(own, logits, -np.inf).max(axis=1) - others.max(axis=1)
    median = float(np.nanmedian(margins))
    # Probabilities of zero have no logarithm, and are held at 1e-30 (or one ulp off one).
    floor = others.max(axis=1) <= (np.log(1e-30) * 0.99 if logits.shape[1] > 2 else -16.6)
    at_floor = 0.0 if _has_logits(subject) else float(floor.mean())
    saturated = float(np.mean(margins > UNDERFLOW))
    evidence = {
        "median_margin": median,
        "share_beyond_float32": saturated,
        "share_of_probabilities_that_are_zero": at_floor,
    }
    if saturated > 0.5 or at_floor > 0.5:
        return verdict(
            "saturation",
            True,
            f"The model is so confident (median margin {median:.3g} nats) that the probabilities "
            "of "
            "the other classes are zero in float32: cross-entropy has no gradient there.",
            evidence,
            "Attack the logits before they are scaled or squashed, with a loss that does not "
            "saturate (the margin, or the log odds that these attacks use), and divide scaled or "
            "distilled logits by their temperature.",
        )
    if not median > 1e-4:
        return verdict(
            "saturation",
            True,
            f"The logits of the classes differ by {median:.3g} only, which a loss in float32 "
            "hardly "
            "resolves.",
            evidence,
            "Undo the scaling of the logits, or take the logits before it, and evaluate again.",
        )
    return verdict("saturation", False, "The loss is within the range of float32.", evidence)


def _has_logits(subject):
    outputs = tree.flatten(subject.model(subject.x[:2], training=False))
    if len(outputs) != 1 or getattr(outputs[0], "_keras_logits", None) is not None:
        return True
    if subject.from_logits is not None:
        return subject.from_logits
    try:
        return outputs_are_logits(subject.model)
    except InputError:
        return True
