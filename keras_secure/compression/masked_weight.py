"""Masks that hold after every update, because they are a constraint of the weight."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_secure import backend
from keras_secure.compression.kernels import Kernel
from keras_secure.compression.sparsity_pattern import SparsityPattern


class MaskedWeight(keras.constraints.Constraint):
    """Sets what a mask drops to zero, and at the steps of a schedule chooses the mask anew.

    Optimizers call the constraint of a weight inside the step, after each update: so the mask holds
    in graphs, in compiled steps, in many steps per execution, and under an optimizer that clips and
    adds noise.

    Args:
        kernel: The kernel; its own constraint comes first.
        pattern: Where zeros may lie.
        engine: `"native"`, or `"tfmot"` for the toolkit's own mask updates.
    """

    def __init__(self, kernel: Kernel, pattern: SparsityPattern, engine: str = "native"):
        self.kernel, self.pattern, self.engine = kernel, pattern, engine
        self.original = kernel.variable.constraint
        self.fit: Any = None
        self.schedule: Any = None
        self.iterations: Any = None
        weights = np.asarray(ops.convert_to_numpy(kernel.variable))
        # What is zero already was pruned before, unless all is, as a kernel may begin.
        kept = weights != 0 if weights.any() else np.ones(weights.shape, bool)
        self.zeros = float(1 - kept.mean())
        dtype = "bool" if engine == "native" else kernel.variable.dtype
        self.mask = keras.Variable(kept.astype(dtype), dtype=dtype, trainable=False)
        self._threshold: Any = None
        if engine != "native":
            self._threshold = keras.Variable(0.0, dtype=dtype, trainable=False)

    def attach(self, fit: Any, schedule: Any = None, iterations: Any = None) -> None:
        """Becomes the variable's constraint; without a schedule the mask stays as it is.

        `fit` is any object of the running fit: masks of another one, which broke off, are dropped.
        """
        self.fit, self.schedule, self.iterations = fit, schedule, iterations
        while isinstance(self.original, MaskedWeight) and self.original.fit is not fit:
            self.original = self.original.original
        self.kernel.variable.constraint = self

    def detach(self) -> None:
        """Leaves the variable the constraints it has without this one."""
        variable = self.kernel.variable
        if variable.constraint is self:
            variable.constraint = self.original
            return
        outer = variable.constraint
        while isinstance(outer, MaskedWeight):
            if outer.original is self:
                outer.original = self.original
            outer = outer.original

    def apply(self) -> None:
        """Sets what the mask drops to zero now (not traceable)."""
        self.kernel.variable.assign(self._masked(self.kernel.variable))

    def choose(self, step: Any) -> None:
        """Chooses the mask anew if `step` is one of the schedule's; traceable."""
        variable = self.kernel.variable
        if self.engine != "native":
            backend.toolkit_pruning(
                step, variable.value, self.mask.value, self._threshold.value, self.schedule
            )
            return
        is_chosen, sparsity = self.schedule(step)

        def renew():
            weights = ops.convert_to_tensor(variable)
            self.mask.assign(self.pattern.mask(weights, sparsity, self.kernel.input_axis))
            return ops.zeros((), "int32")

        ops.cond(is_chosen, renew, lambda: ops.zeros((), "int32"))

    def __call__(self, w):
        """Returns the weight as it is held to be after an update."""
        if self.original is not None:
            w.assign(self.original(w))
        if self.schedule is not None:
            self.choose(ops.convert_to_tensor(self.iterations) + 1)
        return self._masked(w)

    def _masked(self, w):
        weights = ops.convert_to_tensor(w)
        # Chosen and not multiplied: a product could leave negative zeros and NaN.
        return ops.where(ops.cast(self.mask, "bool"), weights, ops.zeros_like(weights))

    def get_config(self):
        """Returns nothing: it lives on a variable, which Keras never serializes."""
        return {}
