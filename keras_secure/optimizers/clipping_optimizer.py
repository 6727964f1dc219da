"""Gradient clipping in front of any optimizer, with a record of what it did."""

import keras

from keras_secure import backend
from keras_secure.errors import InputError, PrivacyError
from keras_secure.optimizers.clipping_rule import check_rule
from keras_secure.optimizers.gradient_norm import clip_scale, exceeds, overflow_free_norm
from keras_secure.optimizers.wrapper import OptimizerWrapper
from keras_secure.registration import component


@component("optimizers")
class ClippingOptimizer(OptimizerWrapper):
    """Clips gradients, then hands them to the optimizer it wraps.

    It stands for the wrapped optimizer in everything else: learning rate, iterations, variables and
    saved state are those of `inner_optimizer`, so that a checkpoint written with the wrapper loads
    without it, and the other way round. The window of recent norms is not saved; it fills again.
    `keras_secure.callbacks.GradientClipping` puts this wrapper in for the length of a `fit`.

    Beyond the `clipnorm`, `clipvalue` and `global_clipnorm` of Keras, the threshold can change
    during training without a new trace; norms are exact for sparse gradients (rows that occur
    twice are added first), do not overflow while they are representable, and are those of the
    whole batch under several replicas and of the unscaled gradient under loss scaling. With
    `gradient_accumulation_steps`, the gradient of each batch is clipped before it is accumulated.

    A gradient whose norm is infinite or NaN is not hidden: it is handed on, and counts for nothing
    in the window and in the recorded norm. Only `mode="value"` has a meaning for an infinity, and
    clips it.

    Args:
        inner_optimizer: The `keras.optimizers.Optimizer` to wrap, without clipping of its own.
        mode: `"value"` clips each element to [-threshold, threshold]; `"norm"` scales each
            variable's gradient to an L2 norm of at most the threshold; `"global_norm"` (the
            default) scales all gradients together; `"percentile"` does so with a threshold that is
            a percentile of the recent global norms, the current one included.
        threshold: Float of at least 0, or a `keras.optimizers.schedules.LearningRateSchedule`
            that gives it from the iteration. Must be None for `"percentile"`.
        percentile: Float from 0 to 100 (linear interpolation, as `numpy.percentile` does it).
            Used by `"percentile"` only. Defaults to 90.0.
        window: How many recent norms the percentile is taken of. Defaults to 100.
        name: Name of the optimizer.

    Raises:
        InputError: If an argument is out of its range, or if `inner_optimizer` clips already.
        PrivacyError: If `inner_optimizer` is differentially private.

    Example:

    >>> optimizer = ClippingOptimizer(keras.optimizers.SGD(1.0), "global_norm", threshold=1.0)
    >>> weights = keras.Variable([0.0, 0.0])
    >>> optimizer.apply([keras.ops.array([3.0, 4.0])], [weights])
    >>> print(weights.numpy())
    [-0.6 -0.8]
    >>> optimizer.gradient_norm, optimizer.clip_threshold, optimizer.clipped_fraction
    (5.0, 1.0, 1.0)

    Reference:
        Global norm: Pascanu, Mikolov and Bengio 2013, arXiv 1211.5063, section 3.2. Percentile:
        Seetharaman et al. 2020, AutoClip, arXiv 2007.14469, algorithm 1 (which keeps all norms).
    """

    def __init__(
        self,
        inner_optimizer,
        mode="global_norm",
        threshold=None,
        percentile=90.0,
        window=100,
        name=None,
    ):
        super().__init__(learning_rate=0.0, name=name or inner_optimizer.name)
        check_rule(mode, threshold, percentile, window)
        if hasattr(inner_optimizer, "apply_clipped"):
            raise PrivacyError(
                f"Gradient clipping refused to wrap {type(inner_optimizer).__name__}: under "
                "differential privacy each example's gradient is clipped before noise is added, "
                "and a second clip would act on the noise. Set `l2_norm_clip` of the optimizer "
                "and leave out the clip (GradientClipping or ClippingOptimizer)."
            )
        for option in ("clipnorm", "clipvalue", "global_clipnorm"):
            if getattr(inner_optimizer, option, None) is not None:
                raise InputError(
                    f"The optimizer {inner_optimizer.name!r} clips already "
                    f"({option}={getattr(inner_optimizer, option)}), and a second clip with "
                    f"mode={mode!r} would act on different gradients than the one that is "
                    f"logged. Build the optimizer without {option}."
                )
        self._inner = inner_optimizer
        # The callback that put this wrapper into a model and will take it out again.
        self.installed_by = None
        self.mode = mode
        self.schedule = threshold if callable(threshold) else None
        self.percentile = float(percentile)
        self.window = int(window)
        initial = 0.0 if threshold is None or self.schedule else float(threshold)
        self._threshold = self._add_state((), "threshold", initial)
        # [steps, steps with a finite norm, steps that were clipped, mean of the finite norms]
        self._record = self._add_state((4,), "record")
        if mode == "percentile":
            self._norms = self._add_state((self.window,), "norms")
            # Keras's own "int": XLA on a GPU cannot reach variables of 32-bit integers.
            self._num_norms = self._add_state((), "num_norms", dtype="int")

    def build(self, variables):
        """Builds the wrapped optimizer for `variables`, if it is not built."""
        if not self.inner_optimizer.built:
            self.inner_optimizer.build(variables)
        super().build(variables)

    def apply(self, grads, trainable_variables=None):
        """Clips `grads` and applies them with the wrapped optimizer."""
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
            if not self.built:
                self.build(trainable_variables)
        # With nothing built yet, the wrapped optimizer says what is missing.
        variables = trainable_variables or self._trainable_variables or [None] * len(grads)
        grads = list(grads)
        # Variables that are overwritten by their "gradient" (float8 scales) have none to clip.
        chosen = [
            index
            for index, (gradient, variable) in enumerate(zip(grads, variables, strict=True))
            if gradient is not None and not getattr(variable, "overwrite_with_gradient", False)
        ]
        if chosen and self.built:
            clipped = self._clip([grads[i] for i in chosen], [variables[i] for i in chosen])
            for index, gradient in zip(chosen, clipped, strict=True):
                grads[index] = gradient
        self.inner_optimizer.apply(grads, trainable_variables)

    def apply_gradients(self, grads_and_vars):
        """Clips and applies (gradient, variable) pairs; returns the iterations."""
        grads, variables = zip(*grads_and_vars, strict=True)
        self.apply(grads, variables)
        return self.iterations

    def get_config(self):
        """The arguments that rebuild this optimizer."""
        threshold = _on_host(self._threshold).item()
        if self.mode == "percentile":
            threshold = None
        elif self.schedule is not None:
            threshold = keras.saving.serialize_keras_object(self.schedule)
        return {
            "inner_optimizer": keras.saving.serialize_keras_object(self.inner_optimizer),
            "mode": self.mode,
            "threshold": threshold,
            "percentile": self.percentile,
            "window": self.window,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Rebuilds an optimizer from `get_config`."""
        config = dict(config)
        for key in ("inner_optimizer", "threshold"):
            if isinstance(config[key], dict):
                config[key] = keras.saving.deserialize_keras_object(
                    config[key], custom_objects=custom_objects
                )
        return cls(**config)

    # What the clip did.

    @property
    def threshold(self):
        """The threshold in use, a float; settable where no schedule or percentile gives it."""
        return _on_host(self._threshold).item()

    @threshold.setter
    def threshold(self, value):
        check_rule(self.mode, value, self.percentile, self.window)
        if self.schedule is not None:
            raise InputError(
                f"The threshold of {self.name!r} is given by a schedule and cannot be set to "
                f"{value!r}. Build the optimizer with a number to set it by hand."
            )
        self._threshold.assign(float(value))

    @property
    def clip_threshold(self):
        """The threshold of the last step, a float."""
        return _on_host(self._threshold).item()

    @property
    def gradient_norm(self):
        """Mean global norm before clipping since `reset_record`; NaN if no norm was finite."""
        _, finite_steps, _, mean = _on_host(self._record).tolist()
        return mean if finite_steps else float("nan")

    @property
    def clipped_fraction(self):
        """Share of the steps since `reset_record` in which the clip changed a gradient."""
        steps, _, clipped_steps, _ = _on_host(self._record).tolist()
        return clipped_steps / steps if steps else 0.0

    def reset_record(self):
        """Forgets the steps seen so far, but not the window of recent norms."""
        self._record.assign(keras.ops.zeros((4,)))

    # Everything else is the wrapped optimizer's.

    @property
    def inner_optimizer(self):
        """The wrapped optimizer."""
        return self._inner

    @property
    def variables(self):
        """The variables of the wrapped optimizer."""
        return self.inner_optimizer.variables

    def scale_loss(self, loss):
        """Scales the loss as the wrapped optimizer wants it."""
        return self.inner_optimizer.scale_loss(loss)

    def set_weights(self, weights):
        """Sets the variables of the wrapped optimizer."""
        self.inner_optimizer.set_weights(weights)

    def save_own_variables(self, store):
        """Saves the state of the wrapped optimizer, in its own layout."""
        self.inner_optimizer.save_own_variables(store)

    def load_own_variables(self, store):
        """Loads the state of the wrapped optimizer."""
        self.inner_optimizer.load_own_variables(store)

    def __dir__(self):
        # Keras saves every saveable that `dir` names. The state of the wrapped optimizer is saved
        # in our place, and must not be looked for a second time in files of plain models.
        return [name for name in super().__dir__() if name not in ("_inner", "inner_optimizer")]

    def __getattr__(self, name):
        # Hyperparameters that other callbacks read, such as `momentum`.
        if name.startswith("_") or "_inner" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._inner, name)

    # The clip itself, traced into the training step.

    def _clip(self, gradients, variables):
        """Returns clipped gradients, and records what was done to them."""
        ops = keras.ops
        dtypes = [gradient.dtype for gradient in gradients]
        # A sparse gradient has indices; adding zeros adds up its rows that occur twice.
        gradients = [
            ops.add(gradient, ops.zeros(variable.shape, gradient.dtype))
            if hasattr(gradient, "indices")
            else gradient
            for gradient, variable in zip(gradients, variables, strict=True)
        ]
        # Each replica holds its share of the sum that the wrapped optimizer will form.
        replicas = backend.replica_count()
        if replicas > 1:
            gradients = backend.all_reduce_sum(gradients)
        gradients = [ops.cast(gradient, "float32") for gradient in gradients]
        loss_scale = getattr(self.inner_optimizer, "loss_scale_factor", None) or 1.0
        if loss_scale != 1.0:
            gradients = [gradient / loss_scale for gradient in gradients]

        norms = [overflow_free_norm([gradient]) for gradient in gradients]
        norm = overflow_free_norm(norms)
        finite = ops.isfinite(norm)
        threshold = self._next_threshold(norm, finite)
        if self.mode == "value":
            clipped = [ops.clip(gradient, -threshold, threshold) for gradient in gradients]
            changed = ops.any(
                ops.stack([ops.any(ops.abs(gradient) > threshold) for gradient in gradients])
            )
        elif self.mode == "norm":
            clipped = [
                gradient * clip_scale(own, threshold)
                for gradient, own in zip(gradients, norms, strict=True)
            ]
            changed = ops.any(ops.stack([exceeds(own, threshold) for own in norms]))
        else:
            scale = clip_scale(norm, threshold)
            clipped = [gradient * scale for gradient in gradients]
            changed = exceeds(norm, threshold)
        self._note(norm, finite, changed)
        if loss_scale != replicas:
            clipped = [gradient * (loss_scale / replicas) for gradient in clipped]
        return [ops.cast(gradient, dtype) for gradient, dtype in zip(clipped, dtypes, strict=True)]

    def _next_threshold(self, norm, finite):
        """Returns the threshold of this step, after `norm` was put into the window."""
        ops = keras.ops
        if self.mode == "percentile":
            here = self._places() == self._num_norms % self.window
            self._norms.assign(ops.where(here & finite, norm, self._norms))
            self._num_norms.assign_add(ops.cast(finite, self._num_norms.dtype))
            self._threshold.assign(self._percentile_of_norms())
        elif self.schedule is not None:
            threshold = ops.cast(self.schedule(self.iterations), "float32")
            self._threshold.assign(ops.maximum(threshold, 0.0))
        return ops.convert_to_tensor(self._threshold)

    def _percentile_of_norms(self):
        """The percentile of the norms that the window holds so far."""
        ops = keras.ops
        count = ops.minimum(self._num_norms, self.window)
        held = self._places() < count
        # What is not held yet sorts to the end; with none held, nothing is clipped.
        ranked = ops.sort(ops.where(held, self._norms, 3.4e38))
        last = ops.cast(ops.maximum(count - 1, 0), "float32")
        position = self.percentile / 100.0 * last
        below = ops.floor(position)
        low = ops.take(ranked, ops.cast(below, "int32"))
        high = ops.take(ranked, ops.cast(ops.ceil(position), "int32"))
        return low + (high - low) * (position - below)

    def _places(self):
        """The places of the window."""
        return keras.ops.arange(self.window, dtype=self._num_norms.dtype)

    def _note(self, norm, finite, changed):
        """Adds one step to the record."""
        ops = keras.ops
        steps, finite_steps, clipped_steps, mean = ops.unstack(self._record)
        finite_steps = finite_steps + ops.cast(finite, "float32")
        # A running mean, because a sum of large norms overflows.
        change = (ops.where(finite, norm, mean) - mean) / ops.maximum(finite_steps, 1.0)
        clipped_steps = clipped_steps + ops.cast(changed, "float32")
        self._record.assign(ops.stack([steps + 1.0, finite_steps, clipped_steps, mean + change]))

    def _add_state(self, shape, name, value=0.0, dtype="float32"):
        return self.add_variable(
            shape,
            initializer=keras.initializers.Constant(value),
            dtype=dtype,
            aggregation="only_first_replica",
            name=name,
        )


def _on_host(variable):
    """The value of a variable as an array; replicas hold the same one."""
    return keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(variable))
