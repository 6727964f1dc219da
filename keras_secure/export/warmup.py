"""Warm-up requests beside a SavedModel, so that the first client does not wait."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_secure import backend
from keras_secure.arguments import is_integer
from keras_secure.errors import InputError
from keras_secure.export.hardened_model import HardenedModel
from keras_secure.export.serving import INPUT_NAME

FILE_NAME = "assets.extra/tf_serving_warmup_requests"
LIMIT = 1000
_TRIED_SIZES = tuple(2**power for power in range(10))


def warmup_batches(warmup: Any, hardened: HardenedModel) -> list[np.ndarray]:
    """The batches to warm up with.

    Args:
        warmup: Batch sizes, whose examples are then all at the lowest value that the input guard
            lets through, or 0; or arrays of shape (batch, ...).
        hardened: What is served.

    Returns:
        Arrays in the dtype of the model's input; none where the model takes bfloat16, which arrays
        do not have.

    Raises:
        InputError: An entry is neither, or has another shape than the model's input; or the model
            leaves sizes open, and none that was tried can be computed.
    """
    if isinstance(warmup, str | bytes) or not isinstance(warmup, Iterable):
        raise InputError(
            f"warmup is a {type(warmup).__name__}; a list of batch sizes or arrays was expected."
        )
    bounds = getattr(hardened.input_guard, "bounds", (0,))
    batches, inner = [], None
    for entry in warmup:
        if is_integer(entry) and 1 <= entry < 2**31:
            inner = inner or _sizes(hardened, bounds[0])
            batch = np.full((int(entry), *inner), bounds[0])
        else:
            try:
                batch = np.asarray(entry)
            except ValueError:  # lists of different lengths
                batch = np.empty((), object)
            fits = batch.ndim == len(hardened.shape) and all(
                size in (None, found)
                for size, found in zip(hardened.shape, batch.shape, strict=True)
            )
            if not fits or batch.dtype.kind not in "biuf":
                raise InputError(
                    f"warmup holds {entry!r}; batch sizes of at least 1 or arrays of shape "
                    f"{hardened.shape} were expected."
                )
        if hardened.dtype != "bfloat16":
            batches.append(batch.astype(hardened.dtype))
    return batches


def _sizes(hardened: HardenedModel, lowest: float) -> tuple[int, ...]:
    """The shape of an example, where sizes may vary of the first size that the model computes.

    A request that fails would keep TensorFlow Serving from loading the model.
    """
    sizes = hardened.shape[1:]
    for free in _TRIED_SIZES:
        shape = tuple(free if size is None else size for size in sizes)
        if None not in sizes:
            return shape
        example = keras.ops.full((1, *shape), lowest, dtype=hardened.dtype)
        try:
            hardened.model(example, training=False)
        except Exception:  # frameworks and layers have errors of their own
            continue
        return shape
    raise InputError(
        f"Model {hardened.model.name!r} computes examples of none of the sizes "
        f"{', '.join(map(str, _TRIED_SIZES))} where its shape {hardened.shape} leaves them open. "
        "Give warmup an array that it computes, or () for no warm-up requests."
    )


def write_warmup(
    saved_model: Path, hardened: HardenedModel, batches: list[np.ndarray], signatures: Iterable[str]
) -> None:
    """Writes a request to each signature with each batch, where TensorFlow Serving looks for them.

    Raises:
        InputError: There are more than 1000, which TensorFlow Serving refuses.
    """
    requests = [(name, {INPUT_NAME: batch}) for name in signatures for batch in batches]
    if len(requests) > LIMIT:
        raise InputError(
            f"{len(requests)} warm-up requests; TensorFlow Serving takes {LIMIT}. Give fewer."
        )
    if requests:
        path = saved_model / FILE_NAME
        path.parent.mkdir()
        backend.write_warmup(str(path), hardened.model.name, requests)
