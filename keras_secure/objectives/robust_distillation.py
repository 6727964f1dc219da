"""Robust distillation: a student answers attacked inputs as its teacher answers clean ones."""

import keras
from keras import ops

from keras_secure import backend
from keras_secure.arguments import check_number
from keras_secure.errors import InputError
from keras_secure.logits import classification_logits, logits_of
from keras_secure.objectives.defensive_distillation import frozen_teacher, teacher_logits
from keras_secure.objectives.divergence import divergence
from keras_secure.objectives.objective import Objective
from keras_secure.registration import component

# variant: (alpha, temperature) of the paper.
_DEFAULTS = {"ard": (1.0, 30.0), "rslad": (5.0 / 6.0, 1.0)}


@component("objectives")
class RobustDistillation(Objective):
    """Distils a robust teacher into a student that an attack is run against in each step.

    With S the student, T the teacher, x' the attacked input and D the distillation loss, the loss
    of one example is

    * `"ard"`: `alpha * D(T(x), S(x')) + (1 - alpha) * loss(y, S(x))`, x' raising cross-entropy;
    * `"rslad"`: `alpha * D(T(x), S(x')) + (1 - alpha) * D(T(x), S(x))`, x' raising
      KL(T(x) || S(x')); labels take no part.

    D is `temperature**2 * KL` of the probabilities at that temperature, or any of
    `keras.distillation` (Keras 3.13), each evaluated on one example at a time and on true logits,
    also where the models end in a softmax. Teacher and student need a common output only, not a
    common architecture. Training metrics are measured on the clean inputs, but for `"ard"` with an
    `alpha` of 1, which never looks at them, on the attacked ones.

    The student is about as robust as its teacher makes it: a teacher trained without attacks gives
    little. Under a `DPOptimizer`, a teacher that saw the private data without privacy tells the
    student about it, and the ledger does not know.

    Args:
        teacher: A trained classifier, best a robust one; it is frozen.
        attack: A `keras_secure.attacks.Attack` against the student.
        variant: `"ard"` (the default) or `"rslad"`.
        alpha: Weight of the attacked inputs, in [0, 1]. Defaults to 1 for `"ard"` and 5/6 for
            `"rslad"`, as in the papers.
        temperature: Positive number. Defaults to 30 for `"ard"` and 1 for `"rslad"`, as in the
            papers.
        distillation_losses: None, or one or several of `keras.distillation` in place of the KL
            divergence; they hold their own temperature.
        distillation_loss_weights: None, or a weight for each of these.

    Raises:
        InputError: if an argument cannot be used.

    Example:

    >>> import keras_secure as ks
    >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> objective = RobustDistillation(teacher, ks.attacks.PGD(epsilon=0.1), variant="rslad")
    >>> round(objective.alpha, 3), objective.temperature
    (0.833, 1.0)

    Reference: ARD: Goldblum et al. 2020 (arXiv 1905.09747), section 4. RSLAD: Zi et al. 2021
    (arXiv 2108.07969), section 3.
    """

    def __init__(
        self,
        teacher,
        attack,
        variant="ard",
        alpha=None,
        temperature=None,
        distillation_losses=None,
        distillation_loss_weights=None,
    ):
        if variant not in _DEFAULTS:
            raise InputError(f"variant={variant!r} is not known: use 'ard' or 'rslad'.")
        usual_alpha, usual_temperature = _DEFAULTS[variant]
        alpha = usual_alpha if alpha is None else alpha
        check_number("alpha", alpha, "[0, 1]")
        if distillation_losses is not None and temperature is not None:
            raise InputError(
                "Both temperature and distillation_losses are given; the losses of "
                "keras.distillation hold their own temperature."
            )
        temperature = usual_temperature if temperature is None else temperature
        check_number("temperature", temperature, "(0, inf)")
        self.teacher, self.attack, self.variant = frozen_teacher(teacher), attack, variant
        self.alpha, self.temperature = float(alpha), float(temperature)
        self.distillation_losses, self.distillation_loss_weights = _checked_losses(
            distillation_losses, distillation_loss_weights
        )

    @classmethod
    def from_distiller(cls, distiller, attack, variant="ard"):
        """Takes over what a `keras.distillation.Distiller` was to train, and adds the attack.

        Args:
            distiller: The `Distiller`; train its `student` with the objective returned.
            attack: A `keras_secure.attacks.Attack` against the student.
            variant: See the class. `alpha` becomes one minus the distiller's
                `student_loss_weight`.
        """
        return cls(
            distiller.teacher,
            attack,
            variant,
            alpha=1.0 - distiller.student_loss_weight,
            distillation_losses=distiller.distillation_losses,
            distillation_loss_weights=distiller.distillation_loss_weights,
        )

    @property
    def models(self):
        """See `Objective`."""
        return (self.teacher,)

    def perturb(self, model, x, y, loss):
        """See `Objective`."""
        answers, from_logits = teacher_logits(self.teacher, model, x), loss.from_logits
        if self.variant == "ard":
            return self.attacked(model, x, y, from_logits=from_logits), answers

        def departing(x_adv):
            return divergence(answers, classification_logits(model, x_adv, from_logits))

        return self.attacked(model, x, y, loss=departing), answers

    def __call__(self, model, x, y, perturbed, loss, sample_weight=None):
        """See `Objective`."""
        x_adv, answers = perturbed
        attacked_pred = model(x_adv, training=True)
        attacked = logits_of(attacked_pred, model, loss.from_logits)
        losses = loss.weigh(self.alpha * self.distance(answers, attacked), sample_weight)
        if self.alpha == 1.0 and self.variant == "ard":
            return losses, attacked_pred
        y_pred = model(x, training=True)
        if self.variant == "ard":
            clean = loss(y, y_pred, sample_weight)
        else:
            clean = self.distance(answers, logits_of(y_pred, model, loss.from_logits))
            clean = loss.weigh(clean, sample_weight)
        return losses + (1.0 - self.alpha) * clean, y_pred

    def distance(self, answers, logits):
        """The distillation loss of each example, shape (batch,).

        Args:
            answers: Logits of the teacher, of shape (batch, num_classes).
            logits: Logits of the student, of that shape.
        """
        if answers.shape[-1] != logits.shape[-1]:
            raise InputError(
                f"The teacher tells {answers.shape[-1]} classes apart, the student "
                f"{logits.shape[-1]}. They must answer with the same classes."
            )
        if self.distillation_losses is None:
            return self.temperature**2 * divergence(answers, logits, self.temperature)

        def of_one(pair):
            teacher, student = (row[None] for row in pair)
            terms = zip(self.distillation_losses, self.distillation_loss_weights, strict=True)
            return sum(w * ops.cast(d.compute_loss(teacher, student), "float32") for d, w in terms)

        # Keras averages over the batch; of a batch of one, that is the loss of one example.
        return backend.per_example_map(of_one, (answers, logits))

    def get_config(self):
        """See `Objective`; the weights of the teacher are saved with the `SecureModel`."""
        serialize = keras.saving.serialize_keras_object
        given = self.distillation_losses
        return {
            "teacher": serialize(self.teacher),
            "attack": serialize(self.attack),
            "variant": self.variant,
            "alpha": self.alpha,
            "temperature": self.temperature if given is None else None,
            "distillation_losses": None if given is None else [serialize(d) for d in given],
            "distillation_loss_weights": self.distillation_loss_weights,
        }

    @classmethod
    def from_config(cls, config):
        """See `Objective`."""
        config, revive = dict(config), keras.saving.deserialize_keras_object
        for part in ("teacher", "attack"):
            config[part] = revive(config[part])
        if config["distillation_losses"] is not None:
            config["distillation_losses"] = [revive(d) for d in config["distillation_losses"]]
        return cls(**config)


def _checked_losses(losses, weights):
    if losses is None:
        if weights is not None:
            raise InputError(
                "distillation_loss_weights needs distillation_losses. Give both, or neither."
            )
        return None, None
    losses = list(losses) if isinstance(losses, (list, tuple)) else [losses]
    for item in losses:
        if not callable(getattr(item, "compute_loss", None)):
            raise InputError(
                f"{type(item).__name__} is no loss of keras.distillation (Keras 3.13 and newer), "
                "such as keras.distillation.LogitsDistillation(temperature=4)."
            )
        if getattr(item, "teacher_layer_name", None) or getattr(item, "student_layer_name", None):
            raise InputError(
                f"{type(item).__name__} compares inner layers, and this objective the logits of "
                "the models only. Leave its layer names out, or build models that end there."
            )
    weights = [1.0] * len(losses) if weights is None else [float(weight) for weight in weights]
    if len(weights) != len(losses):
        raise InputError(
            f"There are {len(losses)} distillation losses and {len(weights)} weights. "
            "Give one weight for each loss."
        )
    return losses, weights
