"""Reports of robustness."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from keras_secure.attacks import (
    FGM,
    FGSM,
    PGD,
    Attack,
    DeepFool,
    Spatial,
    evaluate,
    proportion_interval,
)
from keras_secure.attacks.estimates import Quantile
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
        ({"attacks": FGSM}, "FGSM.*is not an Attack"),
        ({"batch_size": 0}, "batch_size=0"),
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


def margins_of(x, y):
    return np.where(y == (x[:, 0] > 0.5), np.abs(x[:, 0].astype("float64") - 0.5), 0.0)


def test_losses_are_those_of_the_inputs_reported():
    x, y = threshold_data()
    model = threshold_model()
    report = evaluate(model, x, y, [FGSM(0.1), PGD(0.05, seed=0)], verbose=0)

    def loss(inputs):
        z = inputs[:, 0].astype("float64") - 0.5
        return np.logaddexp(0, np.where(y == 1, -z, z))

    clean = loss(x)
    assert report.clean_loss.value == pytest.approx(clean.mean(), rel=1e-6)
    by_attack = [np.maximum(clean, loss(attack.x_adv)) for attack in report.attacks]
    for attack, losses in zip(report.attacks, by_attack, strict=True):
        assert attack.loss.value == pytest.approx(losses.mean(), rel=1e-6)
    worst = np.max(by_attack, axis=0)
    assert report.adversarial_loss.value == pytest.approx(worst.mean(), rel=1e-6)
    reach = report.adversarial_loss.high - report.adversarial_loss.value
    assert reach == pytest.approx(2.262157 * worst.std(ddof=1) / np.sqrt(10), rel=1e-5)
    assert report.adversarial_loss.value > report.clean_loss.value


def test_one_run_of_a_nearest_input_attack_gives_the_whole_curve(monkeypatch):
    x, y = threshold_data()
    runs = []

    class Watching(DeepFool):
        def run(self, model, x, y, **options):
            runs.append(len(x))
            return super().run(model, x, y, **options)

    epsilons = [0.06, 0.1, 0.25]
    report = evaluate(threshold_model(), x, y, Watching(norm="linf"), epsilons=epsilons, verbose=0)
    assert runs == [10]
    (attack,) = report.attacks
    assert attack.epsilon == 0.25  # the largest of the curve, as it has none
    assert attack.config["epsilon"] is None
    margins = margins_of(x, y)
    for epsilon, accuracy in report.worst_case_curve:
        assert accuracy.value == np.mean(margins > epsilon)
    # A linear model: the nearest input is found but for the overshoot.
    assert not attack.distances.upper_bound
    np.testing.assert_allclose(attack.distances.nearest, margins, rtol=0.021, atol=1e-6)
    assert attack.distances.median.value == pytest.approx(np.sort(margins)[4], rel=0.021)
    assert np.abs(attack.x_adv - x).max() <= 0.25 * (1 + 1e-6)


def test_an_attack_without_radius_takes_that_of_its_neighbours():
    x, y = threshold_data()
    report = evaluate(
        threshold_model(), x, y, [DeepFool(norm="linf"), FGSM(0.06), FGM(0.3)], verbose=0
    )
    assert [attack.epsilon for attack in report.attacks] == [0.06, 0.06, 0.3]
    assert "union" in report.threat_model
    assert sorted(report.distances) == ["l2", "linf"]
    alone = evaluate(threshold_model(), x, y, DeepFool(), verbose=0)
    assert alone.worst_case.value == 0
    assert alone.to_dict()["attacks"][0]["epsilon"] is None
    assert any("no radius" in note for note in alone.notes)
    json.dumps(alone.to_dict(), allow_nan=False)


def test_distances_of_a_sweep_are_upper_bounds():
    x, y = threshold_data()
    report = evaluate(threshold_model(), x, y, FGSM(0.1), epsilons=[0.06, 0.25], verbose=0)
    distances = report.distances["linf"]
    assert distances.upper_bound
    margins = margins_of(x, y)
    assert (distances.nearest >= margins).all()
    np.testing.assert_array_equal(np.isinf(distances.nearest), margins > 0.25)
    assert distances.found.value == np.mean(margins <= 0.25)
    highest = distances.quantiles[-1]
    assert highest.value == np.inf
    assert highest.to_dict()["distance"] is None


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_interval_of_a_quantile_covers_it(share):
    generator = np.random.default_rng(0)
    truth = -np.log(1 - share)
    draws = [Quantile.of(generator.exponential(size=60), share, 0.9) for _ in range(600)]
    covered = np.mean([draw.low <= truth <= draw.high for draw in draws])
    # At least 90%, and not by being of any width: a wrong rank would show at once.
    assert covered >= 0.87
    if share == 0.5:
        assert covered <= 0.96
        assert np.mean([draw.low <= 1.3 * truth <= draw.high for draw in draws]) < covered - 0.1
    assert all(draw.low <= draw.value <= draw.high for draw in draws)


@dataclasses.dataclass
class FixedCertificate:
    prediction: np.ndarray
    radius: np.ndarray
    norm: str = "linf"


class FixedCertifier:
    norm = "linf"

    def __init__(self, certificate):
        self.certificate = certificate

    def certify(self, x):
        assert len(x) == len(self.certificate.prediction)
        return self.certificate


def test_certified_accuracy_stands_beside_the_attacks():
    x, y = threshold_data()
    answers = (x[:, 0] > 0.5).astype(int)
    radius = np.abs(x[:, 0] - 0.5) * 0.9
    answers[5], radius[5] = -1, 0.0  # an abstention
    certificate = FixedCertificate(answers, radius)
    report = evaluate(
        threshold_model(),
        x,
        y,
        FGSM(0.06),
        epsilons=[0.1],
        certifier=FixedCertifier(certificate),
        verbose=0,
    )
    certified = report.certified
    right = answers == y
    assert [each for each, _ in certified.curve] == [0.0, 0.06, 0.1]
    for each, accuracy in certified.curve:
        count = int((right & (radius >= each)).sum())
        assert accuracy.value == count / 10
        assert (accuracy.low, accuracy.high) == proportion_interval(count, 10)
    assert certified.average_radius.value == pytest.approx(np.where(right, radius, 0).mean())
    assert certified.abstained.value == 0.1
    assert certified.contradicted == 0
    assert certified.curve[1][1].value <= report.worst_case.value
    assert json.loads(json.dumps(report.to_dict()))["certified"]["norm"] == "linf"

    # One that claims too much is contradicted by the attack; a certificate serves as well.
    certificate.radius = np.where(radius > 0, 0.08, 0.0)
    report = evaluate(threshold_model(), x, y, FGSM(0.06), certifier=certificate, verbose=0)
    assert report.certified.contradicted == 3
    with pytest.raises(InputError, match="cannot certify"):
        evaluate(threshold_model(), x, y, FGSM(0.06), certifier="ibp", verbose=0)


def test_an_abstention_is_no_mistake_but_no_answer_either():
    class Careful(keras.Model):
        """Abstains within 0.07 of the border."""

        abstains = True

        def call(self, x, training=False):
            z = x[:, :1] - 0.5
            columns = [-z, z, keras.ops.full_like(z, 0.07)]
            return keras.ops.concatenate(columns, axis=1)

    x, y = threshold_data()
    report = evaluate(Careful(), x, y, FGSM(0.1), from_logits=True, verbose=0)
    z = (x[:, 0] - 0.5) * np.where(y == 1, 1, -1)
    assert report.abstained.value == np.mean(np.abs(z) < 0.07)
    np.testing.assert_array_equal(report.clean_correct, z > 0.07)
    # Fooled only if pushed beyond the band on the other side.
    np.testing.assert_array_equal(report.worst_case_correct, (z > 0.07) & (z - 0.1 > -0.07))
    assert any("abstain" in note for note in report.notes)
    assert report.clean_loss.value < 1


def test_transformations_are_named_for_what_they_are(digits):
    x, y = digits[0][:12], digits[1][:12]
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    spatial = Spatial(max_shift=1, num_rotations=3, num_shifts=3)
    report = evaluate(model, x, y, [spatial, FGSM(0.1)], verbose=0)
    assert "no norm" in report.threat_model
    assert any("bounded by no norm" in note for note in report.notes)
    assert set(report.distances) == {"spatial", "linf"}
    with pytest.raises(InputError, match="norms"):
        evaluate(model, x, y, [spatial, FGSM(0.1)], epsilons=[0.1], verbose=0)


def test_one_of_several_outputs_is_evaluated():
    x, y = threshold_data()
    inputs = keras.Input((2,))
    model = keras.Model(
        inputs, {"other": keras.layers.Dense(3)(inputs), "side": threshold_model()(inputs)}
    )
    report = evaluate(model, x, {"side": y, "other": None}, FGSM(0.1), from_logits=True, verbose=0)
    assert report.clean.value == 0.9
    assert report.worst_case.value == np.mean(margins_of(x, y) > 0.1)


def test_the_figure_is_checked_on_request():
    x, y = threshold_data()
    x, y = np.repeat(x, 3, axis=0), np.repeat(y, 3)
    attacks = [FGM(0.3), PGD(0.1, steps=10, seed=0)]
    unchecked = evaluate(threshold_model(), x, y, attacks, verbose=0)
    assert unchecked.trust is None
    assert any("not checked" in note for note in unchecked.notes)
    chosen = {"probes": ["bounds", "gradients", "agreement"]}
    checked = evaluate(threshold_model(), x, y, attacks, trust_check=chosen, verbose=0)
    assert checked.trust.trusted
    # The strongest attack is the one that is checked.
    assert checked.trust.attack["class"] == "FGM"
    assert checked.to_dict()["trust"]["trusted"] is True
    assert not any("not checked" in note for note in checked.notes)

    class Rounding(keras.layers.Layer):
        def call(self, inputs):
            return keras.ops.round(inputs * 50) / 50

    masked = keras.Sequential([keras.Input((2,)), Rounding(), threshold_model()])
    report = evaluate(
        masked, x, y, PGD(0.1, seed=0), from_logits=True, trust_check=chosen, verbose=0
    )
    assert not report.trust.trusted
    assert any("cannot be believed: trust.gradients" in note for note in report.notes)


def test_a_composite_attack_is_evaluated_like_any_other():
    class Composite(Attack):
        """Leaves the search to another attack."""

        def seek(self, search, rows, restart):
            return search.of(PGD(self.epsilon, steps=5, seed=0)).iterate(rows, restart)

    x, y = threshold_data()
    x, y = np.repeat(x, 2, axis=0), np.repeat(y, 2)
    chosen = {"probes": ["bounds", "gradients"]}
    report = evaluate(
        threshold_model(), x, y, Composite(0.1), epsilons=[0.06], trust_check=chosen, verbose=0
    )
    assert report.attacks[0].name == "composite_linf"
    assert report.worst_case.value == np.mean(margins_of(x, y) > 0.1)
    assert report.trust.attack["class"] == "PGD"
    assert report.trust.epsilon == 0.1
    assert any("stood in" in note for note in report.notes)
