"""Reports of robustness."""

import json

import keras
import numpy as np
import pytest

from keras_secure.attacks import FGM, FGSM, PGD, evaluate, proportion_interval
from keras_secure.errors import InputError


def threshold_model():
    """Class 1 where x0 > 0.5: an example's distance to the border is |x0 - 0.5|."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.set_weights([np.array([[1.0], [0.0]], "float32"), np.array([-0.5], "float32")])
    return model


def threshold_data():
    x = np.full((10, 2), 0.5, "float32")
    x[:, 0] = [0.51, 0.55, 0.58, 0.62, 0.7, 0.9, 0.45, 0.3, 0.1, 0.2]
    y = np.array([1, 1, 1, 1, 1, 1, 0, 0, 0, 1])  # the last one is wrong untouched
    return x, y


def test_the_curve_is_known_for_a_threshold():
    x, y = threshold_data()
    epsilons = [0.25, 0.06, 0.1]
    report = evaluate(threshold_model(), x, y, FGSM(0.1), epsilons=epsilons, verbose=0)
    assert report.clean.value == 0.9
    assert (report.clean.low, report.clean.high) == proportion_interval(9, 10)
    (attack,) = report.attacks
    margins = np.where(y == (x[:, 0] > 0.5), np.abs(x[:, 0] - 0.5), 0)
    assert [epsilon for epsilon, _ in attack.curve] == [0.06, 0.1, 0.25]
    for epsilon, accuracy in attack.curve:
        assert accuracy.value == np.mean(margins > epsilon)
        count = int((margins > epsilon).sum())
        assert (accuracy.low, accuracy.high) == proportion_interval(count, 10)
    assert attack.accuracy.value == np.mean(margins > 0.1)
    np.testing.assert_array_equal(attack.robust, margins > 0.1)
    np.testing.assert_array_equal(
        attack.fooled_at, [0.06, 0.06, 0.1, 0.25, 0.25, np.inf, 0.06, 0.25, np.inf, 0.0]
    )
    # What fools at a smaller radius keeps its smaller distance; the wrong one does not count.
    assert attack.mean_distance == pytest.approx((3 * 0.06 + 0.1) / 4, rel=1e-5)
    assert np.abs(attack.x_adv - x).max() == pytest.approx(0.1, rel=1e-5)
    np.testing.assert_array_equal(report.worst_case_correct, attack.robust)
    assert report.worst_case_curve == attack.curve


def test_what_is_fooled_is_not_attacked_again(monkeypatch):
    x, y = threshold_data()
    attacked = []

    class Watching(FGSM):
        def run(self, model, x, y, **options):
            attacked.append((options["epsilon"], len(x)))
            return super().run(model, x, y, **options)

    attacks = [Watching(0.1), Watching(0.06)]
    evaluate(threshold_model(), x, y, attacks, epsilons=[0.25, 0.06], verbose=0)
    assert attacked == [(0.06, 10), (0.1, 6), (0.25, 5), (0.06, 9), (0.25, 6)]


def test_worst_case_is_taken_example_by_example():
    # One attack leaves class 0 alone, the other class 1.
    class Upward(FGSM):
        def update(self, x_adv, gradient, epsilon):
            return x_adv + epsilon

    class Downward(FGSM):
        def update(self, x_adv, gradient, epsilon):
            return x_adv - epsilon

    x, y = threshold_data()
    x, y = x[:9], y[:9]
    report = evaluate(threshold_model(), x, y, [Upward(0.1), Downward(0.1)], verbose=0)
    up, down = report.attacks
    assert (up.name, down.name) == ("upward", "downward")
    assert up.accuracy.value == pytest.approx(8 / 9)
    assert down.accuracy.value == pytest.approx(6 / 9)
    assert report.worst_case.value == pytest.approx(5 / 9)
    assert report.worst_case_curve == ()
    np.testing.assert_array_equal(report.worst_case_correct, up.robust & down.robust)


def test_attacks_of_several_norms_and_radii_are_united():
    x, y = threshold_data()
    attacks = [FGSM(0.06), FGM(0.3), PGD(0.06, seed=0), PGD(0.3, norm="l1", seed=0)]
    report = evaluate(threshold_model(), x, y, attacks, verbose=0)
    assert [attack.name for attack in report.attacks] == ["fgsm", "fgm", "pgd_linf", "pgd_l1"]
    assert report.worst_case.value == min(attack.accuracy.value for attack in report.attacks)
    with pytest.raises(InputError, match="l1, l2, linf"):
        evaluate(threshold_model(), x, y, attacks, epsilons=[0.1], verbose=0)


def test_report_is_json():
    x, y = threshold_data()
    report = evaluate(
        threshold_model(), x, y, [FGSM(0.1), PGD(0.1, seed=0)], epsilons=np.array([0.1]), verbose=0
    )
    content = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert content == report.to_dict()
    assert content["num_examples"] == 10
    assert content["worst_case"] == {"accuracy": 0.5, **_ends(5)}
    assert content["attacks"][1]["config"]["steps"] == 10
    assert content["attacks"][0]["curve"] == [{"epsilon": 0.1, "accuracy": 0.5, **_ends(5)}]
    assert any("not attacked again" in note for note in content["notes"])


def _ends(count):
    low, high = proportion_interval(count, 10)
    return {"low": low, "high": high}


def test_a_model_that_is_always_wrong_is_not_attacked():
    x, y = threshold_data()
    x, y = x[:9], 1 - y[:9]
    report = evaluate(threshold_model(), x, y, [FGSM(0.1), PGD(0.1)], epsilons=[0.2], verbose=0)
    assert report.clean.value == 0
    assert report.worst_case.value == 0
    assert [attack.mean_distance for attack in report.attacks] == [None, None]
    np.testing.assert_array_equal(report.attacks[1].x_adv, x)


def test_one_hot_labels_and_probabilities():
    x, y = threshold_data()
    model = keras.Sequential([threshold_model(), keras.layers.Activation("sigmoid")])
    report = evaluate(model, x, np.eye(2)[y], FGSM(0.1), from_logits=False, verbose=0)
    assert report.worst_case.value == 0.5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"attacks": []}, "No attack"),
        ({"attacks": ["fgsm"]}, "'fgsm' is not an Attack"),
        ({"attacks": FGSM(0.1, targeted=True)}, "targeted=False"),
        ({"epsilons": []}, "epsilons"),
        ({"epsilons": [-1.0]}, "epsilons"),
        ({"epsilons": "0.1"}, "epsilons"),
        ({"confidence": 95}, "confidence"),
        ({"x": np.full((10, 2), 7.0, "float32")}, "bounds"),
    ],
)
def test_arguments_are_checked(change, words):
    x, y = threshold_data()
    options = {"x": x, "attacks": FGSM(0.1), "verbose": 0} | change
    with pytest.raises(InputError, match=words):
        evaluate(threshold_model(), options.pop("x"), y, options.pop("attacks"), **options)


def test_robustness_falls_with_epsilon_on_digits(digits):
    x, y = digits
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy")
    model.fit(x[:1000], y[:1000], epochs=8, verbose=0)
    attacks = [FGSM(0.1), PGD(0.1, steps=20, seed=0)]
    report = evaluate(model, x[1000:1200], y[1000:1200], attacks, epsilons=[0.03, 0.2], verbose=0)
    assert report.clean.value > 0.9
    fgsm, pgd = report.attacks
    assert pgd.accuracy.value <= fgsm.accuracy.value
    (_, small), (_, large) = report.worst_case_curve
    assert report.clean.value > small.value > report.worst_case.value > large.value
    assert large.value < 0.2
