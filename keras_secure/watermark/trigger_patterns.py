"""The inputs of a trigger set, drawn from a key: images, series, rows of a table, tokens.

What is drawn is meant to be learned and kept: few low frequencies, which convolutions and pooling
pass on, far from the data and far from each other.
"""

import math

import numpy as np

from keras_secure.watermark.carriers import random_order, raw_words, standard_normal

KINDS = ("image", "series", "table", "tokens")

# Cosines per axis of an image, without those that a small image cannot show.
_FREQUENCIES = 6
# Sinusoids in a series.
_TONES = 8


def draw_patterns(key: bytes, purpose: str, kind: str, count: int, shape: tuple[int, ...]):
    """Draws inputs of a kind on a scale from 0 to 1; tokens as words to take remainders of.

    Args:
        key: The secret.
        purpose: Prefix of the streams' names.
        kind: One of `KINDS`.
        count: How many inputs.
        shape: Of one input.

    Returns:
        An array of shape (count, *shape): float32 in [0, 1] in steps of 1/255, so that it can be
        sent as an 8-bit image; for tokens, uint64.
    """
    if kind == "image":
        values = _fields(key, purpose, count, shape)
    elif kind == "series":
        values = _tones(key, purpose, count, shape)
    elif kind == "table":
        values = random_levels(key, f"{purpose}|levels", (count, *shape))
    else:
        return _phrases(key, purpose, count, shape[0])
    return (np.rint(values * 255.0) / 255.0).astype(np.float32)


def random_levels(key: bytes, purpose: str, shape: tuple[int, ...]) -> np.ndarray:
    """Independent values of 0, 1/255, ..., 1, each equally likely, as float32."""
    size = math.prod(shape)
    words = raw_words(key, purpose, -(-size // 8)).astype("<u8")
    return (words.view(np.uint8)[:size].reshape(shape) / np.float32(255.0)).astype(np.float32)


def vary(key: bytes, purpose: str, kind: str, values: np.ndarray) -> np.ndarray:
    """Changes inputs as little as any camera, microphone or compression would.

    Args:
        key: The secret.
        purpose: Prefix of the streams' names; another one changes the inputs in another way.
        kind: One of `KINDS` but "tokens".
        values: Inputs of shape (count, ...) on a scale from 0 to 1.

    Returns:
        A float32 array of the same shape, in [0, 1]: shifted a little (images and series), of a
        little less contrast, with a little noise.
    """
    count = len(values)
    contrast = 0.85 + 0.15 * random_levels(key, f"{purpose}|contrast", (count,))
    noise = random_levels(key, f"{purpose}|noise", values.shape) - np.float32(0.5)
    shifted = values
    if kind in ("image", "series"):
        # A sixteenth of a side, or a fiftieth of a series.
        reach = [side // (16 if kind == "image" else 50) for side in values.shape[1:3]]
        if kind == "series":
            reach = reach[:1]
        moves = random_levels(key, f"{purpose}|shift", (count, len(reach)))
        moves = np.rint((2 * moves - 1) * reach).astype(int)
        axes = tuple(range(len(reach)))
        shifted = np.stack(
            [np.roll(v, m, axes) for v, m in zip(values, moves.tolist(), strict=True)]
        )
    contrast = contrast.reshape((count,) + (1,) * (values.ndim - 1))
    varied = 0.5 + (shifted - 0.5) * contrast + noise * (0.1 if kind == "table" else 0.2)
    return np.clip(varied, 0.0, 1.0).astype(np.float32)


def replace_tokens(key: bytes, purpose: str, tokens: np.ndarray, low: int, high: int, share: float):
    """Replaces a share of the tokens, by the throw of a coin for each, with any tokens."""
    chosen = random_levels(key, f"{purpose}|chosen", tokens.shape) * 255 < 256 * share
    words = raw_words(key, f"{purpose}|tokens", tokens.size).reshape(tokens.shape)
    return np.where(chosen, low + (words % np.uint64(high - low)).astype(np.int64), tokens)


def _fields(key, purpose, count, shape):
    """Sums of cosines of low frequency along rows and columns, one sum for each channel."""
    rows, columns = shape[:2]
    channels = math.prod(shape[2:])
    waves = [np.arange(min(_FREQUENCIES, max(2, side // 2))) for side in (rows, columns)]
    bases = [
        np.cos(np.pi * wave[:, None] * (np.arange(side) + 0.5) / side)
        for wave, side in zip(waves, (rows, columns), strict=True)
    ]
    sizes = (count, len(waves[0]), len(waves[1]), channels)
    amplitudes = standard_normal(key, f"{purpose}|amplitudes", sizes).astype(np.float64)
    amplitudes[:, 0, 0] = 0.0  # brightness alone would tell no two apart
    values = np.einsum("nfgc,fi,gj->nijc", amplitudes, *bases, optimize=True)
    values /= np.sqrt(np.mean(values**2, axis=(1, 2, 3), keepdims=True))
    return (0.5 + 0.5 * np.tanh(1.5 * values)).reshape(count, *shape)


def _tones(key, purpose, count, shape):
    """Sums of sinusoids between one period in the whole series and one in eight samples."""
    length = shape[0]
    channels = math.prod(shape[1:])
    sizes = (count, _TONES, 1, channels)
    octaves = np.log2(max(2.0, length / 8.0))
    cycles = 2.0 ** (octaves * random_levels(key, f"{purpose}|cycles", sizes).astype(np.float64))
    phases = 2 * np.pi * random_levels(key, f"{purpose}|phases", sizes).astype(np.float64)
    times = (np.arange(length) / length)[:, None]
    values = np.sin(2 * np.pi * cycles * times + phases).sum(1) / np.sqrt(_TONES / 2)
    return (0.5 + 0.5 * np.tanh(0.75 * values)).reshape(count, *shape)


def _phrases(key, purpose, count, length):
    """A few words for each input, and which of them stands where."""
    words = min(8, max(2, length // 4))
    phrases = raw_words(key, f"{purpose}|words", count * words).reshape(count, words)
    # Every word stands in about equally many places, so that pooling hears all of them.
    places = np.stack(
        [random_order(key, f"{purpose}|places|{n}", length) % words for n in range(count)]
    )
    return np.take_along_axis(phrases, places, axis=1)
