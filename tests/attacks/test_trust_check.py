"""Whether the trust check tells masked models from honest ones."""

import json

import keras
import numpy as np
import pytest
from harness_trust import (
    EPSILON,
    HELD_OUT,
    HONEST,
    LOSS,
    MASKED,
    Around,
    Digits,
    around,
    labels_for,
)
from keras import layers, ops

import keras_secure as ks
from keras_secure.attacks import FGSM, PGD, Expectation, Spatial, trust_check
from keras_secure.attacks.trust.answers import log_odds, wrong
from keras_secure.attacks.trust.planted import draw_line
from keras_secure.attacks.trust.subject import Subject
from keras_secure.errors import InputError


@pytest.fixture(scope="module")
def zoo(digits):
    keras.utils.set_random_seed(7)
    return Digits(*digits)


def checked(name, zoo, attack=None, **options):
    model = {**MASKED, **HONEST}[name](zoo)
    attack = attack or PGD(EPSILON, steps=20, seed=0)
    return trust_check(model, zoo.x_test, labels_for(name, zoo), attack, **options)


def failed(report):
    return {each.id.removeprefix("trust.") for each in report.failed}


def finding(report, probe):
    return next(each for each in report.findings if each.id == f"trust.{probe}")


# One model for each way to fail; what else fails with it is not pinned down.
@pytest.mark.parametrize(
    ("name", "probes"),
    [
        ("saturated_softmax", {"saturation"}),
        ("probabilities_as_logits", {"outputs"}),
        ("quantizer", {"gradients", "agreement", "continuity", "planted", "full_range"}),
        ("input_noise", {"randomness"}),
        ("batch_norm_in_training", {"batch_mates"}),
        ("place_dependent", {"batch_mates"}),
        ("half_stopped", {"agreement"}),
        ("square_root", {"gradients"}),
        ("reversed_gradient", {"agreement", "planted"}),
    ],
)
def test_a_mask_is_named(zoo, name, probes):
    # The probes that share no graphs of the attack come at little cost.
    report = checked(name, zoo, probes=sorted({*probes, "outputs", "agreement"}))
    assert probes <= failed(report)
    assert not report.trusted
    for each in report.failed:
        assert each.statement.endswith(".")
        assert each.remedy.endswith(".")


@pytest.mark.parametrize("name", ["plain", "softmax_output", "bfloat16"])
def test_honest_models_are_trusted(zoo, name):
    report = checked(name, zoo)
    assert failed(report) == set()
    assert report.trusted
    assert len(report.findings) == 15


def test_a_masked_model_fails_where_the_attack_fails(zoo):
    report = checked("stopped_gradient", zoo)
    planted = finding(report, "planted").evidence
    assert planted["found"] < 0.5 * planted["planted"]
    assert finding(report, "full_range").evidence["accuracy"] > 0.1
    searches = finding(report, "black_box").evidence
    assert sum(searches.values()) > searches["survivors"]
    assert {"gradients", "agreement", "planted", "full_range", "movement", "black_box"} <= failed(
        report
    )
    content = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert content["trusted"] is False
    assert content["attack"]["class"] == "PGD"
    assert "cannot be believed" in str(report)


def test_too_little_work_is_found_out(zoo):
    weak = PGD(EPSILON, steps=2, step_size=0.1 * EPSILON, random_start=False)
    report = checked("plain", zoo, weak, probes=["convergence", "single_step"])
    assert failed(report) == {"convergence", "single_step"}
    more = finding(report, "convergence").evidence
    assert more["accuracy_by_more_work"] < more["accuracy_by_the_attack"] - 0.1


def test_units_that_do_not_fit_are_found_out(zoo):
    images = zoo.x_test * 255

    def scaled(x):
        return x / 255

    model = around(before=scaled)(zoo)
    tiny = trust_check(model, images, zoo.y_test, PGD(0.03, bounds=(0, 255)), probes=["bounds"])
    assert failed(tiny) == {"bounds"}
    loose = trust_check(
        zoo.base, zoo.x_test, zoo.y_test, PGD(0.1, bounds=(0, 255)), probes=["bounds"]
    )
    assert failed(loose) == {"bounds"}


