"""Where the zeros of a pruned kernel may lie."""

import re
from dataclasses import dataclass
from typing import Any

from keras_secure.compression.kernels import Kernel
from keras_secure.compression.masks import block_mask, magnitude_mask
from keras_secure.errors import InputError


@dataclass(frozen=True)
class SparsityPattern:
    """A rule for masks.

    Args:
        kept: How many of each block stay; None for a pattern without blocks.
        block: Length of a block of input channels.
    """

    kept: int | None = None
    block: int | None = None

    @classmethod
    def parse(cls, text: Any) -> "SparsityPattern":
        """Reads `"unstructured"` or `"2:4"` (two of every four input channels stay)."""
        found = re.fullmatch(r"(\d{1,3}):(\d{1,3})", text) if isinstance(text, str) else None
        if text == "unstructured":
            return cls()
        if found is None or not 0 < int(found[1]) < int(found[2]):
            raise InputError(
                f"pattern={text!r} was given; expected 'unstructured', or '2:4' for two weights "
                "kept of every four input channels (any smaller and larger number)."
            )
        return cls(int(found[1]), int(found[2]))

    @property
    def has_blocks(self) -> bool:
        """Whether zeros are counted by blocks."""
        return self.block is not None

    def fits(self, kernel: Kernel) -> bool:
        """Whether the pattern can prune anything of a kernel."""
        if self.kept is None:
            return True
        axis = kernel.input_axis
        return axis is not None and kernel.variable.shape[axis] > self.kept

    def mask(self, weights: Any, sparsity: Any, input_axis: int | None) -> Any:
        """The boolean mask for a tensor of weights; traceable. Blocks ignore `sparsity`."""
        if self.kept is None or self.block is None or input_axis is None:
            return magnitude_mask(weights, sparsity)
        return block_mask(weights, self.kept, self.block, input_axis)
