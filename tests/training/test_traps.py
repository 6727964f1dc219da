"""Ways to fool oneself about privacy: each is refused, or comes out right by the numbers.

A trap is a function in one of two tables: `REFUSED` with the error that must name the way out, or
`CORRECT`, whose asserts prove that nothing was lost. Three more have a place of their own: noise
drawn per replica (test_replicas.py), crashes between checkpoint and ledger (callbacks/), and clips
that rounding could lift (privacy/test_sensitivity.py).
"""

import copy
import dataclasses
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from harness_clipping import true_clipped_sum
from keras import layers, ops

import keras_secure as ks
from keras_secure.callbacks import PrivacyBudget
from keras_secure.errors import (
    BudgetExhaustedError,
    FallbackWarning,
    InputError,
    PrivacyError,
    PrivacyWarning,
)
from keras_secure.privacy import Ledger, PoissonSampling, UnstatedSampling, physical_batch_size

X = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
Y = (X[:, :1] > 0).astype("float32")
DELTA = 1e-3
REFUSED, CORRECT = {}, {}


def refused(error, pattern):
    def enter(trap):
        REFUSED[trap.__name__] = (trap, error, pattern)
        return trap

    return enter


def correct(trap):
    CORRECT[trap.__name__] = trap
    return trap


@pytest.mark.parametrize("trap", REFUSED)
def test_refused(trap, tmp_path):
    spring, error, pattern = REFUSED[trap]
    with pytest.raises(error, match=pattern):
        spring(tmp_path)


@pytest.mark.parametrize("trap", CORRECT)
def test_correct(trap, tmp_path):
    CORRECT[trap](tmp_path)


def plan(rate=0.1, **changes):
    return ks.optimizers.DPSGD(rate, **{"l2_norm_clip": 1.0, "noise_multiplier": 1.0, **changes})


def network(*parts):
    return keras.Sequential([keras.Input((4,)), *parts, layers.Dense(1, name="last")])


def private(*parts, loss="mse", objective=None, options=None, model=None, **changes):
    """A compiled model; eager, since most traps need a step or two."""
    secure = ks.SecureModel(model or network(*parts), objective=objective)
    secure.compile(plan(**changes), loss=loss, **{"run_eagerly": True, **(options or {})})
    return secure


def fit(secure, **options):
    return secure.fit(X, Y, **{"batch_size": 8, "verbose": 0, **options})


def flat(model):
    return np.concatenate([np.asarray(w, "float64").ravel() for w in model.get_weights()])


def bare(*parts, **changes):
    """A model whose steps move its weights by minus the clipped sum: no noise, divisor one."""
    bare = {"rate": 1.0, "noise_multiplier": 0.0, "expected_batch_size": 1}
    secure = private(*parts, **{**bare, **changes})
    secure.train_on_batch(X[:4], Y[:4])
    return secure


def moved(secure, x, y, **options):
    before = flat(secure.model)
    secure.train_on_batch(x, y, **options)
    return before - flat(secure.model)


def truth(secure, x, y, clip):
    def losses():
        return ops.mean(ops.square(secure.model(x, training=True) - y), axis=-1)

    total, _ = true_clipped_sum(secure.model, losses, clip)
    return np.concatenate([value.ravel() for value in total])


def epsilon(secure):
    return secure.optimizer.epsilon(DELTA)


# The optimizer.


@refused(PrivacyError, r"Wrap the model.*SecureModel\(model\)")
def plain_model_with_a_private_optimizer(folder):
    model = network()
    before = flat(model)
    for options in ({"run_eagerly": True}, {}, {"steps_per_execution": 2}):
        model.compile(plan(), loss="mse", **options)
        with pytest.raises(PrivacyError, match="Wrap the model"):
            model.fit(X, Y, verbose=0)
    np.testing.assert_array_equal(before, flat(model))
    model.fit(X, Y, verbose=0)


@refused(PrivacyError, "Wrap the model")
def inner_model_trained_behind_the_wrapper(folder):
    secure = private()
    secure.model.compile(secure.optimizer, loss="mse", run_eagerly=True)
    fit(secure.model)


@refused(PrivacyError, "Wrap the model")
def gradients_of_a_tape_applied_by_hand(folder):
    secure = private()
    variables = secure.model.trainable_variables
    secure.optimizer.apply([ops.zeros(v.shape) for v in variables], variables)


