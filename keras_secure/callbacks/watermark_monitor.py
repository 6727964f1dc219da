"""How well a watermark is embedded, epoch by epoch."""

from typing import Any

import keras

from keras_secure.arguments import check_integer
from keras_secure.errors import InputError
from keras_secure.training import inner_model
from keras_secure.watermark import WatermarkReport, verify
from keras_secure.watermark.kernels import one_weight
from keras_secure.watermark.mark import Mark


class WatermarkMonitor(keras.callbacks.Callback):
    """Reads a watermark after an epoch and puts what it finds into the logs.

    `watermark_ber` (bit error rate, 0 to 1) and `watermark_p_value` appear in `History`, and in
    every callback behind this one, such as `CSVLogger` or `EarlyStopping`. Reading costs one pass
    over the weight and never touches training. The mark need not be attached: on a model that is
    fine-tuned without it, the monitor shows how long it lasts.

    The callback holds the key, so it is never serialized.

    Args:
        target: Names of layers of the model that is trained, as given to `attach`; None, for all
            of its weights that can carry the mark; or a built layer or variable.
        mark: The mark with its key.
        every: Epochs between two readings, counted from the first epoch; the epochs between them
            have no entry in the logs.

    Raises:
        InputError: The mark is dormant, the target cannot carry it, or `every` is not a positive
            integer. For a layer's name this is raised when training begins.

    Example:

    >>> import numpy as np
    >>> from keras_secure.watermark import SpreadSpectrum, attach
    >>> mark = SpreadSpectrum("a secret", num_bits=16)
    >>> model = keras.Sequential([keras.Input((32,)), keras.layers.Dense(32, name="marked")])
    >>> _ = attach(model.get_layer("marked"), mark)
    >>> model.compile(keras.optimizers.Adam(0.01), "mse")
    >>> history = model.fit(np.zeros((8, 32)), np.zeros((8, 32)), epochs=20, verbose=0,
    ...                     callbacks=[WatermarkMonitor("marked", mark)])
    >>> history.history["watermark_ber"][-1]
    0.0
    """

    def __init__(self, target: Any, mark: Mark, every: int = 1):
        super().__init__()
        self.every = check_integer("every", every)
        if not isinstance(mark, Mark):
            raise InputError(
                f"A {type(mark).__name__} cannot be monitored; give a keras_secure.watermark mark "
                "with its key, such as SpreadSpectrum(key)."
            )
        self.mark = mark
        self.named = target is None or isinstance(target, (str, list, tuple))
        self.target = target if self.named else one_weight(target)
        self.report: WatermarkReport | None = None
        if not self.named:
            self.measure()

    def measure(self) -> WatermarkReport:
        """Reads the mark now; the result is kept as `report` too."""
        if self.named:
            self.report = verify(inner_model(self.model), self.mark, layers=self.target)
        else:
            self.report = verify(self.target, self.mark)
        return self.report

    def on_train_begin(self, logs=None):
        """Fails before the first step, rather than after an epoch, where nothing can be read."""
        self.measure()

    def on_epoch_end(self, epoch, logs=None):
        """Adds the two readings to `logs`."""
        if epoch % self.every == 0 and logs is not None:
            report = self.measure()
            logs["watermark_ber"] = report.bit_error_rate
            logs["watermark_p_value"] = report.p_value
