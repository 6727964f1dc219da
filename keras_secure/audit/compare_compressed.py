"""What compression cost: accuracy, robustness and watermarks, before and after."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_secure.arguments import check_number
from keras_secure.attacks import evaluate
from keras_secure.audit.compression_report import CarriedMark, CompressedKernel, CompressionReport
from keras_secure.compression import clustered_weights, quantized_weights, sparsity
from keras_secure.errors import InputError
from keras_secure.logits import classification_logits
from keras_secure.repair import MeasuredShare
from keras_secure.watermark import verify


def compare_compressed(
    before: Any,
    after: Any,
    data: tuple[Any, Any],
    *,
    attacks: Any = None,
    marks: Sequence[Any] = (),
    max_drop: float = 0.01,
    batch_size: int = 128,
    confidence: float = 0.95,
    verbose: int | str = 0,
) -> CompressionReport:
    """Measures a classifier before and after compression on the same examples.

    Each model is attacked itself: what fools one need not fool the other, and rounding that hides
    gradients is met by attacks of several kinds, such as `keras_secure.attacks.AutoAttack`.

    Args:
        before: The model as it was.
        after: The compressed one.
        data: (x, y): floating point array of shape (num_examples, ...), and class indices or
            one-hot rows, that neither model was trained on.
        attacks: An untargeted `Attack`, or a list of them; None for clean accuracy alone.
        marks: Watermarks with their keys, as `keras_secure.watermark.verify` takes them.
        max_drop: Loss of accuracy that is acceptable, in [0, 1].
        batch_size: Examples per step.
        confidence: Coverage of the intervals.
        verbose: As of `keras_secure.attacks.evaluate`.

    Returns:
        A `CompressionReport`.

    Raises:
        InputError: If an argument cannot be used.

    Example:

    >>> import keras, keras_secure as ks
    >>> before = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
    >>> after = keras.models.clone_model(before)
    >>> after.set_weights(before.get_weights())
    >>> _ = ks.compression.quantize(after, bits=8)
    >>> data = np.random.default_rng(0).random((50, 4), "float32"), np.arange(50) % 3
    >>> report = compare_compressed(before, after, data)
    >>> [finding.id for finding in report.findings()]
    ['compression.clean', 'compression.storage']
    """
    check_number("max_drop", max_drop, "[0, 1]")
    x, labels = _arrays(data)
    classes = [_classes(model, x, batch_size) for model in (before, after)]
    if labels.max() >= max(found[1] for found in classes):
        raise InputError(
            f"The labels reach {labels.max()}, but the models have {classes[0][1]} and "
            f"{classes[1][1]} classes."
        )
    clean = [MeasuredShare.of(found == labels, confidence) for found, _ in classes]
    robust: list[MeasuredShare | None] = [None, None]
    if attacks is not None:
        options: dict[str, Any] = {
            "batch_size": batch_size,
            "confidence": confidence,
            "verbose": verbose,
        }
        for number, model in enumerate((before, after)):
            worst = evaluate(model, x, data[1], attacks, **options).worst_case
            robust[number] = MeasuredShare(worst.value, worst.low, worst.high, len(x))
    carried = []
    for mark in marks:
        first, second = verify(before, mark), verify(after, mark)
        carried.append(
            CarriedMark(first.verdict, second.verdict, first.bit_errors, second.bit_errors)
        )
    agreement = MeasuredShare.of(classes[0][0] == classes[1][0], confidence)
    return CompressionReport(
        clean_before=clean[0],
        clean_after=clean[1],
        robust_before=robust[0],
        robust_after=robust[1],
        agreement=agreement,
        marks=tuple(carried),
        kernels=_kernels(after),
        max_drop=float(max_drop),
    )


def _kernels(model: Any) -> dict[str, CompressedKernel]:
    quantized, clustered = quantized_weights(model), clustered_weights(model)
    sizes = {variable.path: int(np.prod(variable.shape)) for variable in model.variables}
    return {
        path: CompressedKernel(
            sizes[path],
            zeros,
            quantized[path].bits if path in quantized else None,
            len(clustered[path].values) if path in clustered else None,
        )
        for path, zeros in sparsity(model).items()
    }


def _arrays(data: tuple[Any, Any]) -> tuple[np.ndarray, np.ndarray]:
    x, y = (np.asarray(array) for array in data)
    labels = y.argmax(-1) if y.ndim == 2 and y.shape[1] > 1 else y.reshape(-1)
    if len(x) == 0 or len(x) != len(labels):
        raise InputError(f"data holds {len(x)} examples and {len(labels)} labels; expected pairs.")
    return x, labels


def _classes(model: Any, x: np.ndarray, batch_size: int) -> tuple[np.ndarray, int]:
    """The class of each example, and how many classes there are."""
    found = []
    for start in range(0, len(x), batch_size):
        batch = ops.convert_to_tensor(x[start : start + batch_size])
        found.append(ops.convert_to_numpy(classification_logits(model, batch)))
    logits = np.concatenate(found)
    return logits.argmax(-1), logits.shape[-1]
