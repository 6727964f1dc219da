"""The guard sees a collapse, goes back exactly, changes the attack, and leaves sound runs alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from harness_callbacks import run_callback_harness
from keras import layers

import keras_secure as ks
from keras_secure.attacks import FGSM, PGD, AttackResult
from keras_secure.callbacks import CatastrophicOverfittingGuard, EpsilonCurriculum
from keras_secure.errors import InputError, PrivacyError

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
X = np.random.default_rng(0).uniform(0.3, 0.7, (32, 6)).astype("float32")
Y = np.random.default_rng(1).integers(0, 3, 32).astype("int32")
# Enough that a fall from 85% to 10% is no chance.
HELD = np.full((100, 6), 0.5, "float32"), np.zeros(100, "int32")


class Scripted(FGSM):
    """Trains as FGSM does; a search leaves right what the script says."""

    script: list = []  # noqa: RUF012
    kind = 0

    def run(self, model, x, y, *, epsilon=None, **options):
        share = self.script[0][self.kind]
        if self.kind == 1:
            self.script.pop(0)
        success = np.arange(len(x)) >= round(share * len(x))
        zeros = np.zeros(len(x))
        return AttackResult(x, success, zeros, zeros.astype(int), zeros.astype(int))


class Judge(Scripted):
    kind = 1


class Recorder(layers.Layer):
    """Notes how far the inputs of every training batch are from the middle."""

    def __init__(self):
        super().__init__()
        self.traces, self.seen = 0, []

    def call(self, inputs, training=False):
        self.traces += 1
        if training:
            tf.py_function(lambda x: self.seen.append(x.numpy()), [inputs], [])
        return inputs


class States(keras.callbacks.Callback):
    """Notes weights and optimizer state at the end of every epoch."""

    def __init__(self):
        super().__init__()
        self.found = []

    def on_epoch_end(self, epoch, logs=None):
        state = [*self.model.model.weights, *self.model.optimizer.variables]
        self.found.append([np.array(v) for v in state])


def run(script, *callbacks, epochs=None, optimizer=None, guard=None, **options):
    Scripted.script = list(script)
    keras.utils.set_random_seed(1)
    recorder = Recorder()
    model = keras.Sequential(
        [keras.Input((6,)), recorder, layers.Dense(5), layers.BatchNormalization(), layers.Dense(3)]
    )
    secure = ks.SecureModel(model, objective=ks.objectives.AdversarialTraining(Scripted(0.2)))
    secure.compile(optimizer or keras.optimizers.Adam(0.01), LOSS, jit_compile=False)
    recorder.traces, recorder.seen = 0, []
    arguments = {"judge": Judge(0.2), "relief": FGSM(0.05), "relief_batches": 6, "verbose": 0}
    guard = CatastrophicOverfittingGuard(HELD, **{**arguments, **(guard or {})})
    states = States()
    history = secure.fit(
        X,
        Y,
        batch_size=8,
        epochs=epochs or len(script),
        shuffle=False,
        verbose=0,
        callbacks=[guard, states, *callbacks],
        **options,
    ).history
    return guard, states.found, history, recorder, secure


def radii(recorder):
    return [
        round(float(np.abs(seen - X[8 * (i % 4) : 8 * (i % 4) + 8]).max()), 3)
        for i, seen in enumerate(recorder.seen)
    ]


def test_a_collapse_is_undone_and_met_with_another_attack():
    script = [(0.9, 0.85), (0.9, 0.8), (0.95, 0.1), (0.9, 0.82), (0.9, 0.84)]
    guard, states, history, recorder, secure = run(script)
    (told,) = guard.interventions
    assert (told["epoch"], told["batch"], told["relief_batches"]) == (2, 4, 6)
    assert told["attacked_accuracy"] == pytest.approx(0.95)
    assert told["robust_accuracy"] == pytest.approx(0.1)
    assert history["guard_interventions"] == [0.0, 0.0, 1.0, 1.0, 1.0]
    np.testing.assert_allclose(history["guard_robust_accuracy"], [r for _, r in script])
    np.testing.assert_allclose(history["guard_attacked_accuracy"], [a for a, _ in script])

    # Exactly what the second epoch ended with: weights, statistics, moments. Steps go on.
    names = [v.path for v in (*secure.model.weights, *secure.optimizer.variables)]
    for name, second, third in zip(names, states[1], states[2], strict=True):
        if "iteration" in name:
            assert (int(second), int(third)) == (8, 12)
        else:
            np.testing.assert_array_equal(third, second)
    assert any("moving_mean" in name for name in names)
    assert any("momentum" in name for name in names)
    assert np.abs(states[3][0] - states[2][0]).max() > 0

    # The other attack for six batches, then the objective's own again; one trace.
    assert radii(recorder) == [0.2] * 12 + [0.05] * 6 + [0.2] * 2
    assert recorder.traces <= 4
    traces, recorder.seen = recorder.traces, []
    secure.fit(X, Y, batch_size=8, verbose=0, shuffle=False)
    assert set(radii(recorder)) == {0.2}
    assert recorder.traces == traces


def test_looks_between_batches_and_reliefs_that_double():
    script = [(0.9, 0.85), (0.9, 0.2), (0.9, 0.85), (0.9, 0.2), (0.9, 0.85), (0.9, 0.8)]
    guard, _, _, recorder, _ = run(script, epochs=3, guard={"every": 2, "relief_batches": 2})
    assert [(t["epoch"], t["batch"]) for t in guard.interventions] == [(0, 4), (1, 4)]
    assert [t["relief_batches"] for t in guard.interventions] == [2, 4]
    assert radii(recorder) == [0.2] * 4 + [0.05] * 2 + [0.2] * 2 + [0.05] * 4


def test_relief_has_its_share_of_the_batches():
    script = [(0.9, 0.85), (0.9, 0.1), (0.9, 0.85), (0.9, 0.85)]
    _, _, _, recorder, _ = run(script, guard={"relief_every": 2, "relief_batches": 3})
    usual, collapsed = [0.05, 0.2, 0.05, 0.2], [0.05, 0.05, 0.05, 0.2]
    assert radii(recorder) == [*usual, *usual, *collapsed, *usual]
    assert recorder.traces <= 4


def test_a_wide_gap_at_the_first_look_leads_back_to_the_start():
    guard, states, _, _, _ = run([(0.95, 0.02), (0.5, 0.4)], optimizer=keras.optimizers.SGD(0.1))
    keras.utils.set_random_seed(1)
    start = [layers.Dense(5), layers.Dense(3)]
    for layer, size in zip(start, (6, 5), strict=True):
        layer.build((None, size))
    assert len(guard.interventions) == 1
    np.testing.assert_array_equal(states[0][0], start[0].kernel)


@pytest.mark.parametrize(
    "script",
    [
        # Slow learning, noise, a moderate gap, a fall of both, and one of chance size.
        [(0.1, 0.02), (0.3, 0.1), (0.5, 0.3), (0.7, 0.55)],
        [(0.9, 0.85), (0.9, 0.75), (0.9, 0.84), (0.9, 0.76)],
        [(0.7, 0.35), (0.72, 0.33), (0.75, 0.38)],
        [(0.9, 0.85), (0.3, 0.2), (0.8, 0.7)],
        [(0.3, 0.12), (0.3, 0.06), (0.3, 0.1)],
    ],
)
def test_no_false_alarm(script):
    guard, _, history, recorder, _ = run(script)
    assert guard.interventions == []
    assert history["guard_interventions"][-1] == 0.0
    assert set(radii(recorder)) == {0.2}


def test_a_growing_radius_is_no_collapse():
    script = [(0.9, 0.85), (0.85, 0.6), (0.82, 0.4)]
    guard, *_ = run(script, EpsilonCurriculum())
    assert guard.interventions == []
    assert len(run(script)[0].interventions) == 2


def test_private_training_needs_public_data_and_keeps_its_ledger():
    def private():
        return ks.optimizers.DPOptimizer(
            keras.optimizers.Adam(0.01), l2_norm_clip=1.0, noise_multiplier=4.0
        )

    def fit(**options):
        Scripted.script = [(0.9, 0.85), (0.95, 0.1), (0.9, 0.8)]
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((6,)), layers.Dense(3)])
        secure = ks.SecureModel(model, objective=ks.objectives.AdversarialTraining(Scripted(0.2)))
        secure.compile(private(), LOSS)
        states = States()
        guard = CatastrophicOverfittingGuard(
            HELD, judge=Judge(0.2), relief=FGSM(0.05), verbose=0, **options
        )
        secure.fit(X, Y, batch_size=8, epochs=3, verbose=0, callbacks=[guard, states])
        return secure, states.found, guard

    with pytest.raises(PrivacyError, match=r"data_is_public=True"):
        fit()
    secure, states, guard = fit(data_is_public=True)
    assert len(guard.interventions) == 1
    np.testing.assert_array_equal(states[0][0], states[1][0])
    # What was undone stays paid for.
    assert secure.optimizer.executed_steps == 12
    alone = ks.SecureModel(keras.Sequential([keras.Input((6,)), layers.Dense(3)]))
    alone.compile(private(), LOSS)
    alone.fit(X, Y, batch_size=8, epochs=3, verbose=0)
    assert secure.optimizer.epsilon(1e-5) == pytest.approx(alone.optimizer.epsilon(1e-5))


def test_half_precision():
    keras.config.set_dtype_policy("mixed_float16")
    guard, _, history, _, secure = run([(0.9, 0.85), (0.95, 0.1), (0.9, 0.8)])
    assert type(secure.optimizer) is keras.optimizers.LossScaleOptimizer
    assert len(guard.interventions) == 1
    assert int(secure.optimizer.inner_optimizer.iterations) == 12
    assert np.isfinite(history["loss"]).all()


def test_behaves_like_a_callback_and_changes_no_sound_run(digits, tmp_path):
    def make_model(**options):
        keras.utils.set_random_seed(3)
        inner = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(10)])
        attack = FGSM(0.1, random_start=True, seed=4)
        wrapped = ks.SecureModel(inner, objective=ks.objectives.AdversarialTraining(attack))
        wrapped.compile(
            options.pop("optimizer", None) or "adam", LOSS, metrics=["accuracy"], **options
        )
        return wrapped

    held = tuple(part[100:130] for part in digits)
    run_callback_harness(
        lambda: CatastrophicOverfittingGuard(held, every=2),
        tuple(part[:24] for part in digits),
        tmp_path,
        logs=["guard_attacked_accuracy", "guard_robust_accuracy", "guard_interventions"],
        measures_only=True,
        make_model=make_model,
    )


def fast_training(digits, random_start, epsilon, epochs, guarded):
    """Trains on enlarged digits; returns accuracy under PGD at the end, and the guard."""
    x, y = np.kron(digits[0], np.ones((1, 3, 3, 1), "float32")), digits[1]
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((24, 24, 1)),
            layers.Conv2D(16, 4, strides=2, padding="same", activation="relu"),
            layers.Conv2D(32, 4, strides=2, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(100, activation="relu"),
            layers.Dense(10),
        ]
    )
    attack = FGSM(epsilon, random_start=random_start, seed=1)
    secure = ks.SecureModel(model, objective=ks.objectives.AdversarialTraining(attack))
    secure.compile(keras.optimizers.Adam(1e-3), LOSS, jit_compile=False)
    guard = CatastrophicOverfittingGuard((x[1300:1500], y[1300:1500]), verbose=0)
    secure.fit(
        x[:1300],
        y[:1300],
        batch_size=50,
        epochs=epochs,
        verbose=0,
        callbacks=[guard] if guarded else [],
    )
    judged = PGD(epsilon, steps=20, seed=2).run(
        model, x[1500:], y[1500:], from_logits=True, verbose=0
    )
    return 1.0 - judged.success_rate, guard


@pytest.mark.slow
def test_a_real_collapse_is_caught_and_training_ends_robust(digits):
    # FGSM at 0.25 without a random start learns to answer that step, and nothing else.
    collapsed, _ = fast_training(digits, False, 0.25, 40, guarded=False)
    robust, guard = fast_training(digits, False, 0.25, 40, guarded=True)
    assert len(guard.interventions) >= 1
    assert guard.interventions[0]["attacked_accuracy"] > 0.5
    assert collapsed < 0.1
    assert robust > collapsed + 0.15


@pytest.mark.slow
def test_a_real_sound_run_is_left_alone(digits):
    robust, guard = fast_training(digits, True, 0.1, 20, guarded=True)
    assert guard.interventions == []
    assert robust > 0.5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"data": X}, r"held-out arrays as \(x, y\)"),
        ({"every": 0}, "every=0"),
        ({"relief_batches": 0}, "relief_batches=0"),
        ({"relief_every": 1}, "relief_every=1"),
        ({"drop": 0}, "drop=0"),
        ({"gap": 1.0}, "gap=1.0"),
        ({"judge": "pgd"}, "judge='pgd'"),
        ({"relief": PGD(0.1, targeted=True)}, "relief=PGD"),
    ],
)
def test_arguments_are_checked(arguments, words):
    with pytest.raises(InputError, match=words):
        CatastrophicOverfittingGuard(**{"data": HELD, **arguments})


def test_what_has_no_attack_is_refused():
    plain = keras.Sequential([keras.Input((6,)), layers.Dense(3)])
    plain.compile("sgd", LOSS)
    guard = CatastrophicOverfittingGuard(HELD)
    with pytest.raises(InputError, match="SecureModel"):
        plain.fit(X, Y, verbose=0, callbacks=[guard])
    secure = ks.SecureModel(plain)
    secure.compile("sgd", LOSS)
    with pytest.raises(InputError, match="Standard trains on no attack"):
        secure.fit(X, Y, verbose=0, callbacks=[guard])
