"""One differentially private wrapper for any Keras optimizer."""

import dataclasses
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_secure import backend
from keras_secure.errors import PrivacyError
from keras_secure.optimizers.accounted_optimizer import AccountedOptimizer, HiddenVariable
from keras_secure.optimizers.private_plan import (
    CLIPS,
    check_bands,
    check_drawing,
    check_microbatch_size,
    check_plan,
)
from keras_secure.privacy import (
    AdaptiveClipping,
    ClippingMode,
    Phase,
    Sampling,
)
from keras_secure.privacy.banded_noise import BandedNoise
from keras_secure.privacy.noise import NoiseSource
from keras_secure.registration import component


@component("optimizers")
class DPOptimizer(AccountedOptimizer):
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
        clipping: How each example's gradient is brought within the bound: `"flat"`, `"per_layer"`,
            `"automatic"` or `"adaptive"`, or a `keras_secure.privacy.ClippingMode` with arguments
            of its own. Defaults to flat. The cost in epsilon is the same for all.
        microbatch_size: Rows of the batch, on each replica, that are in memory at once. A step
            still has one draw, one noise and one update, so this never changes privacy. None takes
            the whole batch, save the head-room of randomly drawn batches, most of which is padding.
        sampling: For arrays and `training.RandomAccess`, which are sampled for you: `"poisson"`
            (what None means), `"balls_in_bins"` or `"deterministic"`. For the user's own pipeline,
            how its batches were drawn: a `privacy.Sampling` such as `privacy.PoissonSampling`;
            `"deterministic"` for the same batches in the same order every epoch; or None, which
            claims nothing and is accounted without amplification.
        bands: Over how many steps noise is correlated (banded matrix factorization); 1 is
            independent noise. It costs nothing in epsilon and makes the errors of the weights
            cancel in part, but needs `sampling="deterministic"` and at most as many bands as a pass
            has steps. It keeps `bands - 1` copies of the model in memory.
        secure_noise: True draws noise from ChaCha20, a cryptographic generator, each value as the
            sum of four draws against attacks on floating point. See docs/privacy.md for what it
            costs and protects from.
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
        clipping="flat",
        microbatch_size=None,
        sampling=None,
        bands=1,
        secure_noise=False,
        seed=None,
        name=None,
    ):
        optimizer = keras.optimizers.get(optimizer)
        check_plan(optimizer, l2_norm_clip, noise_multiplier, expected_batch_size)
        check_microbatch_size(microbatch_size)
        check_drawing(sampling, bands)
        super().__init__(name=name)
        self.inner_optimizer = optimizer
        self._l2_norm_clip = float(l2_norm_clip)
        self._noise_multiplier = float(noise_multiplier)
        self._expected_batch_size = expected_batch_size
        self._clipping = _clipping_mode(clipping)
        self._microbatch_size = None if microbatch_size is None else int(microbatch_size)
        self._sampling = sampling
        self._seed = seed
        self._bands, self._secure_noise = bands, secure_noise
        self._noise = (
            NoiseSource(seed, secure_noise)
            if bands == 1
            else BandedNoise(bands, seed, secure_noise)
        )
        self._divisor = HiddenVariable(0.0, "float32")
        self._adaptive_clip: Any = None
        if isinstance(self._clipping, AdaptiveClipping):
            if expected_batch_size is not None:
                self._clipping.sum_noise_multiplier(self.noise_multiplier, expected_batch_size)
            # Released with the weights, like them, and saved like them.
            self._adaptive_clip = self.add_variable(
                shape=(),
                dtype="float32",
                initializer=keras.initializers.Constant(self._l2_norm_clip),
                aggregation="only_first_replica",
                name="adaptive_clip",
            )
            self._sum_noise_multiplier = HiddenVariable(0.0, "float32")
            self._count_stddev = HiddenVariable(0.0, "float32")

    @property
    def l2_norm_clip(self):
        """Float: the bound on each example's gradient norm, which adaptive clipping starts from.

        Fixed: the step is compiled with it.
        """
        return self._l2_norm_clip

    @property
    def clipping(self):
        """The `keras_secure.privacy.ClippingMode`. Fixed, like the clip."""
        return self._clipping

    @property
    def l2_bound(self):
        """The bound in force: `l2_norm_clip`, or under adaptive clipping the variable of it."""
        return self.l2_norm_clip if self._adaptive_clip is None else self._adaptive_clip

    @property
    def noise_multiplier(self):
        """Float: noise standard deviation over `l2_norm_clip`. Fixed, like the clip."""
        return self._noise_multiplier

    @property
    def expected_batch_size(self):
        """Float or None: the divisor given by the user."""
        return self._expected_batch_size

    @property
    def microbatch_size(self):
        """Int or None: rows that a step holds in memory at once."""
        return self._microbatch_size

    @property
    def sampling(self):
        """What the user asked for or stated: a `privacy.Sampling`, the name of a kind, or None."""
        return self._sampling

    @property
    def bands(self):
        """Int: over how many steps noise is correlated. Fixed."""
        return self._bands

    @property
    def secure_noise(self):
        """Whether noise comes from a cryptographic generator. Fixed."""
        return self._secure_noise

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
        # One more than the gradient: the count that adaptive clipping releases with it.
        self._noise.build(1 + sum(math.prod(variable.shape) for variable in variables))
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
            PrivacyError: if the sum's bound is not the optimizer's `l2_bound`.
        """
        self._check_bound(clipped)
        if not self.built:
            self.build(trainable_variables)
        step, allowed = self.next_step()
        is_adaptive = self._adaptive_clip is not None
        counts = [clipped.count] if is_adaptive else []
        sums = backend.all_reduce_sum([*clipped.values, *counts])
        # Beyond the budget nothing of the data is released: the gradient is zero. Keras sums
        # gradients over replicas, each of which holds the whole sum already.
        replicas = backend.replica_count()
        factor = ops.where(allowed, 1.0 / (self._divisor.value * replicas), 0.0)
        shapes = [tuple(value.shape) for value in sums]
        if is_adaptive:
            # One draw for gradient and count, each scaled to its own noise.
            *noise, count_noise = self._noise.normal(shapes, 1.0, step, allowed)
            clip = ops.convert_to_tensor(self._adaptive_clip)
            stddev = self._sum_noise_multiplier.value * clip * factor
            noise = [stddev * draw for draw in noise]
            self._adapt(sums.pop() + self._count_stddev.value * count_noise, clip, allowed)
        else:
            stddev = self.noise_multiplier * self.l2_norm_clip * factor
            noise = self._noise.normal(shapes, stddev, step, allowed)

        def update(sums, noise, factor, penalties):
            gradients = [value * factor + draw for value, draw in zip(sums, noise, strict=True)]
            if penalties is not None:
                gradients = [g + p / replicas for g, p in zip(gradients, penalties, strict=True)]
            self.inner_optimizer.apply(gradients, trainable_variables)

        inputs = (sums, noise, factor, penalties)
        # Kernel by kernel, an optimizer passes over all weights ten times and more.
        if _is_of_keras(self.inner_optimizer):
            backend.fused_call(update, inputs)
        else:
            update(*inputs)
        self.count_step(step, allowed)

    @property
    def phase_steps(self):
        """Int: private steps executed in the current phase."""
        return self.executed_steps - self.ledger.recorded_steps

    def begin_phase(self, sampling, expected_batch_size, planned_steps=None):
        """Records how the coming steps are sampled; called by `SecureModel`.

        Args:
            sampling: The `privacy.Sampling` of the coming batches.
            expected_batch_size: What their noisy sums are divided by.
            planned_steps: How many steps are likely to follow, if known.

        Raises:
            PrivacyError: if the noise does not suffice for adaptive clipping on such small batches,
                or is correlated over steps that may hold the same example.
        """
        phase = self.planned_phase(sampling, expected_batch_size)
        if self._adaptive_clip is not None:
            self._sum_noise_multiplier.value.assign(
                self.clipping.sum_noise_multiplier(self.noise_multiplier, expected_batch_size)
            )
            self._count_stddev.value.assign(self.clipping.noise_of_count(expected_batch_size))
        self._divisor.value.assign(float(expected_batch_size))
        self._noise.restart(planned_steps)
        self.open_phase(phase)

    def reconcile(self, journal):
        """See `AccountedOptimizer`; correlated noise starts anew with the phase."""
        ahead = super().reconcile(journal)
        self._noise.renew()
        return ahead

    def load_own_variables(self, store):
        """Restores variables and ledger, and takes a new noise key."""
        super().load_own_variables(store)
        # Positions start where the checkpoint was made: another key keeps them from repeating.
        self._noise.renew()
        if self._adaptive_clip is not None:
            if not self.built:
                # Keras loads nothing into an optimizer that has seen no variables yet; the clip is
                # among those that come first.
                own = [id(variable) for variable in self.variables]
                key = str(own.index(id(self._adaptive_clip)))
                value = np.asarray(store[key]) if key in store else np.zeros(0)
                if value.shape == () and value.dtype == np.float32:
                    self._adaptive_clip.assign(value)
            clip = float(ops.convert_to_numpy(self._adaptive_clip))
            if not CLIPS[0] <= clip <= CLIPS[1]:
                self._adaptive_clip.assign(self.l2_norm_clip)
                raise PrivacyError(
                    f"The checkpoint holds an adaptive clip of {clip}, which no training reaches. "
                    "The file was altered; restore an intact checkpoint."
                )

    def _check_bound(self, clipped):
        if self._adaptive_clip is None:
            if clipped.l2_bound != self.l2_norm_clip:
                raise PrivacyError(
                    f"The sum is bounded by {clipped.l2_bound}, but the noise is scaled for "
                    f"l2_norm_clip={self.l2_norm_clip}. Clip to the optimizer's bound."
                )
        elif clipped.l2_bound is not self._adaptive_clip or clipped.count is None:
            raise PrivacyError(
                f"The sum is bounded by {clipped.l2_bound}, but the noise is scaled for the clip "
                "that adapts. Clip to the optimizer's `l2_bound`, in its `clipping` mode."
            )

    def _adapt(self, noisy_count, clip, allowed):
        """Moves the clip, unless the budget is spent."""
        moved = self.clipping.next_clip(clip, noisy_count, self._divisor.value)
        self._adaptive_clip.assign(ops.where(allowed, ops.clip(moved, *CLIPS), clip))

    def planned_phase(self, sampling, expected_batch_size):
        """Returns the `privacy.Phase` that steps under this plan belong to."""
        if self.bands > 1:
            check_bands(sampling, self.bands)
            sampling = dataclasses.replace(sampling, bands=self.bands)
        return Phase(
            sampling=sampling,
            noise_multiplier=self.noise_multiplier,
            l2_norm_clip=self.l2_norm_clip,
            expected_batch_size=float(expected_batch_size),
            reproducible=self.seed is not None,
        )

    def get_config(self):
        """Returns the plan; neither key nor ledger."""
        return {
            "optimizer": keras.saving.serialize_keras_object(self.inner_optimizer),
            "l2_norm_clip": self.l2_norm_clip,
            "noise_multiplier": self.noise_multiplier,
            "expected_batch_size": self.expected_batch_size,
            "clipping": self.clipping.get_config(),
            "microbatch_size": self.microbatch_size,
            "sampling": getattr(self.sampling, "get_config", lambda: self.sampling)(),
            "bands": self.bands,
            "secure_noise": self.secure_noise,
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
        if isinstance(config.get("sampling"), dict):
            config["sampling"] = Sampling.from_config(config["sampling"])
        return cls(**config)


def _is_of_keras(optimizer):
    """Whether it is one of Keras' own optimizers, of which all is known to compile."""
    return getattr(keras.optimizers, type(optimizer).__name__, None) is type(optimizer)


def _clipping_mode(clipping):
    try:
        return ClippingMode.get(clipping)
    except TypeError as error:
        raise PrivacyError(f"The clipping {clipping!r} cannot be built: {error}.") from error
