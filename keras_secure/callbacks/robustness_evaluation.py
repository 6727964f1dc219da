"""Attacks the model while it trains."""

import keras
import numpy as np

from keras_secure.arguments import check_integer
from keras_secure.attacks import evaluate
from keras_secure.attacks.arrays import check_arrays
from keras_secure.attacks.evaluate import attack_names, check_attacks
from keras_secure.errors import InputError


class RobustnessEvaluation(keras.callbacks.Callback):
    """Measures robust accuracy at the end of epochs, as `keras_secure.attacks.evaluate` does.

    Adds to `logs`, so that History, CSVLogger, TensorBoard and early stopping see it:
    `val_robust_accuracy` (for each example, the best of all attacks), its confidence interval
    `val_robust_accuracy_low` and `_high`, and, for several attacks, one
    `val_robust_accuracy_<attack>` each, such as `val_robust_accuracy_pgd_linf`. In epochs without
    a measurement they are NaN: CSVLogger takes its columns from the first epoch. List this
    callback before those that read what it measured.

    Args:
        attacks: An untargeted `keras_secure.attacks.Attack`, or a list of them.
        validation_data: (x, y): floating point array of shape (num_examples, ...) inside the
            attacks' bounds, and class indices or one-hot rows.
        every: Epochs from one measurement to the next, counted from 1. At least 1.
        max_examples: How many examples to attack, taken evenly across the data; None for all.
        batch_size: Examples per step.
        prefix: What the names in `logs` start with.
        confidence: Coverage of the interval, between 0 and 1.
        from_logits: See `keras_secure.attacks.classification_logits`.

    Raises:
        InputError: If an argument cannot be used.

    Example:

    >>> from keras_secure.attacks import FGSM
    >>> x, y = np.random.default_rng(0).random((16, 4)).astype("float32"), np.arange(16) % 3
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
    >>> model.compile("sgd", "sparse_categorical_crossentropy")
    >>> callback = RobustnessEvaluation(FGSM(0.1), (x, y))
    >>> history = model.fit(x, y, epochs=1, verbose=0, callbacks=[callback]).history
    >>> sorted(history)[1:]
    ['val_robust_accuracy', 'val_robust_accuracy_high', 'val_robust_accuracy_low']
    """

    def __init__(
        self,
        attacks,
        validation_data,
        *,
        every=1,
        max_examples=None,
        batch_size=128,
        prefix="val_",
        confidence=0.95,
        from_logits=None,
    ):
        super().__init__()
        if not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2:
            raise InputError(
                "validation_data cannot be used: give the arrays (x, y) that are to be attacked."
            )
        check_integer("every", every)
        if max_examples is not None:
            check_integer("max_examples", max_examples)
        # What is wrong with attacks or data shows before an epoch of training is spent.
        attacks = check_attacks(attacks)
        x, y = validation_data
        for attack in attacks:
            x, y = check_arrays(x, y, attack.bounds, type(self).__name__)
        if max_examples is not None and max_examples < len(x):
            # Evenly across the data, which may be sorted by class.
            rows = np.linspace(0, len(x) - 1, max_examples).round().astype(int)
            x, y = x[rows], y[rows]
        self.attacks = attacks
        self.every = int(every)
        self.batch_size = batch_size
        self.prefix = prefix
        self.confidence = confidence
        self.from_logits = from_logits
        self.report = None
        self._data = x, y

    def on_epoch_end(self, epoch, logs=None):
        """Attacks the model if it is time, and writes to `logs` either way."""
        logs = {} if logs is None else logs
        name = f"{self.prefix}robust_accuracy"
        keys = [name, f"{name}_low", f"{name}_high"]
        if len(self.attacks) > 1:
            keys += [f"{name}_{attack}" for attack in attack_names(self.attacks)]
        if (epoch + 1) % self.every:
            logs.update(dict.fromkeys(keys, float("nan")))
            return
        # The model being fitted is what is attacked, wrapper and all.
        self.report = evaluate(
            self.model,
            *self._data,
            self.attacks,
            batch_size=self.batch_size,
            confidence=self.confidence,
            from_logits=self.from_logits,
            verbose=0,
        )
        worst = self.report.worst_case
        values = [worst.value, worst.low, worst.high]
        values += [attack.accuracy.value for attack in self.report.attacks]
        logs.update(zip(keys, values, strict=False))
