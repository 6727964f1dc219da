"""Pruning at once, and how sparse a model is."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_secure.arguments import check_number
from keras_secure.compression.choose import choose_kernels
from keras_secure.compression.kernels import Kernel, model_kernels
from keras_secure.compression.sparsity_pattern import SparsityPattern
from keras_secure.errors import InputError


def prune(
    model: Any,
    sparsity: float = 0.8,
    *,
    pattern: str = "unstructured",
    layers: str | Sequence[str] | None = None,
) -> dict[str, float]:
    """Sets the smallest weights of each kernel to zero, in place and without training.

    Accuracy is kept better by the callback `keras_secure.callbacks.Pruning`, which prunes little
    by little during `fit`. What was pruned here stays pruned in a later `fit` with the callback
    `keras_secure.callbacks.HoldZeros`.

    Args:
        model: A built Keras model.
        sparsity: Share of each kernel's weights that become zero, in [0, 1). Not for blocks.
        pattern: `"unstructured"`, or `"2:4"` to keep two of every four input channels at each place
            and for each output channel, as sparse matrix units require.
        layers: Names of the layers to prune; by default all with a kernel that fits the pattern.

    Returns:
        The share of zeros of each pruned kernel, by its variable's path.

    Raises:
        InputError: An argument cannot be used or the model has no kernel that fits.

    Example:

    >>> import keras
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(5, name="top")], name="net")
    >>> prune(model, pattern="2:4")
    {'net/top/kernel': 0.5}
    >>> prune(model, 0.75)
    {'net/top/kernel': 0.75}

    Reference:
        Mishra et al. 2021 (arXiv 2104.08378), for 2:4.
    """
    check_number("sparsity", sparsity, "[0, 1)")
    rule = SparsityPattern.parse(pattern)
    pruned = prunable(choose_kernels(model, layers), rule)
    for kernel in pruned.values():
        weights = ops.convert_to_tensor(kernel.variable)
        mask = rule.mask(weights, sparsity, kernel.input_axis)
        kernel.variable.assign(ops.where(mask, weights, ops.zeros_like(weights)))
    return {path: _share_of_zeros(kernel) for path, kernel in pruned.items()}


def sparsity(model: Any) -> dict[str, float]:
    """The share of zeros in each kernel of a model.

    Args:
        model: A built Keras model.

    Returns:
        Share in [0, 1] by the path of the kernel's variable.

    Example:

    >>> import keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="top")], name="net")
    >>> _ = prune(model, 0.5)
    >>> sparsity(model)
    {'net/top/kernel': 0.5}
    """
    return {path: _share_of_zeros(kernel) for path, kernel in model_kernels(model).items()}


def prunable(kernels: dict[str, Kernel], rule: SparsityPattern) -> dict[str, Kernel]:
    """Those of the kernels that a pattern can prune.

    Args:
        kernels: Path to `Kernel`.
        rule: The pattern.

    Returns:
        Path to `Kernel`.

    Raises:
        InputError: There is none.
    """
    fitting = {path: kernel for path, kernel in kernels.items() if rule.fits(kernel)}
    if not fitting:
        raise InputError(
            f"None of the kernels {', '.join(kernels)} has blocks of {rule.block} input channels, "
            "of which weights could be pruned. Use pattern='unstructured'."
        )
    return fitting


def _share_of_zeros(kernel: Kernel) -> float:
    weights = ops.convert_to_numpy(kernel.variable)
    return float((weights == 0).mean())
