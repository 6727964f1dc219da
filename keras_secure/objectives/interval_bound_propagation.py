"""Training for a certificate: the loss of the worst that interval bounds allow."""

from keras import ops

from keras_secure.arguments import check_number
from keras_secure.attacks.arrays import check_floating
from keras_secure.attacks.labels import class_indices
from keras_secure.certification.interval import Arithmetic
from keras_secure.certification.interval_margins import worst_margins
from keras_secure.errors import InputError
from keras_secure.logits import outputs_are_logits
from keras_secure.objectives.objective import Objective
from keras_secure.registration import component

_TRAINING = Arithmetic("float32", sound=False)


@component("objectives")
class IntervalBoundPropagation(Objective):
    """The compiled loss on clean inputs, mixed with that on worst-case logits over an linf ball.

    The worst case is that of interval bounds, propagated through the network with its last linear
    layer merged into the margins, so what is trained down is an upper bound on the loss under every
    attack. `keras_secure.certification.IntervalCertifier` proves what was reached. Training metrics
    are measured on the clean inputs.

    Certified training needs a slow start: give `fit` the callback
    `keras_secure.callbacks.EpsilonCurriculum`, whose scale takes the radius from 0 to `epsilon` and
    the clean share from 1 to `kappa` together, as in the paper. Without it both are in force at
    once, and a deep network may learn nothing.

    The bounds read the weights beside the layers' own forward pass, where per-example gradients
    cannot be formed: private training refuses this objective with a `PrivacyError`. Bounds of
    BatchNormalization and Dropout are those of inference.

    Args:
        epsilon: Radius of the linf ball, in units of the inputs. At least 0.
        kappa: Share of the clean loss in the end, in [0, 1]. Defaults to 0.5, as in the paper.
        bounds: Smallest and largest value that an input may have. Defaults to (0, 1).

    Raises:
        InputError: if an argument cannot be used; in `fit`, if a layer is not covered.

    Example:

    >>> IntervalBoundPropagation(epsilon=0.1).kappa
    0.5

    Reference: Gowal et al. 2018 (arXiv 1810.12715), section 3 (loss, elision) and 4 (schedules).
    """

    reads_weights = True

    def __init__(self, epsilon, kappa=0.5, bounds=(0.0, 1.0)):
        check_number("epsilon", epsilon, "[0, inf)")
        check_number("kappa", kappa, "[0, 1]")
        if len(bounds) != 2 or not bounds[0] < bounds[1]:
            raise InputError(
                f"bounds={bounds!r} cannot be used: give the smallest and the largest value of an "
                "input."
            )
        self.epsilon, self.kappa = float(epsilon), float(kappa)
        self.bounds = (float(bounds[0]), float(bounds[1]))

    def __call__(self, model, x, y, perturbed, loss, sample_weight=None):
        """See `Objective`."""
        check_floating(x, type(self).__name__)
        y_pred = model(x, training=True)
        shape = tuple(getattr(y_pred, "shape", None) or ())
        if len(shape) != 2:
            raise InputError(
                "IntervalBoundPropagation needs one output of shape (batch, num_classes), or "
                f"(batch, 1) for two classes; the model gives {shape or 'several'}."
            )
        from_logits = loss.from_logits
        if from_logits is None:
            from_logits = outputs_are_logits(model)
        centre = ops.cast(x, "float32")
        epsilon = ops.cast(self.scaled(self.epsilon), "float32")
        low, high = self.bounds
        ends = ops.maximum(centre - epsilon, low), ops.minimum(centre + epsilon, high)

        def term(loss, y, weight):
            labels = class_indices(y) if shape[1] > 1 else ops.cast(ops.reshape(y, (-1,)), "int32")
            margins = worst_margins(model, *ends, labels, _TRAINING)
            if shape[1] == 1:
                # Of two classes, the label's lead over the other; the unit is for class 1.
                lead = ops.sum(margins, axis=1, keepdims=True)
                logits = ops.where(labels[:, None] == 1, lead, -lead)
            else:
                logits = -margins
            probabilities = ops.sigmoid if shape[1] == 1 else ops.softmax
            return loss(y, logits if from_logits else probabilities(logits), weight)

        kappa = 1.0 + (self.kappa - 1.0) * ops.cast(self.scaled(1.0), "float32")
        clean = loss(y, y_pred, sample_weight)
        worst = loss.over_labels(term, y, sample_weight)
        return kappa * clean + (1.0 - kappa) * worst, y_pred

    def get_config(self):
        """See `Objective`."""
        return {"epsilon": self.epsilon, "kappa": self.kappa, "bounds": list(self.bounds)}
