"""A kernel that is computed from another while that one is trained."""

from typing import Any

import numpy as np
from keras import ops

from keras_secure.compression.kernels import Kernel
from keras_secure.compression.quantized_weights import QuantizedWeight


class TrainedKernel:
    """What a scheme makes of one kernel, and the variables that it needs for it.

    Args:
        scheme: A `LearnedStepSize` or `SharedWeights`.
        layer: The layer that is to hold the scheme's variables; they are added to it.
        name: What to call the kernel in their names.
        kernel: The kernel that is trained.
    """

    def __init__(self, scheme: Any, layer: Any, name: str, kernel: Kernel):
        self.scheme, self.kernel = scheme, kernel
        self.state = scheme.build(layer, name, kernel.variable, kernel.axis)

    def start(self) -> None:
        """Fits the scheme's variables to the kernel as it is now (not traceable)."""
        weights = np.asarray(ops.convert_to_numpy(self.kernel.variable), np.float32)
        self.scheme.start(self.state, weights, self.kernel.axis)

    def computed(self) -> Any:
        """The float32 kernel to compute with; traceable."""
        return self.scheme.computed(self.state, self.kernel.variable)

    def weights(self) -> np.ndarray:
        """The same as it is now (not traceable)."""
        return np.asarray(ops.convert_to_numpy(self.computed()))

    def quantized(self) -> QuantizedWeight | None:
        """Its integers and scales, None if it has none (not traceable)."""
        return self.scheme.described(self.state, self.kernel.variable, self.kernel.axis)