@refused(PrivacyError, r"assigned.*Call compile")
def optimizer_assigned_after_private_steps(folder):
    secure = private()
    fit(secure)
    secure.optimizer = plan()
    fit(secure)


@refused(PrivacyError, r"assigned.*Call compile")
def plain_optimizer_assigned_after_compile(folder):
    secure = private()
    secure.optimizer = keras.optimizers.SGD(0.1)
    fit(secure)


@refused(PrivacyError, r"assigned.*Call compile")
def private_optimizer_assigned_to_a_plain_compile(folder):
    secure = ks.SecureModel(network())
    secure.compile("sgd", loss="mse")
    secure.optimizer = plan()
    secure.train_on_batch(X, Y)


@refused(PrivacyError, r"inside a LossScaleOptimizer.*DPOptimizer itself")
def loss_scaling_around_the_private_optimizer(folder):
    ks.SecureModel(network()).compile(keras.optimizers.LossScaleOptimizer(plan()), loss="mse")


@refused(PrivacyError, "before the clip")
def loss_scaling_inside_the_private_optimizer(folder):
    ks.optimizers.DPOptimizer(keras.optimizers.SGD(loss_scale_factor=128.0), 1.0, 1.0)


@refused(PrivacyError, "several draws would be accounted as one")
def gradient_accumulation(folder):
    ks.optimizers.DPOptimizer(keras.optimizers.SGD(gradient_accumulation_steps=4), 1.0, 1.0)


@refused(PrivacyError, "itself a wrapper")
def private_optimizer_inside_a_private_optimizer(folder):
    ks.optimizers.DPOptimizer(plan(), 1.0, 1.0)


@refused(AttributeError, "l2_norm_clip|no setter|can't set")
def clip_changed_after_compile(folder):
    for name in ("noise_multiplier", "expected_batch_size", "sampling", "seed"):
        with pytest.raises(AttributeError):
            setattr(plan(), name, 2.0)
    plan().l2_norm_clip = 100.0


@refused(PrivacyError, r"5 private steps.*Compile with a DPOptimizer")
def recompiled_without_privacy(folder):
    secure = private()
    fit(secure)
    secure.compile("sgd", loss="mse")


@refused(PrivacyError, "fresh DPOptimizer")
def recompiled_with_an_optimizer_that_spent_elsewhere(folder):
    secure, other = private(), private()
    fit(secure)
    fit(other)
    secure.compile(other.optimizer, loss="mse")


@refused(PrivacyError, "compiled in another wrapper")
def first_wrapper_goes_on_after_a_second_one(folder):
    first = private()
    fit(first)
    fit(private(model=first.model))
    fit(first)


@refused(ValueError, "Unknown variable")
def layer_unfrozen_without_compiling_again(folder):
    frozen = layers.Dense(3)
    frozen.trainable = False
    secure = private(frozen)
    fit(secure)
    frozen.trainable = True
    fit(secure)


# The model.


class Mixer(layers.Layer):
    def call(self, inputs):
        return inputs - ops.mean(inputs, axis=0)


class Cumulative(layers.Layer):
    def call(self, inputs, training=False):
        return ops.cumsum(inputs, axis=0) if training else inputs


class RunningMean(layers.Layer):
    def build(self, shape):
        self.mean = self.add_weight(shape=(shape[-1],), trainable=False, name="mean")

    def call(self, inputs):
        self.mean.assign(0.9999 * self.mean + 0.0001 * ops.mean(inputs, axis=0))
        return inputs


class OwnLoss(layers.Layer):
    def call(self, inputs):
        self.add_loss(ops.mean(ops.abs(inputs)))
        return inputs


def hidden_normalization():
    normalization = layers.BatchNormalization()
    return layers.Lambda(lambda inputs: normalization(inputs, training=True))


for name, part, pattern in [
    ("batch_normalization", layers.BatchNormalization, r"make_compatible\(model\)"),
    (
        "batch_normalization_in_a_nested_model",
        lambda: keras.Sequential([keras.Sequential([layers.BatchNormalization()])]),
        "GroupNormalization",
    ),
    ("batch_normalization_hidden_in_a_closure", hidden_normalization, "Remove what mixes"),
    ("layer_that_mixes_examples", Mixer, "Remove what mixes"),
    ("layer_that_mixes_one_way_and_in_training_only", Cumulative, "Remove what mixes"),
    ("state_learnt_slowly_from_the_data", RunningMean, "outside the private mechanism"),
    ("loss_added_by_a_layer", OwnLoss, "Move them into the compiled loss"),
    (
        "activity_regularizer",
        lambda: layers.Dense(3, activity_regularizer="l2"),
        "Move them into the compiled loss",
    ),
]:

    def spring(folder, part=part):
        secure = private(part())
        try:
            fit(secure)
        finally:
            assert secure.optimizer.executed_steps == 0

    REFUSED[name] = (spring, PrivacyError, pattern)


