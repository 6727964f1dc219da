"""DPOptimizer: the released gradient, the step counter and the refusals."""

import keras
import numpy as np
import pytest
from harness_optimizers import released, run_optimizer_harness, variables_of
from scipy import stats

import keras_secure as ks
from keras_secure.errors import BudgetExhaustedError, PrivacyError
from keras_secure.optimizers import DPSGD, DPAdam, DPOptimizer
from keras_secure.privacy import ClippedSum, PoissonSampling, UnstatedSampling

PLAN = {"l2_norm_clip": 1.0, "noise_multiplier": 1.0}
INNER = {
    "sgd": lambda: keras.optimizers.SGD(0.1),
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: keras.optimizers.Adam(0.01),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.01),
    "adagrad": lambda: keras.optimizers.Adagrad(0.1),
    "lion": lambda: keras.optimizers.Lion(0.01),
    "ftrl": lambda: keras.optimizers.Ftrl(0.1),
}
FEW = ("sgd", "adam")


@pytest.mark.parametrize(
    "name", [n if n in FEW else pytest.param(n, marks=pytest.mark.slow) for n in INNER]
)
def test_behaviour_around_any_optimizer(name, tmp_path):
    make = INNER[name]
    run_optimizer_harness(lambda **plan: DPOptimizer(make(), **plan), make, tmp_path)


def test_named_optimizers():
    sgd = DPSGD(0.2, momentum=0.5, seed=1, **PLAN)
    assert isinstance(sgd, DPOptimizer)
    assert isinstance(sgd.inner_optimizer, keras.optimizers.SGD)
    assert sgd.inner_optimizer.momentum == 0.5
    assert sgd.seed == 1
    adam = DPAdam(0.3, expected_batch_size=5, **PLAN)
    assert isinstance(adam.inner_optimizer, keras.optimizers.Adam)
    assert float(adam.learning_rate) == pytest.approx(0.3)
    assert adam.expected_batch_size == 5
    named = DPOptimizer("rmsprop", **PLAN)
    assert isinstance(named.inner_optimizer, keras.optimizers.RMSprop)


BIG = ((200, 150), (20_001,))


def noise_of(optimizer, steps=1, divisor=1.0):
    """The noise that each step releases: zero sums through SGD with learning rate one."""
    return [
        [value.ravel() for value in released(optimizer, divisor=divisor, shapes=BIG)]
        for _ in range(steps)
    ]


def sgd(**plan):
    return DPOptimizer(keras.optimizers.SGD(1.0), **{**PLAN, **plan})


def test_released_noise_has_the_stated_scale_and_no_other():
    divisor = 50.0
    optimizer = sgd(l2_norm_clip=0.8, noise_multiplier=1.7, seed=1)
    ((kernel, bias),) = noise_of(optimizer, divisor=divisor)
    scale = 1.7 * 0.8 / divisor
    for values in (kernel, bias):
        assert stats.kstest(values / scale, "norm").pvalue > 1e-4
        for wrong in (2 / 3, 3 / 2):
            assert stats.kstest(values / (wrong * scale), "norm").pvalue < 1e-12
        spread = np.sum((values / scale) ** 2)
        tails = stats.chi2(len(values))
        assert min(tails.cdf(spread), tails.sf(spread)) > 1e-5
        for wrong in (0.95, 1.05):
            spread = np.sum((values / (wrong * scale)) ** 2)
            assert min(tails.cdf(spread), tails.sf(spread)) < 1e-6


def test_steps_variables_and_optimizers_have_independent_noise():
    one, other = noise_of(sgd(), steps=3), noise_of(sgd(), steps=2)
    size = 20_001
    streams = [part[:size] for step in one + other for part in step]
    for i, left in enumerate(streams):
        for right in streams[:i]:
            assert abs(np.corrcoef(left, right)[0, 1]) < 6.5 / np.sqrt(size)


def test_seed_repeats_and_is_marked():
    first, second = noise_of(sgd(seed=4), 2), noise_of(sgd(seed=4), 2)
    np.testing.assert_array_equal(first[1][0], second[1][0])
    assert not np.array_equal(first[0][0], noise_of(sgd(seed=5))[0][0])
    optimizer = sgd(seed=4)
    released(optimizer, steps=1)
    assert optimizer.ledger.phases(1)[0].reproducible
    optimizer = sgd()
    released(optimizer, steps=1)
    assert not optimizer.ledger.phases(1)[0].reproducible


def test_a_reset_counter_neither_forgets_steps_nor_repeats_noise():
    """Whatever restores variables, as tf.train.Checkpoint does, must not rewind the noise."""
    optimizer = sgd()
    before = noise_of(optimizer, steps=3)
    optimizer.private_steps.assign(0)
    assert optimizer.executed_steps == 3
    after = noise_of(optimizer, steps=1)
    assert optimizer.executed_steps == 4
    assert sum(phase.steps for phase in optimizer.ledger.phases(4)) == 4
    for step in before:
        assert abs(np.corrcoef(step[0], after[0][0])[0, 1]) < 0.05


