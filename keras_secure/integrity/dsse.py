"""The envelope: a Sigstore bundle in one JSON file, with the payload and its signatures (DSSE)."""

import base64
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_secure.errors import IntegrityError
from keras_secure.integrity.small_files import read_plain_file
from keras_secure.integrity.strict_json import canonical_bytes, parse_json

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
STATEMENT_PAYLOAD = "application/vnd.in-toto+json"

_MAX_SIGNATURES = 64


@dataclass(frozen=True)
class Signature:
    """One signature of an envelope.

    Args:
        key_id: Fingerprint of the key that is said to have signed; others leave it empty.
        value: The signature's bytes.
    """

    key_id: str
    value: bytes


@dataclass(frozen=True)
class Envelope:
    """A payload with its signatures.

    Args:
        payload: The bytes that were signed.
        payload_type: What they are; it is signed too.
        signatures: One or more.
        hint: Which key to check the first one with, as model-signing names it; may be empty.
        keyless: Whether it holds a certificate in place of a key.
    """

    payload: bytes
    payload_type: str
    signatures: tuple[Signature, ...]
    hint: str = ""
    keyless: bool = False


def signed_bytes(payload: bytes, payload_type: str) -> bytes:
    """What a signature of an envelope signs.

    Example:

    >>> signed_bytes(b"hello world", "http://example.com/HelloWorld")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'

    Reference:
        DSSE protocol v1.0.0, pre-authentication encoding.
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def key_hint(pem: bytes) -> str:
    """The name that model-signing gives a public key: SHA-256 of its PEM form."""
    return hashlib.sha256(pem).hexdigest()


def dump_envelope(envelope: Envelope) -> bytes:
    """The one byte string that stands for an envelope of our own.

    Example:

    >>> parse_envelope(dump_envelope(Envelope(b"x", "t", (Signature("k", b"s"),))), "It").payload
    b'x'
    """
    content = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": envelope.hint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": _encode(envelope.payload),
            "payloadType": envelope.payload_type,
            "signatures": [
                {"keyid": signature.key_id, "sig": _encode(signature.value)}
                for signature in envelope.signatures
            ],
        },
    }
    return canonical_bytes(content)


def read_envelope(path: str | os.PathLike) -> tuple[Envelope, bytes]:
    """Reads a signature file of at most 64 MiB; returns the envelope and the file's bytes.

    Raises:
        InputError: It cannot be read.
        IntegrityError: It is a link, too large, or no envelope.
    """
    data = read_plain_file(Path(path))
    return parse_envelope(data, f"The signature file {os.fspath(path)}"), data


def parse_envelope(data: bytes, what: str) -> Envelope:
    """Reads an envelope without believing any of it.

    Args:
        data: The file's bytes.
        what: What it is, for messages.

    Returns:
        The `Envelope`.

    Raises:
        IntegrityError: It is not a Sigstore bundle with a DSSE envelope.
    """
    content = parse_json(data, what)
    try:
        if content["mediaType"] != MEDIA_TYPE:
            raise ValueError(f"its media type is {content['mediaType']!r}, not {MEDIA_TYPE!r}")
        envelope, material = content["dsseEnvelope"], content["verificationMaterial"]
        entries = envelope["signatures"]
        if not 0 < len(entries) <= _MAX_SIGNATURES:
            raise ValueError(f"it holds {len(entries)} signatures, not 1 to {_MAX_SIGNATURES}")
        hint = material.get("publicKey", {}).get("hint") or ""
        return Envelope(
            payload=_decode(envelope["payload"]),
            payload_type=_text(envelope["payloadType"]),
            signatures=tuple(
                Signature(_text(entry.get("keyid") or ""), _decode(entry["sig"]))
                for entry in entries
            ),
            hint=_text(hint),
            keyless="publicKey" not in material,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(
            f"{what} is no Sigstore bundle with a DSSE envelope: a field is missing or has another "
            f"type ({error})."
        ) from error
    except ValueError as error:
        raise IntegrityError(
            f"{what} is no Sigstore bundle with a DSSE envelope: {error}."
        ) from error


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode(text: Any) -> bytes:
    return base64.b64decode(_text(text), validate=True)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
