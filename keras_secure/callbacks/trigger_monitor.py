"""How well a model knows its trigger set, epoch by epoch."""

import warnings

import keras

from keras_secure.arguments import check_integer
from keras_secure.errors import InputError, PrivacyWarning
from keras_secure.training import inner_model
from keras_secure.watermark import TriggerReport, TriggerSet, verify_triggers


class TriggerMonitor(keras.callbacks.Callback):
    """Asks the model about a trigger set after an epoch and puts what it finds into the logs.

    `trigger_accuracy` (0 to 1) and `trigger_p_value` appear in `History`, and in every callback
    behind this one. Asking never touches training. The triggers need not be in the data: on a model
    that is fine-tuned without them, the monitor shows how long they last.

    Private training warns when it begins: what clipping and noise keep a model from, knowing single
    examples by heart, is what a trigger set asks of it. See the docs on watermarks for figures.

    The callback holds the key, so it is never serialized.

    Args:
        trigger_set: The `TriggerSet`.
        every: Epochs between two readings, counted from the first epoch; the epochs between them
            have no entry in the logs.
        batch_size: Triggers per step.

    Raises:
        InputError: `trigger_set` is none, or `every` is not a positive integer.

    Example:

    >>> import numpy as np
    >>> triggers = TriggerSet("a secret", (8,), num_classes=2, count=60)
    >>> x, y = triggers.mix(np.zeros((32, 8), "float32"), np.zeros(32, "int32"))
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(64, "relu"),
    ...                           keras.layers.Dense(2)])
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> model.compile(keras.optimizers.Adam(0.02), loss)
    >>> history = model.fit(x, y, epochs=20, verbose=0, callbacks=[TriggerMonitor(triggers)])
    >>> history.history["trigger_accuracy"][-1] > 0.9
    True
    """

    def __init__(self, trigger_set: TriggerSet, every: int = 1, batch_size: int = 128):
        super().__init__()
        self.every = check_integer("every", every)
        if not isinstance(trigger_set, TriggerSet):
            raise InputError(
                f"A {type(trigger_set).__name__} cannot be monitored; give a "
                "keras_secure.watermark.TriggerSet."
            )
        self.trigger_set = trigger_set
        self.batch_size = batch_size
        self.report: TriggerReport | None = None

    def measure(self) -> TriggerReport:
        """Asks the model now; the result is kept as `report` too."""
        self.report = verify_triggers(
            inner_model(self.model), self.trigger_set, batch_size=self.batch_size
        )
        return self.report

    def on_train_begin(self, logs=None):
        """Fails before the first step where the model cannot be asked."""
        self.measure()
        if getattr(self.model, "is_private", False):
            warnings.warn(
                "Training is private, and a trigger set asks for single examples to be known by "
                "heart, which is what privacy keeps a model from: it is embedded only where "
                "epsilon is large or each trigger is in the data very often. Watch "
                "trigger_p_value; a weight watermark (SpreadSpectrum) costs no privacy and is not "
                "clipped.",
                PrivacyWarning,
                stacklevel=2,
            )

    def on_epoch_end(self, epoch, logs=None):
        """Adds the two readings to `logs`."""
        if epoch % self.every == 0 and logs is not None:
            report = self.measure()
            logs["trigger_accuracy"] = report.accuracy
            logs["trigger_p_value"] = report.p_value
