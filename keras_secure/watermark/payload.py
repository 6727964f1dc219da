"""64 bits of payload as 256 raw bits, and back from raw bits of which a fifth may be wrong.

The code is a tail-biting convolutional code of rate 1/4 and memory 11 (2048 states). At this length
such a code comes close to what any code can do, and unlike an algebraic one it is decoded from soft
scores: a raw bit that was hardly held says so, and misleads nobody. Its smallest distance over 64
positions is 32, so any 15 raw errors leave the sent word the nearest one; at random it goes on far
beyond that (`docs/watermarks.md` has the rates).
"""

import operator
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from keras_secure.errors import InputError

NUM_PAYLOAD_BITS = 64
NUM_RAW_BITS = 256
MEMORY = 11
GENERATORS = (0o4767, 0o5723, 0o6265, 0o7455)
_RATE = len(GENERATORS)
_STATES = 1 << MEMORY
_MOST_WRAPS = 6


def as_payload(payload: Any) -> np.ndarray:
    """Reads 64 bits from text, bytes, a number or bits.

    Args:
        payload: Text (as UTF-8) or bytes of at most 8 bytes, filled up with zero bytes; an integer
            from 0 to 2**64 - 1; or 64 values of 0 and 1.

    Returns:
        int8 array of shape (64,).

    Raises:
        InputError: It is none of these.

    Example:

    >>> as_payload("A").sum(), as_payload(3)[-3:]
    (np.int64(2), array([0, 1, 1], dtype=int8))
    """
    if isinstance(payload, str):
        payload = payload.encode()
    if isinstance(payload, bytes) and 0 < len(payload) <= 8:
        return np.unpackbits(np.frombuffer(payload.ljust(8, b"\0"), np.uint8)).astype(np.int8)
    if not isinstance(payload, (bytes, Sequence, np.ndarray)):
        try:
            number = operator.index(payload)
        except TypeError:
            number = -1
        if 0 <= number < 2**64:
            return as_payload(number.to_bytes(8, "big"))
    elif not isinstance(payload, bytes):
        bits = np.asarray(payload)
        if bits.shape == (NUM_PAYLOAD_BITS,) and np.isin(bits, (0, 1)).all():
            return bits.astype(np.int8)
    raise InputError(
        "This payload cannot be used. A payload is 64 bits: 1 to 8 bytes of text or bytes, an "
        "integer from 0 to 2**64 - 1, or a sequence of 64 values of 0 and 1."
    )


def payload_hex(bits: np.ndarray) -> str:
    """Writes 64 bits as 16 hexadecimal digits.

    Args:
        bits: Shape (64,), values 0 and 1.

    Returns:
        The digits, most significant first.

    Example:

    >>> payload_hex(as_payload("A"))
    '4100000000000000'
    """
    return np.packbits(np.asarray(bits, np.uint8)).tobytes().hex()


def encode(payload: np.ndarray) -> np.ndarray:
    """Turns 64 bits into 256.

    Args:
        payload: Shape (..., 64), values 0 and 1.

    Returns:
        int8 array of shape (..., 256).

    Example:

    >>> encode(as_payload(0)).sum(), encode(as_payload(1)).sum()
    (np.int64(0), np.int64(32))

    Reference:
        Ma & Wolf 1986, On tail biting convolutional codes, IEEE Trans. Communications 34(2);
        generators of Larsen 1973, IEEE Trans. Information Theory 19(3), table I.
    """
    payload = np.asarray(payload, np.int8)
    raw = np.zeros((*payload.shape, _RATE), np.int8)
    for delay in range(MEMORY + 1):
        # The register before the first bit holds the last ones: the tail bites.
        taps = np.array([(generator >> delay) & 1 for generator in GENERATORS], np.int8)
        raw ^= np.roll(payload, delay, axis=-1)[..., None] & taps
    return raw.reshape(*payload.shape[:-1], NUM_RAW_BITS)


