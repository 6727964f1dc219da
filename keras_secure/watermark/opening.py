"""What a commitment hides, how it is hidden, and what a key opens."""

import hashlib
import hmac
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity.strict_json import canonical_bytes, parse_json
from keras_secure.watermark.carriers import VERSION
from keras_secure.watermark.commitment import FIELDS, SCHEMA, Commitment
from keras_secure.watermark.mark import Mark, as_key
from keras_secure.watermark.payload import payload_hex
from keras_secure.watermark.spread_spectrum import SpreadSpectrum
from keras_secure.watermark.uchida import Uchida

SCHEMES: dict[str, type[Mark]] = {"SpreadSpectrum": SpreadSpectrum, "Uchida": Uchida}
_SCRYPT = {"n": 2**14, "r": 8, "p": 1}


@dataclass(frozen=True)
class CommittedKernel:
    """One weight that the committed mark was put on.

    Args:
        name: Its name in the owner's model.
        shape: Its shape.
        copy: Its number among the marked weights of that shape.
        place: Its number among all kernels of that shape, by which it is found under another name.
    """

    name: str
    shape: tuple[int, ...]
    copy: int
    place: int


@dataclass(frozen=True)
class Opening:
    """What a key opens.

    Args:
        mark: The mark that was committed to.
        kernels: The weights that it was put on.
        reference: SHA-256 of the owner's reference weights.
    """

    mark: Mark
    kernels: tuple[CommittedKernel, ...]
    reference: str


def hide(mark: Mark, kernels: tuple[CommittedKernel, ...], reference: str) -> dict[str, Any]:
    """Makes the hash commitments, and the sealed part that the key opens.

    The key goes through scrypt, so that a guess costs something; everything else hangs on what
    comes out. A value's commitment is SHA-256 over its name, a nonce of 32 bytes and the value: it
    binds because nobody finds collisions, and hides because nobody without the key knows the nonce.

    Args:
        mark: The mark with its key.
        kernels: The weights that it was put on.
        reference: SHA-256 of the reference's weights, hexadecimal.

    Returns:
        The fields "salt", "commitments" and "sealed" of a commitment.
    """
    import base64

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    salt = os.urandom(16)
    master = _master(mark.key, salt)
    values = _values(mark, kernels, reference)
    nonce = os.urandom(12)
    sealed = AESGCM(_derived(master, "seal")).encrypt(nonce, canonical_bytes(values), salt)
    return {
        "salt": salt.hex(),
        "commitments": {field: _commitment(master, field, values) for field in FIELDS},
        "sealed": base64.b64encode(nonce + sealed).decode(),
    }


def open_commitment(commitment: Commitment, key: bytes | str) -> Opening:
    """Opens a commitment with the key that it was made to.

    Args:
        commitment: The `Commitment`.
        key: The watermark's key, as its owner shows it.

    Returns:
        An `Opening`.

    Raises:
        IntegrityError: The commitment is to another key, or contradicts itself. The message says
            which.
    """
    import base64

    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    content = commitment.content
    salt, committed = bytes.fromhex(content["salt"]), content["commitments"]
    master = _master(as_key(key), salt)
    if not hmac.compare_digest(_commitment(master, "key", {}), committed["key"]):
        raise IntegrityError("The commitment was made to another key than the one that is shown")
    sealed = base64.b64decode(content["sealed"])
    try:
        plain = AESGCM(_derived(master, "seal")).decrypt(sealed[:12], sealed[12:], salt)
    except (InvalidTag, ValueError) as error:
        raise IntegrityError("The sealed part of the commitment does not open") from error
    values = parse_json(plain, "The sealed part of the commitment")
    for field in FIELDS:
        if not hmac.compare_digest(_commitment(master, field, values), committed[field]):
            raise IntegrityError(
                f"What the commitment says of the {field} is not what it was hashed from"
            )
    try:
        return _opening(key, values)
    except (KeyError, TypeError, ValueError, InputError) as error:
        raise IntegrityError(f"What the commitment holds cannot be used: {error}") from error


def weights_digest(model: Any) -> str:
    """SHA-256 of a model's weights: shapes, types and values in the model's order, no names.

    Args:
        model: A built model.

    Returns:
        64 hexadecimal digits.

    Example:

    >>> import keras
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    >>> model.set_weights([np.eye(2), np.zeros(2)])
    >>> digest = weights_digest(model)
    >>> model.set_weights([np.eye(2), np.array([0, 1e-30])])
    >>> len(digest), weights_digest(model) == digest
    (64, False)
    """
    import keras

    digest = hashlib.sha256(b"keras_secure.watermark.weights/1\0")
    for variable in model.weights:
        values = keras.ops.convert_to_numpy(variable)
        header = {"shape": list(values.shape), "dtype": values.dtype.name}
        data = np.ascontiguousarray(values)
        if data.dtype.byteorder == ">":
            data = data.astype(data.dtype.newbyteorder("<"))
        digest.update(canonical_bytes(header) + b"\0")
        digest.update(data.tobytes())
    return digest.hexdigest()


def _opening(key: bytes | str, values: dict[str, Any]) -> Opening:
    scheme = dict(values["scheme"])
    name, version = scheme.pop("name"), scheme.pop("version")
    if version != VERSION or name not in SCHEMES:
        raise ValueError(f"scheme {name!r} of version {version!r} is not known here")
    carried = values["payload"]
    if "message" in carried:
        scheme.pop("num_bits", None)
        scheme["message"] = [int(bit) for bit in carried["message"]]
    else:
        scheme["payload"] = int(carried["payload"], 16)
    kernels = tuple(
        CommittedKernel(
            one["name"], tuple(int(size) for size in one["shape"]), one["copy"], one["place"]
        )
        for one in values["layers"]
    )
    if not kernels:
        raise ValueError("it names no weights")
    return Opening(SCHEMES[name](key, **scheme), kernels, values["reference"])


def _values(mark: Mark, kernels: tuple[CommittedKernel, ...], reference: str) -> dict[str, Any]:
    name = type(mark).__name__
    if SCHEMES.get(name) is not type(mark):
        raise InputError(f"A {name} cannot be committed to; use one of {', '.join(SCHEMES)}.")
    payload = mark.payload()
    carried = (
        {"message": "".join(str(bit) for bit in mark.message())}
        if payload is None
        else {"payload": payload_hex(payload)}
    )
    layers = [
        {"name": one.name, "shape": list(one.shape), "copy": one.copy, "place": one.place}
        for one in kernels
    ]
    scheme = {"name": name, "version": VERSION, **mark.get_config()}
    return {"layers": layers, "payload": carried, "reference": reference, "scheme": scheme}


def _master(key: bytes, salt: bytes) -> bytes:
    # Hashed first: HMAC inside scrypt would take a key and the same with zeros behind it for one.
    secret = hashlib.sha256(f"{SCHEMA}|key|".encode() + key).digest()
    return hashlib.scrypt(secret, salt=salt, dklen=32, maxmem=2**26, **_SCRYPT)


def _derived(master: bytes, use: str) -> bytes:
    return hmac.new(master, f"{SCHEMA}|{use}".encode(), hashlib.sha256).digest()


def _commitment(master: bytes, field: str, values: dict[str, Any]) -> str:
    nonce = _derived(master, f"nonce|{field}")
    # The key needs no value of its own: the nonce is a function of it that nobody can turn round.
    value = canonical_bytes(values.get(field) if field != "key" else None)
    return hashlib.sha256(f"{SCHEMA}|{field}|".encode() + nonce + value).hexdigest()
