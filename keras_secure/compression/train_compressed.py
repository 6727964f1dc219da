"""From an ordinary model to one that trains compressed, and back."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_secure.compression.choose import choose_kernels
from keras_secure.compression.compressed_layer import CompressedLayer
from keras_secure.compression.compressed_layers import COMPRESSED_LAYERS
from keras_secure.compression.learned_step_size import LearnedStepSize
from keras_secure.compression.rebuild import rebuild
from keras_secure.compression.shared_weights import SharedWeights
from keras_secure.errors import InputError


def quantize_aware(
    model: Any, bits: int = 8, *, layers: str | Sequence[str] | None = None
) -> keras.Model:
    """Makes a copy of a model that computes with quantized kernels and trains the full ones.

    Compile and `fit` it as any model, in a `SecureModel` too, and then `strip` it. The scales
    start where rounding has the least squared error and are trained with the weights. Biases,
    normalization and other layers stay in floating point. Constraints (masks of pruning) and
    regularizers (watermarks) that were put on the variables are taken over.

    Zeros stay zeros, so a pruned model stays pruned if its zeros are held in training:
    `keras_secure.callbacks.HoldZeros`.

    Args:
        model: A built Sequential or functional Keras model; left as it is.
        bits: From 2 to 8; about one epoch of fine-tuning brings 8 and 4 bits back, a few 3 and 2.
        layers: Names of the layers to quantize; by default all Dense, EinsumDense and convolution
            layers, depthwise, separable and transposed ones included.

    Returns:
        The new model, of the same name. If the model is compiled, so is the new one, without what
        its optimizer has learnt.

    Raises:
        InputError: An argument cannot be used, or the model is subclassed or has no such layer.

    Example:

    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="top")])
    >>> trained = quantize_aware(model, bits=4)
    >>> trained.compile("adam", "mse")
    >>> _ = trained.fit(np.ones((8, 8)), np.ones((8, 4)), verbose=0)
    >>> small = strip(trained)
    >>> [int(np.unique(channel).size) <= 16 for channel in small.layers[0].kernel.numpy().T]
    [True, True, True, True]
    >>> type(small.layers[0]).__name__
    'Dense'

    Reference:
        Esser et al. 2020, Learned step size quantization (arXiv 1902.08153).
    """
    scheme = LearnedStepSize(bits)
    return _aware(model, lambda kernel: scheme, layers)


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
        model: A built Sequential or functional Keras model; left as it is.
        num_clusters: Values a kernel may have, 2 to 256.
        initial: Where k-means starts: `"linear"`, evenly over the range, or `"density"`.
        layers: Names of the layers; by default all that `quantize_aware` takes.

    Returns:
        The new model.

    Raises:
        InputError: An argument cannot be used, or the model is subclassed or has no such layer.

    Example:

    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16)])
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


def strip(model: Any) -> keras.Model:
    """Makes an ordinary Keras model of one that trains compressed, with the same outputs.

    The kernels of the new model are those that the old one computes with, to the last bit;
    `quantized_weights` tells their integers and scales, `clustered_weights` their shared values.

    Args:
        model: What `quantize_aware` or `cluster_aware` returned, trained or not.

    Returns:
        A model of Keras' own layers, which saves and loads without this library.

    Raises:
        InputError: Nothing in the model trains compressed.

    Example:

    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> trained = quantize_aware(model, bits=2)
    >>> x = np.random.default_rng(0).random((3, 8), "float32")
    >>> bool((strip(trained).predict(x, verbose=0) == trained.predict(x, verbose=0)).all())
    True
    """
    parts = model._flatten_layers() if isinstance(model, keras.Model) else ()
    if not any(isinstance(layer, CompressedLayer) for layer in parts):
        raise InputError(
            "No layer of this model trains compressed, so there is nothing to strip. Give what "
            "quantize_aware or cluster_aware returned; of a SecureModel, its `model`."
        )
    copy, pairs = rebuild(
        model, lambda layer: layer.plain_layer() if isinstance(layer, CompressedLayer) else None
    )
    for layer, new in pairs:
        for name in layer._full:
            getattr(new, name).assign(layer.compressed_kernel(name))
    return copy


def _aware(model: Any, scheme: Callable[[list[Any]], Any], layers: Any) -> keras.Model:
    chosen: dict[int, list[Any]] = {}
    for kernel in choose_kernels(model, layers).values():
        chosen.setdefault(id(kernel.layer), []).append(kernel)
    made = []

    def replacement(layer):
        kernels = chosen.get(id(layer))
        if kernels is None:
            return None
        if isinstance(layer, CompressedLayer):
            raise InputError(
                f"Layer {layer.name!r} trains compressed already; call strip(model) first."
            )
        compressed_class = COMPRESSED_LAYERS.get(type(layer))
        if compressed_class is None:
            if layers is None:
                return None
            raise InputError(
                f"Layer {layer.name!r} is a {type(layer).__name__}, a class of its own, which "
                "cannot be replaced. Quantize it after training, with "
                "keras_secure.compression.quantize."
            )
        made.append(layer.name)
        scheme_of_layer = scheme(kernels)
        return compressed_class(scheme=scheme_of_layer, **layer.get_config())

    copy, pairs = rebuild(model, replacement)
    if not made:
        raise InputError(
            f"Model {model.name!r} has no layer of Keras' own that can train compressed, outside "
            "of composite layers. Quantize it after training, with "
            "keras_secure.compression.quantize."
        )
    for _, new in pairs:
        new.start()
    return copy
