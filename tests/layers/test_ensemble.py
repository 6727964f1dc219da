import keras
import numpy as np
import pytest
from harness_layers import run_layer_harness

from keras_secure import backend
from keras_secure.errors import InputError
from keras_secure.layers import Ensemble
from keras_secure.logits import classification_logits

X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")


def member(activation=None, classes=3, seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(5, activation="relu"),
            keras.layers.Dense(classes, activation=activation),
        ]
    )


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def test_harness(tmp_path):
    arguments = {
        "models": [member(seed=1), member("softmax", seed=2)],
        "vote": "probabilities",
        "from_logits": [True, False],
    }
    run_layer_harness(
        Ensemble, arguments, X, tmp_path, float16_dtype="float32", atol=1e-5, has_weights=True
    )


def test_outputs_are_what_each_vote_says():
    members = [member(seed=seed) for seed in range(3)] + [member("softmax", seed=3)]
    answers = np.stack([np.asarray(each(X), "float64") for each in members])
    answers[3] = np.log(answers[3])
    mean = softmax(answers).mean(axis=0)
    by_probability = np.asarray(Ensemble(members)(X))
    np.testing.assert_allclose(by_probability, np.log(mean), atol=1e-5)
    # The hidden logits of the softmax, which differ from the logarithms by a constant a row.
    by_logits = np.asarray(Ensemble(members, vote="logits")(X))
    difference = by_logits - answers.mean(axis=0)
    np.testing.assert_allclose(difference, difference[:, :1].repeat(3, axis=1), atol=1e-5)
    by_majority = np.asarray(Ensemble(members, vote="majority")(X))
    votes = np.eye(3)[answers.argmax(axis=2)].sum(axis=0)
    np.testing.assert_allclose(np.exp(by_majority), (votes + 0.01 * mean) / 4.01, atol=1e-5)


def test_majority_breaks_ties_by_probability_and_passes_gradients():
    def constant(logits):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        model.set_weights([0.01 * np.ones((4, 3)) * [1, 2, 3], np.array(logits)])
        return model

    ensemble = Ensemble([constant([2.0, 0, 0]), constant([0, 5.0, 0])], vote="majority")
    assert np.asarray(ensemble(X)).argmax(axis=1).tolist() == [1] * 6
    same = Ensemble(ensemble.members, vote="probabilities")
    gradients = [
        np.asarray(backend.input_gradient(lambda t, e=e: keras.ops.sum(e(t)[:, 1]), X)[1])
        for e in (ensemble, same)
    ]
    assert np.array_equal(*gradients)
    assert (gradients[0] != 0).all()


def test_saturated_members_keep_their_gradient():
    sharp = member("softmax", seed=1)
    sharp.layers[-1].set_weights([w * 1000 for w in sharp.layers[-1].get_weights()])
    ensemble = Ensemble([sharp, sharp])
    _, gradient = backend.input_gradient(lambda t: keras.ops.sum(ensemble(t)[:, 0]), X)
    assert np.isfinite(np.asarray(gradient)).all()
    assert np.isfinite(np.asarray(ensemble(X))).all()
    assert (np.abs(np.asarray(gradient)).sum(axis=1) > 0).any()


def test_attacks_find_the_logits_without_being_told():
    ensemble = Ensemble([member(seed=1), member(seed=2)])
    logits = np.asarray(classification_logits(ensemble, keras.ops.convert_to_tensor(X)))
    np.testing.assert_allclose(logits, np.asarray(ensemble(X)), atol=1e-6)


def test_single_units_count_as_two_classes():
    members = [member("sigmoid", 1, seed=1), member("sigmoid", 1, seed=2)]
    p = np.mean([np.asarray(each(X))[:, 0] for each in members], axis=0)
    outputs = np.asarray(Ensemble(members)(X))
    np.testing.assert_allclose(np.exp(outputs), np.stack([1 - p, p], axis=1), atol=1e-5)


def test_fit_trains_all_members_and_saving_keeps_them(digits, tmp_path):
    x, y = digits

    def small():
        return keras.Sequential(
            [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
        )

    ensemble = Ensemble([small(), small()])
    before = [weight.copy() for weight in ensemble.get_weights()]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    ensemble.compile(keras.optimizers.Adam(0.02), loss=loss, metrics=["accuracy"])
    ensemble.fit(x[:1200], y[:1200], epochs=5, verbose=0)
    assert all((a != b).any() for a, b in zip(before, ensemble.get_weights(), strict=True))
    assert ensemble.evaluate(x[1200:], y[1200:], verbose=0)[1] > 0.9
    ensemble.save(tmp_path / "ensemble.keras")
    loaded = keras.models.load_model(tmp_path / "ensemble.keras")
    assert type(loaded) is Ensemble
    expected = ensemble.predict(x[:50], verbose=0)
    np.testing.assert_allclose(loaded.predict(x[:50], verbose=0), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"models": []}, "at least two"),
        ({"models": [lambda x: x, lambda x: x]}, "at least two"),
        ({"vote": "best"}, "majority"),
        ({"from_logits": [True]}, "one bool for each"),
    ],
)
def test_wrong_arguments_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        Ensemble(**{"models": [member(), member()], **wrong})


def test_members_with_different_classes_are_refused():
    with pytest.raises(InputError, match=r"\[3, 4\] classes"):
        Ensemble([member(), member(classes=4)])(X)
