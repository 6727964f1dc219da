"""Whether an answer depends on the other examples of the batch."""

import numpy as np

from keras_secure.attacks.trust.randomness import TOLERANCE
from keras_secure.attacks.trust.subject import BATCH
from keras_secure.attacks.trust.verdict import remark, verdict


def probe_batch_mates(subject):
    """Asks for the same examples among others, in another order, and among strangers."""
    generator = subject.generator("mates")
    chosen = np.resize(np.arange(len(subject)), BATCH)
    x = subject.x[chosen]
    reference = subject.logits(x)
    noise = np.abs(subject.logits(x) - reference)
    # One example many times, the batch reversed, and strangers that look nothing like the data.
    strangers = generator.uniform(*subject.bounds, x.shape).astype(x.dtype)
    strangers[0] = x[0]
    alone = np.repeat(x[:1], BATCH, axis=0)
    shuffled = np.concatenate([x[:1], x[:0:-1]])
    differences = {
        "among_strangers": np.abs(subject.logits(strangers)[0] - reference[0]).max(),
        "among_copies": np.abs(subject.logits(alone) - reference[0]).max(),
        "in_reverse": np.abs(subject.logits(x[::-1])[::-1] - reference).max(),
        "place_kept_others_reversed": np.abs(subject.logits(shuffled)[0] - reference[0]).max(),
    }
    evidence = {name: float(value) for name, value in differences.items()}
    evidence["spread_of_logits"] = subject.spread
    largest = max(evidence[name] for name in differences)
    if np.nanmax(noise, initial=0.0) > TOLERANCE * subject.spread:
        return remark(
            "batch_mates",
            "Not decided: the model answers at random (see trust.randomness).",
            evidence,
        )
    return verdict(
        "batch_mates",
        not largest <= 5 * TOLERANCE * subject.spread,
        f"An answer depends on the other examples of its batch: a logit moved by {largest:.3g}, "
        "the "
        f"logits spread over {subject.spread:.3g}."
        if not largest <= 5 * TOLERANCE * subject.spread
        else "An answer does not depend on the other examples of its batch.",
        evidence,
        "Call batch normalization with training=False at inference and remove other statistics "
        "over "
        "the batch; an attacker who chooses one input, and whoever is evaluated beside it, must "
        "not "
        "decide about each other.",
    )
