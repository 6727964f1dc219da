"""A signed promise, made before the release, of which key will be shown if it ever comes to it."""

import base64
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity.atomic import write_atomically, writing
from keras_secure.integrity.dsse import dump_envelope, parse_envelope, signed_bytes
from keras_secure.integrity.keys import is_signed_by
from keras_secure.integrity.strict_json import canonical_bytes, parse_json

SCHEMA = "keras_secure.watermark.commitment/1"
PAYLOAD_TYPE = "application/vnd.keras-secure.watermark-commitment+json"
FIELDS = ("key", "layers", "payload", "reference", "scheme")
TIMESTAMP_KINDS = ("opentimestamps", "rfc3161")
_LARGEST = 2**22


@dataclass(frozen=True)
class Timestamp:
    """What somebody else says about when a commitment existed.

    Args:
        kind: "rfc3161", the token of a time-stamping authority, or "opentimestamps".
        token: Its bytes. They are carried and not judged here: the authority's certificate, or the
            chain that the proof leads to, is checked with the tools of its kind.
    """

    kind: str
    token: bytes


@dataclass(frozen=True)
class Commitment:
    """Hash commitments to a watermark, signed, with the time that the signer states.

    Nothing in it helps to find or remove the mark: key, payload, scheme, layers and the reference's
    digest are hashed with secret nonces, and sealed under the key. Whoever is shown the key can
    open all of it (`verify_claim`), and finds out whether it is what was committed to.

    The time is the signer's own statement. That the commitment was made before a certain date is
    shown by publishing it, or by a time stamp of somebody whom the other side trusts: have `digest`
    stamped and add the token.

    Args:
        envelope: The signed envelope, as bytes.
        timestamps: Time stamps of others.

    Raises:
        IntegrityError: The envelope is none, or holds no commitment.
    """

    envelope: bytes
    timestamps: tuple[Timestamp, ...] = ()

    def __post_init__(self):
        _ = self.content

    @property
    def content(self) -> dict[str, Any]:
        """What was signed, read strictly."""
        envelope = parse_envelope(self.envelope, "The commitment")
        if envelope.payload_type != PAYLOAD_TYPE:
            raise IntegrityError(
                f"The commitment's payload is of type {envelope.payload_type!r}; {PAYLOAD_TYPE!r} "
                "was expected."
            )
        content = parse_json(envelope.payload, "The commitment")
        _check(content)
        return content

    @property
    def created(self) -> str:
        """When it was made, as the signer states; ISO 8601 in UTC."""
        return self.content["created"]

    @property
    def signers(self) -> tuple[str, ...]:
        """Fingerprints of the keys that are said to have signed."""
        signatures = parse_envelope(self.envelope, "The commitment").signatures
        return tuple(signature.key_id for signature in signatures)

    @property
    def digest(self) -> str:
        """SHA-256 of what the signatures sign, hexadecimal: what a time stamp should be over."""
        import hashlib

        envelope = parse_envelope(self.envelope, "The commitment")
        return hashlib.sha256(signed_bytes(envelope.payload, envelope.payload_type)).hexdigest()

    def is_signed_by(self, public_key: Any) -> bool:
        """Whether one of the signatures is by the holder of a key.

        Args:
            public_key: A key object, a PEM file or its bytes.

        Returns:
            True or False.
        """
        from keras_secure.integrity.key_files import load_public_key

        key = load_public_key(public_key)
        envelope = parse_envelope(self.envelope, "The commitment")
        message = signed_bytes(envelope.payload, envelope.payload_type)
        return any(is_signed_by(key, one.value, message) for one in envelope.signatures)

    def stamped(self, kind: str, token: bytes) -> "Commitment":
        """Returns the commitment with a time stamp of somebody else.

        Args:
            kind: "rfc3161" or "opentimestamps".
            token: What the authority or calendar returned for `digest`.

        Raises:
            InputError: The kind is unknown, or the token does not contain the digest.
        """
        if kind not in TIMESTAMP_KINDS:
            raise InputError(
                f"There is no kind of time stamp {kind!r}; expected {' or '.join(TIMESTAMP_KINDS)}."
            )
        if bytes.fromhex(self.digest) not in token:
            raise InputError(
                f"This token is not over the commitment: it does not contain {self.digest}, the "
                "SHA-256 of what was signed. Have `commitment.digest` stamped."
            )
        return replace(self, timestamps=(*self.timestamps, Timestamp(kind, token)))

    def to_bytes(self) -> bytes:
        """The file's bytes: one JSON object."""
        return canonical_bytes(
            {
                "schema": SCHEMA,
                "bundle": parse_json(self.envelope, "The commitment"),
                "timestamps": [
                    {"kind": one.kind, "token": base64.b64encode(one.token).decode()}
                    for one in self.timestamps
                ],
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "Commitment":
        """Reads what `to_bytes` wrote.

        Args:
            data: The file's bytes.

        Raises:
            IntegrityError: It is no commitment.
        """
        if len(data) > _LARGEST:
            raise IntegrityError(
                f"The commitment has {len(data)} bytes; at most {_LARGEST} were expected."
            )
        content = parse_json(data, "The commitment")
        try:
            if content["schema"] != SCHEMA or set(content) != {"schema", "bundle", "timestamps"}:
                raise ValueError(f"its schema is not {SCHEMA!r}")
            stamps = tuple(
                Timestamp(_one_of(one["kind"], TIMESTAMP_KINDS), _bytes(one["token"]))
                for one in content["timestamps"]
            )
            bundle = canonical_bytes(content["bundle"])
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"The commitment cannot be read: {error}.") from error
        return cls(dump_envelope(parse_envelope(bundle, "The commitment")), stamps)

    def save(self, path: str | os.PathLike) -> Path:
        """Writes the commitment's file, which may be public.

        Args:
            path: The file to write.

        Returns:
            The path.

        Raises:
            InputError: It cannot be written there.
        """
        with writing(path):
            write_atomically(Path(path), self.to_bytes())
        return Path(path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Commitment":
        """Reads a commitment's file.

        Args:
            path: The file.

        Raises:
            InputError: It cannot be read.
            IntegrityError: It is no commitment.
        """
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise InputError(f"The commitment {os.fspath(path)!r} cannot be read: {error}.") from (
                error
            )
        return cls.from_bytes(data)


def _check(content: Any) -> None:
    names = {"schema", "created", "salt", "commitments", "sealed", "triggers"}
    try:
        if set(content) != names or content["schema"] != SCHEMA:
            raise ValueError(f"it is not of schema {SCHEMA!r}")
        if set(content["commitments"]) != set(FIELDS):
            raise ValueError(f"it must commit to {', '.join(FIELDS)}")
        for value in content["commitments"].values():
            if len(bytes.fromhex(value)) != 32:
                raise ValueError("a hash has not 32 bytes")
        if len(bytes.fromhex(content["salt"])) != 16:
            raise ValueError("the salt has not 16 bytes")
        if not isinstance(content["created"], str):
            raise ValueError("its time is no text")
        if content["triggers"] is not None and len(bytes.fromhex(content["triggers"])) != 32:
            raise ValueError("the trigger set's digest has not 32 bytes")
        _bytes(content["sealed"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise IntegrityError(f"The commitment cannot be read: {error}.") from error


def _bytes(text: Any) -> bytes:
    if not isinstance(text, str):
        raise TypeError(f"{text!r} is no text")
    return base64.b64decode(text, validate=True)


def _one_of(value: Any, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ValueError(f"{value!r} is none of {', '.join(known)}")
    return value
