"""What no clipping can make private is refused before the first step."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_secure.errors import PrivacyError
from keras_secure.privacy import check_model


def features(count=4, *shape):
    return np.random.default_rng(0).normal(size=(count, *(shape or (6,)))).astype("float32")


def model_of(*parts, shape=(6,)):
    return keras.Sequential([keras.Input(shape), *parts])


class BatchCentred(layers.Layer):
    def call(self, inputs):
        return inputs - 0.1 * ops.mean(inputs, axis=0, keepdims=True)


class BatchAttention(layers.Layer):
    def call(self, inputs):
        return ops.matmul(ops.softmax(ops.matmul(inputs, ops.transpose(inputs))), inputs)


class TrainingOnlyMix(layers.Layer):
    def call(self, inputs, training=False):
        return ops.flip(inputs, axis=0) if training else inputs


class Cumulative(layers.Layer):
    """The first example of the batch depends on no other; the last depends on all."""

    def call(self, inputs):
        return ops.cumsum(inputs, axis=0)


class ReverseCumulative(layers.Layer):
    def call(self, inputs):
        return ops.flip(ops.cumsum(ops.flip(inputs, axis=0), axis=0), axis=0)


class RunningMean(layers.Layer):
    def __init__(self, momentum=0.9):
        super().__init__()
        self.momentum = momentum

    def build(self, shape):
        self.mean = self.add_weight(
            shape=(shape[-1],), initializer="zeros", trainable=False, name="running_mean"
        )

    def call(self, inputs):
        batch_mean = ops.mean(inputs, axis=0)
        self.mean.assign(self.momentum * self.mean + (1.0 - self.momentum) * batch_mean)
        return inputs


class OwnLoss(layers.Layer):
    def call(self, inputs):
        self.add_loss(ops.mean(ops.abs(inputs)))
        return inputs


def test_batch_normalization_is_refused_with_the_remedy_unless_frozen():
    model = model_of(layers.Dense(4), layers.BatchNormalization(), layers.Dense(2))
    with pytest.raises(PrivacyError, match=r"BatchNormalization.*GroupNormalization.*freeze"):
        check_model(model, features())
    model.layers[1].trainable = False
    check_model(model, features())


def test_nested_batch_normalization_is_found():
    inner = model_of(layers.BatchNormalization())
    with pytest.raises(PrivacyError, match="BatchNormalization"):
        check_model(model_of(inner, layers.Dense(2)), features())


@pytest.mark.parametrize(
    "layer", [BatchCentred, BatchAttention, TrainingOnlyMix, Cumulative, ReverseCumulative]
)
def test_layers_that_mix_examples_are_refused(layer):
    model = model_of(layers.Dense(4), layer(), layers.Dense(2))
    with pytest.raises(
        PrivacyError, match=r"other examples of the batch change.*Remove what mixes"
    ):
        check_model(model, features())


def test_mixing_of_tokens_is_refused():
    model = keras.Sequential(
        [keras.Input((5,), dtype="int32"), layers.Embedding(9, 4), BatchCentred()]
    )
    with pytest.raises(PrivacyError, match="Remove what mixes"):
        check_model(model, np.arange(20).reshape(4, 5) % 9)


@pytest.mark.parametrize("momentum", [0.9, 0.99999])
def test_state_learnt_from_data_is_refused_however_slowly(momentum):
    with pytest.raises(PrivacyError, match=r"running_mean.*outside the private mechanism.*freeze"):
        check_model(model_of(RunningMean(momentum), layers.Dense(2)), features())


class FaintMix(layers.Layer):
    """Too faint for a comparison of outputs; the Jacobian shows it."""

    def call(self, inputs):
        return inputs + 1e-5 * ops.mean(inputs, axis=0, keepdims=True)


class MixOnTheWayBack(layers.Layer):
    """Computes each example alone and averages gradients over the batch."""

    def call(self, inputs):
        @ops.custom_gradient
        def identity(values):
            def gradient(*args, upstream=None):
                upstream = args[0] if upstream is None else upstream
                return ops.zeros_like(upstream) + ops.mean(upstream, axis=0, keepdims=True)

            return values, gradient

        return identity(inputs)


@pytest.mark.parametrize("layer", [FaintMix, MixOnTheWayBack])
def test_gradients_between_examples_are_refused(layer):
    with pytest.raises(PrivacyError, match=r"gradient of the model's output for one example"):
        check_model(model_of(layers.Dense(4), layer(), layers.Dense(2)), features())


def test_several_inputs_are_held_apart_one_by_one():
    one, two = keras.Input((6,)), keras.Input((6,))
    model = keras.Model([one, two], layers.Add()([one, FaintMix()(two)]))
    with pytest.raises(PrivacyError, match="reaches the other examples"):
        check_model(model, [features(), features()])


@pytest.mark.parametrize(
    "part", [layers.Dense(3, activity_regularizer="l2"), layers.ActivityRegularization(0.1)]
)
def test_activity_regularizers_are_refused(part):
    with pytest.raises(PrivacyError, match=r"activity regularizer or add_loss.*compiled loss"):
        check_model(model_of(part), features())


def test_add_loss_is_refused_also_beside_weight_regularizers():
    for part in (layers.Dense(2), layers.Dense(2, kernel_regularizer="l2")):
        with pytest.raises(PrivacyError, match="add_loss"):
            check_model(model_of(OwnLoss(), part), features())


def test_what_treats_examples_alone_passes():
    check_model(
        model_of(
            layers.Dense(8, "relu", kernel_regularizer="l2", bias_regularizer="l1"),
            layers.Dropout(0.5),
            layers.LayerNormalization(),
            layers.GaussianNoise(0.1),
            layers.Dense(2),
        ),
        features(),
    )
    inputs = keras.Input((4, 6))
    hidden = layers.MultiHeadAttention(2, 3, dropout=0.2)(inputs, inputs)
    check_model(keras.Model(inputs, {"a": hidden, "b": layers.LSTM(2)(hidden)}), features(3, 4, 6))


def test_the_check_leaves_the_model_as_it_was():
    model = model_of(layers.Dense(4), layers.Dropout(0.5))
    before = [np.asarray(v) for v in model.trainable_variables]
    check_model(model, features())
    for variable, value in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_too_few_examples_are_refused():
    with pytest.raises(PrivacyError, match="at least 3"):
        check_model(model_of(layers.Dense(2)), features(2))
