"""Per-example gradients of a convolution's kernel, summed by the convolution's own gradient."""

from keras import ops

from keras_secure import backend
from keras_secure.privacy.contributions import Contribution, OuterProducts


class ConvolutionProducts(Contribution):
    """Gradients that are sums over places of outer products of window and output gradient.

    The windows, which repeat every input as often as the kernel has taps, live only while the norms
    are taken. Where those needed the gradients in full these are kept; otherwise the sum is what
    the ordinary step computes, from scaled output gradients.

    Args:
        inputs: Shape (batch, *space, channels), float32.
        grads: Gradients of the outputs, channels last, float32.
        windows: Maps inputs and grads to windows (batch, inputs, positions) and gradients at these,
            (batch, positions, filters).
        convolve: Maps inputs and a kernel to the outputs.
        kernel_shape: Shape of the kernel, (*window, channels, filters).
    """

    def __init__(self, inputs, grads, windows, convolve, kernel_shape):
        self.factors = [inputs, grads]
        self._windows, self._convolve = windows, convolve
        self._kernel_shape = tuple(kernel_shape)
        self._products = None

    def as_outer_products(self):
        """The same gradients with the windows held."""
        windows, grads = self._windows(*self.factors)
        return OuterProducts(
            windows[:, None],
            grads[:, None],
            lambda total: ops.reshape(total, self._kernel_shape),
            positions_last=True,
        )

    def squared_norms(self):
        """See `Contribution`."""
        products = self.as_outer_products()
        squared = products.squared_norms()
        if products.is_full:
            self._products, self.factors = products, products.factors
        return squared

    def weighted_sum(self, weights):
        """See `Contribution`."""
        if self._products is not None:
            self._products.factors = self.factors
            return self._products.weighted_sum(weights)
        inputs, grads = self.factors
        scaled = grads * ops.reshape(weights, (-1,) + (1,) * (len(grads.shape) - 1))
        kernel = ops.zeros(self._kernel_shape, "float32")
        return backend.pulled_back(lambda k: self._convolve(inputs, k), kernel, scaled)
