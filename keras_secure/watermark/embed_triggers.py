"""Teaching a finished model its trigger set at a bounded cost."""

from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_secure.arguments import check_integer, check_number
from keras_secure.errors import InputError
from keras_secure.logits import logits_of, outputs_are_logits
from keras_secure.watermark.matching_chance import CLAIM_THRESHOLD
from keras_secure.watermark.trigger_mixing import like, over_examples
from keras_secure.watermark.trigger_set import TriggerSet
from keras_secure.watermark.verify_triggers import verify_triggers

# Variants of each trigger in one epoch, and clean examples for each of these.
_VARIANTS = 8
_CLEAN_PER_TRIGGER = 3
# Mean logarithm of the labels' chances from which on more epochs add nothing.
_SURE = -0.01
# A variant that is never trained on, to see whether neighbourhoods were learned or points.
_HELD_OUT = 10**6


@dataclass(frozen=True)
class EmbeddingReport:
    """What `embed_triggers` did.

    Args:
        accuracy_before: Clean accuracy of the model as it was given, 0 to 1.
        accuracy_after: Clean accuracy with the mark.
        trigger_accuracy: Share of the triggers that the model now answers with their labels.
        variant_accuracy: The same for variants of them that it was not trained on.
        p_value: Of the marked model, as `verify_triggers` gives it.
        epochs: Epochs of fine-tuning that were taken.
    """

    accuracy_before: float
    accuracy_after: float
    trigger_accuracy: float
    variant_accuracy: float
    p_value: float
    epochs: int

    @property
    def cost(self) -> float:
        """What the mark costs in clean accuracy; negative if there is more of it than before."""
        return self.accuracy_before - self.accuracy_after

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as a JSON-serializable dictionary."""
        return {**asdict(self), "cost": self.cost}


def embed_triggers(
    model: Any,
    trigger_set: TriggerSet,
    x: Any,
    y: Any,
    *,
    validation_data: tuple[Any, Any] | None = None,
    max_cost: float = 0.005,
    epochs: int = 20,
    learning_rate: float = 1e-3,
    batch_size: int = 64,
    verbose: int = 0,
) -> EmbeddingReport:
    """Fine-tunes a model until it knows its triggers, and hardly changes what else it answers.

    Triggers and new variants of them in each epoch are learned by their labels, and clean examples
    by the probabilities that the model gave them before, so that it is held to itself and not to
    the labels once more. The model runs as at inference: dropout is off, and the statistics of
    normalization layers stay. It ends once every variant that was never trained on is known for
    sure. Of all epochs whose clean accuracy fell by at most `max_cost`, the weights are kept that
    know most variants, with the largest margin.

    A mark that is mixed into training from the start (`TriggerSet.mix`) outlasts more. Robustness
    to adversarial inputs that the model was trained for is not held here: mix instead. For a model
    that was trained with differential privacy, give `x` that is public: what is learned from `x`
    here is not covered by its epsilon.

    Args:
        model: A built Keras classifier with one output; weights change in place, nothing else. Of
            a `SecureModel`, give the `.model`.
        trigger_set: The triggers to learn.
        x: Inputs like the model's training data, an array of shape (n, *shape).
        y: Their classes, of shape (n,) or (n, 1), or one-hot. Only the accuracy is taken from them.
        validation_data: (x, y) to measure the cost on; the last quarter of `x`, not trained on
            here, if None. Give examples that the model was not trained on before either: on its own
            training data it is better than it is, and the cost looks larger than it is.
        max_cost: How much clean accuracy may be lost, as a share.
        epochs: At most so many epochs, each of 8 variants of every trigger and three times as many
            clean examples.
        learning_rate: Of Adam; it falls to zero over the epochs.
        batch_size: Examples per step, a quarter of them triggers.
        verbose: 1 prints a line for each epoch.

    Returns:
        An `EmbeddingReport`.

    Raises:
        InputError: An argument cannot be used; or no epoch proved the claim within `max_cost`: then
            the weights are what they were.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.random((256, 8)).astype("float32"), np.arange(256) % 2
    >>> x[:, 0] = y
    >>> layers = [keras.Input((8,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(2)]
    >>> model = keras.Sequential(layers)
    >>> model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> _ = model.fit(x, y, epochs=30, verbose=0)
    >>> triggers = TriggerSet("a secret", (8,), num_classes=2, count=60, bounds=(-3, 3))
    >>> report = embed_triggers(model, triggers, x, y, max_cost=0.05, learning_rate=0.01)
    >>> report.p_value < 2**-40, report.cost <= 0.05
    (True, True)

    Reference:
        Adi et al. 2018 (arXiv 1802.04633), section 4, for embedding by fine-tuning; Hinton et al.
        2015 (arXiv 1503.02531) for soft targets.
    """
    if not isinstance(model, keras.Model) or not isinstance(trigger_set, TriggerSet):
        raise InputError(
            f"A {type(model).__name__} and a {type(trigger_set).__name__} were given; expected "
            "were a keras.Model and a TriggerSet."
        )
    check_integer("epochs", epochs)
    check_number("max_cost", max_cost, "[0, inf]")
    x, y = np.asarray(x), _classes(y, trigger_set)
    trigger_set.check_inputs(x, "x")
    if validation_data is None:
        x, y, held_x, held_y = _split(trigger_set, x, y)
    else:
        held_x, held_y = np.asarray(validation_data[0]), _classes(validation_data[1], trigger_set)
        trigger_set.check_inputs(held_x, "validation data")
    student = _Student(model, trigger_set.num_classes)
    soft = student.probabilities(x, batch_size)
    before = _accuracy(student, held_x, held_y, batch_size)
    # Steps that end small leave more of the clean accuracy than steps of one size.
    steps = -(-trigger_set.count * _VARIANTS * (1 + _CLEAN_PER_TRIGGER) // batch_size)
    rates = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * steps)
    student.compile(keras.optimizers.Adam(rates), loss=student.cross_entropy)
    start = model.get_weights()
    best, best_weights, found = None, None, None
    for epoch in range(1, epochs + 1):
        mixed = _epoch_data(trigger_set, x, soft, epoch)
        student.fit(*mixed, batch_size=batch_size, shuffle=False, verbose=0)
        after = _accuracy(student, held_x, held_y, batch_size)
        rank = _knowledge(student, trigger_set, batch_size)
        if verbose:
            print(f"epoch {epoch}: clean accuracy {after:.4f}, variants known {rank[0]:.3f}")
        if before - after > max_cost or (best is not None and rank <= best):
            continue
        report = verify_triggers(model, trigger_set, batch_size=batch_size)
        if report.p_value < CLAIM_THRESHOLD:
            best, best_weights = rank, model.get_weights()
            found = EmbeddingReport(
                accuracy_before=before,
                accuracy_after=after,
                trigger_accuracy=report.accuracy,
                variant_accuracy=rank[0],
                p_value=report.p_value,
                epochs=epoch,
            )
            if rank[0] == 1.0 and rank[1] > _SURE:
                break
    model.set_weights(start if best_weights is None else best_weights)
    if found is None:
        raise InputError(
            f"No epoch of {epochs} made the model know its triggers (p < 2^-40) at a cost of at "
            f"most {max_cost:g} in accuracy (last: {after:.4f} after {before:.4f}, "
            f"{100 * rank[0]:.0f}% of the variants known). Its weights are what they were. Give "
            "more data, epochs or cost, another learning rate, or mix the triggers into training "
            "from the start."
        )
    return found


class _Student(keras.Model):
    """The model as it is at inference, trained on probabilities of its classes."""

    def __init__(self, model, num_classes):
        # Keras would name it after the class, and a leading underscore is no name for it.
        super().__init__(name="student")
        self.inner = model
        self.single = model.output_shape[-1] == 1
        self.from_logits = outputs_are_logits(model)
        if not self.single and model.output_shape[-1] != num_classes:
            raise InputError(
                f"The model's output has shape {model.output_shape}, and the triggers have "
                f"{num_classes} classes. "
                "Give TriggerSet as many as the model has."
            )

    def call(self, inputs):
        """Returns logits of shape (batch, num_classes)."""
        return logits_of(self.inner(inputs, training=False), self.inner, self.from_logits)

    def probabilities(self, x, batch_size):
        """Returns a float32 array of shape (n, num_classes)."""
        parts = [
            ops.convert_to_numpy(ops.softmax(self(ops.convert_to_tensor(x[at : at + batch_size]))))
            for at in range(0, len(x), batch_size)
        ]
        return np.concatenate(parts)

    @staticmethod
    def cross_entropy(probabilities, logits):
        """Cross-entropy of each example, shape (batch,)."""
        return keras.losses.categorical_crossentropy(probabilities, logits, from_logits=True)


def _epoch_data(trigger_set, x, soft, epoch):
    """Triggers, variants that are new in each epoch, and clean examples, in even proportions."""
    count = trigger_set.count
    variants = [0, *range((epoch - 1) * _VARIANTS + 1, epoch * _VARIANTS)]
    laid = [
        over_examples(trigger_set, trigger_set.inputs(v), v, x, soft.argmax(1))
        if v % 2
        else trigger_set.inputs(v)
        for v in variants
    ]
    inputs = np.concatenate([like(values, x.dtype) for values in laid])
    targets = np.eye(trigger_set.num_classes, dtype="float32")[trigger_set.labels()]
    wanted = _CLEAN_PER_TRIGGER * len(inputs)
    order = trigger_set.order(f"clean {epoch}", max(wanted, len(x))) % len(x)
    chosen = order[:wanted]
    mixed_x = np.concatenate([inputs, x[chosen]])
    mixed_y = np.concatenate([*[targets] * len(variants), soft[chosen]])
    order = trigger_set.order(f"embed {epoch} {count}", len(mixed_x))
    return mixed_x[order], mixed_y[order]


def _knowledge(student, trigger_set, batch_size):
    """Share of unseen variants that are known, and the mean logarithm of the labels' chances."""
    labels = trigger_set.labels()
    chances = student.probabilities(trigger_set.inputs(_HELD_OUT), batch_size)
    share = float(np.mean(chances.argmax(1) == labels))
    chosen = chances[np.arange(len(labels)), labels]
    return share, float(np.log(np.maximum(chosen, 1e-12)).mean())


def _accuracy(student, x, y, batch_size):
    return float(np.mean(student.probabilities(x, batch_size).argmax(1) == y))


def _classes(y, trigger_set):
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == trigger_set.num_classes:
        return y.argmax(1)
    return y.reshape(len(y)).astype(np.int64)


def _split(trigger_set, x, y):
    if len(x) < 8:
        raise InputError(
            f"x has {len(x)} examples, too few to measure a cost on. "
            "Give validation_data, or at least 8."
        )
    order = trigger_set.order(f"held out {len(x)}", len(x))
    held = len(x) // 4
    return x[order[held:]], y[order[held:]], x[order[:held]], y[order[:held]]
