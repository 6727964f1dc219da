"""Several classifiers that answer as one."""

import keras

from keras_secure.errors import InputError
from keras_secure.logits import logits_of, outputs_are_logits
from keras_secure.registration import component

VOTES = ("probabilities", "logits", "majority")


@component("layers")
class Ensemble(keras.Model):
    """Averages the answers of several classifiers of the same classes.

    Perturbations that fool one model fool another less often, so an ensemble is a little harder to
    fool than its members: a hurdle, not a defence. An attack on all members at once gets through
    (He et al. 2017, arXiv 1706.04701). Members that were trained robustly make a robust ensemble.

    Outputs are logits, so attacks and `from_logits=True` losses see what they need. The ensemble
    is a Keras model: `fit` trains all members together, on the loss of the ensemble.

    Args:
        models: List of at least two classifiers with one output each and the same inputs. An output
            of one unit counts as two classes, the second being its own.
        vote: What is averaged. `"probabilities"` (the default): outputs are the logarithms of the
            mean probabilities. `"logits"`: outputs are the mean logits. `"majority"`: the class
            with most members for it, ties broken by the mean probability; the outputs are
            the logarithms of the shares of votes, and their gradient that of `"probabilities"`,
            since counting has none.
        from_logits: Whether the members' outputs are logits, for all of them. Defaults to None:
            found out for each by its loss or its last layer.
        **kwargs: Keyword arguments of `keras.Model`.

    Call arguments:
        inputs: What the members take.
        training: Whether the call is a training call. Defaults to False.

    Returns:
        Float32 logits of shape (batch, num_classes), two columns or more.

    Raises:
        InputError: If an argument cannot be used, or the members differ in their classes.

    Example:

    >>> members = [keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]) for _ in range(2)]
    >>> ensemble = Ensemble(members)
    >>> ensemble.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> logits = ensemble(keras.ops.ones((1, 4)))
    >>> round(float(keras.ops.sum(keras.ops.exp(logits))), 4)  # probabilities add up to 1
    1.0

    Reference:
        He et al. 2017, Adversarial Example Defenses: Ensembles of Weak Defenses are not Strong,
        arXiv 1706.04701.
    """

    def __init__(self, models, vote="probabilities", from_logits=None, **kwargs):
        # Each member casts for itself.
        super().__init__(autocast=False, **kwargs)
        if (
            not isinstance(models, (list, tuple))
            or len(models) < 2
            or not all(isinstance(model, keras.Model) for model in models)
        ):
            raise InputError(
                f"Ensemble got models={models!r}; expected a list of at least two Keras models."
            )
        if vote not in VOTES:
            raise InputError(
                f"Ensemble got vote={vote!r}; expected one of {', '.join(map(repr, VOTES))}."
            )
        if from_logits is None:
            # Found out now: a member that is loaded as part of this may have lost its loss.
            from_logits = [outputs_are_logits(model) for model in models]
        elif isinstance(from_logits, bool):
            from_logits = [from_logits] * len(models)
        if len(from_logits) != len(models):
            raise InputError(
                f"Ensemble got {len(from_logits)} values of from_logits for {len(models)} models; "
                "expected None, a bool, or one bool for each."
            )
        self.members = list(models)
        self.vote = vote
        self.from_logits = tuple(bool(each) for each in from_logits)
        self.supports_masking = True

    def build(self, input_shape):
        """Builds members that have not been built."""
        for member in self.members:
            if not member.built:
                member.build(input_shape)
        self.built = True

    def call(self, inputs, training=False):
        """Returns the logits of the ensemble; see the class."""
        ops = keras.ops
        answers = [
            logits_of(member(inputs, training=training), member, from_logits)
            for member, from_logits in zip(self.members, self.from_logits, strict=True)
        ]
        classes = [answer.shape[1] for answer in answers]
        if len(set(classes)) > 1:
            raise InputError(
                f"The members of Ensemble {self.name!r} tell {classes} classes apart; all of them "
                "must tell the same."
            )
        stacked = ops.stack(answers)
        if self.vote == "logits":
            scores = ops.mean(stacked, axis=0)
        else:
            # The logarithm of the mean, formed from logarithms: nothing underflows.
            each = ops.log_softmax(stacked, axis=-1)
            scores = ops.logsumexp(each, axis=0) - ops.log(float(len(answers)))
        if self.vote == "majority":
            votes = ops.one_hot(ops.argmax(stacked, axis=-1), classes[0], dtype="float32")
            # The mean probability is below 1, so a hundredth of a vote of it only breaks ties.
            tally = ops.sum(votes, axis=0) + 0.01 * ops.exp(scores)
            shares = ops.log(tally / (len(answers) + 0.01))
            scores = ops.stop_gradient(shares) + (scores - ops.stop_gradient(scores))
        outputs = scores + 0.0
        # As Keras does for softmax: whoever looks for the logits behind these outputs finds them.
        outputs._keras_logits = scores
        return outputs

    def compute_output_shape(self, input_shape):
        """(batch, number of classes)."""
        shape = self.members[0].compute_output_shape(input_shape)
        return (shape[0], 2 if len(shape) == 1 else max(2, shape[-1]))

    def compute_output_spec(self, inputs, training=False):
        """As `compute_output_shape`, always in float32."""
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), dtype="float32")

    def get_config(self):
        """The arguments that rebuild this model."""
        return {
            **super().get_config(),
            "models": [keras.saving.serialize_keras_object(model) for model in self.members],
            "vote": self.vote,
            "from_logits": list(self.from_logits),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Builds the model that `get_config` described."""
        config = dict(config)
        config["models"] = [
            keras.saving.deserialize_keras_object(model, custom_objects=custom_objects)
            if isinstance(model, dict)
            else model
            for model in config["models"]
        ]
        return cls(**config)
