"""Tiny models of many builtin layers, in every Keras from 3.13 on: what must not be flagged."""

import keras
import numpy as np
from keras import layers, ops


def perceptron():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(8, activation="relu", kernel_regularizer="l2"),
            layers.Dropout(0.2),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(np.zeros((8, 4)), np.zeros(8), verbose=0)
    return model


def several_outputs():
    left, right = keras.Input((4,), name="left"), keras.Input((3,), name="right")
    joined = layers.Concatenate()([layers.Dense(5)(left), layers.Dense(5)(right)])
    outputs = {
        "kind": layers.Dense(2, activation="softmax", name="kind")(joined),
        "amount": layers.Dense(1, name="amount")(joined),
    }
    model = keras.Model({"left": left, "right": right}, outputs)
    model.compile(
        keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 100), momentum=0.9),
        {"kind": keras.losses.SparseCategoricalCrossentropy(), "amount": "mse"},
        metrics={"kind": [keras.metrics.SparseTopKCategoricalAccuracy(k=1)], "amount": ["mae"]},
    )
    return model


def convolution():
    return keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.Conv2D(4, 3, padding="same", kernel_initializer=keras.initializers.HeNormal(1)),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.MaxPooling2D(),
            layers.SeparableConv2D(4, 3),
            layers.DepthwiseConv2D(3, padding="same"),
            layers.GroupNormalization(2),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, kernel_constraint=keras.constraints.MaxNorm(2.0)),
        ]
    )


def augmentation():
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Rescaling(1 / 255),
            layers.Resizing(12, 12),
            layers.CenterCrop(10, 10),
            layers.RandomFlip(),
            layers.RandomRotation(0.1),
            layers.RandomZoom(0.1),
            layers.RandomContrast(0.2),
            layers.RandomTranslation(0.1, 0.1),
            layers.GaussianNoise(0.1),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )


def volumes():
    inputs = keras.Input((6, 6, 6, 1))
    x = layers.Conv3D(2, 3, padding="same")(inputs)
    x = layers.AveragePooling3D(2)(x)
    x = layers.Conv3DTranspose(2, 2, strides=2)(x)
    x = layers.Cropping3D(1)(x)
    x = layers.ZeroPadding3D(1)(x)
    x = layers.UpSampling3D(2)(x)
    return keras.Model(inputs, layers.GlobalMaxPooling3D()(x))


def signals():
    inputs = keras.Input((16, 2))
    x = layers.Conv1D(4, 3, padding="causal", dilation_rate=2)(inputs)
    x = layers.Conv1DTranspose(4, 3)(x)
    x = layers.SpatialDropout1D(0.1)(x)
    x = layers.PReLU()(x)
    x = layers.Permute((2, 1))(x)
    x = layers.Reshape((-1, 2))(x)
    x = layers.LeakyReLU(0.1)(x)
    x = layers.ELU()(x)
    return keras.Model(inputs, layers.Softmax()(layers.Flatten()(x)))


def recurrent():
    return keras.Sequential(
        [
            keras.Input((5, 3)),
            layers.Masking(),
            layers.Bidirectional(layers.LSTM(4, return_sequences=True)),
            layers.GRU(4, return_sequences=True, reset_after=False),
            layers.TimeDistributed(layers.Dense(3)),
            layers.SimpleRNN(2),
        ]
    )


def stacked_cells():
    inputs = keras.Input((5, 3))
    x = layers.RNN([layers.LSTMCell(4), layers.GRUCell(4)], return_sequences=True)(inputs)
    x = layers.RNN(layers.StackedRNNCells([layers.SimpleRNNCell(2)]))(x)
    return keras.Model(inputs, layers.RepeatVector(2)(x))


def convolutional_recurrent():
    return keras.Sequential(
        [
            keras.Input((3, 6, 6, 1)),
            layers.ConvLSTM2D(2, 3, return_sequences=True),
            layers.TimeDistributed(keras.Sequential([layers.Flatten(), layers.Dense(2)])),
        ]
    )


def attention():
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(20, 8, mask_zero=True)(inputs)
    x = layers.MultiHeadAttention(2, 4)(x, x)
    x = layers.LayerNormalization()(x)
    x = layers.GroupQueryAttention(4, 4, 2)(x, x)
    x = layers.RMSNormalization()(x)
    x = layers.Attention(use_scale=True)([x, x])
    x = layers.AdditiveAttention()([x, x])
    x = layers.EinsumDense("abc,cd->abd", output_shape=(None, 4), bias_axes="d")(x)
    return keras.Model(inputs, layers.GlobalAveragePooling1D()(x))


def text():
    vectorize = layers.TextVectorization(max_tokens=20, output_sequence_length=6)
    vectorize.adapt(np.array(["a model and its owner", "the file is safe", "naïve café ∑"]))
    inputs = keras.Input((), dtype="string")
    x = layers.Embedding(20, 4)(vectorize(inputs))
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalMaxPooling1D()(x)))


