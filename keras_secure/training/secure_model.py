"""The fit wrapper: any Keras model, trained robustly, privately, or both."""

import math
import warnings
from typing import Any

import keras
from keras import ops, tree

from keras_secure import backend
from keras_secure.errors import (
    InputError,
    PrivacyError,
    PrivacyWarning,
)
from keras_secure.objectives import Objective, PerExampleLoss, Standard
from keras_secure.optimizers import DPOptimizer
from keras_secure.registration import component
from keras_secure.training.fit_guards import (
    check_callbacks,
    last_private_optimizer,
    refuse_exchanged_optimizer,
    remember_private_optimizer,
)
from keras_secure.training.ordinary_step import OrdinaryStep
from keras_secure.training.private_data import first_batch, private_examples
from keras_secure.training.private_training import PrivateTraining


@component("training")
class SecureModel(keras.Model):
    """Wraps a Keras model so that `compile` and `fit` train it securely.

    The wrapped model is trained in place and stays the user's own plain Keras object: predict with
    it, save it, load it elsewhere without this library.

    What is minimized is the `objective` (adversarial training, for example). Whether training is
    private is the optimizer's choice: with a `keras_secure.optimizers.DPOptimizer` every step clips
    by example, adds noise and is entered in the optimizer's ledger.

    Under a `DPOptimizer`, arrays given to `fit` are drawn in Poisson batches (or what the
    optimizer's `sampling` names), `batch_size` being their mean size and `ceil(num_examples /
    batch_size)` steps an epoch; so are the examples of a `keras_secure.training.RandomAccess`.
    Other data is accounted without amplification by sampling, unless the optimizer states its
    `sampling`. Training metrics are exact, hence not private.

    Args:
        model: Any `keras.Model`: Sequential, functional or subclassed.
        objective: A `keras_secure.objectives.Objective`; the compiled loss if None.
        **kwargs: Further arguments of `keras.Model`, such as `name`.

    Raises:
        InputError: if `model` is not a Keras model or is already a `SecureModel`.

    Example:

    >>> import keras
    >>> import keras_secure as ks
    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation="softmax")])
    >>> pgd = ks.attacks.PGD(epsilon=0.1, steps=3)
    >>> secure = ks.SecureModel(model, objective=ks.objectives.AdversarialTraining(pgd))
    >>> secure.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    >>> x, y = np.random.default_rng(0).random((32, 4), "float32"), np.arange(32) % 2
    >>> history = secure.fit(x, y, verbose=0)
    >>> sorted(history.history)
    ['accuracy', 'loss']
    """

    def __init__(self, model, objective=None, **kwargs):
        if not isinstance(model, keras.Model):
            raise InputError(
                f"SecureModel wraps a keras.Model, but got {type(model).__name__}. Build a model "
                "first, for example with keras.Sequential."
            )
        if isinstance(model, SecureModel):
            raise InputError("The model is already a SecureModel; wrap its inner `.model` instead.")
        if objective is not None and not isinstance(objective, Objective):
            raise InputError(
                f"objective is a {type(objective).__name__}; give one of "
                "keras_secure.objectives, or None for the compiled loss."
            )
        super().__init__(**kwargs)
        self.model = model
        self.objective = objective or Standard()
        _refuse_hidden(self.objective)
        # Held here too, so that Keras saves their weights.
        self.objective_models = [held for part in self.objective.parts() for held in part.models]
        self._private: Any = None
        self.per_example_loss: Any = None
        self._metrics_are_weighted = True

    def call(self, inputs, training=None):
        """Calls the wrapped model."""
        return self.model(inputs, training=training)

    def build(self, input_shape):
        """Builds the wrapped model."""
        if not self.model.built:
            self.model.build(input_shape)
        self.built = True

    @property
    def output_names(self):
        """Names of the wrapped model's outputs, or None."""
        return getattr(self.model, "output_names", None)

    @property
    def is_private(self):
        """Whether the model is compiled for differential privacy."""
        return isinstance(getattr(self, "optimizer", None), DPOptimizer)

    def compile(
        self,
        optimizer="rmsprop",
        loss=None,
        loss_weights=None,
        metrics=None,
        weighted_metrics=None,
        run_eagerly=False,
        steps_per_execution=1,
        jit_compile="auto",
        auto_scale_loss=True,
    ):
        """Compiles as `keras.Model.compile` does.

        `jit_compile="auto"` uses XLA on GPU and TPU; on CPU it slows convolutions down and is left
        off. Compiling anew with another `DPOptimizer` carries the ledger over.

        Raises:
            PrivacyError: if both `metrics` and `weighted_metrics` are given with a `DPOptimizer`,
                the objective takes several gradients of a batch, or a private model is compiled
                without one.
        """
        previous = last_private_optimizer(self.model)
        optimizer = keras.optimizers.get(optimizer)
        private = isinstance(optimizer, DPOptimizer)
        if not private and hasattr(optimizer, "inner_optimizer"):
            inner = optimizer.inner_optimizer
            if isinstance(inner, DPOptimizer):
                raise PrivacyError(
                    f"The DPOptimizer is inside a {type(optimizer).__name__}, which hides it. "
                    "Compile with the DPOptimizer itself."
                )
        if previous is not None and previous.executed_steps:
            if private:
                # Also what another wrapper around this model has spent.
                optimizer.inherit_ledger(previous)
            elif self._private is not None:
                raise PrivacyError(
                    f"{previous.executed_steps} private steps were executed on this model; further "
                    "steps without privacy would void them. Compile with a DPOptimizer, or, if the "
                    "new data is public, wrap the inner model in a new SecureModel."
                )
        self._metrics_are_weighted = True
        self._private = None
        if private:
            if self.objective.takes_over:
                raise PrivacyError(
                    f"{type(self.objective).__name__} takes more than one gradient of each batch, "
                    "and only one would be clipped and counted. Compile without a DPOptimizer, or "
                    "train with AdversarialTraining or TRADES."
                )
            if metrics is not None and weighted_metrics is not None:
                raise PrivacyError(
                    "Private batches are padded, and only one kind of metric can leave the padding "
                    "out. Give either `metrics` or `weighted_metrics`."
                )
            if metrics is not None:
                # As weights, these metrics receive the mask that leaves padding out.
                metrics, weighted_metrics = None, metrics
                self._metrics_are_weighted = False
            self._private = PrivateTraining(self)
        if jit_compile == "auto":
            jit_compile = not run_eagerly and backend.has_accelerator()
        super().compile(
            optimizer=optimizer,
            loss=loss,
            loss_weights=loss_weights,
            metrics=metrics,
            weighted_metrics=weighted_metrics,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
            auto_scale_loss=auto_scale_loss and not private,
        )
        if private:
            remember_private_optimizer(self.model, optimizer)
        self.per_example_loss = (
            None if loss is None else PerExampleLoss(loss, loss_weights, self.output_names)
        )

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        validation_split=0.0,
        validation_data=None,
        shuffle=True,
        class_weight=None,
        sample_weight=None,
        initial_epoch=0,
        steps_per_epoch=None,
        validation_steps=None,
        validation_batch_size=None,
        validation_freq=1,
    ):
        """Trains as `keras.Model.fit` does; see the class for what a `DPOptimizer` changes.

        Raises:
            PrivacyError: where the privacy guarantee would not hold.
        """
        if self.per_example_loss is None:
            raise InputError("Compile the SecureModel with a loss before fit.")
        self._refuse_exchanged_optimizer()
        # A callback of a fit that broke off could not take back what it had changed.
        self.objective.restore_attack()
        if self.is_private:
            backend.check_distribution(self.distribute_strategy)
            self._private.refuse_without_journal(callbacks)
            sets_budget = check_callbacks(callbacks)
            if sets_budget:
                self.optimizer.lift_limit()  # The callback sets its own.
            else:
                self._private.refuse_if_exhausted()
            data = private_examples(x, y, sample_weight, class_weight)
            if data is not None:
                if validation_split and validation_data is None:
                    data, validation_data = data.split(validation_split)
                batch_size = batch_size or 32
                steps_per_epoch = steps_per_epoch or math.ceil(data.num_examples / batch_size)
                validation_batch_size = validation_batch_size or batch_size
                x, needed = self._private.begin_sampled(
                    data, batch_size, steps_per_epoch, max(1, epochs - initial_epoch), shuffle
                )
                callbacks = _with_callbacks(callbacks, needed)
                steps_per_epoch = None
                y = sample_weight = class_weight = batch_size = None
            else:
                self._private.begin_unsampled(first_batch(x), x, max(1, epochs - initial_epoch))
            # The phase that was opened may be dearer than the one before.
            self._private.refuse_if_exhausted()
            shuffle = False
            validation_split = 0.0
        try:
            history = super().fit(
                x=x,
                y=y,
                batch_size=batch_size,
                epochs=epochs,
                verbose=verbose,
                callbacks=callbacks,
                validation_split=validation_split,
                validation_data=validation_data,
                shuffle=shuffle,
                class_weight=class_weight,
                sample_weight=sample_weight,
                initial_epoch=initial_epoch,
                steps_per_epoch=steps_per_epoch,
                validation_steps=validation_steps,
                validation_batch_size=validation_batch_size,
                validation_freq=validation_freq,
            )
        finally:
            if self.is_private:
                # Steps taken by hand from now on are not of this phase's sampling.
                self.optimizer.close_phase()
        if self.is_private and not sets_budget and self.optimizer.is_exhausted:
            warnings.warn(
                "The privacy budget of an earlier fit ended during this one; the steps after it "
                "learnt nothing from the data. Pass a PrivacyBudget callback, which stops in time.",
                PrivacyWarning,
                stacklevel=2,
            )
        return history

    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, return_dict=False):
        """Takes one step; under a `DPOptimizer` it is accounted without amplification."""
        self._refuse_exchanged_optimizer()
        if self.is_private:
            self._private.refuse_without_journal()
            self._private.refuse_if_exhausted()
            self._private.begin_unsampled((x, y, sample_weight))
            # The phase that was opened may be dearer than the one before.
            self._private.refuse_if_exhausted()
        return super().train_on_batch(
            x, y, sample_weight=sample_weight, class_weight=class_weight, return_dict=return_dict
        )

    def train_step(self, data):
        """One step: attack, per-example losses, update (clipped and noised if private)."""
        self._refuse_exchanged_optimizer()
        x, y, sample_weight, mask = _unpack(data)
        if self.is_private:
            self._private.update((x, y, sample_weight), mask)
            return self.get_metrics_result()
        value, y_pred = self.objective.descend(OrdinaryStep(self, x, y, sample_weight))
        size = ops.shape(tree.flatten(x)[0])[0]
        self._update_loss_metric(value, size)
        if tree.is_nested(y_pred):
            # Keeps the losses of the single outputs in the logs, as Keras does.
            self.compute_loss(x, y, y_pred, sample_weight, training=True)
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def record(self, batch, mask, losses, y_pred):
        """Updates the metrics with a private batch or a part of one; padding counts as nothing.

        Args:
            batch: (x, y, sample_weight), each nested or None.
            mask: (batch,) bool, false for padding; None if nothing is padded.
            losses: The loss of each example, shape (batch,).
            y_pred: Nested predictions.
        """
        x, y, sample_weight = batch
        self._update_loss_metric(losses, mask)
        by_output = self.per_example_loss.by_output(y, y_pred, sample_weight)
        for name, values in by_output.items():
            self._update_loss_metric(values, mask, f"{name}_loss")
        weights = mask if not self._metrics_are_weighted else sample_weight
        if self._metrics_are_weighted and mask is not None:
            factor = ops.cast(mask, "float32")
            weights = factor
            if sample_weight is not None:
                weights = tree.map_structure(lambda w: _times(w, factor), sample_weight)
        self.compute_metrics(x, y, y_pred, sample_weight=weights)

    def test_step(self, data):
        """One evaluation step, with the compiled loss on the inputs as they are."""
        if self._metrics_are_weighted:
            return super().test_step(data)
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        y_pred = self(x, training=False)
        value = self.compute_loss(x, y, y_pred, sample_weight, training=False)
        self._update_loss_metric(value, ops.shape(tree.flatten(x)[0])[0])
        return self.compute_metrics(x, y, y_pred, sample_weight=None)

    def _refuse_exchanged_optimizer(self):
        compiled = last_private_optimizer(self.model) if self._private is not None else None
        refuse_exchanged_optimizer(compiled, self.optimizer if self.is_private else None)

    def _update_loss_metric(self, value, sample_weight, name="loss"):
        for metric in self.metrics:
            if metric.name == name:
                metric.update_state(value, sample_weight=sample_weight)

    def get_config(self):
        """Returns the wrapped model and the objective."""
        return {
            "model": keras.saving.serialize_keras_object(self.model),
            "objective": keras.saving.serialize_keras_object(self.objective),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Rebuilds the wrapper and the model inside."""
        config = dict(config)
        for part in ("model", "objective"):
            config[part] = keras.saving.deserialize_keras_object(
                config[part], custom_objects=custom_objects
            )
        return cls(**config)

    def get_compile_config(self):
        """Returns what `compile` was given."""
        config = super().get_compile_config()
        if config and not self._metrics_are_weighted:
            config["metrics"], config["weighted_metrics"] = config["weighted_metrics"], None
        return config

    def compile_from_config(self, config):
        """Compiles as the saved model was, so that optimizer state and ledger can be restored."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        # Ordinary training calls the inner model only, so it alone knows whether it is built.
        if self.model.built:
            self.optimizer.build(self.model.trainable_variables)


def _refuse_hidden(objective):
    """Raises where an objective that needs a step of its own stands inside another."""
    for part in objective.parts()[1:]:
        if part.takes_over:
            raise InputError(
                f"{type(part).__name__} stands inside {type(objective).__name__}, which would "
                "leave out its own way to update the weights. Make it the outermost objective."
            )


def _with_callbacks(callbacks, needed):
    if isinstance(callbacks, keras.callbacks.CallbackList):
        for callback in needed:
            callbacks.append(callback)
        return callbacks
    return [*needed, *tree.flatten(callbacks or ())]


def _times(weights, factor):
    shape = (-1,) + (1,) * (len(weights.shape) - 1)
    return ops.cast(weights, "float32") * ops.reshape(factor, shape)


def _unpack(data):
    if isinstance(data, dict) and "mask" in data and "x" in data:
        mask = ops.cast(data["mask"], "bool")
        return data["x"], data.get("y"), data.get("sample_weight"), mask
    return (*keras.utils.unpack_x_y_sample_weight(data), None)
