"""A claim of ownership from both ends: committing to a mark, and checking the claim later."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity.dsse import Envelope, Signature, dump_envelope, signed_bytes
from keras_secure.integrity.keys import fingerprint, is_private, sign_bytes
from keras_secure.integrity.strict_json import canonical_bytes
from keras_secure.integrity.times import as_time, format_time, now
from keras_secure.watermark.alignment import as_model
from keras_secure.watermark.commitment import PAYLOAD_TYPE, SCHEMA, Commitment
from keras_secure.watermark.kernels import Kernel, choose_kernels, named_kernels
from keras_secure.watermark.mark import Mark
from keras_secure.watermark.opening import (
    CommittedKernel,
    Opening,
    hide,
    open_commitment,
    weights_digest,
)
from keras_secure.watermark.payload import NUM_RAW_BITS
from keras_secure.watermark.report import WatermarkReport
from keras_secure.watermark.verify import check_tries, read, verify

_SHORTEST_KEY = 16
# Clocks differ; a commitment from the day after tomorrow does not.
_CLOCK = timedelta(hours=1)


def commit(
    mark: Mark,
    model: Any,
    private_key: Any,
    layers: str | Sequence[str] | None = None,
    *,
    triggers: str | None = None,
    created: datetime | str | None = None,
) -> Commitment:
    """Promises, before a model is released, which key will be shown if it has to be claimed.

    Args:
        mark: The mark that was embedded, with its key of at least 16 bytes.
        model: The marked model, which becomes the owner's reference: keep a copy. Its weights are
            committed to by their digest.
        private_key: The key that signs: an object, or whatever
            `keras_secure.integrity.load_private_key` takes.
        layers: The layers that the mark was put on, as given to `attach` or `embed`.
        triggers: Digest of a trigger set (`TriggerSet.digest()`) that is committed to as well.
        created: The time to state; the present when not given.

    Returns:
        A `Commitment`, to publish or to have time-stamped.

    Raises:
        InputError: The key is short enough to be guessed from the commitment, the signing key is
            none, or the model does not have the layers.

    Example:

    >>> import keras
    >>> from keras_secure.integrity import generate_key_pair
    >>> from keras_secure.watermark import SpreadSpectrum, embed
    >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(128)])
    >>> mark = SpreadSpectrum("a secret of thirty-two characters", payload="ACME")
    >>> _ = embed(model, mark)
    >>> private_key, public_key = generate_key_pair()
    >>> commitment = commit(mark, model, private_key)
    >>> verify_claim(model, commitment, mark.key, public_key).verdict
    'proved'
    >>> report = verify_claim(model, commitment, "a secret, but quite another one!", public_key)
    >>> report.verdict, report.contradictions
    ('refuted', ('The commitment was made to another key than the one that is shown',))
    """
    if len(mark.key) < _SHORTEST_KEY:
        raise InputError(
            f"The watermark's key has {len(mark.key)} bytes, and a commitment to it could be "
            f"opened by guessing. Use at least {_SHORTEST_KEY} that nobody can guess: "
            "`secrets.token_bytes(32)`."
        )
    if not is_private(private_key):
        from keras_secure.integrity.key_files import load_private_key

        private_key = load_private_key(private_key)
    if triggers is not None:
        triggers = str(triggers)
        if len(triggers) != 64 or set(triggers) - set("0123456789abcdef"):
            raise InputError(
                "triggers is no digest; give the 64 hexadecimal digits of `TriggerSet.digest()`."
            )
    kernels = committed_kernels(model, mark, layers)
    time = now() if created is None else as_time(created, "The commitment's time")
    content = {
        "schema": SCHEMA,
        "created": format_time(time),
        "triggers": triggers,
        **hide(mark, kernels, weights_digest(model)),
    }
    payload = canonical_bytes(content)
    signature = sign_bytes(private_key, signed_bytes(payload, PAYLOAD_TYPE))
    name = fingerprint(private_key.public_key())
    return Commitment(dump_envelope(Envelope(payload, PAYLOAD_TYPE, (Signature(name, signature),))))


def verify_claim(
    target: Any,
    commitment: Commitment,
    key: bytes | str,
    public_key: Any,
    *,
    reference: Any = None,
    released: datetime | str | None = None,
    layers: Sequence[str] | None = None,
    tries: int = 1,
) -> WatermarkReport:
    """Checks a claim as a third party does: from the commitment, the key and the model alone.

    Args:
        target: The model that is claimed.
        commitment: The claimant's `Commitment`.
        key: The watermark's key, which the claimant shows.
        public_key: The claimant's public key, from a source that the third party trusts: an object,
            a PEM file or its bytes.
        reference: The claimant's reference model, where neurons have to be re-aligned. It must be
            the one that was committed to.
        released: When the model was first seen; a later commitment proves nothing.
        layers: Names in `target` of the committed weights, in their order, where names and shapes
            do not tell.
        tries: Number of models, keys or ways of reading that this evidence is the best of.

    Returns:
        A `WatermarkReport`. Contradictions make its verdict "refuted" whatever the weights say;
        weights that are not there or have other shapes make it "failed", which refutes nothing.

    Raises:
        InputError: `target`, `public_key` or an option cannot be used.
        IntegrityError: The commitment cannot be read.

    Example:

    >>> import keras
    >>> from keras_secure.integrity import generate_key_pair
    >>> from keras_secure.watermark import SpreadSpectrum, embed
    >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(128)])
    >>> mark = SpreadSpectrum("a secret of thirty-two characters")
    >>> _ = embed(model, mark)
    >>> private_key, public_key = generate_key_pair()
    >>> commitment = commit(mark, model, private_key)
    >>> report = verify_claim(model, commitment, mark.key, public_key, released="2020-01-01")
    >>> report.verdict, report.claim  # the mark is there, and the date is too late
    ('refuted', True)
    """
    check_tries(tries)
    contradictions = []
    if not commitment.is_signed_by(public_key):
        contradictions.append("The commitment is not signed by the claimant's key")
    contradictions += wrong_dates(commitment, released)
    stamps = ", ".join(sorted({one.kind for one in commitment.timestamps}))
    notes = [f"Committed at {commitment.created}, as the signer states"]
    if stamps:
        notes.append(f"The {stamps} time stamp it carries has to be checked with its own tools")
    try:
        opening = open_commitment(commitment, key)
    except IntegrityError as error:
        contradictions.append(str(error))
        return _unread(contradictions, notes)
    if reference is not None:
        reference = as_model(reference)
        if weights_digest(reference) != opening.reference:
            contradictions.append("The reference is not the model that was committed to")
            return _unread(contradictions, notes, opening)
    return _read(target, opening, reference, layers, tries, contradictions, notes)


def committed_kernels(
    model: Any, mark: Mark, layers: str | Sequence[str] | None
) -> tuple[CommittedKernel, ...]:
    """Describes the weights that a mark was put on, so that they are found again.

    Args:
        model: The marked model.
        mark: The mark.
        layers: As given to `attach` or `embed`.

    Returns:
        A `CommittedKernel` for each weight.
    """
    places: dict[str, int] = {}
    seen: Counter = Counter()
    for name, variable in named_kernels(model).items():
        places[name] = seen[tuple(variable.shape)]
        seen[tuple(variable.shape)] += 1
    chosen = choose_kernels(model, mark, layers)
    return tuple(CommittedKernel(one.name, one.shape, one.copy, places[one.name]) for one in chosen)


def find_kernels(
    model: Any, committed: Sequence[CommittedKernel], layers: Sequence[str] | None = None
) -> tuple[list[Kernel], list[str]]:
    """Finds committed weights in a model, by name and shape, or by shape and order.

    Args:
        model: The suspect.
        committed: The weights to find.
        layers: Their names in `model`, in the same order; by default as they were.

    Returns:
        (weights found, descriptions of those that were not).
    """
    present = named_kernels(model)
    by_shape = defaultdict(list)
    for name, variable in present.items():
        by_shape[tuple(variable.shape)].append(name)
    if layers is not None and len(layers) != len(committed):
        raise InputError(
            f"layers names {len(layers)} weights; the commitment is to {len(committed)}, and each "
            "needs its name."
        )
    found, missing = [], []
    for number, one in enumerate(committed):
        wanted = one.name if layers is None else layers[number]
        names = [name for name in (wanted, f"{wanted}/kernel") if name in present]
        alike = by_shape[one.shape]
        if names and tuple(present[names[0]].shape) == one.shape:
            name = names[0]
        elif layers is None and one.place < len(alike):
            name = alike[one.place]
        elif names:
            shape = tuple(present[names[0]].shape)
            missing.append(f"{one.name}: its shape was {one.shape} and is {shape} in this model")
            continue
        else:
            missing.append(f"{one.name}: this model has no such weight of shape {one.shape}")
            continue
        found.append(Kernel(name, one.copy, present[name]))
    return found, missing


def _read(target, opening, reference, layers, tries, contradictions, notes) -> WatermarkReport:
    wrong = tuple(contradictions)
    if reference is not None:
        names = [one.name for one in opening.kernels]
        report = verify(target, opening.mark, reference=reference, layers=names, tries=tries)
        return replace(report, contradictions=wrong, notes=(*notes, *report.notes))
    kernels, missing = find_kernels(target, opening.kernels, layers)
    return read(
        kernels,
        opening.mark,
        tries=tries,
        not_compared=missing,
        contradictions=wrong,
        notes=notes,
    )


def _unread(contradictions, notes, opening: Opening | None = None) -> WatermarkReport:
    """A claim that is refuted before any weight is looked at."""
    return WatermarkReport(
        num_bits=opening.mark.num_bits if opening else NUM_RAW_BITS,
        readings=(),
        tries=1,
        p_value=1.0,
        contradictions=tuple(contradictions),
        notes=tuple(notes),
    )


def wrong_dates(commitment: Commitment, released: datetime | str | None) -> list[str]:
    """Says what is wrong with the time that a commitment states: in the future, or too late."""
    try:
        created = as_time(commitment.created, "The commitment's time")
    except InputError as error:
        return [str(error).rstrip(".")]
    wrong = []
    if created > now() + _CLOCK:
        wrong.append(f"The commitment is dated {commitment.created}, which is in the future")
    if released is not None:
        day = as_time(released, "released")
        if created >= day:
            wrong.append(
                f"The commitment is dated {commitment.created}, and the model was released at "
                f"{format_time(day)}, before it"
            )
    return wrong
