"""What every training objective must do, whatever it minimizes."""

from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_secure as ks
from keras_secure import backend
from keras_secure.errors import PrivacyError
from keras_secure.objectives import PerExampleLoss
from keras_secure.privacy import PerExampleClipping

ROWS = 6
GENERATORS = ("generator", "seed_generator")


def small_model():
    return keras.Sequential(
        [keras.Input((5,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)]
    )


def loss_from_logits():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def seed_states(objective):
    """The state of everything an objective draws at random from."""
    generators = []
    for part in objective.parts():
        for held in vars(part).values():
            generators += [held] if isinstance(held, keras.random.SeedGenerator) else []
            if isinstance(held, ks.attacks.Attack):
                generators.append(held._seed_generator)
            if isinstance(held, keras.layers.Layer):
                layers = held._flatten_layers()
                found = [getattr(layer, name, None) for layer in layers for name in GENERATORS]
                generators += [generator for generator in found if generator is not None]
    return [generator.state for generator in generators]


def run_objective_harness(make_objective, *, atol=1e-5, private=True, thorough=True):
    """Runs one objective through everything that a training step may do with it.

    Args:
        make_objective: Function without arguments that returns a new objective, whose attack (if
            it has one) is seeded, so that two of them do the same.
        atol: Absolute tolerance between eager, graph and compiled losses.
        private: Whether it may be trained with differential privacy; otherwise that is refused.
        thorough: Whether to try every way to compile as well, and many neighbours under clipping.
    """
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(ROWS, 5)).astype("float32")
    y = rng.integers(0, 3, ROWS).astype("int32")
    model, loss = small_model(), PerExampleLoss(loss_from_logits())

    def losses_of(objective, x, y, weights=None):
        perturbed = objective.perturb(model, x, y, loss)
        return objective(model, x, y, perturbed, loss, weights)

    # Serialization.
    objective = make_objective()
    config = keras.saving.serialize_keras_object(objective)
    revived = keras.saving.deserialize_keras_object(config)
    assert type(revived) is type(objective)
    assert keras.saving.serialize_keras_object(revived) == config
    name = keras.saving.get_registered_name(type(objective))
    assert name == f"keras_secure>{type(objective).__name__}"

    # One loss per example and predictions for the metrics; eager, graph and compiled agree.
    expected, outputs = losses_of(make_objective(), x, y)
    assert tuple(expected.shape) == (ROWS,)
    assert tuple(outputs.shape) == (ROWS, 3)
    assert keras.backend.standardize_dtype(expected.dtype) == "float32"
    for jit_compile in (False, True) if thorough else (False,):
        fresh = make_objective()
        graph = backend.compiled(
            lambda x, y, fresh=fresh: losses_of(fresh, x, y)[0], jit_compile=jit_compile
        )
        found = graph(x, y)
        if jit_compile and seed_states(fresh):
            # XLA draws other random starts from the same seed.
            assert np.isfinite(found).all()
            if not objective.mixes_examples:
                np.testing.assert_allclose(found, expected, rtol=0.2, atol=0.1)
        else:
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=atol)
    doubled, _ = losses_of(make_objective(), x, y, np.full(ROWS, 2.0, "float32"))
    np.testing.assert_allclose(doubled, 2 * np.asarray(expected), rtol=1e-4, atol=atol)

    if not objective.mixes_examples:
        check_that_examples_are_apart(losses_of, make_objective, x, y, expected[0])
    if private:
        check_clipping(make_objective(), model, loss, rng, trials=60 if thorough else 12)

    # In `fit`: in every mode, private or not, in half precision too; it learns.
    x = rng.uniform(size=(48, 5)).astype("float32")
    y = np.argmax(x[:, :3], axis=-1).astype("int32")

    def fit(optimizer, epochs=1, **options):
        keras.utils.set_random_seed(1)
        secure = ks.SecureModel(small_model(), objective=make_objective())
        secure.compile(optimizer, loss=loss_from_logits(), metrics=["accuracy"], **options)
        history = secure.fit(x, y, batch_size=16, epochs=1, verbose=0).history
        if epochs == 1:
            return checked(history)
        # The step is traced in the first epoch, and never again.
        kind = type(secure.objective)
        with mock.patch.object(kind, "__call__", side_effect=AssertionError("traced again")):
            later = secure.fit(x, y, batch_size=16, epochs=epochs, verbose=0).history
        return {name: history[name] + values for name, values in checked(later).items()}

    def checked(history):
        assert np.isfinite(history["loss"]).all()
        assert 0 <= history["accuracy"][-1] <= 1
        return history

    learnt = fit(keras.optimizers.Adam(0.05), epochs=12)
    assert learnt["loss"][-1] < learnt["loss"][0]
    fit("sgd", jit_compile=True)
    if thorough:
        fit("sgd", run_eagerly=True)

    def private_optimizer():
        return ks.optimizers.DPSGD(0.1, l2_norm_clip=1.0, noise_multiplier=1.0, seed=0)

    if not private:
        with pytest.raises(PrivacyError):
            fit(private_optimizer())
    elif thorough:
        fit(private_optimizer())
        fit(private_optimizer(), jit_compile=True)
    keras.config.set_dtype_policy("mixed_float16")
    if thorough or not private:
        fit("sgd")
    if private:
        fit(private_optimizer())
    keras.config.set_dtype_policy("float32")


def check_that_examples_are_apart(losses_of, make_objective, x, y, expected):
    """The loss of an example is its own: batch-mates, however strange, do not matter."""
    mates, labels = x.copy(), y.copy()
    mates[1:] = 1.0 - mates[1:] ** 3
    labels[1:] = (labels[1:] + 1) % 3
    mates[2] = np.nan
    alone, _ = losses_of(make_objective(), mates, labels)
    np.testing.assert_allclose(alone[0], expected, rtol=1e-5, atol=1e-6)


def check_clipping(objective, model, loss, rng, trials):
    """Under clipping no neighbour moves the sum by more than the bound."""
    engine = PerExampleClipping(model)

    @tf.function(autograph=False)
    def clipped(x, y, mask):
        perturbed = objective.perturb(model, x, y, loss)
        found, _, _ = engine.clipped_sum(
            lambda: objective(model, x, y, perturbed, loss, None),
            l2_norm_clip=0.05,
            batch_size=ROWS,
            example_mask=mask,
        )
        return tf.concat([tf.reshape(value, [-1]) for value in found.values], 0)

    seeds = seed_states(objective)
    moved = []
    for trial in range(trials):
        x = rng.uniform(size=(ROWS, 5)).astype("float32")
        x *= np.float32(10.0 ** rng.uniform(-3, 3)) if trial % 2 else np.float32(1.0)
        y = rng.integers(0, 3, ROWS).astype("int32")
        mask = np.ones(ROWS, bool)
        start = [(seed, seed.value + 0) for seed in seeds]
        for state, value in start:
            state.assign(value)
        everyone = np.asarray(clipped(x, y, mask), "float64")
        for state, value in start:
            state.assign(value)
        index = rng.integers(ROWS)
        mask[index] = False
        x[index] = np.nan if trial % 3 == 0 else 0.0
        moved.append(np.linalg.norm(everyone - np.asarray(clipped(x, y, mask), "float64")))
    assert max(moved) <= 0.05 * (1 + 1e-6)
    assert max(moved) > 0.05 * 0.99
