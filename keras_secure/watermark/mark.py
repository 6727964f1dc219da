"""What every weight watermark has in common: a secret, a message, and how they are kept apart."""

import operator
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_secure.errors import InputError
from keras_secure.watermark.carriers import random_bits
from keras_secure.watermark.payload import NUM_PAYLOAD_BITS, NUM_RAW_BITS, as_payload, encode


class Mark(keras.regularizers.Regularizer):
    """Base class of the regularizers that embed a keyed message in the weights of a model.

    A subclass writes `check_shape(shape)`, `scores(weights, copy)` (numpy, one number per bit,
    whose sign is the bit), `penalty(weights, copy)` (traceable, a float32 scalar) and
    `nearest(weights, copy)` (numpy, the weights moved as little as carries the message).

    What is embedded is a payload of 64 bits, coded into 256 raw bits that survive a fifth of them
    being read wrong; or, for weights too small for that, a plain message without any correction.
    Every weight that the mark is put on carries all raw bits. Weights of one shape are told apart
    by `copy`, their number among the marked ones of that shape, so that each has carriers of its
    own.

    The key, the message and whatever is derived from them stay in this object: no config, pickle,
    `repr` or saved file holds them. A mark that Keras loads from a config has no key and is
    dormant: it adds nothing to the loss, and `verify` asks for the key.

    Args:
        key: The secret, bytes or text; `secrets.token_bytes(32)` makes a good one. None makes a
            dormant mark.
        payload: 64 bits to code and embed: up to 8 bytes of text or bytes, an integer, or 64 values
            of 0 and 1. Drawn from the key when it is not given, so that nothing about it could be
            chosen after the fact.
        message: Bits to embed as they are instead: bytes, text (as UTF-8), or a sequence of 0 and
            1.
        num_bits: Length of a plain message that is drawn from the key.
        strength: Factor of the penalty in the loss.

    Raises:
        InputError: The key or the message is empty or of the wrong kind, more than one of
            `payload`, `message` and `num_bits` is given, or `strength` is not a positive number.
    """

    def __init__(
        self,
        key: bytes | str | None,
        payload: bytes | str | int | Sequence[int] | None = None,
        *,
        message: bytes | str | Sequence[int] | None = None,
        num_bits: int | None = None,
        strength: float = 1.0,
    ):
        self._key = None if key is None else as_key(key)
        self._message = None if message is None else _as_bits(message)
        if self._message is not None and num_bits not in (None, len(self._message)):
            raise InputError(
                f"The message has {len(self._message)} bits but num_bits={num_bits} was asked for; "
                "leave num_bits out."
            )
        self.coded = message is None and num_bits is None
        if payload is not None and not self.coded:
            raise InputError(
                "A payload is coded into 256 raw bits, and a plain message or num_bits asks for "
                "bits without a code; give one of the two."
            )
        self._payload = None if payload is None else as_payload(payload)
        if self._message is not None:
            num_bits = len(self._message)
        self.num_bits = NUM_RAW_BITS if self.coded else _as_count(num_bits)
        self.strength = as_positive(strength, "strength")

    @property
    def dormant(self) -> bool:
        """Whether the key is not here, so that nothing is embedded and nothing can be verified."""
        return self._key is None

    @property
    def key(self) -> bytes:
        """The secret; raises `InputError` when the mark is dormant."""
        if self._key is None:
            raise InputError(
                f"This {type(self).__name__} was loaded without its key, which is never saved. "
                f"Make it again: {type(self).__name__}(key, "
                f"{'payload' if self.coded else f'num_bits={self.num_bits}'})."
            )
        return self._key

    def payload(self) -> np.ndarray | None:
        """The 64 bits that are coded, int8 of shape (64,); None for a plain message. Secret."""
        if not self.coded:
            return None
        if self._payload is None:
            return random_bits(self.key, self.purpose("payload", ()), NUM_PAYLOAD_BITS)
        return self._payload

    def message(self) -> np.ndarray:
        """The raw bits to embed, int8 of shape (num_bits,); secret."""
        payload = self.payload()
        if payload is not None:
            return encode(payload)
        if self._message is not None:
            return self._message
        return random_bits(self.key, self.purpose("message", ()), self.num_bits)

    def purpose(self, use: str, shape: tuple[int, ...], copy: int = 0) -> str:
        """Names one stream of the key's numbers: a scheme, a use, a length, a weight's shape."""
        sizes = "x".join(str(size) for size in shape)
        which = f"|copy {copy}" if copy else ""
        return f"{type(self).__name__}|{use}|{self.num_bits}|{sizes}{which}"

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raises `InputError` when a weight of this shape cannot carry the message."""
        raise NotImplementedError

    def scores(self, weights: np.ndarray, copy: int = 0) -> np.ndarray:
        """One number per bit, shape (num_bits,): positive reads 1, negative reads 0."""
        raise NotImplementedError

    def confidence(self, shape: tuple[int, ...]) -> float:
        """How surely a weight of this shape is expected to hold its bits, beside others."""
        return 1.0

    def penalty(self, weights: Any, copy: int = 0) -> Any:
        """How far float32 `weights` are from carrying the message, a scalar before `strength`."""
        raise NotImplementedError

    def nearest(self, weights: np.ndarray, copy: int = 0) -> np.ndarray:
        """The float64 weights nearest to `weights` that carry every bit with its margin."""
        raise NotImplementedError

    def loss(self, x: Any, copy: int = 0) -> Any:
        """Returns the penalty of the weight with number `copy` among those of its shape."""
        if self.dormant:
            return keras.ops.zeros((), "float32")
        self.check_shape(tuple(x.shape))
        return self.strength * self.penalty(keras.ops.cast(x, "float32"), copy)

    def __call__(self, x):
        """Returns the penalty of a weight, a float32 scalar."""
        return self.loss(x)

    def get_config(self) -> dict[str, Any]:
        """Returns what may be public: never the key, the message or the projection."""
        return {"num_bits": None if self.coded else self.num_bits, "strength": self.strength}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Mark":
        """Makes a dormant mark."""
        return cls(None, **config)

    def __repr__(self):
        state = "dormant" if self.dormant else "keyed"
        options = ", ".join(f"{name}={value}" for name, value in self.get_config().items())
        return f"<{type(self).__name__} {options}, {state}>"

    def __reduce__(self):
        # A pickle is a file like any other.
        return type(self).from_config, (self.get_config(),)

    def __deepcopy__(self, memo):
        # A copy in memory keeps the key; marks do not change, so one object serves.
        return self

    def __copy__(self):
        return self


def as_positive(value: Any, name: str) -> float:
    """Returns `value` as a float, or raises `InputError` unless it is finite and positive."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0.0 < number < float("inf"):
        raise InputError(f"{name}={value!r} was given; a positive number was expected.")
    return number


