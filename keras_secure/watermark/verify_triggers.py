"""Whether a model knows a trigger set, judged by its predictions alone."""

import hashlib
import hmac
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from keras_secure.arguments import check_integer
from keras_secure.errors import InputError
from keras_secure.watermark.claim import wrong_dates
from keras_secure.watermark.commitment import Commitment
from keras_secure.watermark.matching_chance import (
    as_float,
    binomial_matches_probability,
    dealt_matches_probability,
)
from keras_secure.watermark.trigger_predictions import NO_ANSWER, predicted_classes
from keras_secure.watermark.trigger_report import TriggerReport
from keras_secure.watermark.trigger_set import TriggerSet


def verify_triggers(
    predict: Any,
    trigger_set: TriggerSet,
    *,
    commitment: Any = None,
    public_key: Any = None,
    released: Any = None,
    innocent: Sequence[Any] = (),
    other_keys: int = 0,
    variants: int = 1,
    tries: int = 1,
    batch_size: int = 128,
) -> TriggerReport:
    """Asks a suspect for its predictions on the triggers and weighs what they prove.

    The key deals the labels in an order that is independent of the inputs. So for a model that was
    made without the key, given whatever it predicts, every order of the labels was equally likely,
    and `p_value` is the share of all orders that match as often. This holds for any model, also
    for one that sees a "3" in everything unknown; no assumption about models enters.

    What it assumes is that the key was fixed before the suspect was made. Who searches N keys for
    one that matches has to multiply the p-value by N (`tries`), and searches that could be hidden
    are why a claim needs 2^-40 and a dated commitment.

    `innocent` models, made for the same task without the key, guard against another search: for a
    key whose labels happen to agree with what all models of the task answer. Where the innocent
    models' most frequent answer is the suspect's answer too, the match is void;
    `innocent_p_value` is exact for what remains, for the same reason.

    Args:
        predict: The suspect: a Keras model; a function from a batch of inputs to classes or scores,
            such as a call of a remote service; or the answers to `trigger_set.inputs()`.
        trigger_set: The `TriggerSet`, made from the key.
        commitment: A `Commitment` that was made with the digest of this set, or the digest itself.
        public_key: With a `Commitment`, the claimant's key that must have signed it, from a source
            that you trust; see `verify_claim`.
        released: With a `Commitment`, when the suspect was first seen, ISO 8601 or a datetime: a
            commitment of a later date proves nothing.
        innocent: Models made without the key, each in any form that `predict` may have.
        other_keys: How many other trigger sets, of keys derived from this one, to ask the suspect
            about too: a check of this check, which needs as many times the predictions.
        variants: How many variants of each trigger to ask for; the most frequent answer counts.
            Useful against noise in the answers, and against servers that recognize repeated inputs.
        tries: How many keys were tried on this suspect, or suspects with this key.
        batch_size: Inputs of one request.

    Returns:
        A `TriggerReport`; its `verdict` is "proved", "refuted", "inconclusive" or "failed".

    Raises:
        InputError: Answers or options cannot be used.

    Example:

    >>> triggers = TriggerSet("a secret", (8, 8, 1), num_classes=10)
    >>> verify_triggers(triggers.labels(), triggers).verdict
    'proved'
    >>> report = verify_triggers(lambda x: np.full(len(x), 8), triggers)
    >>> report.verdict, report.matches, report.p_value
    ('refuted', 20, 1.0)

    Reference:
        Fisher 1935, The design of experiments, chapter 2 (the exact test of dealt labels); Liu et
        al. 2024, False claims against model ownership resolution (arXiv 2304.06607).
    """
    if not isinstance(trigger_set, TriggerSet):
        raise InputError(f"A {type(trigger_set).__name__} was given; a TriggerSet was expected.")
    for name, value, least in (
        ("other_keys", other_keys, 0),
        ("variants", variants, 1),
        ("tries", tries, 1),
        ("batch_size", batch_size, 1),
    ):
        check_integer(name, value, least)
    if other_keys and not callable(predict):
        raise InputError(
            "The suspect's answers are given, so it cannot be asked about the triggers of other "
            "keys. Give the model or a function, or leave other_keys out."
        )
    labels = trigger_set.labels()
    answers = predicted_classes(predict, trigger_set, variants, batch_size)
    matches = int(np.sum(answers == labels))
    innocent_matches: tuple[int, ...] = ()
    innocent_p_value = None
    if len(innocent):
        others = np.stack(
            [predicted_classes(one, trigger_set, variants, batch_size) for one in innocent]
        )
        innocent_matches = tuple(int(n) for n in np.sum(others == labels, axis=1))
        rest = _beyond(answers, others, trigger_set.num_classes)
        innocent_p_value = _chance(rest, labels, tries)
    key_matches = tuple(
        _matches_of_other_key(predict, trigger_set, number, variants, batch_size)
        for number in range(other_keys)
    )
    higher = sum(count >= matches for count in key_matches)
    binomial = binomial_matches_probability(matches, trigger_set.count, trigger_set.num_classes)
    return TriggerReport(
        num_triggers=trigger_set.count,
        answered=int(np.sum(answers != NO_ANSWER)),
        matches=matches,
        tries=int(tries),
        p_value=_chance(answers, labels, tries),
        binomial_p_value=_over(binomial, tries),
        least_p_value=_chance(np.where(answers == NO_ANSWER, answers, labels), labels, tries),
        innocent_matches=innocent_matches,
        innocent_p_value=innocent_p_value,
        key_matches=key_matches,
        key_p_value=(1 + higher) / (1 + other_keys) if other_keys else None,
        digest=trigger_set.digest(),
        contradictions=_contradictions(commitment, trigger_set, public_key, released),
    )