@refused(PrivacyError, "BatchNormalization")
def batch_normalization_added_after_training_began(folder):
    secure = private()
    fit(secure)
    secure.model.add(layers.BatchNormalization())
    fit(secure)


@refused(PrivacyError, "BatchNormalization")
def batch_normalization_unfrozen_between_compiles(folder):
    normalization = layers.BatchNormalization()
    normalization.trainable = False
    secure = private(normalization, expected_batch_size=8)
    secure.train_on_batch(X[:8], Y[:8])
    normalization.trainable = True
    secure.compile(secure.optimizer, loss="mse", run_eagerly=True)
    secure.train_on_batch(X[:8], Y[:8])


@correct
def weights_used_behind_their_layers_back(folder):
    class Twice(layers.Layer):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(4)

        def build(self, shape):
            self.dense.build(shape)

        def call(self, inputs):
            return self.dense(inputs) + ops.tanh(ops.matmul(inputs, self.dense.kernel))

    with pytest.warns(FallbackWarning):
        secure = bare(Twice())
    expected = truth(secure, X[:6], Y[:6], 1.0)
    np.testing.assert_allclose(moved(secure, X[:6], Y[:6]), expected, atol=1e-4)


@correct
def one_layer_used_twice(folder):
    inputs, shared = keras.Input((4,)), layers.Dense(4)
    model = keras.Model(inputs, layers.Dense(1)(ops.tanh(shared(shared(inputs)))))
    secure = bare(model=model)
    expected = truth(secure, X[:6], Y[:6], 1.0)
    np.testing.assert_allclose(moved(secure, X[:6], Y[:6]), expected, atol=1e-4)


@correct
def dropout_mask_drawn_anew_for_the_norm(folder):
    """With another mask in the norm than in the gradient, the clipped norm would miss the clip."""
    secure = bare(layers.Dense(8, "relu"), layers.Dropout(0.5), l2_norm_clip=0.01)
    for row in range(8):
        released = moved(secure, X[row : row + 1], Y[row : row + 1] + 100.0)
        assert np.linalg.norm(released) == pytest.approx(0.01, rel=1e-3)


@correct
def weight_regularizer_inside_the_clip(folder):
    part = layers.Dense(3, use_bias=False, kernel_regularizer=keras.regularizers.L2(0.5))
    secure = bare(part, l2_norm_clip=1e-6)
    before = np.asarray(part.kernel)
    released = moved(secure, X[:6], Y[:6])
    np.testing.assert_allclose(released[: before.size], before.ravel(), atol=1e-4)


@correct
def half_precision_that_loses_small_gradients_and_the_bound(folder):
    keras.config.set_dtype_policy("mixed_float16")
    secure = bare(layers.Dense(3), loss=lambda y, p: 1e-6 * ops.square(p - y)[:, 0])
    keras.config.set_dtype_policy("float32")
    small = moved(secure, X[:1], Y[:1] + 1.0)
    assert np.any(small)
    assert np.linalg.norm(small) < 1e-3
    for scale in (1e4, 1e30):
        assert np.linalg.norm(moved(secure, X[:1] * 1e3, Y[:1] + scale)) <= 1 + 1e-3


# The loss and the objective.


def over_the_batch(y, p):
    return ops.square(p - ops.mean(p, axis=0))[:, 0]


def cumulative(y, p):
    return ops.cumsum(ops.square(p - y)[:, 0])


def hard_mining(y, p):
    losses = ops.square(p - y)[:, 0]
    return losses * ops.cast(losses >= 0.9 * ops.max(losses), "float32")


def faint(y, p):
    return ops.square(p - y)[:, 0] + 1e-5 * ops.mean(p)


