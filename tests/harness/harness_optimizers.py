"""What every private optimizer must do, whichever optimizer is inside."""

import copy
import pickle
import weakref

import keras
import numpy as np
import pytest

import keras_secure as ks
from keras_secure.errors import PrivacyError
from keras_secure.privacy import ClippedSum, UnstatedSampling

SHAPES = ((3, 2), (2,))


_VARIABLES = weakref.WeakKeyDictionary()


def variables_of(optimizer, shapes=SHAPES):
    """The variables that an optimizer is tested on; built with them."""
    if optimizer not in _VARIABLES:
        _VARIABLES[optimizer] = [keras.Variable(np.zeros(shape, "float32")) for shape in shapes]
        optimizer.build(_VARIABLES[optimizer])
    return _VARIABLES[optimizer]


def released(optimizer, sums=None, steps=1, divisor=1.0, penalties=None, shapes=SHAPES):
    """What the optimizer adds to its variables in `steps` steps on the same sum."""
    variables = variables_of(optimizer, shapes)
    sums = sums or [np.zeros(shape, "float32") for shape in shapes]
    before = [np.asarray(variable, "float64") for variable in variables]
    optimizer.begin_phase(UnstatedSampling(), divisor)
    for _ in range(steps):
        clipped = ClippedSum(
            [keras.ops.convert_to_tensor(s) for s in sums], optimizer.l2_norm_clip, None
        )
        optimizer.apply_clipped(clipped, variables, penalties)
    return [np.asarray(v, "float64") - b for v, b in zip(variables, before, strict=True)]


def run_optimizer_harness(make_optimizer, make_plain, tmp_path):
    """Runs one private optimizer through everything that Keras may do with it.

    Args:
        make_optimizer: Function that takes arguments of `DPOptimizer` and returns a new one.
        make_plain: Function without arguments: the Keras optimizer that is inside.
        tmp_path: An empty folder.
    """
    plan = {"l2_norm_clip": 1.5, "noise_multiplier": 3.0, "expected_batch_size": 8, "seed": 3}
    optimizer = make_optimizer(**plan)
    assert isinstance(optimizer, keras.optimizers.Optimizer)
    assert type(optimizer.inner_optimizer) is type(make_plain())

    # Configuration: the plan and nothing secret; it builds the same optimizer with an empty ledger.
    released(optimizer, steps=2)
    config = optimizer.get_config()
    assert {key: config[key] for key in plan} == plan
    for clone in (
        type(optimizer).from_config(config),
        keras.optimizers.deserialize(keras.optimizers.serialize(optimizer)),
    ):
        assert clone.get_config() == config
        assert clone.executed_steps == 0
        assert clone.ledger.phases(0) == []
    name = keras.saving.get_registered_name(type(optimizer))
    assert name == f"keras_secure>{type(optimizer).__name__}"

    # Without noise the step is the inner optimizer's on sum / divisor.
    sums = [np.random.default_rng(0).normal(size=shape).astype("float32") for shape in SHAPES]
    noiseless = make_optimizer(l2_norm_clip=1.5, noise_multiplier=0.0)
    found = released(noiseless, sums, steps=3, divisor=4.0)
    plain = make_plain()
    variables = [keras.Variable(np.zeros(shape, "float32")) for shape in SHAPES]
    for _ in range(3):
        plain.apply([keras.ops.convert_to_tensor(s / 4.0) for s in sums], variables)
    for got, expected in zip(found, variables, strict=True):
        np.testing.assert_allclose(got, np.asarray(expected), rtol=1e-6, atol=1e-7)
    assert int(noiseless.iterations) == noiseless.executed_steps == 3

    # With noise it moves all the same, repeatably under a seed and never without.
    again = [released(make_optimizer(**plan), steps=2) for _ in range(2)]
    np.testing.assert_array_equal(again[0][0], again[1][0])
    unseeded = [released(make_optimizer(**{**plan, "seed": None}), steps=2) for _ in range(2)]
    # Over all variables: an optimizer of signs (Lion) may repeat or undo a single value by chance.
    first, second = (np.concatenate([np.ravel(v) for v in values]) for values in unseeded)
    assert not np.array_equal(first, second)
    assert np.any(first != 0)

    # Averages are refused with the remedy, whichever way they come.
    for call in (optimizer.apply, optimizer.apply_gradients):
        pairs = [(keras.ops.zeros(s), keras.Variable(np.zeros(s))) for s in SHAPES]
        with pytest.raises(PrivacyError, match=r"SecureModel\(model\)"):
            call(pairs) if call == optimizer.apply_gradients else call([g for g, _ in pairs])

    # Learning rate and schedules are the inner optimizer's.
    optimizer.learning_rate = 0.25
    assert float(optimizer.learning_rate) == float(optimizer.inner_optimizer.learning_rate) == 0.25

    # Eager, graph and compiled training agree; the trained state survives saving.
    x = np.random.default_rng(1).normal(size=(32, 4)).astype("float32")
    y = x[:, :2]
    weights = []
    for options in ({"run_eagerly": True}, {}, {"jit_compile": True}):
        keras.utils.set_random_seed(0)
        secure = ks.SecureModel(
            keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]), name="secure"
        )
        secure.compile(make_optimizer(**plan), loss="mse", **options)
        history = secure.fit(x, y, batch_size=8, epochs=1, verbose=0)
        assert np.isfinite(history.history["loss"]).all()
        assert secure.optimizer.executed_steps == 4
        weights.append(np.concatenate([w.ravel() for w in secure.get_weights()]))
    np.testing.assert_allclose(weights[0], weights[1], rtol=1e-4, atol=1e-5)
    assert np.isfinite(weights[2]).all()  # XLA may number the noise otherwise
    path = tmp_path / "secure.keras"
    secure.save(path)
    loaded = keras.models.load_model(path)
    assert type(loaded.optimizer) is type(optimizer)
    assert loaded.optimizer.executed_steps == 4
    assert loaded.optimizer.epsilon(1e-3) == secure.optimizer.epsilon(1e-3)
    for own, restored in zip(secure.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(np.asarray(own), np.asarray(restored))
    loaded.fit(x, y, batch_size=8, epochs=1, verbose=0)
    assert loaded.optimizer.executed_steps == 8

    # No copy shares the key.
    secret = make_optimizer(**{**plan, "seed": None})
    key = np.asarray(secret._noise._key).tobytes()
    released(secret)
    for duplicate in copies(secret):
        assert np.asarray(duplicate._noise._key).tobytes() != key


def copies(optimizer):
    """Every copy that Python can make; what cannot be copied leaks nothing."""
    found = []
    for duplicate in (copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))):
        try:
            found.append(duplicate(optimizer))
        except (TypeError, NotImplementedError, AttributeError, pickle.PicklingError, ValueError):
            continue
    return found
