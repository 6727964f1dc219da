"""Holds an audit in one run against the optimizer's ledger."""

import warnings

import keras

from keras_secure.errors import InputError, PrivacyWarning
from keras_secure.leakage import OneRunAudit


class PrivacyAudit(keras.callbacks.Callback):
    """Bounds epsilon from below at the end of training and compares with what the ledger says.

    Fit on `audit.training_data(x, y)`. Before training the model's scores of the canaries are
    noted, after it the coins are guessed by what has changed. Then `report` holds the
    `keras_secure.leakage.OneRunReport` and `finding` the `keras_secure.Finding`: critical, and
    announced by a `PrivacyWarning`, if the lower bound lies above the epsilon that the optimizer
    reports. A second `fit` is compared with the first one's beginning, as the ledger is.

    Args:
        audit: The `keras_secure.leakage.OneRunAudit` whose canaries are in the training data.
        target_delta: Float in (0, 1), the delta at which both bounds are taken.
        confidence: One-sided confidence of the lower bound, in (0, 1).
        num_guesses: See `OneRunAudit.lower_bound`.
        batch_size: Examples per forward pass.
        from_logits: Whether the model gives logits; None to find out.
        verbose: 1 to print the finding.

    Raises:
        InputError: If an argument cannot be used.

    Example:

    >>> import keras_secure as ks
    >>> import numpy as np
    >>> x, y = np.random.default_rng(0).random((64, 4)).astype("float32"), np.arange(64) % 2
    >>> audit = ks.leakage.OneRunAudit(*ks.leakage.mislabelled_canaries(x[32:], y[32:], 32, 2))
    >>> secure = ks.SecureModel(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> secure.compile(ks.optimizers.DPSGD(l2_norm_clip=1.0, noise_multiplier=2.0), loss=loss)
    >>> callback = PrivacyAudit(audit, target_delta=1e-3)
    >>> _ = secure.fit(*audit.training_data(x[:32], y[:32]), verbose=0, callbacks=[callback])
    >>> callback.finding.id, callback.finding.severity
    ('one_run.audited', 'ok')

    Reference: Steinke, Nasr and Jagielski 2023, arXiv 2305.08846.
    """

    def __init__(
        self,
        audit,
        target_delta,
        *,
        confidence=0.95,
        num_guesses=None,
        batch_size=256,
        from_logits=None,
        verbose=0,
    ):
        super().__init__()
        if not isinstance(audit, OneRunAudit):
            raise InputError(
                f"PrivacyAudit was given a {type(audit).__name__}; give the "
                f"keras_secure.leakage.OneRunAudit whose training_data is fitted."
            )
        if not 0 < target_delta < 1:
            raise InputError(f"target_delta is {target_delta}; it must lie in (0, 1).")
        # What is wrong with the other arguments shows before an epoch of training is spent.
        options = {"confidence": confidence, "num_guesses": num_guesses}
        audit.lower_bound([0.0] * audit.num_canaries, target_delta, **options)
        self.audit, self.target_delta = audit, float(target_delta)
        self.verbose = verbose
        self.report = None
        self.finding = None
        self._options = options
        self._scoring = {"batch_size": batch_size, "from_logits": from_logits}
        self._before = None

    def on_train_begin(self, logs=None):
        """Notes what the model says of the canaries without having seen them."""
        if self._before is None:
            self._before = self.audit.scores(self.model, **self._scoring)

    def on_train_end(self, logs=None):
        """Guesses the coins and holds the bound against the ledger."""
        self.report = self.audit.lower_bound(
            self.audit.scores(self.model, **self._scoring),
            self.target_delta,
            reference=self._before,
            **self._options,
        )
        optimizer = self.model.optimizer
        # Other optimizers promise nothing that could be refuted.
        promises = hasattr(optimizer, "ledger") and hasattr(optimizer, "epsilon")
        spent = optimizer.epsilon(self.target_delta) if promises else None
        self.finding = self.report.finding(spent, self.target_delta)
        if self.finding.severity == "critical":
            warnings.warn(self.finding.statement, PrivacyWarning, stacklevel=2)
        if self.verbose:
            print(f"{self.finding.severity}: {self.finding.statement}")
