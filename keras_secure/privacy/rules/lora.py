"""Rules for layers adapted by LoRA: the kernel W + s A B with trained factors A and B.

With G = x dz the gradient by the whole kernel, that of A is s G B' = s x (dz B'), and that of B is
s A' G = s (x A) dz: two ordinary layers of the adapter's rank.

Reference: Hu et al. 2021 (arXiv 2106.09685); in private training Yu et al. 2022 (arXiv 2110.06500).
"""

import math

import keras
from keras import ops

from keras_secure import backend
from keras_secure.privacy.contributions import OuterProducts
from keras_secure.privacy.rules.convolution import convolution
from keras_secure.privacy.rules.dense import dense, einsum_dense, has_known_axes
from keras_secure.privacy.rules.embedding import embedding
from keras_secure.privacy.rules.registry import register_rule


def _is_adapted(layer):
    plain = getattr(layer, "quantization_mode", None) is None
    return getattr(layer, "lora_enabled", False) and plain


def _has_last_axis_in_outputs(layer):
    # The adapter splits the kernel's last axis, which has to be one of the outputs, and the last.
    kernel, output = layer.equation.replace(" ", "").split(",")[1].split("->")
    splits_outputs = kernel[-1] == output[-1] not in layer.equation.split(",")[0]
    return _is_adapted(layer) and splits_outputs and has_known_axes(layer.equation)


class _View:
    """A layer as another rule shall see it: with some attributes replaced."""

    def __init__(self, layer, **replaced):
        self._layer = layer
        self.__dict__.update(replaced)

    def __getattr__(self, name):
        return getattr(self._layer, name)


@register_rule(keras.layers.Dense, covers=_is_adapted)
def adapted_dense(layer, calls):
    """Dense with LoRA."""
    return _adapted(layer, calls, dense, ops.matmul)


@register_rule(keras.layers.EinsumDense, covers=_has_last_axis_in_outputs)
def adapted_einsum_dense(layer, calls):
    """EinsumDense with LoRA: A keeps the equation, with the rank in place of the last axis."""
    return _adapted(layer, calls, einsum_dense, lambda x, a: ops.einsum(layer.equation, x, a))


@register_rule(
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    covers=lambda layer: (
        _is_adapted(layer) and layer.groups == 1 and layer.data_format == "channels_last"
    ),
)
def adapted_convolution(layer, calls):
    """Convolution with LoRA: A is a convolution with as many filters as its rank."""

    def apply(x, a):
        windows = backend.extract_windows(
            x, layer.kernel_size, layer.strides, layer.dilation_rate, layer.padding
        )
        return ops.einsum("bip,ir->bpr", windows, ops.reshape(a, (-1, layer.lora_rank)))

    return _adapted(layer, calls, convolution, apply, filters=layer.lora_rank)


def _adapted(layer, calls, rule, apply, **as_adapter):
    """Gradients of a layer with the factors `lora_kernel_a` and `lora_kernel_b`.

    Args:
        layer: The layer.
        calls: The recorded calls.
        rule: The rule of the same layer without an adapter.
        apply: Maps (x, A) to what the layer would give with A for its kernel.
        **as_adapter: Attributes of the layer whose kernel is A.
    """
    a, b = layer.lora_kernel_a, layer.lora_kernel_b
    # The kernel itself is frozen, unless the user thought otherwise; the bias is as ever.
    found = rule(_View(layer, kernel=layer._kernel), calls)
    if a.trainable:
        view = _View(layer, kernel=a, bias=None, use_bias=False, **as_adapter)
        found += rule(view, _before_b(layer, b, calls))
    if b.trainable:
        matrix = ops.cast(a, "float32")
        found += [(b, _gradient_of_b(layer, [(apply(x, matrix), dz) for x, dz in calls]))]
    return found


@register_rule(keras.layers.Embedding, covers=_is_adapted)
def adapted_embedding(layer, calls):
    """Embedding with LoRA: A is a table of its own, B a Dense layer on what is found there."""
    table, a, b = layer._embeddings, layer.lora_embeddings_a, layer.lora_embeddings_b
    found = []
    if table.trainable:
        found += embedding(_View(layer, embeddings=table), calls)
    if a.trainable:
        view = _View(layer, embeddings=a, output_dim=layer.lora_rank)
        found += embedding(view, _before_b(layer, b, calls))
    if b.trainable:
        matrix = ops.cast(a, "float32")
        looked_up = [(ops.take(matrix, ops.cast(ids, "int32"), axis=0), dz) for ids, dz in calls]
        found += [(b, _gradient_of_b(layer, looked_up))]
    return found


def _before_b(layer, b, calls):
    """The calls with gradients by what A gives, s dz B'."""
    turned = ops.transpose(ops.cast(b, "float32")) * _scale(layer)
    return [(x, ops.matmul(dz, turned)) for x, dz in calls]


def _gradient_of_b(layer, pairs):
    """The gradient of B from pairs (what A gives, dz) of shape (batch, *positions, width)."""

    def positions(tensor):
        between = tensor.shape[1:-1]
        count = math.prod(between) if None not in between else -1
        return ops.reshape(tensor, (ops.shape(tensor)[0], 1, count, tensor.shape[-1]))

    return OuterProducts(
        ops.concatenate([positions(given) * _scale(layer) for given, _ in pairs], axis=2),
        ops.concatenate([positions(dz) for _, dz in pairs], axis=2),
        lambda total: total[0],
    )


def _scale(layer):
    return layer.lora_alpha / layer.lora_rank
