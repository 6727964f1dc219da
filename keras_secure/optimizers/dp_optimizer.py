"""One differentially private wrapper for any Keras optimizer."""

import keras
import numpy as np
from keras import ops

from keras_secure import backend
from keras_secure.errors import BudgetExhaustedError, PrivacyError
from keras_secure.optimizers.wrapper import OptimizerWrapper
from keras_secure.privacy import Ledger, Phase, accounting
from keras_secure.privacy.noise import NoiseSource
from keras_secure.registration import component

_NO_LIMIT = 2**62
# Outside, squares of gradients under- or overflow in float32 and norms would be underestimated.
_CLIPS = (1e-8, 1e8)


@component("optimizers")
class DPOptimizer(OptimizerWrapper):
    """Makes the updates of any Keras optimizer differentially private.

    It holds the plan (clip, noise, sampling) and the ledger of what was released. A Keras optimizer
    sees only averaged gradients, which cannot be clipped by example, so the model is wrapped in
    `keras_secure.SecureModel`, which reads the plan and hands over sums of clipped per-example
    gradients. Used on a plain `keras.Model` the first step raises.

    Each step releases `(clipped sum + N(0, (noise_multiplier * l2_norm_clip)^2)) /
    expected_batch_size` and gives it to the inner optimizer as the gradient.

    Args:
        optimizer: A `keras.optimizers.Optimizer`, or its name.
        l2_norm_clip: Positive float C, the bound on each example's gradient norm.
        noise_multiplier: Non-negative float, noise standard deviation over C. See
            `keras_secure.privacy.calibrate_noise_multiplier`. Zero gives no privacy: epsilon is
            infinite.
        expected_batch_size: What the noisy sum is divided by; never the realised batch size, which
            is private. Arrays given to `fit` set it to `batch_size`; required for other data.
        sampling: How batches of the user's own pipeline were drawn: a
            `privacy.PoissonSampling`, or None, which claims nothing and is accounted without
            amplification. Arrays given to `fit` are sampled for you.
        seed: Int for repeatable noise and batches, marked not private; None for real use.
        name: Optional name.

    Raises:
        PrivacyError: for arguments under which the guarantee would not hold.

    Example:

    >>> import keras
    >>> import keras_secure as ks
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> optimizer = ks.optimizers.DPOptimizer("adam", l2_norm_clip=1.0, noise_multiplier=1.1)
    >>> secure = ks.SecureModel(model)
    >>> secure.compile(optimizer, loss="mse")
    >>> history = secure.fit(keras.random.normal((64, 4)), keras.random.normal((64, 1)),
    ...                      batch_size=16, verbose=0)
    >>> bool(0.5 < optimizer.epsilon(1e-3) < 6.0)
    True

    Reference: Abadi et al. 2016, Deep Learning with Differential Privacy, algorithm 1
    (arXiv 1607.00133).
    """

    def __init__(
        self,
        optimizer,
        l2_norm_clip,
        noise_multiplier,
        *,
        expected_batch_size=None,
        sampling=None,
        seed=None,
        name=None,
    ):
        optimizer = keras.optimizers.get(optimizer)
        _check_plan(optimizer, l2_norm_clip, noise_multiplier, expected_batch_size)
        super().__init__(learning_rate=0.0, name=name)
        self.inner_optimizer = optimizer
        self._l2_norm_clip = float(l2_norm_clip)
        self._noise_multiplier = float(noise_multiplier)
        self._expected_batch_size = expected_batch_size
        self._sampling = sampling
        self._seed = seed
        self._noise = NoiseSource(seed)
        self._divisor = _Hidden(0.0, "float32")
        self._step_limit = _Hidden(_NO_LIMIT, "int64")
        # Releases of this process. No restored or reset variable can lower it, so neither a step
        # nor its noise ever repeats.
        self._released = _Hidden(0, "int64")
        self._budget = None
        self.ledger = Ledger()
        self.private_steps = self.add_variable(
            shape=(),
            dtype="int64",
            initializer="zeros",
            aggregation="only_first_replica",
            name="private_steps",
        )

    @property
    def l2_norm_clip(self):
        """Float: the bound on each example's gradient norm. Fixed: the step is compiled with it."""
        return self._l2_norm_clip

    @property
    def noise_multiplier(self):
        """Float: noise standard deviation over `l2_norm_clip`. Fixed, like the clip."""
        return self._noise_multiplier

    @property
    def expected_batch_size(self):
        """Float or None: the divisor given by the user."""
        return self._expected_batch_size

    @property
    def sampling(self):
        """What the user stated of the sampling of his own pipeline, or None."""
        return self._sampling

    @property
    def seed(self):
        """Int or None: the seed that makes the run repeatable and not private."""
        return self._seed

    @property
    def variables(self):
        """Own variables, then the inner optimizer's."""
        return self._variables + self.inner_optimizer.variables

    def build(self, variables):
        """Creates the inner optimizer's variables."""
        self.inner_optimizer.build(variables)
        super().build(variables)

    def apply(self, grads, trainable_variables=None):
        """Always raises: these gradients are averages, which cannot be clipped by example."""
        raise PrivacyError(
            "DPOptimizer received averaged gradients, which cannot be made private: they were not "
            "clipped by example. Wrap the model: secure = keras_secure.SecureModel(model), then "
            "compile and fit `secure` with this optimizer."
        )

    def apply_clipped(self, clipped, trainable_variables, penalties=None):
        """Adds noise to a clipped sum and takes one step of the inner optimizer.

        Args:
            clipped: `privacy.ClippedSum` of this replica's part of the batch.
            trainable_variables: The variables, in the order of `clipped.values`.
            penalties: Optional gradients of data-independent losses, added after the noise.

        Raises:
            PrivacyError: if the sum's bound is not `l2_norm_clip`.
        """
        if clipped.l2_bound != self.l2_norm_clip:
            raise PrivacyError(
                f"The sum is bounded by {clipped.l2_bound}, but the noise is scaled for "
                f"l2_norm_clip={self.l2_norm_clip}. Clip to the optimizer's bound."
            )
        if not self.built:
            self.build(trainable_variables)
        step = ops.maximum(ops.convert_to_tensor(self.private_steps), self._released.value)
        allowed = step < self._step_limit.value
        sums = backend.all_reduce_sum(clipped.values)
        # Beyond the budget nothing of the data is released: the gradient is zero. Keras sums
        # gradients over replicas, each of which holds the whole sum already.
        replicas = backend.replica_count()
        factor = ops.where(allowed, 1.0 / (self._divisor.value * replicas), 0.0)
        stddev = self.noise_multiplier * self.l2_norm_clip * factor
        noise = self._noise.normal([tuple(value.shape) for value in sums], stddev, step)
        gradients = [value * factor + draw for value, draw in zip(sums, noise, strict=True)]
        if penalties is not None:
            gradients = [g + p / replicas for g, p in zip(gradients, penalties, strict=True)]
        self.inner_optimizer.apply(gradients, trainable_variables)
        self.private_steps.assign(step + ops.cast(allowed, "int64"))
        self._released.value.assign(step + ops.cast(allowed, "int64"))

    def begin_phase(self, sampling, expected_batch_size):
        """Records how the coming steps are sampled; called by `SecureModel`."""
        self._divisor.value.assign(float(expected_batch_size))
        self.ledger.begin(self.planned_phase(sampling, expected_batch_size), self.executed_steps)

    def planned_phase(self, sampling, expected_batch_size):
        """Returns the `privacy.Phase` that steps under this plan belong to."""
        return Phase(
            sampling=sampling,
            noise_multiplier=self.noise_multiplier,
            l2_norm_clip=self.l2_norm_clip,
            expected_batch_size=float(expected_batch_size),
            reproducible=self.seed is not None,
        )

    @property
    def executed_steps(self):
        """Int: private steps executed so far, over all phases."""
        counters = (self.private_steps, self._released.value)
        return max(int(ops.convert_to_numpy(counter)) for counter in counters)

    def epsilon(self, target_delta, *, accountant="pld"):
        """Returns the epsilon spent so far, over all phases, at `target_delta`."""
        phases = self.ledger.phases(self.executed_steps)
        return accounting.epsilon(phases, target_delta, accountant=accountant)

    @property
    def is_exhausted(self):
        """Whether a limit set by `limit_to` leaves no further step."""
        return self.executed_steps >= int(ops.convert_to_numpy(self._step_limit.value))

    def limit_to(self, target_epsilon, target_delta):
        """Forbids steps beyond a budget, inside the compiled step itself.

        The limit stays until another is set or `lift_limit` is called, and follows a checkpoint
        that is loaded.

        Returns:
            int: how many more steps of the current phase the budget holds.

        Raises:
            BudgetExhaustedError: if it holds none.
        """
        self._budget = (target_epsilon, target_delta)
        phases = self.ledger.phases(self.executed_steps)
        steps = accounting.max_steps(phases, self.ledger.current, target_epsilon, target_delta)
        self._step_limit.value.assign(self.executed_steps + steps)
        if steps == 0:
            spent = accounting.epsilon(phases, target_delta)
            raise BudgetExhaustedError(
                f"Epsilon {spent:.4g} of {target_epsilon:.4g} is spent at delta "
                f"{target_delta:.3g}, and one more step would cross the budget. Stop here, raise "
                "the budget, or start over with more noise."
            )
        return steps

    def lift_limit(self):
        """Withdraws the limit set by `limit_to`."""
        self._budget = None
        self._step_limit.value.assign(_NO_LIMIT)

    def inherit_ledger(self, other):
        """Takes over what another DP optimizer spent on the same model."""
        if other is self:
            return
        if self.executed_steps:
            raise PrivacyError(
                "Both optimizers have executed private steps, so their ledgers cannot be joined. "
                "Compile with a fresh DPOptimizer."
            )
        self.ledger = Ledger(other.ledger.phases(other.executed_steps), other.ledger.run_id)
        self.private_steps.assign(other.executed_steps)

    def save_own_variables(self, store):
        """Saves the variables and the ledger; never the noise key."""
        super().save_own_variables(store)
        text = self.ledger.to_json(self.executed_steps)
        store["ledger"] = np.frombuffer(text.encode(), dtype=np.uint8)

    def load_own_variables(self, store):
        """Restores variables and ledger.

        Raises:
            PrivacyError: if the ledger is missing, unreadable, or tells of fewer steps than this
                optimizer has executed or of another run.
        """
        stored = {key: np.asarray(store[key]) for key in store.keys()}  # noqa: SIM118 (h5py group)
        if "ledger" not in stored:
            raise PrivacyError(
                "The checkpoint holds no privacy ledger, so the privacy already spent is unknown. "
                "Load a checkpoint saved by this optimizer, or load the weights into the plain "
                "model and account for them yourself."
            )
        ledger = Ledger.from_json(stored.pop("ledger").tobytes().decode())
        recorded = sum(phase.steps for phase in ledger.finished)
        executed = self.executed_steps
        if executed and ledger.run_id != self.ledger.run_id:
            raise PrivacyError(
                f"The checkpoint is of another run, while {executed} private steps were executed "
                "here; loading it would forget them. Load it into a fresh DPOptimizer."
            )
        if recorded < executed:
            raise PrivacyError(
                f"The checkpoint's ledger records {recorded} private steps, but {executed} were "
                "executed; loading it would forget the difference. Load the newest checkpoint."
            )
        super().load_own_variables(stored)
        if not self.built:
            # Keras loads nothing into an optimizer that has seen no variables yet; what was spent
            # counts all the same.
            self.private_steps.assign(recorded)
        if self.executed_steps != recorded:
            raise PrivacyError(
                f"The checkpoint counts {self.executed_steps} private steps, but its ledger "
                f"records {recorded}. The file was altered; restore an intact checkpoint."
            )
        # A fit that restores its backup goes on under the plan it has just begun, and within the
        # budget it was given.
        ledger.current = self.ledger.current
        self.ledger = ledger
        if self._budget is not None and ledger.current is not None:
            self.limit_to(*self._budget)
        # Positions start where the checkpoint was made: another key keeps them from repeating.
        self._noise.renew()

    def get_config(self):
        """Returns the plan; neither key nor ledger."""
        return {
            "optimizer": keras.saving.serialize_keras_object(self.inner_optimizer),
            "l2_norm_clip": self.l2_norm_clip,
            "noise_multiplier": self.noise_multiplier,
            "expected_batch_size": self.expected_batch_size,
            "sampling": None if self.sampling is None else self.sampling.get_config(),
            "seed": self.seed,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Rebuilds the optimizer with a fresh key and an empty ledger."""
        config = dict(config)
        config["optimizer"] = keras.saving.deserialize_keras_object(
            config["optimizer"], custom_objects=custom_objects
        )
        if config.get("sampling") is not None:
            from keras_secure.privacy import PoissonSampling

            config["sampling"] = PoissonSampling(**config["sampling"])
        return cls(**config)


class _Hidden:
    """A variable behind a plain object, where neither Keras nor TensorFlow saves it."""

    __slots__ = ("value",)

    def __init__(self, initial, dtype):
        self.value = backend.state_variable(np.asarray(initial, dtype))


def _check_plan(optimizer, l2_norm_clip, noise_multiplier, expected_batch_size):
    if not _CLIPS[0] <= l2_norm_clip <= _CLIPS[1]:
        raise PrivacyError(
            f"l2_norm_clip is {l2_norm_clip}; it is the bound that the noise is scaled to and must "
            f"lie between {_CLIPS[0]:g} and {_CLIPS[1]:g}, where float32 holds norms exactly. "
            "Scale the loss instead."
        )
    if not noise_multiplier >= 0 or not np.isfinite(noise_multiplier):
        raise PrivacyError(f"noise_multiplier is {noise_multiplier}; it must be finite and >= 0.")
    if expected_batch_size is not None and not expected_batch_size > 0:
        raise PrivacyError(f"expected_batch_size is {expected_batch_size}; it must be positive.")
    if hasattr(optimizer, "inner_optimizer"):
        raise PrivacyError(
            f"DPOptimizer was given a {type(optimizer).__name__}, which is itself a wrapper. Give "
            "it the plain optimizer; loss scaling for float16 is done before the clip."
        )
    if optimizer.gradient_accumulation_steps:
        raise PrivacyError(
            "gradient_accumulation_steps is set on the inner optimizer: several draws would be "
            "accounted as one. Remove it; take a larger batch instead."
        )
    if optimizer.loss_scale_factor:
        raise PrivacyError(
            "loss_scale_factor is set on the inner optimizer, which would scale the noise away. "
            "Remove it; loss scaling for float16 is done before the clip."
        )
