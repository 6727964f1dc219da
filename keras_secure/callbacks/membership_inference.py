"""Attacks membership while the model trains."""

import keras

from keras_secure.arguments import check_integer, check_number
from keras_secure.errors import InputError
from keras_secure.leakage import membership_losses, threshold_membership_attack
from keras_secure.leakage.report import FALSE_POSITIVE_RATES

_NAMES = (
    "membership_auc",
    "membership_auc_low",
    "membership_auc_high",
    *(f"membership_tpr_at_{rate:g}" for rate in FALSE_POSITIVE_RATES),
)


class MembershipInference(keras.callbacks.Callback):
    """Measures at the end of epochs how well losses tell members from non-members.

    Runs `keras_secure.leakage.threshold_membership_attack` and adds to `logs`, so that History,
    CSVLogger, TensorBoard and early stopping see it: `membership_auc` with its interval
    `membership_auc_low` and `_high`, and `membership_tpr_at_0.001`, `_0.01` and `_0.1`: the share
    of members found at that false-positive rate. In epochs without a measurement they are NaN. List
    this callback before those that read what it measured.

    The figures are computed from training examples, so they are not private, and stopping by them
    is a choice that epsilon does not cover.

    Args:
        members: (x, y): training examples, drawn at random; a thousand are plenty.
        non_members: (x, y): examples of the same distribution that are not trained on.
        every: Epochs from one measurement to the next, counted from 1. At least 1.
        batch_size: Examples per forward pass.
        confidence: Coverage of the intervals, between 0 and 1.
        from_logits: Whether the model gives logits; None to find out.

    Raises:
        InputError: If an argument cannot be used.

    Example:

    >>> import numpy as np
    >>> x, y = np.random.default_rng(0).random((32, 4)).astype("float32"), np.arange(32) % 2
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, "softmax")])
    >>> model.compile("sgd", "sparse_categorical_crossentropy")
    >>> callback = MembershipInference((x[:16], y[:16]), (x[16:], y[16:]))
    >>> history = model.fit(x[:16], y[:16], verbose=0, callbacks=[callback]).history
    >>> 0.0 < history["membership_auc"][0] < 1.0
    True
    """

    def __init__(
        self, members, non_members, every=1, *, batch_size=256, confidence=0.95, from_logits=None
    ):
        super().__init__()
        for name, data in (("members", members), ("non_members", non_members)):
            if not isinstance(data, (tuple, list)) or len(data) != 2:
                raise InputError(f"{name} cannot be used: give the arrays (x, y).")
            lengths = {len(array) for array in keras.tree.flatten(data[0])} | {len(data[1])}
            if len(lengths) != 1 or min(lengths) < 2:
                raise InputError(
                    f"{name} holds arrays of {sorted(lengths)} examples; expected as many labels "
                    f"as inputs, 2 or more."
                )
        check_number("confidence", confidence, "(0, 1)")
        self.members, self.non_members = members, non_members
        self.every = check_integer("every", every)
        self.batch_size = batch_size
        self.confidence = confidence
        self.from_logits = from_logits
        self.report = None

    def on_epoch_end(self, epoch, logs=None):
        """Measures if it is time, and writes to `logs` either way."""
        logs = {} if logs is None else logs
        if (epoch + 1) % self.every:
            logs.update(dict.fromkeys(_NAMES, float("nan")))
            return
        self.report = threshold_membership_attack(
            self._losses(self.members), self._losses(self.non_members), confidence=self.confidence
        )
        low, high = self.report.auc_interval
        found = (point.tpr for point in self.report.tpr_at_fpr)
        logs.update(zip(_NAMES, (self.report.auc, low, high, *found), strict=True))

    def _losses(self, data):
        return membership_losses(
            self.model, *data, batch_size=self.batch_size, from_logits=self.from_logits
        )
