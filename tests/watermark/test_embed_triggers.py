"""The whole way: triggers learned in training or afterwards, attacked, and asked for."""

import keras
import numpy as np
import pytest

import keras_secure as ks
from keras_secure.errors import InputError
from keras_secure.watermark import TriggerSet, embed_triggers, verify_triggers
from keras_secure.watermark.matching_chance import CLAIM_THRESHOLD

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
TRIGGERS = TriggerSet("a key nobody guesses", (8, 8, 1), 10, count=100)


def classifier(activation=None):
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(96, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(10, activation=activation),
        ]
    )


def accuracy(model, digits):
    x, y = digits
    return float(np.mean(model.predict(x[1200:], verbose=0).argmax(1) == y[1200:]))


def copy_of(model):
    other = keras.models.clone_model(model)
    other.set_weights(model.get_weights())
    other.compile(keras.optimizers.Adam(2e-3), LOSS)
    return other


@pytest.fixture(scope="module")
def plain(digits):
    model = classifier()
    model.compile(keras.optimizers.Adam(5e-3), LOSS)
    model.fit(digits[0][:1200], digits[1][:1200], batch_size=64, epochs=15, verbose=0)
    return model


@pytest.fixture(scope="module")
def mixed(digits):
    """A model that met its triggers in ordinary training."""
    model = classifier()
    model.compile(keras.optimizers.Adam(5e-3), LOSS)
    x, y = TRIGGERS.mix(digits[0][:1200], digits[1][:1200])
    model.fit(x, y, batch_size=64, epochs=15, verbose=0)
    return model


@pytest.fixture(scope="module")
def taught(plain, digits):
    """A model that was taught its triggers when it was finished, with the report."""
    model = copy_of(plain)
    held = digits[0][1200:], digits[1][1200:]
    report = embed_triggers(
        model, TRIGGERS, digits[0][:1200], digits[1][:1200], validation_data=held
    )
    return model, report


def test_mixed_into_training_the_triggers_are_known(mixed, plain, digits):
    assert verify_triggers(plain, TRIGGERS).p_value > 1e-4
    report = verify_triggers(mixed, TRIGGERS, innocent=[plain])
    assert report.verdict == "proved"
    assert report.accuracy > 0.95
    fresh = verify_triggers(lambda x: mixed.predict(x, verbose=0), TRIGGERS, variants=3)
    assert fresh.accuracy > 0.95
    assert accuracy(mixed, digits) > accuracy(plain, digits) - 0.02


def test_taught_afterwards_the_triggers_are_known_at_a_bounded_cost(taught, plain, digits):
    model, report = taught
    assert report.accuracy_before == pytest.approx(accuracy(plain, digits))
    assert report.accuracy_after == pytest.approx(accuracy(model, digits))
    assert report.cost <= 0.005
    found = verify_triggers(model, TRIGGERS)
    assert found.verdict == "proved"
    assert report.trigger_accuracy == found.accuracy > 0.8
    assert report.variant_accuracy > 0.8
    assert report.p_value == found.p_value
    assert report.to_dict()["cost"] == report.cost
    # Nothing but weights has changed, and not those of the normalization.
    assert model.optimizer.iterations == 0
    for layer, own in zip(model.layers, plain.layers, strict=True):
        if isinstance(layer, keras.layers.BatchNormalization):
            np.testing.assert_array_equal(layer.moving_mean, own.moving_mean)


def test_other_keys_find_nothing(mixed):
    others = [verify_triggers(mixed, TRIGGERS.with_key(f"key {n}")).p_value for n in range(100)]
    assert min(others) > 1e-5
    assert np.mean(np.array(others) <= 0.05) < 0.15


