"""One batch under attack: what a step may know, and what it may ask of the model."""

from keras import ops

from keras_secure.attacks.input_gradient import input_gradient_of_sum
from keras_secure.attacks.light_convolutions import light_convolutions
from keras_secure.attacks.log_odds import predicts
from keras_secure.logits import classification_logits


class Problem:
    """What `IterativeAttack.begin` and `step` work on.

    Args:
        model: Classifier, called with `training=False`.
        x: Tensor of shape (batch, ...), float32 or float64: the inputs as they are.
        labels: Int32 tensor of shape (batch,): true classes, or targets; None with `given_loss`.
        epsilon: Radius, a scalar; infinite for no limit.
        restart: Int32 scalar tensor: how often these examples were attacked before.
        targeted: Whether the labels are the classes to reach.
        from_logits: See `classification_logits`.
        output: See `classification_logits`.
        given_loss: Function of inputs to losses of shape (batch,), raised whatever loss an attack
            asks for; there are no logits then.
        draw: Function of (batch, counter, count) to uniform numbers.
        searching: Whether inputs that fool the model end the work on an example. In training they
            do not.
    """

    def __init__(
        self,
        model,
        x,
        labels,
        epsilon,
        *,
        restart=0,
        targeted=False,
        from_logits=None,
        output=None,
        given_loss=None,
        draw=None,
        searching=False,
    ):
        self.x = x
        self.labels = labels
        self.epsilon = ops.cast(epsilon, x.dtype)
        self.restart = ops.cast(restart, "int32")
        self.targeted = targeted
        self._model = model
        self._from_logits = from_logits
        self._output = output
        self._given_loss = given_loss
        self._draw = draw
        self.searching = searching
        self._num_classes = None

    @property
    def num_classes(self):
        """How many classes the model tells apart, an integer."""
        if self._num_classes is None:
            self.logits(self.x)
        return self._num_classes

    def logits(self, x_adv):
        """Returns the logits of a batch.

        Where the model may abstain, its abstention is part of the answers that count as not fooled
        (the label's, or, if targeted, all but the target's), so any loss sees it.

        Args:
            x_adv: Tensor like `x`.

        Returns:
            A float32 tensor of shape (batch, num_classes), two columns or more.
        """
        logits = classification_logits(self._model, x_adv, self._from_logits, self._output)
        if getattr(self._model, "abstains", False):
            logits, abstention = logits[:, :-1], logits[:, -1:]
            labelled = ops.one_hot(self.labels, logits.shape[1], dtype="bool")
            resisting = ops.logical_not(labelled) if self.targeted else labelled
            logits = ops.where(resisting, ops.maximum(logits, abstention), logits)
        self._num_classes = logits.shape[1]
        return logits

    def fooled(self, logits):
        """Returns which rows do what the attack wants, a boolean tensor of shape (batch,)."""
        if not self.searching:
            return ops.zeros((ops.shape(self.x)[0],), "bool")
        picked = predicts(logits, self.labels)
        return picked if self.targeted else ops.logical_not(picked)

    def gradient(self, x_adv, loss):
        """Differentiates the loss of each example by its input.

        Args:
            x_adv: Tensor like `x`.
            loss: Function of (logits, labels) to losses of shape (batch,).

        Returns:
            (losses, logits, gradient): row i of the gradient is that of loss i by input i. Logits
            are None in training on a given loss.
        """
        if self._given_loss is not None:
            with light_convolutions(self._model):
                losses, gradient = input_gradient_of_sum(self._given_loss, x_adv)
            return losses, None, gradient

        def of_inputs(inputs):
            logits = self.logits(inputs)
            return loss(logits, self.labels), logits

        with light_convolutions(self._model):
            (losses, logits), gradient = input_gradient_of_sum(of_inputs, x_adv)
        return losses, logits, gradient

    def losses(self, x_adv, loss):
        """Returns (losses, logits) as `gradient` does, without differentiating.

        Args:
            x_adv: Tensor like `x`.
            loss: Function of (logits, labels) to losses of shape (batch,).
        """
        if self._given_loss is not None:
            return self._given_loss(x_adv), None
        logits = self.logits(x_adv)
        return loss(logits, self.labels), logits

    def uniform(self, counter, count):
        """Draws numbers in [0, 1), float32 of shape (batch, count).

        In a search they depend on seed, restart, example and `counter` alone, not on the batch.

        Args:
            counter: Integer or int32 scalar tensor that no other draw of the attack uses.
            count: How many, an integer.
        """
        return self._draw(ops.shape(self.x)[0], counter, count)
