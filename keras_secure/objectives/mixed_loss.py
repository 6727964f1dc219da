"""The loss of an example that is part one, part another."""

import keras
from keras import ops, tree

# Each pair of draws is accepted more than 19 times in 20, so all fail less than once in 1e20.
_CANDIDATES = 16


class MixedLoss:
    """A `PerExampleLoss` under which each prediction answers for two examples.

    Args:
        loss: The `PerExampleLoss`.
        partners: Integer tensor of shape (batch,): which example is the second one.
        share: Scalar tensor in [0, 1]: the share of the first.

    Example:

    >>> from keras_secure.objectives import PerExampleLoss
    >>> loss = MixedLoss(PerExampleLoss("mse"), ops.convert_to_tensor([1, 0]), 0.75)
    >>> print(ops.convert_to_numpy(loss(ops.convert_to_tensor([[0.0], [1.0]]), ops.zeros((2, 1)))))
    [0.25 0.75]
    """

    def __init__(self, loss, partners, share):
        self.loss, self.partners, self.share = loss, partners, share
        self.weigh = loss.weigh

    @property
    def from_logits(self):
        """See `PerExampleLoss`."""
        return self.loss.from_logits

    def over_labels(self, term, y, sample_weight=None):
        """See `PerExampleLoss`: the two labels' terms, each by its share."""
        other, other_weight = tree.map_structure(self._of_partners, (y, sample_weight))
        first = self.loss.over_labels(term, y, sample_weight)
        second = self.loss.over_labels(term, other, other_weight)
        return self.share * first + (1.0 - self.share) * second

    def __call__(self, y, y_pred, sample_weight=None):
        """Returns the loss of each mixture, shape (batch,), float32."""
        return self.over_labels(lambda loss, y, weight: loss(y, y_pred, weight), y, sample_weight)

    def _of_partners(self, values):
        return None if values is None else ops.take(values, self.partners, axis=0)


def beta_share(alpha, seed):
    """Draws a number from Beta(alpha, alpha).

    The ratio of two gamma variables, formed from their logarithms: for a small `alpha` both
    underflow, and their plain ratio would be 0 / 0.

    Args:
        alpha: Positive float.
        seed: A `keras.random.SeedGenerator`.

    Returns:
        A float32 scalar tensor in [0, 1].

    Example:

    >>> share = float(beta_share(0.2, keras.random.SeedGenerator(0)))
    >>> 0.0 <= share <= 1.0
    True

    Reference: Marsaglia & Tsang 2000, "A simple method for generating gamma variables", ACM TOMS
    26(3), with the boost of section 6 for shapes below 1.
    """
    # log G of shape a is log G of shape a + 1 plus log(U) / a.
    reach = alpha + 1.0 - 1.0 / 3.0
    normal = keras.random.normal((2, _CANDIDATES), seed=seed)
    uniform = keras.random.uniform((2, _CANDIDATES + 1), minval=1e-30, seed=seed)
    cube = (1.0 + normal / (9.0 * reach) ** 0.5) ** 3
    log_cube = ops.log(ops.maximum(cube, 1e-30))
    accepted = ops.logical_and(
        cube > 0,
        ops.log(uniform[:, 1:]) < 0.5 * normal**2 + reach * (1.0 - cube + log_cube),
    )
    chosen = ops.take_along_axis(
        log_cube, ops.argmax(ops.cast(accepted, "int32"), axis=1)[:, None], axis=1
    )[:, 0]
    log_gamma = chosen + ops.log(uniform[:, 0]) / alpha
    return ops.sigmoid(log_gamma[0] - log_gamma[1])
