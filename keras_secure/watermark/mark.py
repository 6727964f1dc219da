"""What every weight watermark has in common: a secret, a message, and how they are kept apart."""

import operator
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_secure.errors import InputError
from keras_secure.watermark.carriers import random_bits

DEFAULT_NUM_BITS = 64


class Mark(keras.regularizers.Regularizer):
    """Base class of the regularizers that embed a keyed message in one weight tensor.

    A subclass writes `check_shape(shape)`, `scores(weights)` (numpy, one number per bit, whose sign
    is the bit) and `penalty(weights)` (traceable, a float32 scalar).

    The key, the message and whatever is derived from them stay in this object: no config, pickle,
    `repr` or saved file holds them. A mark that Keras loads from a config has no key and is
    dormant: it adds nothing to the loss, and `verify` asks for the key.

    Args:
        key: The secret, bytes or text; `secrets.token_bytes(32)` makes a good one. None makes a
            dormant mark.
        message: What to embed: bytes, text (as UTF-8), or a sequence of 0 and 1. Drawn from the key
            when it is not given, so that nothing about it could be chosen after the fact.
        num_bits: Length of the message that is drawn from the key, 64 when not given.
        strength: Factor of the penalty in the loss.

    Raises:
        InputError: The key or the message is empty or of the wrong kind, `num_bits` contradicts the
            message, or `strength` is not a positive number.
    """

    def __init__(
        self,
        key: bytes | str | None,
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
        if self._message is not None:
            num_bits = len(self._message)
        self.num_bits = _as_count(DEFAULT_NUM_BITS if num_bits is None else num_bits)
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
                f"Make it again: {type(self).__name__}(key, num_bits={self.num_bits})."
            )
        return self._key

    def message(self) -> np.ndarray:
        """The bits to embed, int8 of shape (num_bits,); secret."""
        if self._message is not None:
            return self._message
        return random_bits(self.key, self.purpose("message", ()), self.num_bits)

    def purpose(self, use: str, shape: tuple[int, ...]) -> str:
        """Names one stream of the key's numbers: a scheme, a use, a length and a weight's shape."""
        sizes = "x".join(str(size) for size in shape)
        return f"{type(self).__name__}|{use}|{self.num_bits}|{sizes}"

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raises `InputError` when a weight of this shape cannot carry the message."""
        raise NotImplementedError

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """One number per bit, shape (num_bits,): positive reads 1, negative reads 0."""
        raise NotImplementedError

    def penalty(self, weights: Any) -> Any:
        """How far float32 `weights` are from carrying the message, a scalar before `strength`."""
        raise NotImplementedError

    def __call__(self, x):
        """Returns the penalty of a weight, a float32 scalar."""
        if self.dormant:
            return keras.ops.zeros((), "float32")
        self.check_shape(tuple(x.shape))
        return self.strength * self.penalty(keras.ops.cast(x, "float32"))

    def get_config(self) -> dict[str, Any]:
        """Returns what may be public: never the key, the message or the projection."""
        return {"num_bits": self.num_bits, "strength": self.strength}

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