def test_an_average_over_randomness_is_no_mask(zoo):
    model = keras.Sequential([layers.GaussianNoise(0.05), zoo.base])
    model.build((None, 8, 8, 1))
    model.compile("adam", LOSS(from_logits=True))
    expected = Expectation(model, samples=16, training=True)
    x, y = zoo.x_test[:100], zoo.y_test[:100]
    probes = ["randomness", "batch_mates", "gradients", "agreement", "continuity"]
    report = trust_check(expected, x, y, PGD(EPSILON, steps=3), num_examples=16, probes=probes)
    assert report.trusted
    assert "average" in report.findings[-5].statement


def test_models_that_abstain_and_models_with_two_outputs(zoo):
    class Guarded(keras.Model):
        abstains = True

        def __init__(self, model):
            super().__init__()
            self.model = model

        def call(self, x, training=False):
            logits = self.model(x)
            return ops.concatenate([logits, ops.zeros_like(logits[:, :1])], axis=1)

    model = Guarded(zoo.base)
    model(zoo.x[:1])
    attack = PGD(EPSILON, steps=10, seed=0)
    probes = ["gradients", "agreement", "planted", "movement", "black_box"]
    report = trust_check(
        model, zoo.x_test, zoo.y_test, attack, from_logits=True, num_examples=24, probes=probes
    )
    assert report.trusted

    inputs = keras.Input((8, 8, 1))
    logits = zoo.base(inputs)
    two = keras.Model(inputs, {"digit": logits, "even": layers.Dense(1)(logits)})
    report = trust_check(
        two,
        zoo.x_test,
        {"digit": zoo.y_test},
        attack,
        from_logits=True,
        num_examples=24,
        probes=probes,
    )
    assert report.trusted


