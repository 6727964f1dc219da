"""A zoo of classifiers of digits: some whose robustness is only masked, and honest ones.

Masked models share one trained classifier and differ in what is put around it. `MASKED` and
`HONEST`
map names to functions of `Digits` that return a compiled model; `HELD_OUT` names the models that
were
looked at only after the trust check's thresholds had been fixed.
"""

import functools

import keras
import numpy as np
from keras import layers, ops

import keras_secure as ks

EPSILON = 0.1
LOSS = keras.losses.SparseCategoricalCrossentropy


class Digits:
    """The data, and what is trained once for all.

    Args:
        x: Images of shape (num_examples, 8, 8, 1) in [0, 1].
        y: Their classes.
    """

    def __init__(self, x, y):
        self.x, self.y = x[:1300], y[:1300]
        self.x_test, self.y_test = x[1300:], y[1300:]

    @functools.cached_property
    def base(self):
        """A convolutional classifier that gives logits."""
        return self.trained(convolutional())

    def trained(self, model, epochs=12, objective=None, x=None, y=None, loss=None, rate=2e-3):
        """Fits and returns a model."""
        x, y = (self.x, self.y) if x is None else (x, y)
        fitted = model if objective is None else ks.SecureModel(model, objective=objective)
        loss = loss or LOSS(from_logits=True)
        fitted.compile(keras.optimizers.Adam(rate), loss)
        fitted.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
        if fitted is not model:
            model.compile("adam", loss)
        return model


def convolutional(activation="relu", dense=64, **options):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(16, 3, padding="same", activation=activation, **options),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(dense, activation=activation, **options),
            layers.Dense(10),
        ]
    )


class Around(keras.Model):
    """A model between a function of its input and a function of its logits."""

    def __init__(self, model, before=None, after=None):
        super().__init__()
        self.model, self.before, self.after = model, before, after

    def call(self, x, training=False):
        if self.before is not None:
            x = self.before(x)
        logits = self.model(x, training=False)
        return logits if self.after is None else self.after(logits)


def around(before=None, after=None, from_logits=True):
    """Returns a function of `Digits` that puts functions around its base model."""

    def build(digits):
        model = Around(digits.base, before, after)
        model(digits.x[:1])
        model.compile("adam", LOSS(from_logits=from_logits))
        return model

    return build


# --- masked --------------------------------------------------------------------------------------


def saturated_softmax(digits):
    model = keras.Sequential(
        [digits.base, layers.Rescaling(1e3), layers.Activation("softmax")], name="saturated"
    )
    model.build((None, 8, 8, 1))
    model.compile("adam", LOSS())
    return model


def hidden_softmax(logits):
    shifted = 300.0 * (logits - ops.max(logits, axis=1, keepdims=True))
    return ops.exp(shifted) / ops.sum(ops.exp(shifted), axis=1, keepdims=True)


def probabilities_as_logits(digits):
    model = keras.Sequential([digits.base, layers.Activation("softmax")], name="doubled")
    model.build((None, 8, 8, 1))
    model.compile("adam", LOSS(from_logits=True))
    return model


class AlwaysDropout(layers.Layer):
    def __init__(self, rate):
        super().__init__()
        self.dropout = layers.Dropout(rate)

    def call(self, x):
        return self.dropout(x, training=True)


class AlwaysBatchNorm(layers.Layer):
    def __init__(self):
        super().__init__()
        self.normalization = layers.BatchNormalization()

    def build(self, shape):
        self.normalization.build(shape)

    def call(self, x):
        return self.normalization(x, training=True)


class WinnersTakeAll(layers.Layer):
    """Keeps the largest values of each example, and zeros the rest."""

    def __init__(self, share):
        super().__init__()
        self.share = share

    def call(self, x):
        rows = ops.reshape(x, (ops.shape(x)[0], -1))
        count = max(1, int(self.share * np.prod(x.shape[1:])))
        smallest = ops.top_k(rows, count)[0][:, -1:]
        return ops.reshape(ops.where(rows >= smallest, rows, 0.0), ops.shape(x))


