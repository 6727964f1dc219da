"""Kernels whose weights share a few values in training, which are learned."""

from typing import Any

import numpy as np
from keras import ops

from keras_secure.arguments import check_integer
from keras_secure.compression.kmeans import centroids_of
from keras_secure.errors import InputError
from keras_secure.registration import component

_INITIAL = ("linear", "density")


@component("compression")
class SharedWeights:
    """Replaces each weight of a kernel by the nearest of a few values.

    A value's gradient is the mean of those of the weights that share it; the weights behind get
    theirs as they are, so that a weight can move from one value to the next.

    Args:
        num_clusters: How many values a kernel has, 2 to 256, zero included.
        initial: Where k-means starts: `"linear"` or `"density"`.
        keep_zeros: Whether weights that are exactly zero stay so; zero is then one of the values.

    Raises:
        InputError: An option is out of range.

    Example:

    >>> import keras
    >>> model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(8)])
    >>> from keras_secure.compression import cluster_aware, strip
    >>> model = strip(cluster_aware(model, num_clusters=4))
    >>> len(np.unique(model.layers[0].kernel))
    4

    Reference:
        Han, Mao and Dally 2016, Deep compression (arXiv 1510.00149), section 3.
    """

    def __init__(self, num_clusters: int = 16, initial: str = "linear", keep_zeros: bool = False):
        check_integer("num_clusters", num_clusters, 2, 256)
        if initial not in _INITIAL:
            raise InputError(f"initial={initial!r} was given; expected 'linear' or 'density'.")
        self.num_clusters, self.initial = int(num_clusters), initial
        self.keep_zeros = bool(keep_zeros)

    @property
    def _count(self) -> int:
        return self.num_clusters - self.keep_zeros

    def build(self, layer: Any, name: str, variable: Any, axis: int) -> dict[str, Any]:
        """Adds the shared values to a layer for one kernel, and returns them."""
        del variable, axis  # one set of values for the whole kernel
        values = layer.add_weight(
            shape=(self._count,),
            initializer="zeros",
            dtype="float32",
            autocast=False,
            name=f"{name}_centroids",
        )
        return {"centroids": values}

    def start(self, state: dict[str, Any], weights: np.ndarray, axis: int) -> None:
        """Sets the shared values by k-means of the weights."""
        del axis
        values = weights[weights != 0] if self.keep_zeros else weights.ravel()
        if values.size:
            state["centroids"].assign(centroids_of(values, self._count, self.initial))

    def computed(self, state: dict[str, Any], variable: Any) -> Any:
        """The kernel of shared values, exactly these; traceable, float32."""
        weights = ops.cast(ops.convert_to_tensor(variable), "float32")
        centroids = ops.sort(ops.convert_to_tensor(state["centroids"]))
        fixed = ops.stop_gradient(centroids)
        flat = ops.reshape(weights, (-1,))
        if self._count == 1:
            nearest = ops.zeros(flat.shape, "int32")
        else:
            midpoints = (fixed[1:] + fixed[:-1]) / 2
            nearest = ops.cast(ops.searchsorted(midpoints, ops.stop_gradient(flat)), "int32")
        moves = ops.ones_like(flat)
        if self.keep_zeros:
            moves = ops.cast(ops.not_equal(flat, 0.0), "float32")
        sizes = ops.segment_sum(moves, nearest, num_segments=self._count)
        share = moves / ops.take(ops.maximum(sizes, 1.0), nearest)
        values = ops.where(moves > 0, ops.take(fixed, nearest), 0.0)
        # Zero, with the gradients of the shared values and of the weights behind them.
        moved = flat + ops.take(centroids, nearest) * ops.stop_gradient(share)
        exact = ops.stop_gradient(values) + (moved - ops.stop_gradient(moved))
        return ops.reshape(exact, weights.shape)

    def described(self, state: dict[str, Any], variable: Any, axis: int) -> None:
        """None: shared values are no integers times a scale."""

    def get_config(self):
        """Returns the options."""
        return {
            "num_clusters": self.num_clusters,
            "initial": self.initial,
            "keep_zeros": self.keep_zeros,
        }

    @classmethod
    def from_config(cls, config):
        """Makes it from its options."""
        return cls(**config)
