"""What a private run needs beyond an ordinary one: checks, batches, and the clipped update."""

import itertools

from keras import ops, tree

from keras_secure import backend
from keras_secure.errors import BudgetExhaustedError, PrivacyError
from keras_secure.objectives import Standard
from keras_secure.privacy import PerExampleClipping, UnstatedSampling, check_model
from keras_secure.training.loss_check import check_loss, check_objective
from keras_secure.training.private_data import first_examples

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

    def begin_arrays(self, data, batch_size, steps):
        """Checks the model, opens a phase, and returns the stream of batches drawn from arrays."""
        batches = data.batches(batch_size, self.secure.optimizer.seed)
        parts = data.parts
        self._prepare(parts["x"], parts.get("y"), parts.get("sample_weight"))
        divisor = self.secure.optimizer.expected_batch_size or batch_size
        self.secure.optimizer.begin_phase(batches.sampling, divisor)
        # Streams of known length, so that several steps per execution never run over the epoch.
        return backend.batch_stream(
            lambda: map(_with_numeric_mask, itertools.islice(batches, steps)),
            _with_numeric_mask(next(iter(batches))),
            steps,
        )

    def begin_unsampled(self, batch, check=False):
        """Checks the model and opens a phase for batches that the user forms."""
        if self.secure.optimizer.expected_batch_size is None:
            raise PrivacyError(
                "The noisy sum must be divided by a fixed number, since the realised batch size is "
                "private. Give DPOptimizer(expected_batch_size=...), or train on arrays with fit."
            )
        sampling = self.secure.optimizer.sampling or UnstatedSampling()
        current = self.secure.optimizer.ledger.current
        if check or not self._is_checked:
            self._prepare(*batch)
        if current is None or current.sampling != sampling:
            self.secure.optimizer.begin_phase(sampling, self.secure.optimizer.expected_batch_size)

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
        journals = [c for c in tree.flatten(callbacks or ()) if hasattr(c, "lost_steps")]
        if self.secure.optimizer.awaits_journal and not journals:
            raise PrivacyError(
                "The checkpoint was saved while a journal recorded the steps after it, which it "
                "therefore lacks. Give fit the callback PrivacyJournal with that journal's path."
            )

    def update(self, per_example, x, mask):
        """Takes one private step.

        Args:
            per_example: Function without arguments that runs the model and returns
                (losses of shape (batch,), predictions).
            x: Nested inputs of the batch.
            mask: (batch,) bool, false for padding; None if nothing is padded.

        Returns:
            (losses, predictions).
        """
        if self.secure.optimizer.ledger.current is None:
            raise PrivacyError(
                "A private step was called outside fit and train_on_batch, so its sampling is "
                "unknown. Train with SecureModel.fit."
            )
        size = tree.flatten(x)[0].shape[0]
        layers = self.secure.model._flatten_layers()
        half = any(layer.compute_dtype == "float16" for layer in layers)
        clipped, losses, y_pred = self.clipping.clipped_sum(
            per_example,
            l2_norm_clip=self.secure.optimizer.l2_norm_clip,
            batch_size=ops.shape(tree.flatten(x)[0])[0] if size is None else size,
            example_mask=mask,
            loss_scale=_FLOAT16_LOSS_SCALE if half else 1.0,
        )
        variables = self.secure.model.trainable_variables
        self.secure.optimizer.apply_clipped(clipped, variables, self._penalty_gradients(variables))
        return losses, y_pred

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