def _chance(answers, labels, tries) -> float:
    matches = int(np.sum(answers == labels))
    return _over(dealt_matches_probability(answers.tolist(), labels.tolist(), matches), tries)


def _over(chance: Fraction, tries: int) -> float:
    return as_float(min(Fraction(1), chance * tries))


def _beyond(answers, others, num_classes):
    """The suspect's answers but those that innocent models usually give as well."""
    votes = np.stack([(others == c).sum(0) for c in range(num_classes)])
    # Which answers are void depends on answers alone, so the order of the labels is still free.
    usual = (votes == votes.max(0)) & (votes > 0)
    known = np.flatnonzero(answers != NO_ANSWER)
    rest = answers.copy()
    rest[known] = np.where(usual[answers[known], known], NO_ANSWER, answers[known])
    return rest


def _matches_of_other_key(predict, trigger_set, number, variants, batch_size) -> int:
    seed = f"{trigger_set.digest()}|other key {number}".encode()
    other = trigger_set.with_key(hashlib.sha256(seed).digest())
    answers = predicted_classes(predict, other, variants, batch_size)
    return int(np.sum(answers == other.labels()))


def _contradictions(commitment, trigger_set, public_key, released) -> tuple[str, ...]:
    wrong = []
    committed = commitment
    if isinstance(commitment, Commitment):
        committed = commitment.content["triggers"]
        if public_key is None:
            raise InputError(
                "Give the claimant's public_key too: a commitment that anybody may have signed "
                "shows nothing."
            )
        if not commitment.is_signed_by(public_key):
            wrong.append("The commitment is not signed by the claimant's key")
        wrong += wrong_dates(commitment, released)
        if committed is None:
            return (*wrong, "The commitment is to no trigger set")
    elif public_key is not None or released is not None:
        raise InputError("public_key and released belong to a Commitment, and none was given.")
    if committed is None:
        return ()
    if not isinstance(committed, str):
        raise InputError(
            f"A commitment of type {type(commitment).__name__} cannot be used; give a Commitment, "
            "or the digest of the trigger set."
        )
    if not hmac.compare_digest(committed.encode(), trigger_set.digest().encode()):
        wrong.append(
            "The commitment is to another trigger set: key, parameters or pool are not those that "
            "were fixed when it was made"
        )
    return tuple(wrong)
