"""Defensive distillation, kept to be measured: a hurdle, not a defence."""

import keras
from keras import ops

from keras_secure.arguments import check_number
from keras_secure.errors import InputError
from keras_secure.logits import classification_logits, logits_of, outputs_are_logits
from keras_secure.objectives.objective import Objective
from keras_secure.registration import component


@component("objectives")
class DefensiveDistillation(Objective):
    """Trains at a high softmax temperature, first on labels, then on that model's own answers.

    The model answers at temperature 1, so its logits are `temperature` times as large as training
    needed, softmax saturates, and the gradient of cross-entropy underflows to 0.

    **This is a hurdle and no defence.** It hides the gradient from attacks that read probabilities;
    one that reads logits (every attack in this library does, where it can) is not hindered at all
    (Carlini & Wagner 2017, arXiv 1608.04644, section VIII). Train against attacks instead:
    `AdversarialTraining`, `TRADES` or `RobustDistillation`.

    Two fits make the method: `DefensiveDistillation(temperature=20)` trains the teacher on the
    labels; `DefensiveDistillation(teacher, temperature=20)` the student, of the same architecture,
    on the teacher's probabilities at that temperature. Training metrics are measured at
    temperature 1.

    Args:
        teacher: The model trained in the first fit, which is frozen; None to train that one.
        temperature: Number of at least 1. Defaults to 20, as in the paper.

    Raises:
        InputError: if an argument cannot be used.

    Example:

    >>> DefensiveDistillation(temperature=20.0).temperature
    20.0

    Reference: Papernot et al. 2016 (arXiv 1511.04508), section IV.
    """

    def __init__(self, teacher=None, temperature=20.0):
        check_number("temperature", temperature, "[1, inf)")
        self.teacher = None if teacher is None else frozen_teacher(teacher)
        self.temperature = float(temperature)

    @property
    def models(self):
        """See `Objective`."""
        return () if self.teacher is None else (self.teacher,)

    def perturb(self, model, x, y, loss):
        """See `Objective`."""
        return None if self.teacher is None else teacher_logits(self.teacher, model, x)

    def __call__(self, model, x, y, perturbed, loss, sample_weight=None):
        """See `Objective`."""
        y_pred = model(x, training=True)
        logits = logits_of(y_pred, model, loss.from_logits)
        cooled = logits / self.temperature
        if perturbed is None:
            return loss(y, self._as_outputs(cooled, y_pred, model, loss), sample_weight), y_pred
        soft = ops.softmax(perturbed / self.temperature, axis=-1)
        losses = -ops.sum(soft * ops.log_softmax(cooled, axis=-1), axis=-1)
        return loss.weigh(losses, sample_weight), y_pred

    def _as_outputs(self, logits, y_pred, model, loss):
        """Returns cooled logits in the form in which the model answers."""
        from_logits = loss.from_logits
        if from_logits is None:
            from_logits = outputs_are_logits(model)
        if len(y_pred.shape) == 1 or y_pred.shape[1] == 1:
            logits = ops.reshape(logits[:, 1] - logits[:, 0], ops.shape(y_pred))
            return logits if from_logits else ops.sigmoid(logits)
        return logits if from_logits else ops.softmax(logits, axis=-1)

    def get_config(self):
        """See `Objective`; the weights of the teacher are saved with the `SecureModel`."""
        teacher = None
        if self.teacher is not None:
            teacher = keras.saving.serialize_keras_object(self.teacher)
        return {"teacher": teacher, "temperature": self.temperature}

    @classmethod
    def from_config(cls, config):
        """See `Objective`."""
        teacher = config["teacher"]
        if teacher is not None:
            teacher = keras.saving.deserialize_keras_object(teacher)
        return cls(teacher, config["temperature"])


def frozen_teacher(teacher):
    """Freezes a teacher, as `keras.distillation.Distiller` does, and returns it.

    Args:
        teacher: A Keras model.

    Raises:
        InputError: If it is none.

    Example:

    >>> frozen_teacher(keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])).trainable
    False
    """
    if not isinstance(teacher, keras.Model):
        raise InputError(f"teacher is a {type(teacher).__name__}; give a trained keras.Model.")
    teacher.trainable = False
    return teacher


def teacher_logits(teacher, student, x):
    """What the teacher says of a batch, through which no gradient flows.

    Args:
        teacher: The frozen model.
        student: The model in training.
        x: Inputs of the batch.

    Returns:
        A float32 tensor of shape (batch, num_classes).

    Raises:
        InputError: If teacher and student are one model, or the teacher is no classifier.

    Example:

    >>> def model():
    ...     return keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> tuple(teacher_logits(model(), model(), ops.zeros((4, 2))).shape)
    (4, 3)
    """
    if teacher is student:
        raise InputError(
            "The teacher is the model in training itself, so its answers would move along. Give "
            "another model, for example a copy by keras.models.clone_model with its weights."
        )
    return ops.stop_gradient(classification_logits(teacher, x))
