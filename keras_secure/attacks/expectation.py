"""A randomized model as the one classifier that it is on average, fit to be attacked."""

import inspect
import math

import keras
from keras import ops

from keras_secure import backend
from keras_secure.attacks.arguments import check_counts, check_flags
from keras_secure.errors import InputError
from keras_secure.logits import logits_of


class Expectation(keras.Model):
    """Averages the probabilities of several passes through a randomized model.

    Its output is the logarithm of the mean softmax, which serves as logits: any attack run on it is
    an attack on the expectation over the model's randomness, and any input that fools it fools the
    average answer. The passes are made one after the other, so that randomness that a batch shares
    is averaged too, and forward and backward pass need the memory of one.

    The gradient is that of the log of the mean, not the mean of the losses' gradients, which is how
    expectation over transformation was first put: pass s counts in proportion to p_s(y), the
    probability that it gives class y, where the mean of gradients counts all alike. Minimizing the
    expected probability of the label works on the passes that still answer right; the mean of
    cross-entropies is ruled by those that are fooled already, and has a higher value by Jensen's
    inequality. With one sample, or without randomness, both are the same.

    Gradients are taken with the random numbers of the forward pass where these come from seed
    generators of the model; others are drawn anew, as good a sample. It is a tool for evaluation:
    it trains nothing, saves nothing, and leaves the model's own state as it was.

    Args:
        model: Classifier, called `samples` times.
        samples: Passes to average over. At least 1.
        transform: Random layer or function in front of the model, such as a
            `keras.layers.RandomTranslation`; layers are called with `training=True`. Or None.
        training: Whether the model is called with `training=True`, for models that leave their
            dropout on. Batch statistics then depend on the batch, and the moving ones stay.
        from_logits: See `classification_logits`.
        output: Name or number of the output that classifies, if there are several.

    Raises:
        InputError: If an argument cannot be used.

    Example:

    >>> import numpy as np
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.GaussianNoise(0.5), keras.layers.Dense(3)]
    ... )
    >>> expected = Expectation(model, samples=8, training=True)
    >>> log_probabilities = expected(np.full((2, 4), 0.5, "float32"))
    >>> np.allclose(np.exp(log_probabilities).sum(axis=1), 1)
    True

    Reference:
        Athalye et al. 2018, "Synthesizing robust adversarial examples", arXiv 1707.07397, section
        2; Athalye et al. 2018, arXiv 1802.00420, section 4.2 (randomized defences).
    """

    def __init__(
        self, model, samples=20, *, transform=None, training=False, from_logits=None, output=None
    ):
        super().__init__()
        if not isinstance(model, keras.Model):
            raise InputError(f"model is a {type(model).__name__}: give a keras.Model.")
        check_counts(samples=samples)
        if transform is not None and not callable(transform):
            raise InputError(f"transform={transform!r} cannot be called: give a layer or None.")
        check_flags(training=training)
        self.model = model
        self.samples = int(samples)
        self.transform = transform
        self.abstains = bool(getattr(model, "abstains", False))
        # Says to a search that fooling one draw is no reason to stop.
        self.randomized = True
        self._training = training
        self._from_logits = from_logits
        self._output = output
        self._num_classes = None
        # Says to attacks what the outputs are, and whether XLA pays.
        self.compile(
            optimizer=None,
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=bool(model.jit_compile),
        )

    def build(self, input_shape):
        """Calls the model once: variables cannot be created inside the loop over the passes."""
        x = ops.zeros((1, *(size or 1 for size in input_shape[1:])))
        kept = self._variables_to_keep()
        states = _values(kept)
        self._num_classes = self._log_probabilities(x).shape[1]
        _assign(kept, states)
        self.built = True

    def call(self, x, training=None):
        """Returns the log of the mean probabilities, of shape (batch, num_classes)."""
        seeds, kept = self._seeds(), self._variables_to_keep()

        @ops.custom_gradient
        def log_mean(x):
            first_seeds = _values(seeds)
            states = _values(kept)
            empty = ops.full((ops.shape(x)[0], self._num_classes), -float("inf"), "float32")

            def add(_, sums):
                # The sum of exponentials, in units of its largest term: none of them underflows.
                largest, total = sums
                values = self._log_probabilities(x)
                higher = ops.maximum(largest, values)
                return higher, total * ops.exp(largest - higher) + ops.exp(values - higher)

            largest, total = ops.fori_loop(0, self.samples, add, (empty, ops.zeros_like(empty)))
            mean = largest + ops.log(total) - math.log(self.samples)
            _assign(kept, states)

            def gradient(upstream, variables=None):
                last_seeds = _values(seeds)
                _assign(seeds, first_seeds)

                def pull(_, gradient):
                    return gradient + self._pulled_back(x, mean, upstream)

                pulled = ops.fori_loop(0, self.samples, pull, ops.zeros_like(x))
                _assign(seeds, last_seeds)
                _assign(kept, states)
                return pulled if variables is None else (pulled, [None] * len(variables))

            return mean, gradient

        return log_mean(ops.convert_to_tensor(x))

    def _pulled_back(self, x, mean, upstream):
        """One pass's part of the gradient, given that by the log of the mean."""

        def part(x):
            values = self._log_probabilities(x)
            weight = ops.stop_gradient(ops.exp(values - mean)) / self.samples
            return ops.sum(upstream * weight * values)

        return backend.input_gradient(part, x)[1]

    def _log_probabilities(self, x):
        if self.transform is not None:
            x = _transformed(self.transform, x)
        outputs = self.model(x, training=self._training)
        return ops.log_softmax(logits_of(outputs, self.model, self._from_logits, self._output))

    def _seeds(self):
        return [variable for variable in self.variables if _is_seed(variable)]

    def _variables_to_keep(self):
        # A pass in training mode moves statistics that are none of the evaluation's business.
        if not self._training:
            return []
        return [variable for variable in self.non_trainable_variables if not _is_seed(variable)]


def _transformed(transform, x):
    takes_training = (
        isinstance(transform, keras.Layer)
        and "training" in inspect.signature(transform.call).parameters
    )
    return transform(x, training=True) if takes_training else transform(x)


def _is_seed(variable):
    return variable.name == "seed_generator_state"


def _values(variables):
    return [ops.copy(variable.value) for variable in variables]


def _assign(variables, values):
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