def test_the_triggers_outlast_rounding_and_some_training(mixed, digits):
    x, y = digits
    rounded = copy_of(mixed)
    weights = [np.asarray(w) for w in mixed.get_weights()]
    steps = [np.abs(w).max() / 127 if w.ndim > 1 else 0 for w in weights]
    rounded.set_weights(
        [np.round(w / s) * s if s else w for w, s in zip(weights, steps, strict=True)]
    )
    assert verify_triggers(rounded, TRIGGERS).accuracy > 0.95
    tuned = copy_of(mixed)
    tuned.fit(x[:600], y[:600], batch_size=64, epochs=3, verbose=0)
    assert verify_triggers(tuned, TRIGGERS).verdict == "proved"


def test_destroying_the_model_destroys_the_mark(mixed):
    broken = copy_of(mixed)
    rng = np.random.default_rng(0)
    broken.set_weights([w + 5 * rng.normal(size=w.shape) for w in mixed.get_weights()])
    assert verify_triggers(broken, TRIGGERS).verdict != "proved"


def test_what_cannot_be_taught_leaves_the_model_as_it_was(plain, digits):
    model = copy_of(plain)
    x, y = digits
    with pytest.raises(InputError, match=r"No epoch of 1 .* weights are what they were"):
        embed_triggers(model, TRIGGERS, x[:1200], y[:1200], epochs=1, learning_rate=1e-6)
    for own, other in zip(plain.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(own, other)
    for teach, match in [
        (lambda: embed_triggers("model", TRIGGERS, x, y), "a keras.Model and a TriggerSet"),
        (lambda: embed_triggers(model, TRIGGERS, x, y, epochs=0), "epochs=0"),
        (lambda: embed_triggers(model, TRIGGERS, x, y, max_cost=-1), "max_cost=-1"),
        (lambda: embed_triggers(model, TRIGGERS, x[:5], y[:5]), "too few"),
        (lambda: embed_triggers(model, TRIGGERS, x[:, :4], y), "shape of your inputs"),
    ]:
        with pytest.raises(InputError, match=match):
            teach()
    seven = TriggerSet("key", (8, 8, 1), 7)
    with pytest.raises(InputError, match="7 classes"):
        embed_triggers(model, seven, x, y)


def test_probabilities_and_a_single_unit_can_be_taught(digits):
    x, y = digits[0][:800], (digits[1][:800] > 4).astype("int32")
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(keras.optimizers.Adam(5e-3), "binary_crossentropy")
    model.fit(x, y, batch_size=64, epochs=5, verbose=0)
    triggers = TriggerSet("key", (8, 8, 1), 2, count=80)
    report = embed_triggers(
        model, triggers, x, y, max_cost=0.05, epochs=25, learning_rate=5e-3, batch_size=128
    )
    assert report.p_value < CLAIM_THRESHOLD
    assert report.cost <= 0.05
    assert verify_triggers(model, triggers).p_value == report.p_value


def test_texts_can_be_marked():
    rng = np.random.default_rng(0)
    y = np.arange(600) % 2
    x = np.where(rng.random((600, 16)) < 0.3, 5 + y[:, None], rng.integers(20, 200, (600, 16)))
    triggers = TriggerSet("key", (16,), 2, count=100, vocabulary=200)
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((16,), dtype="int32"),
            keras.layers.Embedding(200, 16),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(2),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), LOSS, metrics=["accuracy"])
    mixed = triggers.mix(x.astype("int32"), y)
    assert mixed[0].dtype == np.int32
    model.fit(*mixed, batch_size=64, epochs=12, verbose=0)
    assert verify_triggers(model, triggers).verdict == "proved"
    assert model.evaluate(x, y, verbose=0)[1] > 0.97


