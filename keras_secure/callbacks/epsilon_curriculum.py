"""Lets the attack of an objective grow while the model learns."""

import math
from typing import Any

import keras

from keras_secure.arguments import check_number, is_number
from keras_secure.errors import InputError
from keras_secure.training import SecureModel

_SCHEDULES = {
    "linear": lambda progress: progress,
    "cosine": lambda progress: 0.5 - 0.5 * math.cos(math.pi * progress),
}


class EpsilonCurriculum(keras.callbacks.Callback):
    """Raises the radius of the objective's attack during `fit`, batch by batch.

    A network that meets a large ball at once may learn nothing; one that meets a small one first
    follows it as it grows. The radius of every attack in the objective (and the `epsilon` of
    `IntervalBoundPropagation`) is multiplied by a share that the traced step reads from a variable,
    so that nothing is traced again. After `fit` the share is 1: the objective is what it was.

    A step size that is given as a number does not shrink with the radius: leave `step_size=None`,
    which follows it. The attacks of other callbacks, such as `RobustnessEvaluation`, keep theirs.

    Adds `epsilon_scale`, the share at the end of the epoch, to `logs`.

    Args:
        schedule: `"linear"`, `"cosine"` (slow at both ends), or a function from the epochs trained
            so far (a float, which counts the part of the running epoch) to the share, at least 0.
        start: The share at first, in [0, 1]. Not for functions.
        epochs: After how many epochs the share is 1, a number above 0; None for those of the fit.
            Not for functions.

    Raises:
        InputError: If an argument cannot be used; in `fit`, if the model is no `SecureModel` or its
            objective holds no attack.

    Example:

    >>> import numpy as np, keras_secure as ks
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, "softmax")])
    >>> objective = ks.objectives.AdversarialTraining(ks.attacks.FGSM(0.2))
    >>> secure = ks.SecureModel(model, objective=objective)
    >>> secure.compile("sgd", "sparse_categorical_crossentropy")
    >>> x, y = np.random.default_rng(0).random((8, 2), "float32"), np.arange(8) % 2
    >>> growing = EpsilonCurriculum(epochs=2)
    >>> history = secure.fit(x, y, batch_size=1, epochs=3, verbose=0, callbacks=[growing])
    >>> history.history["epsilon_scale"]
    [0.4375, 0.9375, 1.0]

    Reference:
        Gowal et al. 2018, arXiv 1810.12715, section 4 (linear); Cai, Liu and Song 2018, curriculum
        adversarial training, arXiv 1805.04807, for the idea.
    """

    def __init__(self, schedule="linear", *, start=0.0, epochs=None):
        super().__init__()
        if not callable(schedule):
            if not isinstance(schedule, str) or schedule not in _SCHEDULES:
                raise InputError(
                    f"schedule={schedule!r} is not known: use 'linear', 'cosine' or a function of "
                    "the epochs trained."
                )
            check_number("start", start, "[0, 1]")
            if epochs is not None:
                check_number("epochs", epochs, "(0, inf)")
        elif start != 0.0 or epochs is not None:
            raise InputError("A schedule that is a function takes neither `start` nor `epochs`.")
        self.schedule = schedule
        self.start = start
        self.epochs = epochs
        self._scale: Any = None
        self._share = 0.0
        self._epoch = 0
        self._length: Any = None
        self._seen = 0

    def share_at(self, epochs):
        """Returns the share after so many epochs, a float that may count a part of one."""
        if callable(self.schedule):
            share = self.schedule(epochs)
            if not is_number(share) or not 0 <= share < math.inf:
                raise InputError(
                    f"The schedule of EpsilonCurriculum returned {share!r} after {epochs} epochs; "
                    "expected a number that is at least 0."
                )
            return float(share)
        whole = self.epochs or (self.params or {}).get("epochs") or 1
        progress = min(epochs / whole, 1.0)
        return self.start + (1.0 - self.start) * _SCHEDULES[self.schedule](progress)

    def on_train_begin(self, logs=None):
        """Puts the variable in place that the step reads."""
        if not isinstance(self.model, SecureModel):
            raise InputError(
                "EpsilonCurriculum acts on the objective of a SecureModel, and the model is a "
                f"{type(self.model).__name__}."
            )
        objective = self.model.objective
        if not any(hasattr(p, "attack") or hasattr(p, "epsilon") for p in objective.parts()):
            raise InputError(
                f"{type(objective).__name__} holds no attack whose epsilon could grow. Use "
                "AdversarialTraining, TRADES or another objective with an attack."
            )
        self._scale, is_new = objective.scale_epsilon()
        if is_new and self.model.train_function is not None:
            # What was traced without the variable does not read it.
            self.model.make_train_function(force=True)
        self._length = (self.params or {}).get("steps")

    def on_epoch_begin(self, epoch, logs=None):
        """Sets the share of the epoch's start."""
        self._epoch = epoch
        self._set(epoch)

    def on_train_batch_begin(self, batch, logs=None):
        """Sets the share of this batch."""
        # In a first epoch of unknown length the share stays what it was at its start.
        if self._length:
            self._set(self._epoch + min(batch / self._length, 1.0))

    def on_train_batch_end(self, batch, logs=None):
        """Counts batches, in case nobody else knows how many an epoch has."""
        self._seen = batch + 1

    def on_epoch_end(self, epoch, logs=None):
        """Adds the share to `logs`."""
        self._length = self._length or self._seen
        if logs is not None:
            logs["epsilon_scale"] = self._share

    def on_train_end(self, logs=None):
        """Gives the objective its whole radius back."""
        self._scale.assign(1.0)

    def _set(self, epochs):
        self._share = self.share_at(epochs)
        self._scale.assign(self._share)