def test_penalties_are_added_outside():
    optimizer = sgd(noise_multiplier=0.0)
    penalties = [keras.ops.ones(shape) for shape in ((3, 2), (2,))]
    for value in released(optimizer, divisor=10.0, penalties=penalties):
        np.testing.assert_allclose(value, -1.0)


def test_the_sum_must_have_the_bound_that_the_noise_is_for():
    optimizer = sgd()
    optimizer.begin_phase(UnstatedSampling(), 1.0)
    with pytest.raises(PrivacyError, match=r"bounded by 2.0.*l2_norm_clip=1.0"):
        optimizer.apply_clipped(ClippedSum([keras.ops.zeros(2)], 2.0, None), [])


def test_plan_cannot_change_after_the_step_is_compiled():
    optimizer = sgd()
    for name in ("l2_norm_clip", "noise_multiplier", "expected_batch_size", "sampling", "seed"):
        with pytest.raises(AttributeError):
            setattr(optimizer, name, 2.0)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"l2_norm_clip": 0.0}, "l2_norm_clip is 0.0"),
        ({"l2_norm_clip": -1.0}, "must lie between"),
        ({"l2_norm_clip": float("inf")}, "Scale the loss"),
        ({"l2_norm_clip": float("nan")}, "l2_norm_clip is nan"),
        ({"l2_norm_clip": 1e-20}, "float32"),
        ({"noise_multiplier": -0.1}, "noise_multiplier is -0.1"),
        ({"noise_multiplier": float("nan")}, "finite and >= 0"),
        ({"expected_batch_size": 0}, "must be positive"),
    ],
)
def test_impossible_plans_are_refused(plan, message):
    with pytest.raises(PrivacyError, match=message):
        sgd(**plan)


def test_inner_optimizers_that_break_the_guarantee_are_refused():
    with pytest.raises(PrivacyError, match=r"gradient_accumulation_steps.*larger batch"):
        DPOptimizer(keras.optimizers.SGD(gradient_accumulation_steps=4), **PLAN)
    with pytest.raises(PrivacyError, match=r"loss_scale_factor.*before the clip"):
        DPOptimizer(keras.optimizers.SGD(loss_scale_factor=128.0), **PLAN)
    with pytest.raises(PrivacyError, match=r"LossScaleOptimizer.*plain optimizer"):
        DPOptimizer(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()), **PLAN)
    with pytest.raises(PrivacyError, match="itself a wrapper"):
        DPOptimizer(sgd(), **PLAN)
    model = ks.SecureModel(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))
    with pytest.raises(PrivacyError, match=r"inside a LossScaleOptimizer.*DPOptimizer itself"):
        model.compile(keras.optimizers.LossScaleOptimizer(sgd()), loss="mse")


def test_sampling_survives_the_configuration():
    optimizer = sgd(sampling=PoissonSampling(0.1, 100), expected_batch_size=10)
    clone = DPOptimizer.from_config(optimizer.get_config())
    assert clone.sampling == optimizer.sampling


def test_epsilon_is_that_of_the_ledger():
    optimizer = sgd(noise_multiplier=4.0)
    assert optimizer.epsilon(1e-5) == 0.0
    released(optimizer, steps=5)
    expected = ks.privacy.epsilon(optimizer.ledger.phases(5), 1e-5)
    assert optimizer.epsilon(1e-5) == expected > 0
    assert optimizer.epsilon(1e-5, accountant="rdp") > expected
    silent = sgd(noise_multiplier=0.0)
    released(silent)
    assert silent.epsilon(1e-5) == float("inf")


def test_limit_is_enforced_inside_the_step():
    optimizer = DPOptimizer(keras.optimizers.SGD(1.0), 1.0, 5.0)
    optimizer.begin_phase(UnstatedSampling(), 1.0)
    steps = optimizer.limit_to(2.0, 1e-5)
    assert steps >= 1
    first = released(optimizer, steps=steps)
    assert optimizer.is_exhausted
    sums = [np.ones(shape, "float32") for shape in ((3, 2), (2,))]
    beyond = released(optimizer, sums, steps=3)
    assert any(np.any(value) for value in first)
    assert not any(np.any(value) for value in beyond)
    assert optimizer.executed_steps == steps
    assert optimizer.epsilon(1e-5) <= 2.0
    with pytest.raises(BudgetExhaustedError, match="one more step would cross"):
        optimizer.limit_to(2.0, 1e-5)
    optimizer.lift_limit()
    assert any(np.any(value) for value in released(optimizer, sums, steps=1))
    assert optimizer.executed_steps == steps + 1


def saved(optimizer):
    store = {}
    optimizer.save_own_variables(store)
    return store


