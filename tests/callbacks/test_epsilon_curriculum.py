"""The radius of an attack grows while a traced step runs."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from harness_callbacks import run_callback_harness
from keras import layers

import keras_secure as ks
from keras_secure.callbacks import EpsilonCurriculum
from keras_secure.errors import InputError

X = np.random.default_rng(0).uniform(0.3, 0.7, (24, 6)).astype("float32")
Y = np.random.default_rng(1).integers(0, 3, 24).astype("int32")


class Recorder(layers.Layer):
    """Notes how far every input is from the middle of what it may be."""

    def __init__(self):
        super().__init__()
        self.traces = 0
        self.seen = []

    def call(self, inputs, training=False):
        self.traces += 1
        if training:
            tf.py_function(lambda x: self.seen.append(x.numpy()), [inputs], [])
        return inputs


def secure(objective, **options):
    keras.utils.set_random_seed(1)
    recorder = Recorder()
    model = keras.Sequential([keras.Input((6,)), recorder, layers.Dense(3)])
    wrapped = ks.SecureModel(model, objective=objective)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    wrapped.compile("sgd", loss, jit_compile=False, **options)
    recorder.traces, recorder.seen = 0, []
    return wrapped, recorder


def adversarial():
    return ks.objectives.AdversarialTraining(ks.attacks.FGSM(0.2))


def radii(recorder, rows=8):
    """The largest change of a value in every batch."""
    return [
        float(np.abs(seen - X[rows * (i % 3) : rows * (i % 3) + rows]).max())
        for i, seen in enumerate(recorder.seen)
    ]


def fit(model, *callbacks, epochs=3, data=(X, Y), **options):
    options = {"batch_size": 8, **options} if data else options
    history = model.fit(
        *data, epochs=epochs, verbose=0, shuffle=False, callbacks=list(callbacks), **options
    )
    return history.history


def test_every_batch_has_its_radius_and_nothing_is_traced_again():
    model, recorder = secure(adversarial())
    history = fit(model, EpsilonCurriculum("linear", start=0.1, epochs=2))
    shares = np.minimum(0.1 + 0.9 * np.arange(9) / 6, 1.0)
    np.testing.assert_allclose(radii(recorder), 0.2 * shares, rtol=1e-4)
    np.testing.assert_allclose(history["epsilon_scale"], shares[2::3], rtol=1e-6)
    traces = recorder.traces

    # Afterwards the radius is whole again, with the same step; so it is for a second curriculum.
    recorder.seen.clear()
    assert "epsilon_scale" not in fit(model, epochs=1)
    np.testing.assert_allclose(radii(recorder), 0.2, rtol=1e-4)
    recorder.seen.clear()
    fit(model, EpsilonCurriculum(lambda epochs: 0.5 * epochs))
    np.testing.assert_allclose(radii(recorder), 0.2 * np.arange(9) / 6, rtol=1e-4, atol=1e-7)
    assert recorder.traces == traces


def test_a_step_traced_without_it_is_traced_once_more():
    model, recorder = secure(adversarial())
    fit(model, epochs=1)
    recorder.seen.clear()
    fit(model, EpsilonCurriculum("cosine"))
    shares = 0.5 - 0.5 * np.cos(np.pi * np.arange(9) / 9)
    np.testing.assert_allclose(radii(recorder), 0.2 * shares, rtol=1e-3, atol=1e-7)


def test_batches_of_unknown_number():
    def batches():
        for start in (0, 8, 16):
            yield X[start : start + 8], Y[start : start + 8]

    signature = (tf.TensorSpec((8, 6)), tf.TensorSpec((8,), "int32"))
    data = tf.data.Dataset.from_generator(batches, output_signature=signature)
    model, recorder = secure(adversarial())
    fit(model, EpsilonCurriculum(epochs=3), data=(data,))
    shares = np.array([0, 0, 0, 3, 4, 5, 6, 7, 8]) / 9
    np.testing.assert_allclose(radii(recorder), 0.2 * shares, rtol=1e-4, atol=1e-7)


def test_a_fit_that_breaks_off_leaves_no_small_radius_behind():
    class Breaking(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    model, recorder = secure(adversarial())
    with pytest.raises(KeyboardInterrupt):
        fit(model, EpsilonCurriculum(), Breaking())
    recorder.seen.clear()
    fit(model, epochs=1)
    np.testing.assert_allclose(radii(recorder), 0.2, rtol=1e-4)


def test_parts_of_an_objective_share_it():
    class Outer(ks.objectives.Standard):
        def __init__(self, inner):
            self.inner = [inner]

        def perturb(self, model, x, y, loss):
            return self.inner[0].perturb(model, x, y, loss)

        def __call__(self, model, x, y, perturbed, loss, sample_weight=None):
            return self.inner[0](model, x, y, perturbed, loss, sample_weight)

    model, recorder = secure(Outer(adversarial()))
    fit(model, EpsilonCurriculum(lambda epochs: 0.5))
    np.testing.assert_allclose(radii(recorder), 0.1, rtol=1e-4)


def test_private_training_and_several_steps_at_once():
    for optimizer in ("sgd", ks.optimizers.DPSGD(0.1, l2_norm_clip=1.0, noise_multiplier=1.0)):
        objective = adversarial()
        model = ks.SecureModel(
            keras.Sequential([keras.Input((6,)), layers.Dense(3, "softmax")]), objective=objective
        )
        model.compile(optimizer, "sparse_categorical_crossentropy", steps_per_execution=2)
        history = model.fit(
            X, Y, batch_size=6, epochs=2, verbose=0, callbacks=[EpsilonCurriculum()]
        ).history
        assert history["epsilon_scale"] == [0.25, 0.75]
        assert float(objective.epsilon_scale) == 1.0


def test_behaves_like_a_callback(digits, tmp_path):
    def make_model(**options):
        keras.utils.set_random_seed(3)
        inner = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(10)])
        wrapped = ks.SecureModel(inner, objective=adversarial())
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        wrapped.compile(
            options.pop("optimizer", None) or "adam", loss, metrics=["accuracy"], **options
        )
        return wrapped

    data = tuple(part[:24] for part in digits)
    run_callback_harness(
        EpsilonCurriculum, data, tmp_path, logs=["epsilon_scale"], make_model=make_model
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"schedule": "steep"}, "'linear', 'cosine'"),
        ({"start": -0.1}, r"start=-0.1"),
        ({"start": 1.5}, r"start=1.5"),
        ({"epochs": 0}, "epochs=0"),
        ({"schedule": lambda epochs: 1.0, "epochs": 3}, "neither"),
    ],
)
def test_arguments_are_checked(arguments, words):
    with pytest.raises(InputError, match=words):
        EpsilonCurriculum(**arguments)


def test_what_has_no_attack_is_refused():
    model, _ = secure(None)
    with pytest.raises(InputError, match="Standard holds no attack"):
        fit(model, EpsilonCurriculum())
    plain = keras.Sequential([keras.Input((6,)), layers.Dense(3)])
    plain.compile("sgd", "mse")
    with pytest.raises(InputError, match="SecureModel"):
        plain.fit(X, np.zeros((24, 3)), verbose=0, callbacks=[EpsilonCurriculum()])
    model, _ = secure(adversarial())
    with pytest.raises(InputError, match=r"returned -1.0 after 0"):
        fit(model, EpsilonCurriculum(lambda epochs: -1.0))
