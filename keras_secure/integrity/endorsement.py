"""Rotation: a new key that the holders of the old ones vouch for."""

import os
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity.atomic import write_atomically, writing
from keras_secure.integrity.dsse import (
    Envelope,
    Signature,
    dump_envelope,
    key_hint,
    parse_envelope,
    signed_bytes,
)
from keras_secure.integrity.key_files import load_private_key, load_public_key
from keras_secure.integrity.key_pem import public_pem
from keras_secure.integrity.keys import fingerprint, is_signed_by, sign_bytes
from keras_secure.integrity.strict_json import canonical_bytes, parse_json
from keras_secure.integrity.times import as_time, format_time, now
from keras_secure.integrity.trust import Trust, TrustedKey

ENDORSEMENT_PAYLOAD = "application/vnd.keras-secure.endorsement+json"

_MAX_ROUNDS = 16


def endorse(
    new_key: Any,
    old_keys: Any,
    *,
    name: str = "",
    not_before: datetime | str | None = None,
    not_after: datetime | str | None = None,
    output: str | os.PathLike | None = None,
) -> bytes:
    """Vouches for a new key with the old ones, so that whoever trusts these can trust it.

    An endorsement holds while the old keys hold: one that is revoked or expired vouches for nobody.
    Give it to `verify`, or keep it in `Trust.endorsements`.

    Args:
        new_key: The new public key, or anything that `load_public_key` takes.
        old_keys: The old private key, or as many as a verifier's threshold asks for.
        name: What people call the new key.
        not_before: From when on it may sign.
        not_after: Until when its signatures are accepted.
        output: A file to write the endorsement to.

    Returns:
        The endorsement.

    Raises:
        InputError: A key cannot be used, or a time is none.

    Example:

    >>> from keras_secure.integrity import generate_key_pair
    >>> old_private, old = generate_key_pair()
    >>> new = generate_key_pair()[1]
    >>> trust = Trust((old,), endorsements=(endorse(new, old_private, name="2027"),))
    >>> [key.name for key in known_keys(trust, now())]
    ['', '2027']
    """
    several = old_keys if isinstance(old_keys, Sequence) else [old_keys]
    if isinstance(old_keys, str | bytes):
        several = [old_keys]
    signers = [load_private_key(key) for key in several]
    if not signers:
        raise InputError("An endorsement needs at least one old key to vouch with.")
    dates = {"not_before": not_before, "not_after": not_after}
    payload = canonical_bytes(
        {
            "created": format_time(now()),
            "key": public_pem(load_public_key(new_key)).decode(),
            "name": name,
            **{
                field: None if date is None else format_time(as_time(date, field))
                for field, date in dates.items()
            },
        }
    )
    message = signed_bytes(payload, ENDORSEMENT_PAYLOAD)
    data = dump_envelope(
        Envelope(
            payload,
            ENDORSEMENT_PAYLOAD,
            tuple(
                Signature(fingerprint(key.public_key()), sign_bytes(key, message))
                for key in signers
            ),
            key_hint(public_pem(signers[0].public_key())),
        )
    )
    if output is not None:
        with writing(output):
            write_atomically(output, data)
    return data


def known_keys(trust: Trust, at: datetime) -> list[TrustedKey]:
    """The keys of a trust, and those that enough of them vouch for.

    Args:
        trust: Whom to believe.
        at: When; a key that is expired then vouches for nobody.

    Returns:
        Every key, the revoked and expired ones too, so that they can be called by their names.

    Raises:
        InputError: What is given as endorsement is none.
    """
    keys = list(trust.keys)
    waiting = [_read(data) for data in trust.endorsements]
    for _ in range(_MAX_ROUNDS):
        known = {key.fingerprint for key in keys}
        found = []
        for envelope in waiting:
            voices = _voices(envelope, [key for key in keys if not trust.problem(key, at)])
            new = _endorsed(envelope)
            if len(voices) >= trust.threshold and new.fingerprint not in known:
                found.append(
                    TrustedKey(new.key, new.name, new.not_before, new.not_after, tuple(voices))
                )
                known.add(new.fingerprint)
        if not found:
            break
        keys += found
    return keys


def _voices(envelope: Envelope, keys: list[TrustedKey]) -> list[str]:
    message = signed_bytes(envelope.payload, ENDORSEMENT_PAYLOAD)
    return [
        key.label
        for key in keys
        if any(is_signed_by(key.key, each.value, message) for each in envelope.signatures)
    ]


def _read(data: bytes) -> Envelope:
    try:
        envelope = parse_envelope(data, "The endorsement")
    except IntegrityError as error:
        raise InputError(str(error)) from error
    if envelope.payload_type != ENDORSEMENT_PAYLOAD:
        raise InputError(
            f"The endorsement is of type {envelope.payload_type!r}; expected "
            f"{ENDORSEMENT_PAYLOAD!r}: give a file that `keras_secure.integrity.endorse` wrote."
        )
    return envelope


def _endorsed(envelope: Envelope) -> TrustedKey:
    try:
        content = parse_json(envelope.payload, "The endorsement")
        times = [content["not_before"], content["not_after"]]
        dates = [None if time is None else as_time(time, "A date of it") for time in times]
        key = load_public_key(content["key"].encode())
        return TrustedKey(key, str(content["name"]), dates[0], dates[1])
    except (KeyError, TypeError, AttributeError, IntegrityError) as error:
        raise InputError(f"The endorsement cannot be read: {error}.") from error
