"""What a private run needs beyond an ordinary one: checks, batches, and the clipped update."""

import itertools

from keras import ops, tree

from keras_secure import backend
from keras_secure.errors import BudgetExhaustedError, PrivacyError
from keras_secure.objectives import Standard
from keras_secure.privacy import PerExampleClipping, check_model
from keras_secure.privacy.microbatches import sum_of_microbatches, usual_rows
from keras_secure.training.loss_check import check_loss, check_objective
from keras_secure.training.pass_positions import PassPositions
from keras_secure.training.private_data import first_examples, stated_sampling

# Keeps small float16 gradients from vanishing. Per-example losses are not divided by the batch
# size, so less is needed than for ordinary training; it is undone before the norms are taken.
_FLOAT16_LOSS_SCALE = 128.0


class PrivateTraining:
    """The private side of one compiled `SecureModel`.

    Args:
        secure: The `SecureModel`, whose optimizer is a `DPOptimizer`.
    """

    def __init__(self, secure):
        self.secure = secure
        self.clipping = PerExampleClipping(secure.model)
        self._is_checked = False
        self._usual_rows = None

    def begin_sampled(self, data, batch_size, steps, epochs=1, shuffle=True):
        """Checks the model, opens a phase, and draws batches from `data`.

        Args:
            data: The `PrivateExamples`.
            batch_size: Mean size of a batch.
            steps: Steps of an epoch.
            epochs: Number of epochs.
            shuffle: Whether deterministic passes go through the data in a random order.

        Returns:
            (stream of batches, list of callbacks that fit needs for it).
        """
        optimizer = self.secure.optimizer
        kind = getattr(optimizer.sampling, "kind", optimizer.sampling) or "poisson"
        batches = data.batches(
            batch_size, sampling=kind, steps=steps * epochs, shuffle=shuffle, seed=optimizer.seed
        )
        self._prepare(*data.first())
        self._usual_rows = usual_rows(batch_size)
        divisor = optimizer.expected_batch_size or batch_size

        def begin():
            optimizer.begin_phase(batches.sampling, divisor, planned_steps=steps * epochs)

        begin()
        pass_length = getattr(batches.sampling, "steps_per_epoch", 1)
        positions = PassPositions(optimizer, steps, pass_length, begin)

        def upcoming():
            return batches.starting_at(positions.position)

        # Streams of known length, so that several steps per execution never run over the epoch.
        stream = backend.batch_stream(
            lambda: map(_with_numeric_mask, itertools.islice(upcoming(), steps)),
            _with_numeric_mask(next(upcoming())),
            steps,
        )
        return stream, [positions] if batches.sampling.counts_passes else []

    def begin_unsampled(self, batch, data=None, epochs=1):
        """Checks the model and opens a phase for batches that the user forms.

        Args:
            batch: The first batch, as (x, y, sample_weight).
            data: What was given to `fit`; None for a single batch.
            epochs: Number of epochs.
        """
        if self.secure.optimizer.expected_batch_size is None:
            raise PrivacyError(
                "The noisy sum must be divided by a fixed number, since the realised batch size is "
                "private. Give DPOptimizer(expected_batch_size=...), or train on arrays with fit."
            )
        self._usual_rows = None
        optimizer = self.secure.optimizer
        sampling = stated_sampling(optimizer.sampling, data)
        current = optimizer.ledger.current
        if data is not None or not self._is_checked:
            self._prepare(*batch)
        if current is None or current.sampling != sampling or sampling.counts_passes:
            # With every fit a pass begins anew.
            steps = getattr(sampling, "steps_per_epoch", None)
            optimizer.begin_phase(
                sampling,
                optimizer.expected_batch_size,
                planned_steps=None if steps is None else steps * epochs,
            )

    def refuse_if_exhausted(self):
        """Raises `BudgetExhaustedError` if no step is left under the budget."""
        if self.secure.optimizer.is_exhausted:
            raise BudgetExhaustedError(
                f"The privacy budget was spent by the {self.secure.optimizer.executed_steps} steps "
                "executed so far. Pass a PrivacyBudget callback with a larger budget to fit, or "
                "withdraw the limit with optimizer.lift_limit()."
            )

    def refuse_without_journal(self, callbacks=None):
        """Raises `PrivacyError` if what was loaded lacks steps that only a journal knows."""
        callbacks = getattr(callbacks, "callbacks", callbacks)
        journals = [c for c in tree.flatten(callbacks or ()) if hasattr(c, "lost_steps")]
        # An earlier fit may have ended before its journal could take leave.
        self.secure.optimizer.expect_journal(bool(journals))
        if self.secure.optimizer.awaits_journal and not journals:
            raise PrivacyError(
                "The checkpoint was saved while a journal recorded the steps after it, which it "
                "therefore lacks. Give fit the callback PrivacyJournal with that journal's path."
            )

    def update(self, batch, mask):
        """Takes one private step and records its losses and metrics.

        Args:
            batch: (x, y, sample_weight), each nested or None.
            mask: (batch,) bool, false for padding; None if nothing is padded.
        """
        if self.secure.optimizer.ledger.current is None:
            raise PrivacyError(
                "A private step was called outside fit and train_on_batch, so its sampling is "
                "unknown. Train with SecureModel.fit."
            )
        optimizer = self.secure.optimizer
        variables = self.secure.model.trainable_variables
        rows = optimizer.microbatch_size or self._usual_rows
        clipped = sum_of_microbatches(self._clipped_sum, variables, batch, mask, rows)
        optimizer.apply_clipped(clipped, variables, self._penalty_gradients(variables))

    def _clipped_sum(self, batch, mask):
        """Attacks, differentiates and clips one part of a batch that fits into memory."""
        secure = self.secure
        x, y, sample_weight = batch
        perturbed = secure.objective.perturb(secure.model, x, y, secure.per_example_loss)

        def per_example():
            return secure.objective(
                secure.model, x, y, perturbed, secure.per_example_loss, sample_weight
            )

        size = tree.flatten(x)[0].shape[0]
        layers = secure.model._flatten_layers()
        half = any(layer.compute_dtype == "float16" for layer in layers)
        clipped, losses, y_pred = self.clipping.clipped_sum(
            per_example,
            l2_norm_clip=secure.optimizer.l2_bound,
            batch_size=ops.shape(tree.flatten(x)[0])[0] if size is None else size,
            example_mask=mask,
            loss_scale=_FLOAT16_LOSS_SCALE if half else 1.0,
            mode=secure.optimizer.clipping,
        )
        secure.record(batch, mask, losses, y_pred)
        return clipped

    def _prepare(self, x, y, sample_weight):
        """Builds everything and refuses what cannot be private, on three examples."""
        x, y, sample_weight = first_examples(x, y, sample_weight)
        y_pred = self.secure(x, training=False)
        check_model(self.secure.model, x)
        loss = self.secure.per_example_loss
        check_loss(loss, y, y_pred, sample_weight)
        if type(self.secure.objective) is not Standard:
            check_objective(self.secure.objective, self.secure.model, loss, x, y, sample_weight)

        def per_example():
            return self.secure.objective(self.secure.model, x, y, perturbed, loss, sample_weight)

        perturbed = self.secure.objective.perturb(self.secure.model, x, y, loss)
        self.clipping.gradients.verify(per_example, batch_size=len(tree.flatten(x)[0]))
        # Keras builds metrics from the first batch, but cannot read the structure of ours.
        self.secure.compute_loss(x, y, y_pred, sample_weight, training=False)
        self.secure.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
        self.secure.reset_metrics()
        self._is_checked = True

    def _penalty_gradients(self, variables):
        """Gradients of the weight regularizers, which see no data."""
        if all(variable.regularizer is None for variable in variables):
            return None

        def penalty():
            total = 0.0
            for variable in variables:
                if variable.regularizer is not None:
                    total = total + ops.cast(variable.regularizer(variable), "float32")
            return total, None

        _, _, gradients = backend.gradients(penalty, lambda: variables)
        return [
            ops.zeros(v.shape, "float32") if g is None else ops.cast(g, "float32")
            for v, g in zip(variables, gradients, strict=True)
        ]


def _with_numeric_mask(batch):
    # Under a distribution strategy Keras averages the first batch over replicas to read its
    # structure, which booleans do not survive.
    return {**batch, "mask": batch["mask"].astype("float32")}
