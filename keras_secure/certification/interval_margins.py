"""By how much the label leads over every other class, anywhere in a box of inputs."""

from keras import ops

from keras_secure.certification.interval_bounds import before_last_linear, input_box
from keras_secure.errors import InputError


def worst_margins(model, lower, upper, labels, arithmetic):
    """Lower bounds on the label's logit minus each other one over a box of inputs.

    The last `Dense` layer is merged with the differences of its outputs (specification elision), so
    that the errors of two logits are not added up where they come from the same hidden values.

    Args:
        model: A Sequential or functional classifier.
        lower: Tensor of shape (batch, ...): the least inputs.
        upper: Tensor of that shape: the largest.
        labels: Int32 tensor of shape (batch,).
        arithmetic: The `Arithmetic`; without margins for rounding the bounds are for training.

    Returns:
        A tensor of shape (batch, num_classes), 0 in the label's own place. A single unit z is two
        classes with the logits 0 and z.

    Raises:
        InputError: If the model, or a layer of it, is not covered.

    Example:

    >>> import keras, numpy as np
    >>> from keras_secure.certification.interval import Arithmetic
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, use_bias=False)])
    >>> model.set_weights([np.array([[3.0, 1.0], [0.0, 0.0]])])
    >>> ends = ops.convert_to_tensor([[0.5, 0.0]]), ops.convert_to_tensor([[1.0, 0.0]])
    >>> margins = worst_margins(model, *ends, ops.convert_to_tensor([0]), Arithmetic())
    >>> round(float(margins[0, 1]), 3)  # 2 * 0.5; the logits apart give 1.5 - 1.0
    1.0

    Reference: Gowal et al. 2018 (arXiv 1810.12715), section 3, "elision of the last layer".
    """
    box = input_box(lower, upper, arithmetic)
    found, dense = before_last_linear(model, box, arithmetic)
    if len(found.lower.shape) != 2:
        raise InputError(
            f"The model's output has {len(found.lower.shape)} axes. Expected a classifier's "
            "(batch, num_classes), or (batch, 1) for two classes."
        )
    if dense is None:
        return _of_logits(found, labels)
    kernel = arithmetic.cast(dense.kernel)
    bias = ops.zeros_like(kernel[0]) if dense.bias is None else arithmetic.cast(dense.bias)
    if kernel.shape[1] == 1:
        kernel = ops.concatenate([ops.zeros_like(kernel), kernel], axis=1)
        bias = ops.concatenate([ops.zeros_like(bias), bias], axis=0)
    values = ops.matmul(found.center, kernel) + bias
    by_class = ops.transpose(kernel)
    apart = ops.abs(ops.take(by_class, labels, axis=0)[:, None, :] - by_class[None])
    reach = ops.sum(apart * found.radius[:, None, :], axis=-1)
    margins = _own(values, labels) - values - reach
    if arithmetic.sound:
        sizes = ops.matmul(found.magnitude, ops.abs(kernel)) + ops.abs(bias)
        sizes = _own(sizes, labels) + sizes
        terms, dtype = kernel.shape[0], dense.compute_dtype
        margins = margins - arithmetic.error(sizes, terms, dtype, products=True)
    return ops.where(_labelled(labels, margins), ops.zeros_like(margins), margins)


def _of_logits(found, labels):
    lower, upper = found.lower, found.upper
    if lower.shape[1] == 1:
        lower, upper = (ops.concatenate([ops.zeros_like(e), e], axis=1) for e in (lower, upper))
    margins = _own(lower, labels) - upper
    return ops.where(_labelled(labels, margins), ops.zeros_like(margins), margins)


def _labelled(labels, values):
    return ops.one_hot(labels, values.shape[1], dtype="bool")


def _own(values, labels):
    return ops.take_along_axis(values, labels[:, None], axis=1)