for name, loss, error, pattern in [
    ("loss_that_mixes_examples", over_the_batch, PrivacyError, "its own targets"),
    ("loss_summed_up_along_the_batch", cumulative, PrivacyError, "its own targets"),
    ("loss_of_the_hardest_examples_only", hard_mining, PrivacyError, "its own targets"),
    ("loss_that_mixes_faintly", faint, PrivacyError, "reaches the predictions for other"),
    (
        "loss_averaged_over_the_wrong_axis",
        lambda y, p: ops.mean(ops.square(p - y), axis=0),
        PrivacyError,
        "one value per example",
    ),
    (
        "loss_that_is_one_number",
        lambda y, p: ops.mean(ops.square(p - y)),
        InputError,
        "one number for the whole batch",
    ),
]:

    def spring(folder, loss=loss):
        fit(private(loss=loss))

    REFUSED[name] = (spring, error, pattern)


@refused(InputError, "weights of the other examples")
def loss_divided_by_the_weights_of_the_batch(folder):
    private(loss=keras.losses.MeanSquaredError(reduction="mean_with_sample_weight"))


class MixUp(ks.objectives.Objective):
    def __call__(self, model, x, y, perturbed, loss, sample_weight=None):
        y_pred = model(0.5 * x + 0.5 * ops.flip(x, axis=0), training=True)
        return loss(y, y_pred, sample_weight), y_pred


class CentredInputs(ks.objectives.Objective):
    def perturb(self, model, x, y, loss):
        return x - ops.mean(x, axis=0)

    def __call__(self, model, x, y, perturbed, loss, sample_weight=None):
        y_pred = model(perturbed, training=True)
        return loss(y, y_pred, sample_weight), y_pred


@refused(PrivacyError, "MixUp gives one example another loss")
def objective_that_blends_examples(folder):
    fit(private(objective=MixUp()))


@refused(PrivacyError, "CentredInputs gives one example another loss")
def objective_that_perturbs_by_the_batch(folder):
    fit(private(objective=CentredInputs()))


@correct
def reduction_of_the_loss_changes_nothing_by_example(folder):
    released = []
    for reduction in ("sum_over_batch_size", "sum", "none", "mean"):
        keras.utils.set_random_seed(1)
        secure = bare(loss=keras.losses.MeanSquaredError(reduction=reduction))
        np.testing.assert_allclose(
            truth(secure, X[:6], Y[:6], 1.0), (found := moved(secure, X[:6], Y[:6])), atol=1e-4
        )
        released.append(found)
    for other in released[1:]:
        np.testing.assert_allclose(released[0], other, atol=1e-5)


@correct
def weights_of_examples_that_outgrow_the_clip(folder):
    secure = bare()
    for weight in (1e30, -1e30, np.inf, np.nan):
        released = moved(secure, X[:1], Y[:1] + 1.0, sample_weight=np.array([weight]))
        assert np.linalg.norm(released) <= 1 + 1e-5
    fit(secure, class_weight={0: 1e30, 1: 1e-30})
    released = moved(secure, X[:1], Y[:1], class_weight={0: 1e30, 1: 1e30})
    assert np.linalg.norm(released) <= 1 + 1e-5


# The data.


@correct
def example_without_a_finite_gradient(folder):
    secure = bare(layers.Dense(3, "tanh"))
    for bad in (np.nan, np.inf, -np.inf):
        x, y = X[:6].copy(), Y[:6].copy()
        x[2, 1] = bad
        y[4] = bad
        good = [0, 1, 3, 5]
        expected = truth(secure, X[good], Y[good], 1.0)
        np.testing.assert_allclose(moved(secure, x, y), expected, atol=1e-4)


@correct
def example_that_stands_twice_in_a_batch(folder):
    """Each row is clipped by itself: the guarantee is one row's, and two rows move twice as far."""
    secure = bare(l2_norm_clip=0.01)
    for copies in (1, 2, 5):
        released = moved(secure, np.repeat(X[:1], copies, 0), np.repeat(Y[:1] + 50.0, copies, 0))
        assert np.linalg.norm(released) == pytest.approx(0.01 * copies, rel=1e-3)


@correct
def divisor_that_reveals_the_batch_size(folder):
    secure = bare(expected_batch_size=100, l2_norm_clip=0.01)
    for size in (3, 30):
        released = moved(secure, np.repeat(X[:1], size, 0), np.repeat(Y[:1] + 50.0, size, 0))
        assert np.linalg.norm(released) == pytest.approx(0.01 * size / 100, rel=5e-3)


