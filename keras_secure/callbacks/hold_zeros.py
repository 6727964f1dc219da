"""Holds what was pruned while a model trains on."""

from collections.abc import Sequence

from keras_secure.callbacks.masking_callback import MaskingCallback
from keras_secure.compression.masked_weight import MaskedWeight
from keras_secure.compression.sparsity_pattern import SparsityPattern


class HoldZeros(MaskingCallback):
    """Keeps weights at zero that are zero when `fit` begins, after every single update.

    For a pruned model that is fine-tuned, trained with quantization or against attacks. A kernel
    that is zero throughout, as some begin, is left free. Put it after callbacks that set weights
    when training ends, such as `EarlyStopping(restore_best_weights=True)`.

    Adds `sparsity` to `logs`.

    Args:
        layers: Names of the layers; by default all with a kernel that is trained.

    Raises:
        InputError: In `fit`, if the model has no such kernel.

    Example:

    >>> import keras, numpy as np, keras_secure as ks
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> model.compile("sgd", "mse")
    >>> _ = ks.compression.prune(model, 0.5)
    >>> history = model.fit(np.ones((4, 8)), np.ones((4, 4)), verbose=0, callbacks=[HoldZeros()])
    >>> history.history["sparsity"]
    [0.5]
    """

    def __init__(self, layers: str | Sequence[str] | None = None):
        super().__init__(layers)

    def _put_on(self, epoch):
        pattern = SparsityPattern()
        self.masks = {
            path: MaskedWeight(kernel, pattern)
            for path, kernel in self._trainable_kernels().items()
        }
        for mask in self.masks.values():
            mask.attach(self.params)
