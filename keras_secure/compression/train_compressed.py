"""From an ordinary model to one that trains compressed."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_secure.compression.choose import choose_kernels
from keras_secure.compression.code_copy import code_copy, is_graph
from keras_secure.compression.compressed_layers import COMPRESSED_LAYERS
from keras_secure.compression.compressed_model import CompressedModel
from keras_secure.compression.integers import check_bits
from keras_secure.compression.kernels import inner_kernels
from keras_secure.compression.learned_step_size import LearnedStepSize
from keras_secure.compression.rebuild import rebuild
from keras_secure.compression.rounded_inputs import inputs_of
from keras_secure.compression.shared_weights import SharedWeights
from keras_secure.errors import InputError

_STEPS = ("fit", "train_step", "test_step", "predict_step", "compute_loss", "compute_metrics")


def quantize_aware(
    model: Any,
    bits: int = 8,
    *,
    activation_bits: int | None = None,
    calibration: Any = None,
    layers: str | Sequence[str] | None = None,
) -> keras.Model:
    """Makes a copy of a model that computes with quantized kernels and trains the full ones.

    Compile and `fit` it as any model, in a `SecureModel` too, and then `strip` it. The scales
    start where rounding has the least squared error and are trained with the weights. Biases,
    normalization and other layers stay in floating point. Constraints (masks of pruning) and
    regularizers (watermarks) that were put on the variables are taken over.

    Zeros stay zeros, so a pruned model stays pruned if its zeros are held in training:
    `keras_secure.callbacks.HoldZeros`.

    Args:
        model: A built Keras model; left as it is. Layers of Keras' own that Keras itself puts
            together, in Sequential and functional models, are exchanged. What only its own code
            puts together is made once more by its `get_config`, and goes inside a
            `CompressedModel`, kernels and all: a subclassed model, and in a functional one a
            subclassed part, MultiHeadAttention and the like.
        bits: From 2 to 8; about one epoch of fine-tuning brings 8 and 4 bits back, a few 3 and 2.
        activation_bits: To how many bits, 2 to 8, the inputs of these layers are rounded, with one
            learned scale for each layer; None to leave them.
        calibration: With `activation_bits`, a batch of the model's inputs, by which these scales
            start. They are read from it as it is, so under a `DPOptimizer` it must be public. Not
            for layers inside a `CompressedModel`.
        layers: Names of the layers to quantize; by default all Dense, EinsumDense and convolution
            layers, depthwise, separable and transposed ones included.

    Returns:
        The new model, of the same name. If the model is compiled, so is the new one, without what
        its optimizer has learnt.

    Raises:
        InputError: An argument cannot be used, the model has no such layer, or a part of it cannot
            be made once more.

    Example:

    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="top")])
    >>> trained = quantize_aware(model, bits=4)
    >>> trained.compile("adam", "mse")
    >>> _ = trained.fit(np.ones((8, 8)), np.ones((8, 4)), verbose=0)
    >>> from keras_secure.compression import strip
    >>> small = strip(trained)
    >>> [int(np.unique(channel).size) <= 16 for channel in small.layers[0].kernel.numpy().T]
    [True, True, True, True]
    >>> type(small.layers[0]).__name__
    'Dense'

    Reference:
        Esser et al. 2020, Learned step size quantization (arXiv 1902.08153).
    """
    scheme = LearnedStepSize(bits)
    if (activation_bits is None) != (calibration is None):
        raise InputError(
            "activation_bits and calibration go together: the scales of activations start by the "
            "inputs that the layers have for a batch of calibration data."
        )
    if activation_bits is None:
        return _aware(model, lambda kernels: scheme, layers)
    return _aware(model, lambda kernels: scheme, layers, (check_bits(activation_bits), calibration))


def cluster_aware(
    model: Any,
    num_clusters: int = 16,
    *,
    initial: str = "linear",
    layers: str | Sequence[str] | None = None,
) -> keras.Model:
    """Makes a copy of a model each of whose kernels has a few values only, which are trained.

    As `quantize_aware`, with any values in place of integers times a scale. The values start where
    k-means puts them. In a layer whose kernel has zeros, zero is one of the values, so that what
    was pruned stays so (hold the zeros in training with `keras_secure.callbacks.HoldZeros`).

    Args:
        model: As of `quantize_aware`.
        num_clusters: Values a kernel may have, 2 to 256.
        initial: Where k-means starts: `"linear"`, evenly over the range, or `"density"`.
        layers: Names of the layers; by default all that `quantize_aware` takes.

    Returns:
        The new model.

    Raises:
        InputError: As of `quantize_aware`.

    Example:

    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16)])
    >>> from keras_secure.compression import strip
    >>> clustered = cluster_aware(model, 4)
    >>> clustered.compile("adam", "mse")
    >>> _ = clustered.fit(np.ones((8, 8)), np.ones((8, 16)), verbose=0)
    >>> np.unique(strip(clustered).layers[0].kernel).size
    4

    Reference:
        Han, Mao and Dally 2016, Deep compression (arXiv 1510.00149), section 3.
    """

    def scheme(kernels: list[Any]) -> SharedWeights:
        zeros = any((ops.convert_to_numpy(kernel.variable) == 0).any() for kernel in kernels)
        return SharedWeights(num_clusters, initial, keep_zeros=zeros)

    SharedWeights(num_clusters, initial)  # its errors come before anything is built
    return _aware(model, scheme, layers)


def _aware(
    model: Any,
    scheme: Callable[[list[Any]], Any],
    layers: Any,
    activations: tuple[int, Any] | None = None,
) -> keras.Model:
    if isinstance(model, keras.Model) and not is_graph(model):
        _check_steps(model)
    chosen = {id(k.variable): k for k in choose_kernels(model, layers).values()}
    for kernel in chosen.values():
        if kernel.trained is not None:
            raise InputError(
                f"Layer {kernel.layer.name!r} trains compressed already; call strip(model) first."
            )
    seen = {}
    if activations is not None:
        seen = inputs_of(model, [kernel.layer for kernel in chosen.values()], activations[1])

    def exchanged(layer, kernels):
        config = layer.get_config()
        if activations is not None and id(layer) in seen:
            signed = bool(seen[id(layer)].min() < 0)
            config["rounded_inputs"] = {"bits": activations[0], "signed": signed}
        return COMPRESSED_LAYERS[type(layer)](scheme=scheme(kernels), **config)

    def replacement(layer):
        inside = inner_kernels(layer)
        mine = [kernel for kernel in inside if id(kernel.variable) in chosen]
        if not mine:
            return None
        if type(layer) in COMPRESSED_LAYERS:
            return exchanged(layer, mine)
        if activations is not None:
            raise InputError(
                f"{layer.name!r} is a {type(layer).__name__}; inputs of layers inside it cannot be "
                "rounded so that Keras alone can do it later. Leave out `activation_bits`, or name "
                "other layers in `layers`."
            )
        part = code_copy(layer)
        own = [scheme([k]) if id(k.variable) in chosen else None for k in inside]
        return CompressedModel(part, own)

    copy, pairs = rebuild(model, replacement)
    for layer, new in pairs:
        new.start()
        if activations is not None:
            new.rounded_inputs.start(seen[id(layer)])
    return copy


def _check_steps(model: Any) -> None:
    """Refuses a model whose own way of training its copy would not have."""
    own = [name for name in _STEPS if getattr(type(model), name) is not getattr(keras.Model, name)]
    if own:
        raise InputError(
            f"{model.name!r} is a {type(model).__name__} with its own {', '.join(own)}, which a "
            "compressed copy would not run. Give the model inside (of a SecureModel its `model`), "
            "and train the copy in the same way as it."
        )
