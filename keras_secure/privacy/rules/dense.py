"""Rules for layers that are one tensor contraction: Dense and EinsumDense."""

import math
import string

import keras
from keras import ops

from keras_secure.privacy.contributions import Materialized, OuterProducts
from keras_secure.privacy.rules.registry import register_rule


def is_plain(layer):
    """Whether the kernel is used as it is: neither LoRA factors nor quantized weights."""
    return not getattr(layer, "lora_enabled", False) and (
        getattr(layer, "quantization_mode", None) is None
    )


def bias_gradient(calls, bias):
    """Per-example gradients of a bias that broadcasts to the trailing axes of the output."""
    total = 0.0
    for _, grads in calls:
        rank = len(grads.shape)
        padded = (1,) * (rank - 1 - len(bias.shape)) + tuple(bias.shape)
        axes = tuple(axis for axis in range(1, rank) if padded[axis - 1] == 1)
        summed = ops.sum(grads, axis=axes) if axes else grads
        total = total + ops.reshape(summed, (-1, *bias.shape))
    return Materialized(total)


@register_rule(keras.layers.Dense, covers=is_plain)
def dense(layer, calls):
    """Dense: the outer product of input and pre-activation gradient at each position."""
    found: list = []
    products = None
    if layer.kernel.trainable:
        width_in, width_out = layer.kernel.shape
        products = OuterProducts(
            _joined([ops.reshape(x, _flat(x, width_in)) for x, _ in calls]),
            _joined([ops.reshape(dz, _flat(dz, width_out)) for _, dz in calls]),
            lambda total: total[0],
        )
        found += [(layer.kernel, products)]
    if layer.bias is not None and layer.bias.trainable:
        if products is not None and products.factors[1].shape[2] == 1:
            # With one position the gradients of the bias are among the kernel's factors.
            bias = Materialized(calls[0][1], products.grad_lengths)
        else:
            bias = bias_gradient(calls, layer.bias)
        found += [(layer.bias, bias)]
    return found


def has_known_axes(equation):
    """Whether the leading axis is the batch, and each kernel axis meets the input or the output."""
    inputs, kernel, output = _letters(equation, 26)
    return inputs[:1] == output[:1] not in kernel and set(kernel) <= set(inputs) | set(output)


@register_rule(
    keras.layers.EinsumDense,
    covers=lambda layer: is_plain(layer) and has_known_axes(layer.equation),
)
def einsum_dense(layer, calls):
    """EinsumDense: the axes of the equation sorted into positions, groups, inputs and outputs."""
    found = []
    if layer.kernel.trainable:
        factors = [_einsum_factors(layer, x, dz) for x, dz in calls]
        found += [
            (
                layer.kernel,
                OuterProducts(
                    _joined([left for left, _, _ in factors]),
                    _joined([right for _, right, _ in factors]),
                    factors[0][2],
                ),
            )
        ]
    if layer.bias is not None and layer.bias.trainable:
        found += [(layer.bias, bias_gradient(calls, layer.bias))]
    return found


def _einsum_factors(layer, x, dz):
    inputs, kernel, output = _letters(layer.equation, len(x.shape))
    batch = inputs[0]
    sizes = dict(zip(inputs, x.shape, strict=True)) | dict(zip(output, dz.shape, strict=True))
    lost = [a for a in inputs if a not in output and a not in kernel]
    if lost:
        x = ops.sum(x, axis=[inputs.index(a) for a in lost])
        inputs = "".join(a for a in inputs if a not in lost)
    positions = [a for a in inputs if a in output and a not in kernel and a != batch]
    groups = [a for a in kernel if a in inputs and a in output]
    contracted = [a for a in kernel if a in inputs and a not in output]
    produced = [a for a in kernel if a in output and a not in inputs]

    def size(letters):
        return math.prod(sizes[a] for a in letters)

    def arranged(tensor, letters, last):
        order = [batch, *groups, *positions, *last]
        tensor = ops.transpose(tensor, [letters.index(a) for a in order])
        count = -1 if any(sizes[a] is None for a in positions) else size(positions)
        return ops.reshape(tensor, (ops.shape(tensor)[0], size(groups), count, size(last)))

    def finish(total):
        order = [*groups, *contracted, *produced]
        total = ops.reshape(total, [sizes[a] for a in order])
        return ops.transpose(total, [order.index(a) for a in kernel])

    return arranged(x, inputs, contracted), arranged(dz, output, produced), finish


def _letters(equation, input_rank):
    """The equation's three terms, an ellipsis spelt out for an input of `input_rank` axes."""
    left, output = equation.replace(" ", "").split("->")
    inputs, kernel = left.split(",")
    spare = [a for a in string.ascii_letters if a not in equation]
    named = len(inputs.replace("...", ""))
    filler = "".join(spare[: input_rank - named]) if "..." in inputs else ""
    return inputs.replace("...", filler), kernel, output.replace("...", filler)


def _flat(tensor, width):
    positions = math.prod(tensor.shape[1:-1]) if None not in tensor.shape[1:-1] else -1
    return (ops.shape(tensor)[0], 1, positions, width)


def _joined(tensors):
    # Uses of one layer join along the positions, which makes the cross terms between them exact.
    return tensors[0] if len(tensors) == 1 else ops.concatenate(tensors, axis=2)
