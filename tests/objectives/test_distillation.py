"""Distillation: robust by the papers' formulas and Keras' own losses; defensive, and its defeat."""

import keras
import numpy as np
import pytest
from harness_objectives import loss_from_logits, run_objective_harness, small_model

import keras_secure as ks
from keras_secure.attacks import PGD
from keras_secure.errors import InputError
from keras_secure.objectives import DefensiveDistillation, PerExampleLoss, RobustDistillation

ATTACK = {"epsilon": 0.1, "steps": 3, "seed": 5}
needs_distillation = pytest.mark.skipif(
    not hasattr(keras, "distillation"), reason="keras.distillation came with Keras 3.13"
)


def teacher():
    keras.utils.set_random_seed(42)
    model = small_model()
    model.set_weights([3 * weight for weight in model.get_weights()])
    return model


def keras_losses():
    return [keras.distillation.LogitsDistillation(temperature=4.0)]


OBJECTIVES = {
    "ard": lambda: RobustDistillation(teacher(), PGD(**ATTACK), temperature=2.0),
    "ard with labels": lambda: RobustDistillation(teacher(), PGD(**ATTACK), alpha=0.7),
    "rslad": lambda: RobustDistillation(teacher(), PGD(**ATTACK), "rslad"),
    "keras": lambda: RobustDistillation(
        teacher(), PGD(**ATTACK), "rslad", distillation_losses=keras_losses()
    ),
    "defensive teacher": lambda: DefensiveDistillation(temperature=5.0),
    "defensive student": lambda: DefensiveDistillation(teacher(), temperature=5.0),
}


@pytest.mark.parametrize(
    ("name", "thorough"),
    [("rslad", False), *(pytest.param(n, True, marks=pytest.mark.slow) for n in OBJECTIVES)],
)
def test_behaviour(name, thorough):
    if name == "keras" and not hasattr(keras, "distillation"):
        pytest.skip("keras.distillation came with Keras 3.13")
    run_objective_harness(OBJECTIVES[name], thorough=thorough)


def batch():
    rng = np.random.default_rng(0)
    return rng.uniform(size=(6, 5)).astype("float32"), rng.integers(0, 3, 6)


def log_softmax(logits, temperature=1.0):
    logits = np.asarray(logits, "float64") / temperature
    return logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))


def divergence(first, second, temperature):
    p, q = log_softmax(first, temperature), log_softmax(second, temperature)
    return np.sum(np.exp(p) * (p - q), axis=-1)


@pytest.mark.parametrize("variant", ["ard", "rslad"])
@pytest.mark.parametrize("alpha", [1.0, 0.6])
def test_by_hand(variant, alpha):
    x, y = batch()
    model, guide, loss = small_model(), teacher(), PerExampleLoss(loss_from_logits())
    objective = RobustDistillation(guide, PGD(**ATTACK), variant, alpha, temperature=3.0)
    perturbed = objective.perturb(model, x, y, loss)
    x_adv = perturbed[0]
    assert np.abs(np.asarray(x_adv) - x).max() == pytest.approx(0.1, rel=1e-3)
    weights = np.arange(6, dtype="float32")
    losses, outputs = objective(model, x, y, perturbed, loss, weights)
    attacked = 9 * divergence(guide(x), model(x_adv), 3.0)
    if variant == "ard":
        clean = -log_softmax(model(x))[np.arange(6), y]
    else:
        clean = 9 * divergence(guide(x), model(x), 3.0)
    np.testing.assert_allclose(
        losses, weights * (alpha * attacked + (1 - alpha) * clean), rtol=1e-4, atol=1e-6
    )
    seen = x_adv if (variant, alpha) == ("ard", 1.0) else x
    np.testing.assert_allclose(outputs, model(seen), rtol=1e-5)


def test_what_each_attack_raises():
    """ARD attacks the label; RSLAD the teacher's answer, whatever the label."""
    x, y = batch()
    model, guide, loss = small_model(), teacher(), PerExampleLoss(loss_from_logits())
    found = {}
    for variant in ("ard", "rslad"):
        for labels in ((y + 1) % 3, y):
            objective = RobustDistillation(guide, PGD(0.3, steps=20, seed=5), variant)
            found[variant, labels is y] = np.asarray(objective.perturb(model, x, labels, loss)[0])
    assert np.abs(found["ard", True] - found["ard", False]).max() > 0.1
    np.testing.assert_array_equal(found["rslad", True], found.pop(("rslad", False)))
    found = {"ard": found["ard", True], "rslad": found["rslad", True]}
    apart = {name: divergence(guide(x), model(x_adv), 1.0).sum() for name, x_adv in found.items()}
    wrong = {
        name: -log_softmax(model(x_adv))[np.arange(6), y].sum() for name, x_adv in found.items()
    }
    assert apart["rslad"] > apart["ard"]
    assert wrong["ard"] > wrong["rslad"]


