"""The gradient of each example's loss by that example."""

from keras import ops

from keras_secure import backend


def input_gradient_of_sum(loss, inputs):
    """Differentiates per-example losses by their inputs.

    Args:
        loss: Function of the inputs that returns losses of shape (batch,), or a (losses, aux)
            pair.
        inputs: Floating point tensor of shape (batch, ...).

    Returns:
        (what `loss` returned, gradient): the gradient is like `inputs`, and its row i is the
        gradient of loss i by input i as long as `loss` keeps examples apart.

    Example:

    >>> x = ops.convert_to_tensor([[1.0], [2.0]])
    >>> losses, gradient = input_gradient_of_sum(lambda x: ops.sum(x**2, axis=1), x)
    >>> print(ops.convert_to_numpy(gradient).ravel())
    [2. 4.]
    """

    def total(inputs):
        result = loss(inputs)
        losses = result[0] if isinstance(result, tuple) else result
        # A sum keeps examples apart; a mean would scale each by the number of its batch-mates.
        return ops.sum(losses), result

    (_, result), gradient = backend.input_gradient(total, inputs)
    return result, gradient