def as_key(key: Any) -> bytes:
    """Returns the secret as bytes, or raises `InputError` unless it is non-empty bytes or text."""
    if not isinstance(key, (bytes, str)) or not key:
        # The value itself is not shown: it may be a mistyped secret.
        raise InputError(
            f"A value of type {type(key).__name__}, or an empty one, cannot be a watermark's key; "
            "give non-empty bytes or text: `secrets.token_bytes(32)` makes a good one."
        )
    return key.encode() if isinstance(key, str) else key


def _as_count(num_bits: Any) -> int:
    try:
        count = operator.index(num_bits)
    except TypeError:
        count = 0
    if count < 1:
        raise InputError(f"num_bits={num_bits!r} was given; a positive integer was expected.")
    return count


def _as_bits(message: Any) -> np.ndarray:
    if isinstance(message, str):
        message = message.encode()
    if isinstance(message, bytes):
        bits = np.unpackbits(np.frombuffer(message, np.uint8))
    else:
        bits = np.asarray(message)
    if bits.ndim != 1 or bits.size == 0 or not np.isin(bits, (0, 1)).all():
        raise InputError(
            f"A message of shape {bits.shape} cannot be embedded; give non-empty bytes or text, or "
            "a one-dimensional sequence of 0 and 1."
        )
    return bits.astype(np.int8)
