"""One bound for the whole gradient."""

from dataclasses import dataclass
from typing import ClassVar

from keras_secure.privacy.clipping_modes.mode import ClippingMode


@dataclass(frozen=True)
class FlatClipping(ClippingMode):
    """Scales each example's whole gradient g to `g * min(1, C / ||g||)`.

    The default mode, `DPOptimizer(clipping="flat")`.

    Example:

    >>> FlatClipping().get_config()
    {'kind': 'flat'}

    Reference: Abadi et al. 2016 (arXiv 1607.00133), algorithm 1.
    """

    kind: ClassVar[str] = "flat"
