"""Prunes a model during `fit`, and holds what was pruned."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_secure import backend
from keras_secure.arguments import check_number
from keras_secure.callbacks.masking_callback import MaskingCallback
from keras_secure.compression.masked_weight import MaskedWeight
from keras_secure.compression.prune import prunable
from keras_secure.compression.schedules import PolynomialDecay
from keras_secure.compression.sparsity_pattern import SparsityPattern
from keras_secure.errors import InputError

_BEGIN, _END, _CHOICES = 0.1, 0.7, 50


class Pruning(MaskingCallback):
    """Prunes the smallest weights of each kernel step by step during `fit`.

    The masks are constraints of the weights, so that they hold after every single update: inside
    the compiled step, with `steps_per_execution`, in a `SecureModel` with any objective, and under
    a `DPOptimizer`, where they depend on the noised weights alone and cost no privacy. What is zero
    when `fit` begins counts as pruned until masks are chosen anew.

    After `fit` the model is an ordinary one with zeros. A later `fit` moves them, unless it has
    this callback or `HoldZeros`. Put it after callbacks that set weights when training ends, such
    as `EarlyStopping(restore_best_weights=True)`.

    Adds `sparsity` to `logs`.

    Args:
        sparsity: Share of each kernel that is pruned in the end, in [0, 1). Not for blocks.
        pattern: `"unstructured"`, or `"2:4"` to keep two of every four input channels.
        schedule: `keras_secure.compression.PolynomialDecay` or `ConstantSparsity`, or one of the
            Model Optimization Toolkit's: a function from a step (of the optimizer's `iterations`)
            to whether masks are chosen there, and the sparsity. In place of `sparsity`. By default
            polynomial decay from a tenth of this fit's steps to seven tenths of them, from the
            sparsity that is there.
        layers: Names of the layers to prune; by default all with a kernel that is trained.
        engine: `"native"`, or `"tfmot"` for the toolkit's own mask updates, which needs the extra
            `tfmot`.

    Raises:
        InputError: An argument cannot be used; in `fit`, the model has no kernel that fits.

    Example:

    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> model.compile("sgd", "mse")
    >>> history = model.fit(np.ones((16, 8)), np.ones((16, 4)), batch_size=2, epochs=2, verbose=0,
    ...                     callbacks=[Pruning(0.75)])
    >>> float((model.layers[0].kernel.numpy() == 0).mean())
    0.75

    Reference:
        Zhu and Gupta 2017 (arXiv 1710.01878); Mishra et al. 2021 (arXiv 2104.08378) for 2:4.
    """

    def __init__(
        self,
        sparsity: float | None = None,
        *,
        pattern: str = "unstructured",
        schedule: Any = None,
        layers: str | Sequence[str] | None = None,
        engine: str = "native",
    ):
        super().__init__(layers)
        self.pattern = SparsityPattern.parse(pattern)
        if engine not in ("native", "tfmot"):
            raise InputError(f"engine={engine!r} was given; expected 'native' or 'tfmot'.")
        if self.pattern.has_blocks:
            if sparsity is not None:
                raise InputError(
                    f"pattern={pattern!r} says how many weights stay; leave out `sparsity`."
                )
            if engine == "tfmot":
                raise InputError(
                    f"The toolkit chooses masks for pattern={pattern!r} at step 1 alone, before "
                    "the model has learnt anything. Use engine='native'."
                )
        elif (sparsity is None) == (schedule is None):
            raise InputError("Give either `sparsity` or a `schedule`.")
        if sparsity is not None:
            check_number("sparsity", sparsity, "[0, 1)")
        if schedule is not None and not callable(schedule):
            raise InputError(
                f"schedule={schedule!r} cannot be used: give a "
                "keras_secure.compression.PolynomialDecay or ConstantSparsity."
            )
        if engine == "tfmot":
            backend.toolkit_schedules()  # says now, and not in fit, that the extra is missing
        self.sparsity = sparsity
        self.schedule = schedule
        self.engine = engine

    def _put_on(self, epoch):
        kernels = prunable(self._trainable_kernels(), self.pattern)
        iterations = self.model.optimizer.iterations
        self.masks = {
            path: MaskedWeight(kernel, self.pattern, self.engine)
            for path, kernel in kernels.items()
        }
        schedule = self.schedule or self._default_schedule(iterations, epoch)
        for mask in self.masks.values():
            mask.attach(self.params, schedule, iterations)
            mask.choose(keras.ops.convert_to_tensor(iterations))
            mask.apply()

    def _default_schedule(self, iterations, epoch) -> PolynomialDecay:
        steps = self.params.get("steps")
        if not steps:
            raise InputError(
                "This fit does not know its number of steps, so give Pruning a `schedule`, or fit "
                "`steps_per_epoch`."
            )
        done = int(keras.ops.convert_to_numpy(iterations))
        total = steps * (self.params["epochs"] - epoch)
        begin, end = done + round(_BEGIN * total), done + max(1, round(_END * total))
        final = self.sparsity or 0.0
        # A fit that goes on from where another ended takes nothing back.
        present = min(mask.zeros for mask in self.masks.values())
        return PolynomialDecay(
            min(final, present),
            final,
            begin_step=begin,
            end_step=end,
            frequency=max(1, (end - begin) // _CHOICES),
        )