def lookups():
    colour, code = keras.Input((1,), dtype="string"), keras.Input((1,), dtype="int64")
    words = layers.StringLookup(vocabulary=["red", "green", "/etc/paint"], output_mode="multi_hot")
    numbers = layers.IntegerLookup(vocabulary=[3, 5, 7], output_mode="one_hot")
    hashed = layers.Hashing(4, output_mode="one_hot")
    joined = layers.Concatenate()([words(colour), numbers(code), hashed(colour)])
    return keras.Model([colour, code], layers.Dense(2)(joined))


def feature_space():
    space = keras.utils.FeatureSpace(
        {
            "age": keras.utils.FeatureSpace.float_normalized(),
            "kind": keras.utils.FeatureSpace.string_categorical(num_oov_indices=1),
            "size": keras.utils.FeatureSpace.float_discretized(num_bins=3),
        },
        crosses=[("kind", "size")],
        crossing_dim=8,
    )
    import tensorflow as tf

    data = {"age": [1.0, 2.0, 3.0], "kind": ["a", "b", "a"], "size": [0.1, 0.5, 0.9]}
    space.adapt(tf.data.Dataset.from_tensor_slices(data))
    return space


def features():
    space = feature_space()
    return keras.Model(space.get_inputs(), layers.Dense(1)(space.get_encoded_features()))


def scaled():
    normal = layers.Normalization()
    normal.adapt(np.arange(12.0).reshape(4, 3))
    inputs = keras.Input((3,))
    x = layers.Concatenate()([normal(inputs), layers.Discretization([0.0, 1.0])(inputs)])
    x = layers.UnitNormalization()(layers.ActivityRegularization(0.1)(x))
    return keras.Model(inputs, layers.Dense(1)(layers.SpectralNormalization(layers.Dense(3))(x)))


def quantized():
    inputs = keras.Input((6,), dtype="int32")
    x = layers.GlobalAveragePooling1D()(layers.Embedding(20, 8)(inputs))
    model = keras.Model(inputs, layers.Dense(4)(layers.Dense(8)(x)))
    model.quantize("int8")
    return model


def quantized_to_four_bits():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(8), layers.Dense(4)])
    model.quantize("int4")
    return model


def quantized_to_float8():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(8), layers.Dense(4)])
    model.quantize("float8")
    return model


def half_precision():
    policy = keras.DTypePolicy("mixed_float16")
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(8, dtype=policy), layers.Dense(2, dtype="float32")]
    )
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()), "mse")
    model.fit(np.zeros((4, 4)), np.zeros((4, 2)), verbose=0)
    return model


def brain_float():
    return keras.Sequential(
        [keras.Input((4,)), layers.Dense(8, dtype="bfloat16"), layers.Dense(2, dtype="float64")]
    )


def adapted():
    inputs = keras.Input((6,), dtype="int32")
    embedding, dense = layers.Embedding(20, 8), layers.Dense(4)
    model = keras.Model(inputs, dense(layers.Flatten()(embedding(inputs))))
    embedding.enable_lora(2)
    dense.enable_lora(2)
    return model


def nested():
    inner = keras.Sequential([layers.Dense(4, activation="gelu"), layers.Dense(4)], name="inner")
    inputs = keras.Input((4,))
    shared = layers.Dense(4, name="shared")
    middle = keras.Model(inputs, layers.Add()([inner(shared(inputs)), shared(inputs)]))
    outer = keras.Input((4,))
    return keras.Model(outer, layers.Average()([middle(outer), layers.Multiply()([outer, outer])]))


def operations():
    inputs = keras.Input((4, 4))
    x = ops.concatenate([inputs * 2.0 + 1.0, ops.relu(inputs)], axis=-1)
    x = ops.mean(ops.softmax(x), axis=1) - 0.5
    x = ops.where(x > 0, x, ops.exp(x))[:, :3]
    return keras.Model(inputs, ops.expand_dims(ops.matmul(x, ops.ones((3, 2))), 1))


def merges():
    a, b = keras.Input((4,)), keras.Input((4,))
    found = [kind()([a, b]) for kind in (layers.Add, layers.Subtract, layers.Maximum)]
    found += [layers.Minimum()([a, b]), layers.Dot(axes=1)([a, b])]
    return keras.Model([a, b], layers.Concatenate()(found))


def without_weights():
    return keras.Sequential([keras.Input((4,)), layers.ReLU(6.0), layers.Identity()])


def zeros():
    """Weights that compress a thousandfold and are nothing but zeros."""
    return keras.Sequential(
        [keras.Input((512,)), layers.Dense(1024, kernel_initializer="zeros", name="zéro")]
    )


def mobile_network():
    return keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None, classes=3)


def compiled_richly():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2, activation="sigmoid")])
    model.compile(
        keras.optimizers.AdamW(1e-3, weight_decay=0.01, clipnorm=1.0, use_ema=True),
        keras.losses.BinaryFocalCrossentropy(from_logits=False),
        metrics=[keras.metrics.AUC(), keras.metrics.F1Score(), "binary_accuracy"],
        weighted_metrics=["mse"],
    )
    model.fit(np.zeros((4, 4)), np.zeros((4, 2)), verbose=0)
    return model


class Subclassed(keras.Model):
    """Only its weights are exported: its class is the user's own."""

    def __init__(self):
        super().__init__()
        self.first, self.blocks = layers.Dense(3), [layers.Dense(3), layers.LayerNormalization()]

    def call(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return x


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 4), "float32"))
    return model
