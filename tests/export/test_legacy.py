import numpy as np
import pytest

from keras_secure.errors import InputError
from keras_secure.export import export_hardened, from_tf_keras

tf_keras = pytest.importorskip("tf_keras", reason="needs tf_keras, in the extra legacy")
L = tf_keras.layers


@pytest.fixture(autouse=True)
def legacy_seed():
    tf_keras.utils.set_random_seed(3)


def settle(model):
    """Statistics of normalization that matter."""
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            shape = layer.moving_mean.shape
            generator = np.random.default_rng(0)
            layer.set_weights([generator.uniform(0.5, 1.5, shape) for _ in range(4)])
    return model


def images():
    return settle(
        tf_keras.Sequential(
            [
                L.Input((8, 8, 1)),
                L.Conv2D(4, 3, activation="relu", padding="same"),
                L.BatchNormalization(),
                L.SeparableConv2D(4, 3),
                L.MaxPooling2D(),
                L.Flatten(),
                L.Dropout(0.5),
                L.Dense(10, activation="softmax", kernel_regularizer="l2"),
            ]
        )
    )


def text():
    tokens = L.Input((5,), dtype="int32")
    x = L.Embedding(20, 4)(tokens)
    both = L.Add()(
        [L.Bidirectional(L.LSTM(3, return_sequences=True))(x), L.GRU(6, return_sequences=True)(x)]
    )
    x = L.LayerNormalization()(L.MultiHeadAttention(2, 3)(both, both))
    return tf_keras.Model(tokens, L.Dense(2)(L.GlobalAveragePooling1D()(x)))


def nested():
    inner = tf_keras.Sequential([L.Input((4,)), L.Dense(3, activation="tanh")], name="inner")
    x = L.Input((4,))
    return tf_keras.Model(x, L.Concatenate()([inner(x), L.Dense(2)(x)]))


@pytest.mark.parametrize("make", [images, text, nested])
def test_the_rebuilt_model_answers_the_same_and_exports(make, tmp_path):
    model = make()
    rebuilt = from_tf_keras(model)
    generator = np.random.default_rng(1)
    shape = (7, *model.input_shape[1:])
    x = generator.integers(0, 20, shape) if make is text else generator.random(shape)
    expected = np.asarray(model(x.astype(model.inputs[0].dtype.as_numpy_dtype)))
    np.testing.assert_allclose(rebuilt.predict(x, verbose=0), expected, atol=1e-5)
    bundle = export_hardened(rebuilt, tmp_path / "bundle")
    np.testing.assert_allclose(bundle.load()(x)["predictions"], expected, atol=1e-5)


class Own(tf_keras.Model):
    def call(self, inputs):
        return inputs


class Halving(L.Layer):
    def call(self, inputs):
        return inputs / 2


def test_what_is_code_or_unknown_is_refused(tmp_path):
    own = Own()
    own(np.zeros((1, 2)))
    sequential = lambda *layers: tf_keras.Sequential([L.Input((4,)), *layers])  # noqa: E731
    normal = sequential(L.Dense(3))
    normal.layers[0].set_weights([np.full((4, 3), np.nan), np.zeros(3)])
    for model, message in [
        (str(tmp_path / "model.h5"), "Files are never read"),
        (tmp_path, "Files are never read"),
        (own, "class of its own"),
        (sequential(L.Lambda(lambda x: x)), "holds code"),
        (sequential(Halving()), "keras.layers does not have"),
        (tf_keras.Sequential([L.Dense(3)]), "not built"),
        (normal, "answers otherwise"),
    ]:
        with pytest.raises(InputError, match=message):
            from_tf_keras(model)
    with pytest.raises(InputError, match="from_tf_keras"):
        export_hardened(images(), tmp_path / "bundle")


def test_a_layer_that_computes_something_else_is_noticed(monkeypatch):
    model = images()
    import keras

    monkeypatch.setattr(keras.layers.BatchNormalization, "call", lambda self, x, **kwargs: x)
    with pytest.raises(InputError, match="answers otherwise"):
        from_tf_keras(model)
