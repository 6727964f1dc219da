"""Whether the same input twice gets the same answer."""

import numpy as np
from keras import ops

from keras_secure.attacks.expectation import Expectation
from keras_secure.attacks.trust.subject import BATCH
from keras_secure.attacks.trust.verdict import remark, verdict
from keras_secure.logits import classification_logits

TOLERANCE = 1e-3
"""Share of the logits' spread that rounding in another order may move; mixed precision included."""


def probe_randomness(subject):
    """Asks the model the same thing several times, compiled and eagerly."""
    x = np.resize(subject.x, (BATCH, *subject.x.shape[1:])).astype(subject.x.dtype)
    compiled = [subject.logits(x) for _ in range(3)]
    eager = [
        ops.convert_to_numpy(
            classification_logits(
                subject.model, ops.convert_to_tensor(x), subject.from_logits, subject.output
            )
        )
        for _ in range(2)
    ]
    scale = subject.spread
    again = max(
        _largest(compiled[0] - compiled[1]),
        _largest(compiled[0] - compiled[2]),
        _largest(eager[0] - eager[1]),
    )
    apart = float(np.nanmedian(np.abs(eager[0] - compiled[0]).max(axis=1)))
    evidence = {
        "largest_change_of_a_logit": again,
        "compiled_against_eager": apart,
        "spread_of_logits": scale,
    }
    if again > TOLERANCE * scale:
        statement = (
            "The model answers the same input differently from call to call (dropout or noise left "
            f"on at inference: a logit moved by {again:.3g}, the logits spread over {scale:.3g})."
        )
        if isinstance(subject.model, Expectation):
            return remark(
                "randomness",
                "The model is an average over its randomness, of which a little is left: a logit "
                f"moved by {again:.3g}, the logits spread over {scale:.3g}.",
                evidence,
                "Average over more samples if the accuracy changes from run to run.",
            )
        return verdict(
            "randomness",
            True,
            statement,
            evidence,
            "If it is a mistake, call the random layers with training=False; if it is the "
            "defence, evaluate keras_secure.attacks.Expectation(model) in its place, which "
            "averages gradients and answers over many draws.",
        )
    if apart > 0.05 * scale:
        return verdict(
            "randomness",
            True,
            "The compiled model answers otherwise than the model called directly: randomness or "
            f"state frozen when the graph was traced (a logit moved by {apart:.3g}).",
            evidence,
            "Draw random numbers with keras.random and a SeedGenerator, keep state in variables, "
            "and "
            "evaluate again with the expectation over the draws.",
        )
    return verdict("randomness", False, "The same input gets the same answer.", evidence)


def _largest(difference):
    difference = np.abs(difference)
    return float(np.nanmax(difference)) if np.isfinite(difference).any() else float("inf")
