"""Generated inputs that show whether a file guards itself as the served function does."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

_ROWS = 12
_SIZE_OF_UNKNOWN = 16


def generated_batches(hardened: Any, seed: int = 0) -> Iterator[tuple[str, np.ndarray]]:
    """Batches of valid, hostile and no examples.

    Args:
        hardened: The `HardenedModel`. Its input guard tells what is valid; where it has none, that
            is [0, 1], and there are no hostile examples: nothing says what becomes of them.
        seed: Of the random values.

    Yields:
        A name and an array of the shape (batch, ...) and dtype the served function takes.
    """
    rng = np.random.default_rng(seed)
    shape = tuple(size or _SIZE_OF_UNKNOWN for size in hardened.shape[1:])
    dtype = keras.backend.standardize_dtype(hardened.dtype)
    low, high = getattr(hardened.input_guard, "bounds", (0.0, 1.0))
    if keras.backend.is_float_dtype(dtype):
        valid = rng.uniform(low, high, (_ROWS, *shape)).astype("float32")
        hostile = (
            _hostile_floats(valid, hardened.input_guard) if hardened.input_guard else valid[:0]
        )
        kind: Any = "float32" if dtype == "bfloat16" else dtype
    else:
        valid = rng.integers(int(np.ceil(low)), int(np.floor(high)) + 1, (_ROWS, *shape))
        hostile = _hostile_integers(valid, low, high, dtype) if hardened.input_guard else valid[:0]
        kind = dtype
    # Half precision makes the largest float32 infinite, which is as hostile.
    with np.errstate(over="ignore"):
        valid, hostile = valid.astype(kind), hostile.astype(kind)
    yield "valid examples", valid
    if len(hostile):
        yield "hostile examples", hostile
        yield "hostile beside valid examples", np.concatenate([valid[:3], hostile[::2], valid[3:5]])
    yield "one example", valid[:1]
    yield "no examples", valid[:0]


def _hostile_floats(valid: np.ndarray, guard: Any) -> np.ndarray:
    low, high = getattr(guard, "bounds", (0.0, 1.0))
    beyond = 2 * getattr(guard, "tolerance", 0.0) + 1e-3 * (high - low)
    kind = np.finfo(np.float32)
    values = [
        np.nan, np.inf, -np.inf, kind.max, kind.min, kind.smallest_subnormal, -0.0, low, high,
        low - beyond, high + beyond, low - 10 * (high - low), high + 10 * (high - low),
    ]  # fmt: skip
    rows = []
    for number, value in enumerate(values):
        single = valid[number % len(valid)].copy()
        single.reshape(-1)[number % single.size] = value
        rows += [single, np.full_like(single, value)]
    return np.stack(rows)


def _hostile_integers(valid: np.ndarray, low: float, high: float, dtype: str) -> np.ndarray:
    limits = np.iinfo(dtype)
    beyond = (limits.min, limits.max, int(np.floor(high)) + 1, int(np.ceil(low)) - 1)
    rows = []
    for number, value in enumerate(v for v in beyond if limits.min <= v <= limits.max):
        single = valid[number % len(valid)].copy()
        single.reshape(-1)[number % single.size] = value
        rows += [single, np.full_like(single, value)]
    return np.stack(rows) if rows else valid[:0]