def decode(scores: np.ndarray) -> np.ndarray:
    """Finds the payload whose raw bits agree best with what was read.

    Viterbi's algorithm runs around the ring of 64 positions until its best path closes. Scores are
    cut off at three times their median size, so that a few that ran away do not outvote the rest.

    Args:
        scores: Shape (..., 256): positive reads 1, negative 0, and the size says how surely. Signs
            alone are decoded as hard bits. What is not finite counts as not read.

    Returns:
        int8 array of shape (..., 64). Something is always returned: whether it is right, only the
        agreement with its own raw bits tells.

    Raises:
        InputError: The last axis has not 256 values.

    Example:

    >>> scores = 2.0 * encode(as_payload("ours")) - 1
    >>> scores[::7] *= -0.9  # 37 of 256 read wrong, a little less surely
    >>> bytes.fromhex(payload_hex(decode(scores))).rstrip(b"\\0")
    b'ours'

    Reference:
        Shao, Lin & Fossorier 2003, Two decoding algorithms for tailbiting codes, IEEE Trans.
        Communications 51(10), section III.
    """
    scores = np.asarray(scores, np.float64)
    if scores.shape[-1:] != (NUM_RAW_BITS,):
        raise InputError(f"Scores of shape {scores.shape} were given; (..., 256) was expected.")
    scores = np.where(np.isfinite(scores), scores, 0.0)
    limit = 3.0 * np.median(np.abs(scores), axis=-1, keepdims=True)
    scores = np.where(limit > 0, np.clip(scores, -limit, limit), scores)
    flat = scores.reshape(-1, NUM_PAYLOAD_BITS, _RATE)
    decoded = np.empty((len(flat), NUM_PAYLOAD_BITS), np.int8)
    for start in range(0, len(flat), 64):  # keeps the survivors of a batch in some megabytes
        decoded[start : start + 64] = _viterbi(flat[start : start + 64])
    return decoded.reshape(*scores.shape[:-1], NUM_PAYLOAD_BITS)


@cache
def _branches() -> tuple[np.ndarray, np.ndarray]:
    """The four output bits of each register as a number, and the signs of each such number."""
    registers = np.arange(2 * _STATES)
    numbers = np.zeros(2 * _STATES, np.int64)
    for generator in GENERATORS:
        parity = np.bitwise_count(registers & generator) & 1
        numbers = 2 * numbers + parity
    bits = (np.arange(2**_RATE)[:, None] >> np.arange(_RATE - 1, -1, -1)) & 1
    return numbers, (2.0 * bits - 1.0)


def _viterbi(scores: np.ndarray) -> np.ndarray:
    """Decodes a batch of shape (batch, 64, 4).

    A state is the last 11 bits; the register of a step, state and new bit, has 12. Two registers
    lead to state n: n itself and n + 2048, from states n // 2 and n // 2 + 1024.
    """
    numbers, signs = _branches()
    batch = len(scores)
    rows = np.arange(batch)
    half = _STATES // 2
    states = np.arange(_STATES)
    metric = np.zeros((batch, _STATES))
    best = np.full(batch, -np.inf)
    decoded = np.zeros((batch, NUM_PAYLOAD_BITS), np.int8)
    open_rows = np.ones(batch, bool)
    for _ in range(_MOST_WRAPS):
        begun, origin = metric, np.broadcast_to(states, (batch, _STATES))
        older = np.empty((NUM_PAYLOAD_BITS, batch, _STATES), bool)
        for step in range(NUM_PAYLOAD_BITS):
            gain = (scores[:, step] @ signs.T)[:, numbers]
            low = np.repeat(metric[:, :half], 2, axis=1) + gain[:, :_STATES]
            high = np.repeat(metric[:, half:], 2, axis=1) + gain[:, _STATES:]
            older[step] = high > low
            metric = np.maximum(low, high)
            origin = np.where(
                older[step],
                np.repeat(origin[:, half:], 2, axis=1),
                np.repeat(origin[:, :half], 2, axis=1),
            )
        # What this turn alone gained, for the paths that end where they began.
        gained = metric - np.take_along_axis(begun, origin, axis=1)
        closed = np.where(origin == states, gained, -np.inf)
        winner = closed.argmax(axis=1)
        better = open_rows & (closed[rows, winner] > best)
        if better.any():
            best[better] = closed[rows, winner][better]
            decoded[better] = _trace(older[:, better], winner[better])
        front = metric.argmax(axis=1)
        open_rows &= origin[rows, front] != front
        if not open_rows.any():
            break
    never = np.isneginf(best)
    if never.any():  # no path ever closed: the best open one is as good a guess as any
        decoded[never] = _trace(older[:, never], metric.argmax(axis=1)[never])
    return decoded


def _trace(older: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Follows survivors back from their last states to the 64 bits that led there."""
    rows = np.arange(len(state))
    bits = np.empty((len(state), NUM_PAYLOAD_BITS), np.int8)
    for step in range(NUM_PAYLOAD_BITS - 1, -1, -1):
        bits[:, step] = state & 1
        state = (state >> 1) + (_STATES // 2) * older[step, rows, state]
    return bits