@correct
def empty_batches_skipped(folder):
    secure = private(rate=1.0)
    seen = [flat(secure.model)]
    noted = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(flat(secure.model))
    )
    fit(secure, batch_size=1, callbacks=[noted])  # more than a third of these draws are empty
    assert secure.optimizer.executed_steps == 40 == len(seen) - 1
    assert all(np.all(a != b) for a, b in itertools.pairwise(seen))


@correct
def padding_taken_for_examples(folder):
    """Rows beyond the draw repeat the first example; only drawn rows may move the weights."""
    secure = bare(loss=lambda y, p: p[:, 0], l2_norm_clip=0.01, rate=0.1, seed=1)
    secure.model.layers[-1].bias.trainable = False
    data = tf.constant(np.ones((5, 4), "float32")), tf.constant(np.ones((5, 1), "float32"))
    for drawn in (0, 1, 3):
        before = flat(secure.model)
        secure.train_step({"x": data[0], "y": data[1], "mask": tf.range(5) < drawn})
        distance = np.linalg.norm(before - flat(secure.model))
        assert distance == pytest.approx(0.1 * 0.01 * drawn, rel=5e-3, abs=1e-9)


@refused(PrivacyError, r"read only once.*Give arrays, a PyDataset")
def generator(folder):
    private(expected_batch_size=8).fit(((X[:8], Y[:8]) for _ in range(3)), verbose=0)


@refused(PrivacyError, r"expected_batch_size=\.\.\.\)")
def dataset_without_a_fixed_divisor(folder):
    private().fit(tf.data.Dataset.from_tensor_slices((X, Y)).batch(8), verbose=0)


@refused(PrivacyError, "fixed number")
def batch_by_hand_without_a_fixed_divisor(folder):
    private().train_on_batch(X[:8], Y[:8])


@refused(PrivacyError, "at least 3")
def too_few_examples_to_check_anything(folder):
    private().fit(X[:2], Y[:2], batch_size=1, verbose=0)


@correct
def shuffled_and_repeated_dataset_taken_for_poisson_draws(folder):
    data = tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(40).repeat(2).batch(8)
    secure = private(noise_multiplier=4.0, expected_batch_size=8)
    secure.fit(data, verbose=0)
    (phase,) = secure.optimizer.ledger.phases(10)
    assert phase.sampling == UnstatedSampling()
    assert phase.steps == 10  # both passes
    drawn = dataclasses.replace(phase, sampling=PoissonSampling(0.2, 40))
    assert epsilon(secure) > 1.5 * ks.privacy.epsilon(drawn, DELTA)


@correct
def claimed_sampling_that_arrays_do_not_have(folder):
    secure = private(sampling=PoissonSampling(1e-6, 10**8))
    fit(secure)
    (phase,) = secure.optimizer.ledger.phases(5)
    assert phase.sampling == PoissonSampling(0.2, 40, physical_batch_size(40, 8))


# Steps, ledger and budget.


@refused(PrivacyError, r"outside fit.*SecureModel\.fit")
def step_by_hand_before_any_fit(folder):
    private().train_step((X[:8], Y[:8]))


@refused(PrivacyError, r"outside fit.*SecureModel\.fit")
def step_by_hand_accounted_as_a_draw_of_the_last_fit(folder):
    secure = private()
    fit(secure)
    secure.train_step((X, Y))


@correct
def steps_that_nobody_counts(folder):
    """Single batches, a second fit, another plan, another wrapper, more steps than the data has."""
    secure = private(noise_multiplier=4.0, expected_batch_size=8)
    spent = []

    def note():
        spent.append(epsilon(secure))

    fit(secure)
    note()
    fit(secure, steps_per_epoch=9)
    note()
    secure.train_on_batch(X[:8], Y[:8])
    note()
    secure.compile(plan(noise_multiplier=6.0), loss="mse", run_eagerly=True)
    assert epsilon(secure) == pytest.approx(spent[-1], rel=1e-9)
    fit(secure)
    note()
    secure = private(model=secure.model, noise_multiplier=5.0)
    assert epsilon(secure) == pytest.approx(spent[-1], rel=1e-9)
    fit(secure)
    note()
    assert spent == sorted(set(spent))
    steps = [phase.steps for phase in secure.optimizer.ledger.phases(25)]
    assert steps == [5, 9, 1, 5, 5]