def test_flat_is_no_mask():
    """Where the loss is the same all over the ball, a gradient of zero is right."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8, "relu"), layers.Dense(3)])
    model.set_weights([np.eye(4, 8), np.full(8, -5.0), np.ones((8, 3)), np.array([1.0, 0.0, -1.0])])
    x = np.random.default_rng(0).random((32, 4), "float32")
    y = np.zeros(32, int)
    probes = ["gradients", "agreement", "continuity", "movement", "black_box", "planted"]
    report = trust_check(model, x, y, PGD(0.1, steps=3), probes=probes)
    assert report.trusted
    # Nothing could be planted either, which the report says.
    planted = finding(report, "planted")
    assert planted.severity == "low"
    assert planted.evidence["planted"] == 0


def test_the_planted_point_is_the_only_one():
    generator = np.random.default_rng(1)
    for _ in range(50):
        clean = generator.normal(size=5)
        inside = clean + generator.normal(size=(40, 5)) * 0.5
        outside = clean + generator.normal(size=(30, 5))
        weights, offset = draw_line(clean, inside, outside)
        beyond = outside @ weights > offset
        assert beyond.sum() <= 1
        everything = np.concatenate([clean[None], inside])
        assert not (everything @ weights > offset).any()
        # Further out than all others it is there; shifting all logits alike changes nothing.
        if beyond.any():
            assert ((outside + 7.0) @ weights > offset)[beyond.argmax()]
    constant = np.ones((3, 5))
    assert draw_line(constant[0], constant, constant) is None


def test_log_odds_and_answers_of_a_subject():
    logits = np.array([[2.0, 1.0, -1.0], [0.0, 5.0, 5.5], [np.nan, 0.0, 1.0]], "float32")
    own = np.array([[True, False, False], [False, True, True], [False, False, True]])
    expected = np.log(np.exp(1.0) + np.exp(-1.0)) - 2.0
    assert log_odds(logits, own)[0] == pytest.approx(expected)
    assert log_odds(logits, own)[1] == pytest.approx(-5.5)
    np.testing.assert_array_equal(wrong(logits, own), [False, False, True])


def test_slopes_are_gradients(zoo):
    attack = PGD(EPSILON)
    x, y = zoo.x_test[:5].astype("float32"), zoo.y_test[:5]
    subject = Subject(zoo.base, x, y, attack, epsilon=0.1, from_logits=True, output=None, seed=0)
    losses, gradients = subject.slopes(x, y)
    np.testing.assert_allclose(losses, subject.losses(x, y), rtol=1e-4, atol=1e-4)
    # A finite difference over one pixel, in float64 but for the model itself.
    moved = x.copy()
    moved[:, 3, 4, 0] += 1e-2
    slope = (subject.losses(moved, y) - subject.losses(x, y)) / 1e-2
    np.testing.assert_allclose(slope, gradients[:, 3, 4, 0], rtol=0.15, atol=0.05)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"attack": FGSM(0.1, targeted=True)}, "untargeted"),
        ({"attack": "pgd"}, "untargeted"),
        ({"attack": Spatial(1.0)}, "bounded by no norm"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"num_examples": 2}, "num_examples"),
        ({"probes": ["luck"]}, "luck"),
        ({"y": "wrong"}, "rightly"),
    ],
)
def test_arguments_are_checked(zoo, change, words):
    options = {"attack": PGD(EPSILON), "y": zoo.y_test[:40]} | change
    if isinstance(options["y"], str):
        options["y"] = (zoo.base.predict(zoo.x_test[:40], verbose=0).argmax(axis=1) + 1) % 10
    with pytest.raises(InputError, match=words):
        trust_check(zoo.base, zoo.x_test[:40], options.pop("y"), options.pop("attack"), **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*MASKED, *HONEST])
def test_the_whole_zoo(zoo, name):
    keras.utils.set_random_seed(7)
    report = checked(name, zoo)
    assert report.trusted == (name in HONEST), str(report)


@pytest.mark.slow
@pytest.mark.parametrize("attack", [PGD(0.8, norm="l2", steps=20), PGD(3.0, norm="l1", steps=40)])
def test_other_norms(zoo, attack):
    for name in ("plain", "pgd_trained"):
        assert failed(checked(name, zoo, attack)) == set()
    for name in ("quantizer", "winners_take_all", "stopped_gradient"):
        assert failed(checked(name, zoo, attack))


@pytest.mark.slow
def test_robust_mnist_is_trusted_and_masked_mnist_is_not(real_data):
    """A very robust model thresholds its pixels, which looks much like a mask and is none."""
    with np.load(real_data / "mnist.npz") as data:
        x = data["x_train"][:30000, ..., None].astype("float32") / 255
        y = data["y_train"][:30000]
        x_test = data["x_test"][:1000, ..., None].astype("float32") / 255
        y_test = data["y_test"][:1000]
    same = {"strides": 2, "activation": "relu", "padding": "same"}
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 4, **same),
            layers.Conv2D(32, 4, **same),
            layers.Flatten(),
            layers.Dense(100, activation="relu"),
            layers.Dense(10),
        ]
    )
    loss = LOSS(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss)
    model.fit(x, y, batch_size=128, epochs=1, verbose=0)
    attack = PGD(0.1, steps=20, seed=0)
    assert failed(trust_check(model, x_test, y_test, attack)) == set()
    for before in (
        lambda x: ops.round(x * 8) / 8,
        lambda x: ops.cast(x > 0.5, "float32"),
        lambda x: x + keras.random.normal(ops.shape(x), stddev=0.05),
    ):
        masked = Around(model, before)
        masked(x[:1])
        masked.compile("adam", loss)
        assert failed(trust_check(masked, x_test, y_test, attack))

    for epsilon, epochs in ((0.1, 1), (0.2, 1), (0.3, 4)):
        trained_on = ks.attacks.PGD(epsilon, steps=3, step_size=epsilon / 2)
        secure = ks.SecureModel(model, objective=ks.objectives.AdversarialTraining(trained_on))
        secure.compile(keras.optimizers.Adam(2e-3), loss)
        secure.fit(x, y, batch_size=128, epochs=epochs, verbose=0)
    for attack in (PGD(0.3, steps=40, step_size=0.01, seed=0), PGD(0.3, steps=20, seed=0)):
        report = trust_check(model, x_test, y_test, attack)
        assert failed(report) == set()
        assert finding(report, "convergence").evidence["accuracy_by_more_work"] > 0.5


def test_the_zoo_is_large_enough():
    assert len(MASKED) >= 20
    assert len(HONEST) >= 14
    assert len(HELD_OUT & set(MASKED)) >= 5
    assert len(HELD_OUT & set(HONEST)) >= 5