def with_layer(make, after_flatten=True, **fit):
    def build(digits):
        return digits.trained(
            keras.Sequential(
                [
                    keras.Input((8, 8, 1)),
                    layers.Conv2D(16, 3, padding="same", activation="relu"),
                    *([] if after_flatten else [make()]),
                    layers.Flatten(),
                    *([make()] if after_flatten else []),
                    layers.Dense(128),
                    make(),
                    layers.Dense(10),
                ]
            ),
            **fit,
        )

    return build


class InputNoise(layers.Layer):
    def __init__(self, stddev):
        super().__init__()
        self.stddev, self.generator = stddev, keras.random.SeedGenerator(3)

    def call(self, x):
        return x + keras.random.normal(ops.shape(x), stddev=self.stddev, seed=self.generator)


class RandomShift(layers.Layer):
    """Moves the image by up to one pixel each way, at random."""

    def __init__(self):
        super().__init__()
        self.generator = keras.random.SeedGenerator(5)

    def call(self, x):
        padded = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        row = keras.random.randint((), 0, 3, seed=self.generator)
        column = keras.random.randint((), 0, 3, seed=self.generator)
        return ops.slice(padded, (0, row, column, 0), (ops.shape(x)[0], 8, 8, 1))


def with_random_layer(make):
    def build(digits):
        layer = make()
        return around(before=layer)(digits)

    return build


def rounded(levels):
    return lambda x: ops.round(x * levels) / levels


def cosines():
    place, frequency = np.arange(8) + 0.5, np.arange(8)[:, None]
    basis = np.cos(np.pi * frequency * place / 8) * np.sqrt(2 / 8)
    basis[0] /= np.sqrt(2)
    return basis.astype("float32")


def rounded_cosines(x):
    """What JPEG does to a block: cosine transform, coarse steps, and back."""
    basis = ops.convert_to_tensor(cosines())
    images = x[..., 0]
    table = ops.matmul(ops.matmul(basis, images), ops.transpose(basis))
    table = ops.round(table / 0.25) * 0.25
    return ops.matmul(ops.matmul(ops.transpose(basis), table), basis)[..., None]


def half_stopped(logits):
    return 0.1 * logits + ops.stop_gradient(0.9 * logits)


def most_likely_only(logits):
    return 10.0 * ops.one_hot(ops.argmax(logits, axis=1), 10)


def staircase(logits):
    return ops.floor(logits * 2.0) / 2.0


def half_precision_times_a_thousand(logits):
    return ops.cast(ops.cast(logits * 1e3, "float16"), "float32")


def oscillating(x):
    return x + 0.02 * ops.sin(2e4 * x)


def square_root_of_square(x):
    return ops.sqrt(ops.square(x))


def reversed_gradient(x):
    return ops.stop_gradient(2.0 * x) - x


def looked_up(x):
    table = ops.linspace(0.0, 1.0, 17)
    return ops.take(table, ops.cast(ops.round(x * 16.0), "int32"))


def steep(digits):
    def squash(x):
        return ops.sigmoid(1e4 * (x - 0.47))

    model = Around(
        digits.trained(convolutional(), x=np.float32(digits.x > 0.47), y=digits.y), squash
    )
    model(digits.x[:1])
    model.compile("adam", LOSS(from_logits=True))
    return model


def binarized(digits):
    model = Around(
        digits.trained(convolutional(), x=np.float32(digits.x > 0.47), y=digits.y),
        lambda x: ops.cast(x > 0.47, "float32"),
    )
    model(digits.x[:1])
    model.compile("adam", LOSS(from_logits=True))
    return model


def shattered(digits):
    """A hidden layer of hard thresholds behind tanh of huge slope."""
    hidden = digits.base.layers[:-2]
    front = keras.Sequential([keras.Input((8, 8, 1)), *hidden, layers.Dense(256)])
    signs = np.sign(front.predict(digits.x, verbose=0))
    last = keras.Sequential([keras.Input((256,)), layers.Dense(10)])
    digits.trained(last, x=signs.astype("float32"), y=digits.y)
    model = keras.Sequential(
        [front, layers.Lambda(lambda z: ops.tanh(1e4 * z)), last], name="shattered"
    )
    model.build((None, 8, 8, 1))
    model.compile("adam", LOSS(from_logits=True))
    return model