def test_checkpoints_restore_the_ledger_and_take_a_new_key():
    first = sgd()
    released(first, steps=3)
    second = sgd()
    variables_of(second)
    key = np.asarray(second._noise._key).tolist()
    second.load_own_variables(saved(first))
    assert second.executed_steps == 3
    assert second.ledger.phases(3) == first.ledger.phases(3)
    assert np.asarray(second._noise._key).tolist() != key
    released(second, steps=2)
    assert second.epsilon(1e-5) > first.epsilon(1e-5)


@pytest.mark.filterwarnings("ignore:Skipping variable loading")
def test_an_optimizer_that_is_not_built_yet_takes_over_what_was_spent():
    first = sgd()
    released(first, steps=3)
    second = sgd()
    second.load_own_variables(saved(first))
    assert second.executed_steps == 3
    assert second.epsilon(1e-5) == first.epsilon(1e-5)


def test_foreign_older_missing_and_tampered_ledgers_are_refused():
    first = sgd()
    released(first, steps=2)
    older = saved(first)
    released(first, steps=1)
    newest = saved(first)
    with pytest.raises(PrivacyError, match=r"records 2 private steps, but 3.*newest"):
        first.load_own_variables(older)
    first.load_own_variables(newest)
    other = sgd()
    released(other, steps=1)
    with pytest.raises(PrivacyError, match=r"of another run.*fresh DPOptimizer"):
        other.load_own_variables(newest)

    def fresh():
        optimizer = sgd()
        variables_of(optimizer)
        return optimizer

    missing = {key: value for key, value in newest.items() if key != "ledger"}
    with pytest.raises(PrivacyError, match="holds no privacy ledger"):
        fresh().load_own_variables(missing)
    text = bytes(newest["ledger"]).decode()

    def tampered(old, new):
        changed = text.replace(old, new)
        assert changed != text
        return {**newest, "ledger": np.frombuffer(changed.encode(), np.uint8)}

    with pytest.raises(PrivacyError, match=r"altered.*intact checkpoint"):
        fresh().load_own_variables(tampered('"steps": 1', '"steps": 0'))
    with pytest.raises(PrivacyError, match="cannot be read"):
        fresh().load_own_variables(tampered('{"format"', '["format"'))
    with pytest.raises(PrivacyError, match="cannot be read"):
        fresh().load_own_variables(tampered('"steps": 1', '"steps": -1'))


def test_a_restored_checkpoint_stays_within_the_budget_set_before():
    spent = DPOptimizer(keras.optimizers.SGD(1.0), 1.0, 20.0)
    released(spent, steps=3)
    optimizer = DPOptimizer(keras.optimizers.SGD(1.0), 1.0, 5.0)
    variables_of(optimizer)
    optimizer.begin_phase(UnstatedSampling(), 1.0)
    optimizer.limit_to(2.0, 1e-5)
    optimizer.load_own_variables(saved(spent))
    released(optimizer, steps=50)
    assert optimizer.executed_steps > 3
    assert optimizer.epsilon(1e-5) <= 2.0


def test_key_appears_in_no_file_and_no_text(tmp_path):
    import tensorflow as tf

    secure = ks.SecureModel(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))
    optimizer = DPSGD(expected_batch_size=4, **PLAN)
    secure.compile(optimizer, loss="mse")
    secure.train_on_batch(np.ones((4, 2), "float32"), np.ones((4, 1), "float32"))
    secure.save(tmp_path / "m.keras")
    secure.save_weights(tmp_path / "m.weights.h5")
    tf.train.Checkpoint(model=secure, optimizer=optimizer).save(str(tmp_path / "checkpoint"))
    words = np.asarray(optimizer._noise._key)
    import zipfile

    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        archive.extractall(tmp_path / "unpacked")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 5
    for word in words:
        raw = int(word).to_bytes(8, "little", signed=True)
        for path in files:
            content = path.read_bytes()
            assert raw not in content, path
            assert raw[::-1] not in content, path
            assert str(int(word)).encode() not in content, path
        for text in (repr(optimizer), str(optimizer.get_config()), str(vars(optimizer))):
            assert str(int(word)) not in text
    assert all(
        not np.array_equal(np.asarray(v), words) for v in optimizer.variables + secure.variables
    )


def test_moving_averages_of_the_inner_optimizer_take_effect():
    inner = keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.5)
    optimizer = DPOptimizer(inner, 1.0, 1.0, seed=3)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    secure = ks.SecureModel(model)
    secure.compile(optimizer, loss="mse")
    x = np.random.default_rng(0).normal(size=(32, 2)).astype("float32")
    last = []
    noted = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: last.append(model.get_weights())
    )
    secure.fit(x, x[:, :1], batch_size=8, verbose=0, callbacks=[noted])
    assert not np.allclose(model.get_weights()[0], last[-1][0])
