"""A clip that follows a quantile of the gradient norms."""

import math
from dataclasses import dataclass
from typing import ClassVar

from keras import ops

from keras_secure.errors import PrivacyError
from keras_secure.privacy.clipping_modes.mode import ClippingMode


@dataclass(frozen=True)
class AdaptiveClipping(ClippingMode):
    """Flat clipping whose clip moves towards a quantile of the gradient norms.

    `DPOptimizer(clipping="adaptive")`. Each step also counts, with noise, how many gradients lie
    below the clip, and multiplies the clip by `exp(-learning_rate * (share - target_quantile))`. An
    example counts as b - 1/2, where b is 1 below the clip and 0 above it, so that adding or
    removing it moves the count by 1/2. The gradient takes as much more noise as the count costs:
    together they are one Gaussian mechanism of the stated `noise_multiplier`, and that is what the
    ledger holds. The clip is released with the weights and saved in checkpoints.

    The share is measured against `expected_batch_size`; where batches of the user's own pipeline
    differ from it on average, quantiles other than 0.5 are off by that ratio.

    Args:
        target_quantile: Float in (0, 1), the share of gradients left unclipped. Defaults to 0.5.
        learning_rate: Positive float, the speed of the clip. Defaults to 0.2.
        count_stddev: Standard deviation of the noise of the count, in examples; more than half the
            noise multiplier. None takes `expected_batch_size / 20`.

    Raises:
        PrivacyError: for arguments out of range.

    Example:

    >>> AdaptiveClipping(count_stddev=10.0).sum_noise_multiplier(1.0, 256)
    1.0012523486435176

    Reference: Andrew et al. 2021 (arXiv 1905.03871), algorithm 1 and theorem 1.
    """

    kind: ClassVar[str] = "adaptive"
    target_quantile: float = 0.5
    learning_rate: float = 0.2
    count_stddev: float | None = None

    def __post_init__(self):
        if not 0 < self.target_quantile < 1:
            raise PrivacyError(
                f"target_quantile is {self.target_quantile}; it must lie strictly in (0, 1)."
            )
        if not 0 < self.learning_rate < math.inf:
            raise PrivacyError(
                f"The clip's learning_rate is {self.learning_rate}; it must be positive and finite."
            )
        if self.count_stddev is not None and not 0 < self.count_stddev < math.inf:
            raise PrivacyError(
                f"count_stddev is {self.count_stddev}; it must be positive and finite."
            )

    def noise_of_count(self, expected_batch_size):
        """Returns the standard deviation of the noise of the count, a float, in examples."""
        if self.count_stddev is not None:
            return float(self.count_stddev)
        return float(expected_batch_size) / 20.0

    def sum_noise_multiplier(self, noise_multiplier, expected_batch_size):
        """Returns the noise multiplier of the gradient that leaves room for the noisy count.

        With z the stated multiplier and s the noise of the count, it is
        `(z^-2 - (2 s)^-2)^(-1/2)`: then gradient and count together cost what z states.

        Raises:
            PrivacyError: if the count alone costs as much or more.
        """
        stddev = self.noise_of_count(expected_batch_size)
        if noise_multiplier == 0:
            return 0.0
        ratio = noise_multiplier / (2.0 * stddev)
        if not ratio < 1:
            raise PrivacyError(
                f"The count of adaptive clipping has noise {stddev:g}, which alone costs more than "
                f"noise_multiplier={noise_multiplier:g} states. Give AdaptiveClipping(count_stddev="
                f"...) above {noise_multiplier / 2:g}, better above {noise_multiplier:g}, or a "
                "larger batch."
            )
        return noise_multiplier / math.sqrt(1.0 - ratio**2)

    def next_clip(self, clip, noisy_count, expected_batch_size):
        """Returns the clip of the next step.

        Args:
            clip: Scalar tensor, the clip of this step.
            noisy_count: Scalar tensor, the sum of b - 1/2 over the batch, with noise.
            expected_batch_size: Scalar.
        """
        excess = noisy_count / expected_batch_size + 0.5 - self.target_quantile
        return clip * ops.exp(-self.learning_rate * excess)
