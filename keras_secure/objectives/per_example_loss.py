"""The compiled loss of a model, one value per example."""

import keras
from keras import ops, tree

from keras_secure.errors import InputError


class PerExampleLoss:
    """Evaluates what was given to `compile(loss=..., loss_weights=...)` without the batch average.

    Positions within an example (time steps, pixels) are averaged, over the valid ones where the
    predictions carry a Keras mask. Keras averages valid positions over the whole batch instead; by
    example, each example weighs the same.

    Args:
        loss: Loss name, function, `keras.losses.Loss`, or a list or dict of these by output.
        loss_weights: None, or floats in the structure of `loss`.
        output_names: The model's output names, to match dicts to lists.

    Raises:
        InputError: if the loss cannot be evaluated by example.

    Example:

    >>> loss = PerExampleLoss("mse")
    >>> print(ops.convert_to_numpy(loss(ops.zeros((2, 2)), ops.ones((2, 2)))))
    [1. 1.]
    """

    def __init__(self, loss, loss_weights=None, output_names=None):
        if loss is None:
            raise InputError("No loss was compiled. Pass loss=... to SecureModel.compile.")
        self.loss, self.loss_weights, self.output_names = loss, loss_weights, output_names
        for item in tree.flatten(loss):
            if getattr(item, "reduction", None) == "mean_with_sample_weight":
                raise InputError(
                    "A loss with reduction='mean_with_sample_weight' divides by the weights of the "
                    "other examples. Use reduction='sum_over_batch_size' or 'sum'."
                )

    @property
    def from_logits(self):
        """True or False if a single loss says whether outputs are logits, otherwise None."""
        items = [item for item in tree.flatten(self.loss) if item is not None]
        if len(items) != 1 or not isinstance(items[0], keras.losses.Loss):
            return None
        return items[0].get_config().get("from_logits")

    @property
    def sums_over_batch(self):
        """Whether the batch's loss is the sum, rather than the mean, of the examples'."""
        return any(getattr(item, "reduction", None) == "sum" for item in tree.flatten(self.loss))

    def reduce(self, losses):
        """Returns the batch's loss, as Keras would reduce it, from losses of shape (batch,)."""
        return ops.sum(losses) if self.sums_over_batch else ops.mean(losses)

    def __call__(self, y, y_pred, sample_weight=None):
        """Returns the loss of each example, shape (batch,), float32."""
        total = 0.0
        for target, output, weight, loss, loss_weight in self._aligned(y, y_pred, sample_weight):
            value = _per_example(loss, target, output, weight)
            total = total + (value if loss_weight is None else value * loss_weight)
        return total

    def over_labels(self, term, y, sample_weight=None):
        """Returns `term(loss, y, sample_weight)`: what an objective makes of the labels.

        Where several labels share an example (`Mixup`), the term of each counts by its share. So an
        objective that reads labels itself, rather than handing them to this loss, does it in here.

        Args:
            term: Function of a loss, targets and weights that returns losses of shape (batch,).
            y: Targets of the batch.
            sample_weight: Optional weights.
        """
        return term(self, y, sample_weight)

    @staticmethod
    def weigh(losses, sample_weight):
        """Returns losses of shape (batch,) times the weights of the examples, if there are any."""
        if sample_weight is None:
            return losses
        return losses * ops.reshape(ops.cast(sample_weight, "float32"), (-1,))

    def by_output(self, y, y_pred, sample_weight=None):
        """Returns the losses of each output by its name, before `loss_weights`.

        Empty for a model with one output, whose loss is the whole.
        """
        if not tree.is_nested(y_pred):
            return {}
        names = list(y_pred) if isinstance(y_pred, dict) else self.output_names
        rows = self._aligned(y, y_pred, sample_weight)
        if names is None or len(names) != len(rows):
            return {}
        return {
            name: _per_example(loss, target, output, weight)
            for name, (target, output, weight, loss, _) in zip(names, rows, strict=True)
        }

    def _aligned(self, y, y_pred, sample_weight):
        if not tree.is_nested(y_pred):
            y = tree.flatten(y)[0]
            weights = tree.flatten(self.loss_weights) if self.loss_weights is not None else [None]
            return [(y, y_pred, sample_weight, tree.flatten(self.loss)[0], weights[0])]
        names = list(y_pred) if isinstance(y_pred, dict) else self.output_names
        count = len(y_pred)

        def listed(value, what):
            if value is None or not tree.is_nested(value):
                return [value] * count
            if isinstance(value, dict):
                if names is None or not set(value) <= set(names):
                    raise InputError(
                        f"The {what} has the keys {sorted(value)}, the model the outputs {names}. "
                        "Use the output names as keys."
                    )
                return [value.get(name) for name in names]
            if len(value) != count:
                raise InputError(
                    f"The {what} has {len(value)} parts, the model {count} outputs. "
                    "Give one for each output."
                )
            return list(value)

        rows = zip(
            listed(y, "target"),
            list(y_pred.values()) if isinstance(y_pred, dict) else list(y_pred),
            listed(sample_weight, "sample_weight"),
            listed(self.loss, "loss"),
            listed(self.loss_weights, "loss_weights"),
            strict=True,
        )
        return [row for row in rows if row[3] is not None]


def _per_example(loss, y, y_pred, sample_weight):
    mask = getattr(y_pred, "_keras_mask", None)
    y_pred = ops.convert_to_tensor(y_pred, dtype="float32")
    y = ops.convert_to_tensor(y, dtype="float32")
    if not isinstance(loss, keras.losses.Loss):
        loss = keras.losses.get(loss)
    if isinstance(loss, keras.losses.Loss):
        values = loss.call(y, y_pred)
    else:
        values = loss(*_same_rank(y, y_pred))
    if len(values.shape) == 0:
        raise InputError(
            f"The loss {getattr(loss, '__name__', loss)!r} returns one number for the whole batch. "
            "Return one value per example, of shape (batch, ...)."
        )
    if sample_weight is not None:
        sample_weight = ops.cast(sample_weight, "float32")
        if len(sample_weight.shape) == len(values.shape) + 1:
            sample_weight = ops.squeeze(sample_weight, axis=-1)
        while len(sample_weight.shape) < len(values.shape):
            sample_weight = ops.expand_dims(sample_weight, axis=-1)
        values = values * sample_weight
    axes = tuple(range(1, len(values.shape)))
    if not axes:
        return values
    if mask is not None and len(mask.shape) == len(values.shape):
        valid = ops.cast(mask, "float32")
        values = values * valid
        if getattr(loss, "reduction", None) != "sum":
            return ops.sum(values, axis=axes) / ops.maximum(ops.sum(valid, axis=axes), 1.0)
    if getattr(loss, "reduction", None) == "sum":
        return ops.sum(values, axis=axes)
    return ops.mean(values, axis=axes)


def _same_rank(y, y_pred):
    # As Keras does for losses given as functions: (batch,) labels against (batch, 1) predictions.
    if len(y.shape) == len(y_pred.shape) - 1 and y_pred.shape[-1] == 1:
        return ops.expand_dims(y, axis=-1), y_pred
    if len(y.shape) == len(y_pred.shape) + 1 and y.shape[-1] == 1:
        return ops.squeeze(y, axis=-1), y_pred
    return y, y_pred