@correct
def noise_left_out(folder):
    secure = private(noise_multiplier=0.0)
    fit(secure)
    assert epsilon(secure) == np.inf


@refused(PrivacyError, "outside any recorded phase")
def ledger_exchanged(folder):
    secure = private()
    fit(secure)
    secure.optimizer.ledger = Ledger()
    epsilon(secure)


@refused(PrivacyError, "outside any recorded phase")
def ledger_emptied(folder):
    secure = private()
    fit(secure)
    secure.optimizer.ledger.finished.clear()
    epsilon(secure)


@refused(dataclasses.FrozenInstanceError, "steps")
def phase_edited(folder):
    secure = private()
    fit(secure)
    secure.optimizer.ledger.phases(5)[0].steps = 1


@correct
def counter_reset(folder):
    secure = private(noise_multiplier=4.0)
    fit(secure)
    spent = epsilon(secure)
    secure.optimizer.private_steps.assign(0)
    assert secure.optimizer.executed_steps == 5
    assert epsilon(secure) == spent


@refused(PrivacyError, "outside any recorded phase")
def counter_restored_without_its_ledger(folder):
    secure = private()
    secure.optimizer.private_steps.assign(5)  # as tf.train.Checkpoint does
    epsilon(secure)


@refused(ValueError, "newest checkpoint")
def older_checkpoint(folder):
    secure = private()
    fit(secure)
    secure.save_weights(folder / "older.weights.h5")
    fit(secure)
    secure.load_weights(folder / "older.weights.h5")


@refused(ValueError, "holds no privacy ledger")
def checkpoint_of_plain_training(folder):
    plain = ks.SecureModel(network())
    plain.compile("sgd", loss="mse", run_eagerly=True)
    plain(X[:4])
    fit(plain)
    plain.save_weights(folder / "plain.weights.h5")
    secure = private()
    fit(secure)
    secure.load_weights(folder / "plain.weights.h5")


def budget(target=1.0):
    return PrivacyBudget(target, DELTA)


@correct
def budget_inside_an_execution_of_several_steps(folder):
    secure = private(noise_multiplier=3.0, options={"run_eagerly": False, "steps_per_execution": 8})
    fit(secure, epochs=15, callbacks=[budget(1.0)])
    assert epsilon(secure) <= 1.0
    steps = secure.optimizer.executed_steps
    (phase,) = secure.optimizer.ledger.phases(steps)
    assert ks.privacy.epsilon(dataclasses.replace(phase, steps=steps + 1), DELTA) > 1.0


@refused(BudgetExhaustedError, "lift_limit")
def training_on_after_the_budget_is_spent(folder):
    secure = private(noise_multiplier=4.0, expected_batch_size=8)
    fit(secure, epochs=50, callbacks=[budget(0.5)])
    spent = secure.optimizer.executed_steps
    with pytest.raises(BudgetExhaustedError, match="lift_limit"):
        secure.train_on_batch(X[:8], Y[:8])
    with pytest.raises(BudgetExhaustedError, match="one more step would cross"):
        fit(secure, callbacks=[budget(0.5)])
    assert secure.optimizer.executed_steps == spent
    fit(secure, callbacks=[budget(1.0)])
    assert secure.optimizer.executed_steps == spent + 5
    fit(secure, epochs=50, callbacks=[budget(0.8)])
    fit(secure)


@refused(BudgetExhaustedError, "lift_limit")
def budget_counted_in_cheap_steps_and_spent_on_dear_ones(folder):
    secure = private(noise_multiplier=4.0, expected_batch_size=8)
    fit(secure, callbacks=[budget()])
    try:
        for _ in range(20):
            secure.train_on_batch(X[:8], Y[:8])
    finally:
        assert epsilon(secure) <= 1.0


@refused(PrivacyError, r"2 privacy budgets.*strictest one alone")
def two_budgets_of_which_the_larger_wins(folder):
    fit(private(noise_multiplier=4.0), callbacks=[budget(0.8), budget(2.0)])


@correct
def budget_dropped_by_compiling_again(folder):
    secure = private(noise_multiplier=4.0)
    fit(secure, callbacks=[budget(0.6)])
    secure.compile(plan(noise_multiplier=4.0), loss="mse", run_eagerly=True)
    with pytest.warns(PrivacyWarning, match="learnt nothing from the data"):
        fit(secure, epochs=12)
    assert 0.54 < epsilon(secure) <= 0.6


