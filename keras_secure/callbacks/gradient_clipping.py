"""Gradient clipping for any model, switched on for the length of a `fit`."""

import contextlib
from typing import Any

import keras

from keras_secure.errors import InputError
from keras_secure.optimizers.clipping_optimizer import ClippingOptimizer
from keras_secure.optimizers.clipping_rule import check_rule


class GradientClipping(keras.callbacks.Callback):
    """Clips gradients during `fit`, and logs their norms.

    It works on any compiled `keras.Model`. For the length of a `fit` the model's optimizer is
    wrapped in a `ClippingOptimizer`; afterwards the model has its own optimizer object back. Files
    that other callbacks write meanwhile (`ModelCheckpoint`, `BackupAndRestore`) are those of the
    plain model with its own optimizer, and load without this package.

    At the end of every epoch three floats are added to `logs`, so `History`, and callbacks that
    stand behind this one in the list (`CSVLogger`, `TensorBoard`), show them:
    `gradient_norm`, the mean over the epoch's steps of the global norm before clipping;
    `clip_threshold`, the threshold of the last step; and `clipped_fraction`, the share of steps in
    which the clip changed a gradient.

    Gradients with a NaN or an infinity are handed on, so that `TerminateOnNaN` and loss scaling see
    them; they count neither for the percentile nor for `gradient_norm`, which is NaN only in an
    epoch without a single finite gradient. Under `mixed_float16` what is clipped and logged is the
    unscaled gradient.

    Keras does not tell callbacks about a `fit` that ends by an exception (a `KeyboardInterrupt`
    too). The model then keeps clipping until `detach()`, `compile` or the next `fit` with a
    `GradientClipping`, which replaces what the broken one left.

    Args:
        mode: `"value"` clips each element to [-threshold, threshold]; `"norm"` scales each
            variable's gradient to an L2 norm of at most the threshold; `"global_norm"` (the
            default) scales all gradients together; `"percentile"` does so with a threshold that
            follows the norms of the last steps.
        threshold: Float of at least 0, or a schedule: a function that takes the step (an int, the
            optimizer's iterations) and returns a float. A
            `keras.optimizers.schedules.LearningRateSchedule` is evaluated inside the compiled
            step; any other function is called before every batch (with `steps_per_execution`:
            before every execution). Must be None for `"percentile"`.
        percentile: Float from 0 to 100, for `"percentile"`. Defaults to 90.0.
        window: How many recent norms the percentile is taken of. Defaults to 100. It starts
            empty in every `fit`.

    Raises:
        InputError: If an argument is out of its range; in `fit`, if the model's optimizer clips
            already.
        PrivacyError: In `fit`, if the optimizer is differentially private: there the clip is part
            of the guarantee and belongs in its `l2_norm_clip`.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", loss="mse")
    >>> x = keras.ops.ones((8, 2))
    >>> history = model.fit(
    ...     x, 100 * x[:, 0], verbose=0, callbacks=[GradientClipping("global_norm", threshold=0.5)]
    ... )
    >>> history.history["clip_threshold"], history.history["clipped_fraction"]
    ([0.5], [1.0])

    Reference:
        Percentile: Seetharaman et al. 2020, AutoClip, arXiv 2007.14469, algorithm 1.
    """

    def __init__(self, mode="global_norm", threshold=None, percentile=90.0, window=100):
        super().__init__()
        check_rule(mode, threshold, percentile, window)
        self.mode = mode
        self.threshold = threshold
        self.percentile = percentile
        self.window = window
        self._wrapper: Any = None
        self._first_step = 0
        in_graph = isinstance(threshold, keras.optimizers.schedules.LearningRateSchedule)
        self._host_schedule: Any = threshold if callable(threshold) and not in_graph else None

    def on_train_begin(self, logs=None):
        """Puts the clip in front of the model's optimizer."""
        earlier = detach(self.model)
        # Keras gives all callbacks of one fit the same `params`.
        if earlier is not None and earlier is not self and earlier.params is self.params:
            raise InputError(
                f"Two GradientClipping callbacks (mode={earlier.mode!r} and mode={self.mode!r}) "
                "stand in one fit; expected one, because only one threshold can be logged."
            )
        holder, name = _holder(self.model)
        optimizer = getattr(holder, name, None)
        if optimizer is None:
            raise InputError(
                "GradientClipping found no optimizer on the model. Call `model.compile` with one."
            )
        if isinstance(optimizer, ClippingOptimizer):
            raise InputError(
                f"The model was compiled with a ClippingOptimizer (mode={optimizer.mode!r}), which "
                "clips already. Leave out GradientClipping, or compile with "
                f"{type(optimizer.inner_optimizer).__name__} itself."
            )
        # A function of the step sets the threshold before each batch; until then any number does.
        threshold = self.threshold if self._host_schedule is None else 0.0
        with _scope(self.model):
            wrapper = ClippingOptimizer(
                optimizer, self.mode, threshold, self.percentile, self.window
            )
            wrapper.build(self.model.trainable_variables)
        wrapper.installed_by = self
        setattr(holder, name, wrapper)
        self._wrapper = wrapper
        # An earlier fit may have traced a step without the clip, or with another.
        self.model.make_train_function(force=True)

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the epoch's record."""
        self._wrapper.reset_record()
        if self._host_schedule is not None:
            iterations = keras.ops.convert_to_tensor(self._wrapper.iterations)
            self._first_step = int(keras.ops.convert_to_numpy(iterations))

    def on_train_batch_begin(self, batch, logs=None):
        """Sets the threshold where a function of the step gives it."""
        if self._host_schedule is not None:
            self._wrapper.threshold = self._scheduled(self._first_step + batch)

    def on_epoch_end(self, epoch, logs=None):
        """Adds the epoch's record to `logs`."""
        if logs is not None:
            logs["gradient_norm"] = self._wrapper.gradient_norm
            logs["clip_threshold"] = self._wrapper.clip_threshold
            logs["clipped_fraction"] = self._wrapper.clipped_fraction

    def on_train_end(self, logs=None):
        """Gives the model its own optimizer back."""
        self.detach()

    def detach(self):
        """Gives the model its own optimizer back, after a `fit` that ended by an exception."""
        if self.model is not None:
            detach(self.model)

    def _scheduled(self, step):
        threshold = float(self._host_schedule(step))
        if not 0.0 <= threshold < float("inf"):
            raise InputError(
                f"The threshold schedule of GradientClipping returned {threshold} at step {step}; "
                "expected a finite number that is at least 0."
            )
        return threshold


def detach(model):
    """Takes out the clip that a `GradientClipping` has put into a model, if there is one.

    Args:
        model: A compiled `keras.Model`.

    Returns:
        The callback that had put it in, or None.
    """
    holder, name = _holder(model)
    optimizer = getattr(holder, name, None)
    if not isinstance(optimizer, ClippingOptimizer) or optimizer.installed_by is None:
        return None
    setattr(holder, name, optimizer.inner_optimizer)
    # The traced step contains the clip; the next fit has to trace one without it.
    model.train_function = None
    return optimizer.installed_by


def _holder(model):
    """Where the optimizer stands that sees unscaled gradients: (object, attribute name)."""
    holder, name = model, "optimizer"
    while isinstance(getattr(holder, name, None), keras.optimizers.LossScaleOptimizer):
        holder, name = getattr(holder, name), "inner_optimizer"
    return holder, name


def _scope(model):
    """The scope in which the model's variables have to be created."""
    strategy = getattr(model, "distribute_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()