def test_defaults_are_those_of_the_papers():
    ard, rslad = (RobustDistillation(teacher(), PGD(0.1), name) for name in ("ard", "rslad"))
    assert (ard.alpha, ard.temperature) == (1.0, 30.0)
    assert (rslad.alpha, rslad.temperature) == (5 / 6, 1.0)


@needs_distillation
@pytest.mark.parametrize("student_loss_weight", [0.0, 0.3])
def test_without_an_attack_it_is_what_the_distiller_does(student_loss_weight):
    x, y = batch()
    student = small_model()
    distiller = keras.distillation.Distiller(
        teacher(),
        student,
        [
            keras.distillation.LogitsDistillation(temperature=4.0),
            keras.distillation.FeatureDistillation(loss="mse"),
        ],
        distillation_loss_weights=[0.5, 2.0],
        student_loss_weight=student_loss_weight,
    )
    distiller.compile("sgd", loss=loss_from_logits())
    expected = distiller.compute_loss(x, y, student(x), training=True)
    still = PGD(0.0, steps=1, random_start=False, bounds=(-9.0, 9.0))
    objective, loss = RobustDistillation.from_distiller(distiller, still), loss_from_logits()
    loss = PerExampleLoss(loss)
    losses, _ = objective(student, x, y, objective.perturb(student, x, y, loss), loss)
    assert tuple(losses.shape) == (6,)
    assert float(np.mean(losses)) == pytest.approx(float(expected), rel=1e-4)


@needs_distillation
def test_a_distiller_taken_over_trains_and_is_saved(tmp_path):
    x, y = batch()
    distiller = keras.distillation.Distiller(
        teacher(), small_model(), keras_losses(), student_loss_weight=0.2
    )
    objective = RobustDistillation.from_distiller(distiller, PGD(**ATTACK))
    secure = ks.SecureModel(distiller.student, objective=objective)
    secure.compile(keras.optimizers.Adam(0.01), loss=loss_from_logits())
    before = [np.array(weight) for weight in objective.teacher.get_weights()]
    history = secure.fit(x, y, epochs=5, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    for old, new in zip(before, objective.teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    secure.save(tmp_path / "secure.keras")
    revived = keras.models.load_model(tmp_path / "secure.keras")
    assert revived.objective.teacher is not objective.teacher
    for old, new in zip(before, revived.objective.teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    revived.fit(x, y, verbose=0)


def test_true_logits_are_compared_also_where_models_end_in_a_softmax():
    x, y = batch()
    guide, student = teacher(), small_model()
    expected = RobustDistillation(guide, PGD(**ATTACK), "rslad")
    loss = PerExampleLoss(loss_from_logits())
    losses, _ = expected(student, x, y, expected.perturb(student, x, y, loss), loss)
    ends = [keras.Sequential([*m.layers, keras.layers.Softmax()]) for m in (guide, student)]
    objective = RobustDistillation(ends[0], PGD(**ATTACK), "rslad")
    loss = PerExampleLoss("sparse_categorical_crossentropy")
    found, _ = objective(ends[1], x, y, objective.perturb(ends[1], x, y, loss), loss)
    np.testing.assert_allclose(found, losses, rtol=1e-3, atol=1e-5)


def test_defensive_losses_by_hand():
    x, y = batch()
    model, guide, loss = small_model(), teacher(), PerExampleLoss(loss_from_logits())
    first = DefensiveDistillation(temperature=5.0)
    losses, outputs = first(model, x, y, first.perturb(model, x, y, loss), loss)
    np.testing.assert_allclose(losses, -log_softmax(model(x), 5.0)[np.arange(6), y], rtol=1e-4)
    np.testing.assert_allclose(outputs, model(x), rtol=1e-6)
    second = DefensiveDistillation(guide, temperature=5.0)
    losses, _ = second(model, x, y, second.perturb(model, x, y, loss), loss)
    soft = np.exp(log_softmax(guide(x), 5.0))
    expected = -np.sum(soft * log_softmax(model(x), 5.0), axis=1)
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    # With probabilities, one-hot labels, and one unit for two classes.
    softmax = keras.Sequential([*model.layers, keras.layers.Softmax()])
    loss = PerExampleLoss("categorical_crossentropy")
    found, _ = first(softmax, x, np.eye(3, dtype="float32")[y], None, loss)
    np.testing.assert_allclose(found, -log_softmax(model(x), 5.0)[np.arange(6), y], rtol=1e-4)
    unit = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1, activation="sigmoid")])
    found, _ = first(unit, x, (y > 0)[:, None], None, PerExampleLoss("binary_crossentropy"))
    z = x @ unit.get_weights()[0][:, 0] / 5.0
    expected = np.log1p(np.exp(np.where(y > 0, -z, z)))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_defensive_distillation_is_a_hurdle_that_reading_logits_takes(digits):
    """An attack on saturated probabilities stands still; one on logits walks through."""
    x, y = digits
    model = None
    for objective in (DefensiveDistillation(temperature=100.0), None):
        objective = objective or DefensiveDistillation(model, temperature=100.0)
        keras.utils.set_random_seed(1)
        model = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                keras.layers.Flatten(),
                keras.layers.Dense(64, "relu"),
                keras.layers.Dense(10, activation="softmax"),
            ]
        )
        secure = ks.SecureModel(model, objective=objective)
        secure.compile(keras.optimizers.Adam(0.05), loss="sparse_categorical_crossentropy")
        secure.fit(x[:1000], y[:1000], batch_size=100, epochs=20, verbose=0)
    x, y = x[1000:1200], y[1000:1200]
    assert (model.predict(x, verbose=0).argmax(axis=1) == y).mean() > 0.85
    # The same answers behind a layer that hides the logits, as over a service.
    hidden = keras.Sequential([model, keras.layers.Rescaling(1.0)])
    hidden.build((None, 8, 8, 1))
    attack = PGD(0.2, steps=20, seed=0)
    blind = attack.run(hidden, x, y, from_logits=False, verbose=0).success.mean()
    sighted = attack.run(model, x, y, verbose=0).success.mean()
    assert sighted > 0.9
    assert blind < sighted - 0.3