@correct
def training_steered_by_exact_figures(folder):
    with pytest.warns(PrivacyWarning, match=r"ReduceLROnPlateau steers training by 'loss'"):
        fit(private(), callbacks=[keras.callbacks.ReduceLROnPlateau("loss")])


@correct
def learning_rate_changed_by_a_callback(folder):
    """Needs no accounting: it acts on what is noised already."""
    secure, other = private(rate=1.0), private(rate=1.0)
    fit(secure, callbacks=[keras.callbacks.LearningRateScheduler(lambda epoch: 0.0)])
    fit(other)
    assert float(secure.optimizer.learning_rate) == 0.0
    assert epsilon(secure) == epsilon(other)


@correct
def inner_optimizer_that_accumulates_what_is_noised(folder):
    secure = private()
    secure.optimizer.inner_optimizer.gradient_accumulation_steps = 2
    fit(secure)
    assert secure.optimizer.executed_steps == 5


# Noise and its key.


@correct
def noise_frozen_by_tracing(folder):
    for options in ({}, {"jit_compile": True}):
        secure = private(rate=1.0, options={"run_eagerly": False, **options})
        seen = [flat(secure.model)]
        noted = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs, seen=seen, own=secure: seen.append(
                flat(own.model)
            )
        )
        zeros = np.zeros((40, 4), "float32"), np.zeros((40, 1), "float32")
        secure.model.set_weights([0.0 * w for w in secure.model.get_weights()])
        secure.fit(*zeros, batch_size=8, verbose=0, callbacks=[noted])
        steps = np.diff(seen[1:], axis=0)
        assert len(np.unique(steps.round(6), axis=0)) == len(steps)


def first_noise(secure):
    """What one step without any gradient adds, for a model of 2,000 weights."""
    zeros = np.zeros((4, 4), "float32")
    return moved(secure, zeros, np.zeros((4, 1), "float32"))


def wide(**changes):
    part = layers.Dense(400, use_bias=False, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((4,)), part, layers.Dense(1, use_bias=False)])
    return private(model=model, rate=1.0, expected_batch_size=1, **changes)


def correlation(first, second):
    return abs(np.corrcoef(first, second)[0, 1])


@correct
def noise_repeated_by_the_global_seed(folder):
    noise = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        noise.append(first_noise(wide()))
    assert correlation(*noise) < 0.15


@correct
def noise_repeated_by_a_copy_of_the_optimizer(folder):
    secure = wide()
    first_noise(secure)
    own = np.asarray(secure.optimizer._noise._key).tobytes()
    for duplicate in (
        copy.deepcopy(secure.optimizer),
        type(secure.optimizer).from_config(secure.optimizer.get_config()),
        keras.optimizers.deserialize(keras.optimizers.serialize(secure.optimizer)),
        copy.deepcopy(secure).optimizer,
    ):
        assert np.asarray(duplicate._noise._key).tobytes() != own
    again = copy.deepcopy(secure)
    assert again.optimizer.executed_steps == 1
    assert epsilon(again) == epsilon(secure)
    assert correlation(first_noise(secure), first_noise(again)) < 0.15


@correct
def noise_replayed_from_everything_on_disk(folder):
    secure = wide()
    first_noise(secure)
    secure.save(folder / "secure.keras")
    secure.save_weights(folder / "secure.weights.h5")
    drawn = first_noise(secure)
    loaded = keras.models.load_model(folder / "secure.keras")
    replays = [first_noise(loaded)]
    fresh = wide()
    fresh(X[:4])
    fresh.optimizer.build(fresh.model.trainable_variables)
    fresh.load_weights(folder / "secure.weights.h5")
    replays.append(first_noise(fresh))
    for replay in replays:
        # The best guess that a replay allows leaves the noise about as large as it was.
        share = np.dot(drawn, replay) / np.dot(replay, replay)
        assert np.std(drawn - share * replay) >= 0.9 * np.std(drawn) > 0
    assert loaded.optimizer.executed_steps == fresh.optimizer.executed_steps == 2


@correct
def seed_taken_for_privacy(folder):
    secure = private(seed=3)
    fit(secure)
    assert all(phase.reproducible for phase in secure.optimizer.ledger.phases(5))
    secure = private()
    fit(secure)
    assert not any(phase.reproducible for phase in secure.optimizer.ledger.phases(5))
