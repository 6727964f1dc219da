"""The sum of clipped per-example gradients at about the price of an ordinary step."""

import keras
from keras import ops

from keras_secure.privacy.clipped_sum import ClippedSum
from keras_secure.privacy.clipping_modes import FlatClipping
from keras_secure.privacy.per_example_gradients import PerExampleGradients

# Clipping aims this much below the bound, so that float32 rounding of norms and sums cannot lift
# the sensitivity over it.
_ROUNDING_MARGIN = 4e-6


class PerExampleClipping:
    """Computes clipped sums for one model.

    Which layers have a rule is decided once; the others run with one copy of their weights per
    example, which is exact, slower, and announced by a `FallbackWarning`.

    Args:
        model: A built Keras model.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> from keras_secure.privacy import PerExampleClipping
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    >>> x = np.array([[3.0, 4.0], [0.3, 0.4]], "float32")
    >>> def losses():
    ...     return keras.ops.sum(model(x), axis=-1), None
    >>> total, _, _ = PerExampleClipping(model).clipped_sum(losses, l2_norm_clip=1.0, batch_size=2)
    >>> print(np.round(keras.ops.convert_to_numpy(total.values[0]).ravel(), 4))
    [0.9 1.2]
    """

    def __init__(self, model):
        self.gradients = PerExampleGradients(model)

    def clipped_sum(
        self,
        per_example_losses,
        *,
        l2_norm_clip,
        batch_size,
        example_mask=None,
        loss_scale=1.0,
        mode=None,
    ):
        """Returns the clipped sum of the gradients of per-example losses.

        Args:
            per_example_losses: Function without arguments that runs the model and returns
                (losses of shape (batch,), aux). Each loss may depend on its own example only.
            l2_norm_clip: The bound C on each example's gradient norm: a positive float, or a
                float32 variable.
            batch_size: Examples in the batch, an int, or an int tensor if it is not static.
            example_mask: Optional (batch,) bool; false for padding, which counts as nothing.
            loss_scale: Factor on the loss against float16 underflow; undone before the norms.
            mode: A `ClippingMode`; flat if None.

        Returns:
            (`ClippedSum`, losses, aux). An example with a non-finite gradient counts as zero.
        """
        contributions, losses, aux, _ = self.gradients.differentiate(
            per_example_losses, batch_size, example_mask, loss_scale
        )
        mode = FlatClipping() if mode is None else mode
        is_fixed = not isinstance(l2_norm_clip, keras.Variable)
        bound = float(l2_norm_clip) if is_fixed else l2_norm_clip
        clip = bound if is_fixed else ops.convert_to_tensor(bound)
        groups = [
            ({id(v): contributions[id(v)] for v in variables if id(v) in contributions}, share)
            for variables, share in mode.groups(self.gradients.model)
        ]
        nothing = ops.zeros_like(losses, dtype="float32")
        squared = [sum((c.squared_norms() for c in own.values()), nothing) for own, _ in groups]
        norms = ops.sqrt(sum(squared))
        finite = ops.isfinite(norms)
        counts = finite if example_mask is None else ops.logical_and(finite, example_mask)
        _silence(contributions.values(), finite)
        limit = clip * (1.0 - _ROUNDING_MARGIN)
        weights = {}
        for (own, share), group_squared in zip(groups, squared, strict=True):
            # Where the norm is no number the weight is zero, and must not become one by arithmetic.
            safe = ops.maximum(ops.where(counts, ops.sqrt(group_squared), 1.0), 1e-30)
            factors = ops.where(counts, mode.factors(safe, limit * share), 0.0)
            weights.update(dict.fromkeys(own, factors))
        values = self.gradients.weighted_sums(contributions, weights)
        within = ops.where(ops.logical_and(counts, norms <= clip), 0.5, -0.5)
        if example_mask is not None:
            within = ops.where(example_mask, within, 0.0)
        return ClippedSum(values, bound, norms, ops.sum(within)), losses, aux


def _silence(contributions, finite):
    """Zeroes what belongs to examples that are not finite: zero times infinity would be NaN."""
    factors = [factor for contribution in contributions for factor in contribution.factors]

    def zeroed():
        column = [ops.reshape(finite, (-1,) + (1,) * (len(f.shape) - 1)) for f in factors]
        return [ops.where(keep, f, 0.0) for keep, f in zip(column, factors, strict=True)]

    # Rare, so the usual step must not pay a pass over every factor for it.
    remaining = iter(ops.cond(ops.all(finite), lambda: factors, zeroed))
    for contribution in contributions:
        contribution.factors = [next(remaining) for _ in contribution.factors]
