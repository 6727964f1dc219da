"""What callbacks that put masks on weights for the time of one `fit` have in common."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_secure.compression.choose import choose_kernels
from keras_secure.compression.masked_weight import MaskedWeight
from keras_secure.errors import InputError
from keras_secure.training import inner_model


class MaskingCallback(keras.callbacks.Callback):
    """Base of callbacks that put masks on weights for the time of one `fit`."""

    def __init__(self, layers: str | Sequence[str] | None):
        super().__init__()
        self.layers = layers
        self.masks: dict[str, MaskedWeight] = {}

    @property
    def _trained(self) -> Any:
        return inner_model(self.model)

    def _trainable_kernels(self) -> dict[str, Any]:
        kernels = choose_kernels(self._trained, self.layers)
        frozen = [path for path, kernel in kernels.items() if not kernel.variable.trainable]
        if self.layers is not None and frozen:
            raise InputError(
                f"{', '.join(frozen)} cannot be pruned in training: it is frozen. Make it "
                "trainable, or use keras_secure.compression.prune."
            )
        return {path: kernel for path, kernel in kernels.items() if path not in frozen}

    def _trace_anew(self) -> None:
        # What is traced holds the constraints that the variables had then.
        if self.model.train_function is not None:
            self.model.make_train_function(force=True)

    def _put_on(self, epoch: int) -> None:
        """Fills `masks` and attaches them."""
        raise NotImplementedError

    def on_train_begin(self, logs=None):
        """Takes off what a fit that broke off has left."""
        for mask in self.masks.values():
            mask.detach()
        self.masks = {}

    def on_epoch_begin(self, epoch, logs=None):
        """Puts the masks on, after other callbacks have restored weights."""
        if not self.masks:
            self._put_on(epoch)
            self._trace_anew()

    def on_train_end(self, logs=None):
        """Applies the masks a last time, after moving averages, and takes them off."""
        for mask in self.masks.values():
            mask.apply()
            mask.detach()
        self.model.train_function = None

    def on_epoch_end(self, epoch, logs=None):
        """Adds `sparsity`, the share of zeros in all the kernels that are pruned, to `logs`."""
        sizes = kept = 0
        for mask in self.masks.values():
            weights = keras.ops.convert_to_numpy(mask.kernel.variable)
            sizes, kept = sizes + weights.size, kept + int((weights != 0).sum())
        if logs is not None and sizes:
            logs["sparsity"] = 1.0 - kept / sizes