def test_refusals():
    x, y = batch()
    model, loss = small_model(), PerExampleLoss(loss_from_logits())
    with pytest.raises(InputError, match="variant='kd'"):
        RobustDistillation(model, PGD(0.1), "kd")
    with pytest.raises(InputError, match="alpha="):
        RobustDistillation(model, PGD(0.1), alpha=1.2)
    with pytest.raises(InputError, match="temperature="):
        RobustDistillation(model, PGD(0.1), temperature=0)
    with pytest.raises(InputError, match="temperature="):
        DefensiveDistillation(temperature=0.5)
    with pytest.raises(InputError, match="teacher is a str"):
        RobustDistillation("teacher", PGD(0.1))
    with pytest.raises(InputError, match=r"Keras 3\.13"):
        RobustDistillation(model, PGD(0.1), distillation_losses="kl")
    with pytest.raises(InputError, match="needs distillation_losses"):
        RobustDistillation(model, PGD(0.1), distillation_loss_weights=[1.0])
    with pytest.raises(InputError, match="model in training itself"):
        RobustDistillation(model, PGD(0.1)).perturb(model, x, y, loss)
    wide = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4)])
    objective = RobustDistillation(wide, PGD(0.1), "ard")
    perturbed = objective.perturb(small_model(), x, y, loss)
    with pytest.raises(InputError, match="4 classes apart, the student 3"):
        objective(small_model(), x, y, perturbed, loss)
    if hasattr(keras, "distillation"):
        layered = keras.distillation.FeatureDistillation("mse", "dense", "dense")
        with pytest.raises(InputError, match="inner layers"):
            RobustDistillation(model, PGD(0.1), distillation_losses=layered)
        with pytest.raises(InputError, match="Both temperature"):
            RobustDistillation(model, PGD(0.1), temperature=2.0, distillation_losses=layered)
        with pytest.raises(InputError, match="1 distillation losses and 2 weights"):
            RobustDistillation(
                model,
                PGD(0.1),
                distillation_losses=keras_losses(),
                distillation_loss_weights=[1.0, 2.0],
            )
