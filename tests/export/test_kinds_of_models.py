import keras
import numpy as np
import pytest

from keras_secure.errors import InputError
from keras_secure.export import export_hardened, inspect, merge_lora
from keras_secure.layers import Ensemble, InputGuard, OutputGuard
from keras_secure.objectives import DefensiveDistillation
from keras_secure.training import SecureModel


def tiny(seed=0, activation="softmax"):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, activation="relu", name="hidden"),
            keras.layers.Dense(3, activation=activation, name="top"),
        ]
    )


@pytest.fixture
def x():
    return np.random.default_rng(0).random((9, 6)).astype("float32")


@pytest.mark.parametrize("vote", ["probabilities", "logits", "majority"])
def test_an_ensemble(x, tmp_path, vote):
    ensemble = Ensemble([tiny(1), tiny(2)], vote=vote)
    ensemble.build((None, 6))
    expected = keras.ops.convert_to_numpy(keras.ops.softmax(ensemble(x)))
    bundle = export_hardened(
        ensemble,
        tmp_path / "bundle",
        input_shape=(6,),
        input_guard=InputGuard(),
        output_guard=OutputGuard(from_logits=True),
    )
    rows = np.vstack([x, np.full((1, 6), np.nan, "float32")])
    answer = bundle.load()(rows)
    np.testing.assert_allclose(answer["predictions"][:-1], expected, atol=1e-5)
    assert answer["status"].tolist() == [0] * 9 + [1]
    labels = bundle.load(signature="labels")(rows)["label"]
    assert labels.tolist() == [*expected.argmax(-1), -1]


def test_a_distilled_student(x, tmp_path):
    teacher, student = tiny(1, None), tiny(2, None)
    secure = SecureModel(student, objective=DefensiveDistillation(teacher))
    secure.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    secure.fit(x, np.arange(9) % 3, epochs=1, verbose=0)
    bundle = export_hardened(secure, tmp_path / "bundle")
    np.testing.assert_allclose(
        bundle.load()(x)["predictions"], student.predict(x, verbose=0), atol=1e-5
    )
    assert bundle.card["num_parameters"] == student.count_params()


def adapted():
    keras.utils.set_random_seed(4)
    tokens = keras.Input((5,), dtype="int32")
    table = keras.layers.Embedding(12, 6, name="table")
    dense = keras.layers.Dense(4, name="dense")
    inner = keras.Sequential([keras.Input((30,)), dense], name="inner")
    model = keras.Model(tokens, inner(keras.layers.Flatten()(table(tokens))))
    for layer in (table, dense):
        layer.enable_lora(2)
        for name in ("lora_kernel_b", "lora_embeddings_b"):
            if hasattr(layer, name):
                getattr(layer, name).assign(np.full(getattr(layer, name).shape, 0.3))
    return model


def test_lora_is_merged(tmp_path):
    model = adapted()
    x = np.random.default_rng(0).integers(0, 12, (7, 5)).astype("int32")
    expected = model.predict(x, verbose=0)
    merged = merge_lora(model)
    assert len(merged.weights) == 3
    np.testing.assert_allclose(merged.predict(x, verbose=0), expected, atol=1e-5)
    bundle = export_hardened(model, tmp_path / "bundle")
    np.testing.assert_allclose(bundle.load()(x)["predictions"], expected, atol=1e-5)
    weights = inspect(bundle.path).weights
    assert not any("lora" in name for name in weights)
    dense = model.get_layer("inner").layers[-1]
    (kernel,) = [weight for name, weight in weights.items() if name.endswith("dense/kernel")]
    np.testing.assert_allclose(kernel.values, np.asarray(dense.kernel), atol=1e-6)
    assert merge_lora(merged) is merged
    assert len(model.weights) == 7


def test_lora_within_other_layers_is_merged(tmp_path):
    """Attentions and wrappers have their adapted layers inside, out of sight of `model.layers`."""
    keras.utils.set_random_seed(4)
    inputs = keras.Input((5, 8))
    attention = keras.layers.MultiHeadAttention(2, 4)
    steps = keras.layers.TimeDistributed(keras.layers.Dense(3))
    model = keras.Model(inputs, steps(keras.layers.LayerNormalization()(attention(inputs, inputs))))
    for layer in (attention.query_dense, attention.output_dense, steps.layer):
        layer.enable_lora(2)
        layer.lora_kernel_b.assign(np.full(layer.lora_kernel_b.shape, 0.3))
    x = np.random.default_rng(0).random((7, 5, 8)).astype("float32")
    expected = model.predict(x, verbose=0)
    bundle = export_hardened(model, tmp_path / "bundle", warmup=())
    np.testing.assert_allclose(bundle.load()(x)["predictions"], expected, atol=1e-5)
    assert not any("lora" in name for name in inspect(bundle.path).weights)
    saved = b"".join(path.read_bytes() for path in bundle.path.rglob("*") if path.is_file())
    for layer in (attention.query_dense, attention.output_dense, steps.layer):
        for secret in (layer.lora_kernel_a, layer.lora_kernel_b, layer._kernel):
            assert np.asarray(secret).tobytes() not in saved
        assert layer.lora_enabled


class Holder(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(2)

    def call(self, inputs):
        return self.dense(inputs)


def test_lora_inside_of_code_is_refused(x):
    model = Holder()
    model(x)
    model.dense.enable_lora(1)
    with pytest.raises(InputError, match="class of its own"):
        merge_lora(model)


def test_a_frozen_fine_tuned_model(x, tmp_path):
    base = tiny(1)
    base.trainable = False
    model = keras.Sequential([keras.Input((6,)), base, keras.layers.Dense(2, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(x, np.arange(9) % 2, epochs=1, verbose=0)
    bundle = export_hardened(model, tmp_path / "bundle", output_guard=OutputGuard(top_k=1))
    answer = bundle.load()(x)["predictions"]
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(answer.max(-1), expected.max(-1), atol=1e-5)
    assert (np.count_nonzero(answer, axis=-1) == 1).all()
    assert bundle.card["num_parameters"] == model.count_params()