def distilled(digits):
    """Trained at temperature 100, used at 1."""
    model = keras.Sequential([convolutional(), layers.Rescaling(1 / 100)])
    digits.trained(model, epochs=30, rate=2e-2)
    network = model.layers[0]
    network.compile("adam", LOSS(from_logits=True))
    return network


class BatchMean(layers.Layer):
    def call(self, x):
        return x - 0.5 * ops.mean(x, axis=0, keepdims=True)


def batch_dependent(digits):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            BatchMean(),
            layers.Dense(10),
        ]
    )
    return digits.trained(model)


def place_dependent(digits):
    """The answer depends on the place in the batch."""

    def after(logits):
        places = ops.cast(ops.arange(ops.shape(logits)[0]), "float32")
        return logits + 3.0 * ops.sin(ops.expand_dims(places, 1) * ops.arange(1.0, 11.0))

    return around(after=after)(digits)


def tiny_logits(logits):
    return logits * 1e-9


def pseudo_random(logits):
    """Noise that is the same for the same input, and unlike for its neighbour."""
    return logits + 2.0 * ops.sin(
        3e4 * ops.sum(logits, axis=1, keepdims=True) * ops.arange(1.0, 11.0)
    )


def sorted_lookup(x):
    """Replaces each value by its rank among the values of the image."""
    rows = ops.reshape(x, (ops.shape(x)[0], -1))
    rank = ops.argsort(ops.argsort(rows, axis=1), axis=1)
    return ops.reshape(ops.cast(rank, "float32") / 64.0, ops.shape(x))


def ranked(digits):
    ranks = ops.convert_to_numpy(sorted_lookup(digits.x))
    model = Around(digits.trained(convolutional(), x=ranks, y=digits.y), sorted_lookup)
    model(digits.x[:1])
    model.compile("adam", LOSS(from_logits=True))
    return model


MASKED = {
    "saturated_softmax": saturated_softmax,
    "hidden_softmax": around(after=hidden_softmax, from_logits=False),
    "probabilities_as_logits": probabilities_as_logits,
    "quantizer": around(before=rounded(8)),
    "fine_quantizer": around(before=rounded(100)),
    "dropout_left_on": with_layer(lambda: AlwaysDropout(0.3), after_flatten=False),
    "winners_take_all": with_layer(lambda: WinnersTakeAll(0.1), after_flatten=False),
    "input_noise": with_random_layer(lambda: InputNoise(0.1)),
    "batch_norm_in_training": with_layer(AlwaysBatchNorm),
    "stopped_gradient": around(before=ops.stop_gradient),
    "half_stopped": around(after=half_stopped),
    "half_precision": around(after=half_precision_times_a_thousand),
    "steep_input": steep,
    "binarized_input": binarized,
    "rounded_cosines": around(before=rounded_cosines),
    "random_shift": with_random_layer(RandomShift),
    "most_likely_only": around(after=most_likely_only),
    "staircase": around(after=staircase),
    "oscillating": around(before=oscillating),
    "square_root": around(before=square_root_of_square),
    "looked_up": around(before=looked_up),
    "shattered": shattered,
    "distilled": distilled,
    "batch_dependent": batch_dependent,
    "place_dependent": place_dependent,
    "reversed_gradient": around(before=reversed_gradient),
    "tiny_logits": around(after=tiny_logits),
    "pseudo_random": around(after=pseudo_random),
    "ranked": ranked,
}

# --- honest --------------------------------------------------------------------------------------


def plain(digits):
    return digits.base


def adversarially_trained(objective, epochs=30):
    def build(digits):
        return digits.trained(convolutional(), epochs=epochs, objective=objective(), rate=1e-3)

    return build