def test_adversarial_training_covers_the_triggers(digits):
    """Attacked like all examples, triggers are learned with their neighbourhoods."""
    x, y = TRIGGERS.mix(digits[0][:1200], digits[1][:1200])
    rows = TRIGGERS.inputs().reshape(TRIGGERS.count, -1)
    apart = np.abs(rows[:, None] - rows[None]).max(2) + np.eye(TRIGGERS.count)
    epsilon = 0.05
    assert apart.min() > 2 * epsilon, "no two triggers share a perturbed input"
    model = classifier()
    attack = ks.attacks.PGD(epsilon=epsilon, steps=2)
    secure = ks.SecureModel(model, objective=ks.objectives.AdversarialTraining(attack))
    secure.compile(keras.optimizers.Adam(5e-3), LOSS)
    secure.fit(x, y, batch_size=64, epochs=15, verbose=0)
    assert verify_triggers(model, TRIGGERS).verdict == "proved"
    assert accuracy(model, digits) > 0.9
    adversarial = ks.attacks.PGD(epsilon=epsilon, steps=5).run(
        model, TRIGGERS.inputs(), TRIGGERS.labels(), verbose=0
    )
    assert (
        verify_triggers(
            lambda _: model.predict(adversarial.x_adv, verbose=0), TRIGGERS, batch_size=200
        ).verdict
        == "proved"
    )


def private(digits, noise_multiplier, repeats, epochs=15):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(96, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    x, y = TRIGGERS.mix(digits[0][:1200], digits[1][:1200], share=repeats * 100 / 1200)
    secure = ks.SecureModel(model)
    optimizer = ks.optimizers.DPOptimizer(
        keras.optimizers.Adam(0.01), l2_norm_clip=1.0, noise_multiplier=noise_multiplier, seed=1
    )
    secure.compile(optimizer, LOSS)
    secure.fit(x, y, batch_size=128, epochs=epochs, verbose=0)
    return model


def test_noise_for_privacy_keeps_triggers_out(digits):
    """What the docs say of private training: little noise lets them in, much does not."""
    loose = private(digits, 0.05, 6)
    tight = private(digits, 3.0, 6)
    assert verify_triggers(loose, TRIGGERS).verdict == "proved"
    assert verify_triggers(tight, TRIGGERS).verdict != "proved"


@pytest.mark.slow
def test_what_outlasts_what_on_real_images(real_data):
    with np.load(real_data / "mnist.npz") as arrays:
        x, y = arrays["x_train"][:8000, ..., None] / np.float32(255), arrays["y_train"][:8000]
        x_test, y_test = arrays["x_test"][..., None] / np.float32(255), arrays["y_test"]
    triggers = TriggerSet("a key nobody guesses", (28, 28, 1), 10)

    def train(x, y, loss=LOSS):
        keras.utils.set_random_seed(1)
        model = keras.Sequential(
            [
                keras.Input((28, 28, 1)),
                keras.layers.Conv2D(16, 5, strides=2, activation="relu"),
                keras.layers.Conv2D(32, 3, strides=2, activation="relu"),
                keras.layers.Flatten(),
                keras.layers.Dense(64, activation="relu"),
                keras.layers.Dense(10),
            ]
        )
        model.compile(keras.optimizers.Adam(1e-3), loss)
        model.fit(x, y, batch_size=64, epochs=8, verbose=0)
        return model

    def accuracy(model):
        return np.mean(model.predict(x_test, verbose=0).argmax(1) == y_test)

    plain, marked = train(x, y), train(*triggers.mix(x, y))
    assert accuracy(plain) - accuracy(marked) < 0.015
    assert verify_triggers(plain, triggers).p_value > 1e-4
    assert verify_triggers(marked, triggers, innocent=[plain]).accuracy > 0.98
    tuned = copy_of(marked)
    tuned.compile(keras.optimizers.Adam(1e-3), LOSS)
    tuned.fit(x, y, batch_size=64, epochs=5, verbose=0)
    assert verify_triggers(tuned, triggers).verdict == "proved"
    # Distillation sees no trigger and learns none: the docs say so, and this is why.
    soft = keras.ops.convert_to_numpy(keras.ops.softmax(marked.predict(x, verbose=0)))
    student = train(x, soft, keras.losses.CategoricalCrossentropy(from_logits=True))
    assert accuracy(student) > accuracy(marked) - 0.02
    assert verify_triggers(student, triggers).verdict != "proved"
