"""Normalized gradients: no clip to tune."""

from dataclasses import dataclass
from typing import ClassVar

from keras_secure.errors import PrivacyError
from keras_secure.privacy.clipping_modes.mode import ClippingMode

# Below, the factor of a vanishing gradient would leave the range of float32.
_SMALLEST = 1e-8


@dataclass(frozen=True)
class AutomaticClipping(ClippingMode):
    """Scales each example's whole gradient g to `g * C / (||g|| + gamma)`, whatever its norm.

    `DPOptimizer(clipping="automatic")`. No example is left as it is, so the clip C only scales the
    learning rate and needs no tuning; C = 1 is customary. The sensitivity is C, and the accounting
    that of flat clipping.

    Args:
        gamma: Positive float that keeps some of the difference between small and large gradients,
            without which training may stall. Defaults to 0.01.

    Raises:
        PrivacyError: if `gamma` is below 1e-8.

    Example:

    >>> AutomaticClipping(gamma=0.1).gamma
    0.1

    Reference: Bu et al. 2023, Automatic Clipping (arXiv 2206.07136), sections 3 (AUTO-S) and 4.
    """

    kind: ClassVar[str] = "automatic"
    gamma: float = 0.01

    def __post_init__(self):
        if not _SMALLEST <= self.gamma < float("inf"):
            raise PrivacyError(f"gamma is {self.gamma}; it must be finite and at least 1e-8.")

    def factors(self, norms, limit):
        """See `ClippingMode`."""
        return limit / (norms + self.gamma)