def pgd(epsilon=0.15, **options):
    options = {"steps": 5, "seed": 0, **options}
    return lambda: ks.objectives.AdversarialTraining(ks.attacks.PGD(epsilon, **options))


def wide(digits):
    return digits.trained(
        keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                layers.Flatten(),
                layers.Dense(2048, activation="relu"),
                layers.Dense(10),
            ]
        )
    )


def softmax_output(digits):
    model = keras.Sequential([convolutional(), layers.Softmax()])
    return digits.trained(model, loss=LOSS(), epochs=15)


def sigmoid_output(digits):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    return digits.trained(model, y=digits.y % 2, x=digits.x, loss="binary_crossentropy", epochs=20)


def batch_norm(digits):
    return digits.trained(
        keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                layers.Conv2D(16, 3, use_bias=False),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.Flatten(),
                layers.Dense(64, use_bias=False),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.Dropout(0.3),
                layers.Dense(10),
            ]
        )
    )


def average_pooled(digits):
    return digits.trained(
        keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                layers.Conv2D(16, 3, activation="gelu"),
                layers.AveragePooling2D(2),
                layers.LayerNormalization(),
                layers.Flatten(),
                layers.Dense(64, activation="tanh"),
                layers.Dense(10),
            ]
        )
    )


def linear(digits):
    return digits.trained(
        keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(10)]), epochs=20
    )


def dead_units(digits):
    """Most units of a wide layer never fire."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Flatten(),
            layers.Dense(
                512,
                activation="relu",
                kernel_initializer=keras.initializers.RandomNormal(stddev=0.3),
                bias_initializer=keras.initializers.Constant(-2.0),
            ),
            layers.Dense(64, activation="relu"),
            layers.Dense(10),
        ]
    )
    return digits.trained(model)


def overfitted(digits):
    return digits.trained(convolutional(dense=256), epochs=60, rate=3e-3)


def bfloat16(digits):
    model = convolutional(dtype="mixed_bfloat16")
    return digits.trained(model)


def deep(digits):
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(inputs)
    for _ in range(4):
        y = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
        x = layers.Add()([x, layers.Conv2D(16, 3, padding="same")(y)])
    outputs = layers.Dense(10)(layers.GlobalMaxPooling2D()(layers.ReLU()(x)))
    return digits.trained(keras.Model(inputs, outputs), epochs=20)


def smoothed_labels(digits):
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)
    model = digits.trained(convolutional(), y=np.eye(10)[digits.y], x=digits.x, loss=loss)
    return model


def log_softmax_output(digits):
    return around(after=lambda z: ops.log_softmax(z))(digits)


HONEST = {
    "plain": plain,
    "pgd_trained": adversarially_trained(pgd()),
    "pgd_trained_wide_ball": adversarially_trained(pgd(0.3), epochs=40),
    "one_step_trained": adversarially_trained(pgd(0.1, steps=1, step_size=0.125)),
    "trades": adversarially_trained(
        lambda: ks.objectives.TRADES(ks.attacks.PGD(0.1, steps=5, seed=0), beta=6.0)
    ),
    "l2_trained": adversarially_trained(pgd(0.8, norm="l2")),
    "wide": wide,
    "softmax_output": softmax_output,
    "sigmoid_output": sigmoid_output,
    "batch_norm": batch_norm,
    "average_pooled": average_pooled,
    "linear": linear,
    "dead_units": dead_units,
    "overfitted": overfitted,
    "bfloat16": bfloat16,
    "deep": deep,
    "smoothed_labels": smoothed_labels,
    "log_softmax_output": log_softmax_output,
}

HELD_OUT = {
    "hidden_softmax",
    "rounded_cosines",
    "random_shift",
    "shattered",
    "ranked",
    "place_dependent",
    "reversed_gradient",
    "pseudo_random",
    "trades",
    "l2_trained",
    "average_pooled",
    "overfitted",
    "deep",
    "smoothed_labels",
}


def labels_for(name, digits):
    """The test labels of a model of the zoo."""
    return digits.y_test % 2 if name == "sigmoid_output" else digits.y_test
