"""What every attack of the package must do, wherever it steps."""

import json

import keras
import numpy as np
from keras import ops

from keras_secure import backend
from keras_secure.attacks import classification_logits

ORDERS = {"linf": np.inf, "l2": 2, "l1": 1}
SHAPE, CLASSES, BATCH = (5, 5, 1), 4, 6


def linear_model(units=CLASSES, activation=None, weights_scale=2.0):
    """A built classifier with smooth curvature: one convolution with tanh, then Dense."""
    model = keras.Sequential(
        [
            keras.Input(SHAPE),
            keras.layers.Conv2D(3, 3, activation="tanh"),
            keras.layers.Flatten(),
            keras.layers.Dense(units, activation=activation),
        ]
    )
    rng = np.random.default_rng(11)
    model.set_weights(
        [rng.normal(size=w.shape) * weights_scale / np.sqrt(w.size) for w in model.get_weights()]
    )
    return model


class CountingModel(keras.Model):
    """Counts how often Python runs through it, which under a graph is once per trace."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.calls = 0

    def call(self, x):
        self.calls += 1
        return self.inner(x)


def cross_entropy(model, x, labels):
    """Per-example cross-entropy in float64, computed apart from the attacks."""
    logits = ops.convert_to_numpy(classification_logits(model, x)).astype("float64")
    logits = logits - logits.max(axis=1, keepdims=True)
    return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]


def distance(x_adv, x, norm):
    """Norm of each example's perturbation, in float64."""
    delta = np.asarray(x_adv, "float64") - np.asarray(x, "float64")
    return np.linalg.norm(delta.reshape(len(delta), -1), ord=ORDERS[norm], axis=1)


def run_attack_harness(attack_cls, init_kwargs, *, fixed_start=None):
    """Runs one attack through everything that training and evaluation rely on.

    Args:
        attack_cls: The attack class.
        init_kwargs: The arguments to build it with; `epsilon` above zero, bounds (0, 1).
        fixed_start: Further arguments that make `perturb` repeatable; {"random_start": False} for
            an attack that starts at random.
    """
    fixed = {**init_kwargs, **(fixed_start or {})}
    rng = np.random.default_rng(5)
    x = rng.random((BATCH, *SHAPE)).astype("float32")
    # Values on the border are where ball and box meet.
    x[rng.random(x.shape) < 0.15] = 0.0
    x[rng.random(x.shape) < 0.15] = 1.0
    model = linear_model()
    labels = ops.convert_to_numpy(ops.argmax(model(x), axis=1)).astype("int32")

    _check_serialization(attack_cls, init_kwargs)
    _check_eager_graph_and_jit_agree(attack_cls(**fixed), model, x, labels)
    _check_ball_box_and_loss(attack_cls(**init_kwargs), model, x, labels)
    _check_each_example_on_its_own(attack_cls(**fixed), model, x, labels)
    _check_targeted(attack_cls(**init_kwargs, targeted=True), model, x, labels)
    _check_zero_epsilon(attack_cls(**init_kwargs), model, x, labels)
    _check_one_trace(attack_cls, init_kwargs, x, labels)
    _check_labels_and_models(attack_cls(**fixed), x)
    _check_half_precision(attack_cls(**init_kwargs), model, x, labels)


def _check_serialization(attack_cls, init_kwargs):
    attack = attack_cls(**init_kwargs)
    config = attack.get_config()
    assert set(init_kwargs) <= set(config), "an argument is missing from get_config"
    assert json.loads(json.dumps(config)) == config
    assert attack_cls.from_config(config).get_config() == config
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(attack))
    assert type(revived) is attack_cls
    assert revived.get_config() == config
    assert keras.saving.get_registered_name(attack_cls) == f"keras_secure>{attack_cls.__name__}"


def _check_eager_graph_and_jit_agree(attack, model, x, labels):
    def perturb(x, labels, epsilon):
        return attack.perturb(model, x, labels, epsilon=epsilon)

    args = ops.convert_to_tensor(x), ops.convert_to_tensor(labels), ops.convert_to_tensor(0.07)
    eager = ops.convert_to_numpy(perturb(*args))
    assert eager.shape == x.shape
    assert eager.dtype == x.dtype
    for jit_compile in (False, True):
        compiled = backend.compiled(perturb, jit_compile=jit_compile)
        np.testing.assert_allclose(ops.convert_to_numpy(compiled(*args)), eager, atol=1e-5)


def _check_ball_box_and_loss(attack, model, x, labels):
    clean = cross_entropy(model, x, labels)
    x_adv = ops.convert_to_numpy(attack.perturb(model, x, labels))
    # In training float32 is all there is: an ulp of the input per value may be left over.
    rounding = 2.0**-23 * {"linf": 1, "l2": np.sqrt(x[0].size), "l1": x[0].size}[attack.norm]
    assert (distance(x_adv, x, attack.norm) <= attack.epsilon * (1 + 1e-6) + rounding).all()
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    assert (cross_entropy(model, x_adv, labels) > clean).all()

    # Radii where float32 alone could not keep the promise are part of the sweep.
    for epsilon in (attack.epsilon, attack.epsilon / 1000):
        result = attack.run(model, x, labels, batch_size=4, epsilon=epsilon, verbose=0)
        assert result.x_adv.dtype == x.dtype
        assert result.x_adv.min() >= 0
        assert result.x_adv.max() <= 1
        measured = distance(result.x_adv, x, attack.norm)
        assert (measured <= epsilon * (1 + 1e-6)).all()
        np.testing.assert_array_equal(result.distance, measured)
        assert (cross_entropy(model, result.x_adv, labels) >= clean - 1e-6).all()
        answers = ops.convert_to_numpy(ops.argmax(model(result.x_adv), axis=1))
        np.testing.assert_array_equal(result.success, answers != labels)
        np.testing.assert_array_equal(result.first_success_step >= 0, result.success)

    wrong = (labels + 1) % CLASSES
    result = attack.run(model, x, wrong, verbose=0)
    assert result.success.all()
    np.testing.assert_array_equal(result.x_adv, x)
    assert not result.distance.any()
    assert not result.first_success_step.any()
    assert (result.queries == 1).all()


def _check_each_example_on_its_own(attack, model, x, labels):
    together = ops.convert_to_numpy(attack.perturb(model, x, labels))
    strangers = x.copy()
    strangers[1:] = np.random.default_rng(8).random(strangers[1:].shape)
    poisoned = x.copy()
    poisoned[1:] = np.nan
    for batch in (strangers, poisoned):
        # The very same bits: the privacy proof takes the perturbation for a function of one row.
        other = ops.convert_to_numpy(attack.perturb(model, batch, labels))
        np.testing.assert_array_equal(other[0], together[0])
    alone = ops.convert_to_numpy(attack.perturb(model, x[:1], labels[:1]))
    np.testing.assert_allclose(alone[0], together[0], atol=1e-5)
    twice = np.concatenate([x, x])
    doubled = ops.convert_to_numpy(attack.perturb(model, twice, np.concatenate([labels, labels])))
    np.testing.assert_allclose(doubled[: len(x)], together, atol=1e-5)


def _check_targeted(attack, model, x, labels):
    targets = ((labels + 1) % CLASSES).astype("int32")
    before = cross_entropy(model, x, targets)
    x_adv = ops.convert_to_numpy(attack.perturb(model, x, targets))
    assert (cross_entropy(model, x_adv, targets) < before).all()
    result = attack.run(model, x, targets, epsilon=5 * attack.epsilon, verbose=0)
    answers = ops.convert_to_numpy(ops.argmax(model(result.x_adv), axis=1))
    np.testing.assert_array_equal(result.success, answers == targets)
    # What the model answers already is no achievement of the attack.
    reached = attack.run(model, x, labels, verbose=0)
    assert reached.success.all()
    assert not reached.distance.any()


def _check_zero_epsilon(attack, model, x, labels):
    unmoved = attack.perturb(model, x, labels, epsilon=0.0)
    np.testing.assert_array_equal(ops.convert_to_numpy(unmoved), x)
    result = attack.run(model, x, labels, epsilon=0.0, verbose=0)
    np.testing.assert_array_equal(result.x_adv, x)
    assert not result.success.any()


def _check_one_trace(attack_cls, init_kwargs, x, labels):
    model = CountingModel(linear_model())
    model(x)

    def sweep(epsilons):
        for epsilon in epsilons:
            attack = attack_cls(**{**init_kwargs, "epsilon": epsilon})
            attack.run(model, x, labels, batch_size=4, from_logits=True, verbose=0)
            attack.run(model, x[:3], labels[:3], batch_size=4, from_logits=True, verbose=0)

    sweep([0.01])
    traced = model.calls
    sweep([0.02, 0.05, 1])
    assert model.calls == traced, "a sweep over epsilon traced again"

    attack = attack_cls(**init_kwargs)
    step = backend.compiled(
        lambda x, y, epsilon: attack.perturb(model, x, y, epsilon=epsilon, from_logits=True)
    )
    step(x, labels, ops.convert_to_tensor(0.01))
    traced = model.calls
    step(x, labels, ops.convert_to_tensor(0.02))
    assert model.calls == traced


def _check_labels_and_models(attack, x):
    logits_model, softmax_model = linear_model(), linear_model(activation="softmax")
    labels = ops.convert_to_numpy(ops.argmax(logits_model(x), axis=1)).astype("int64")
    expected = ops.convert_to_numpy(attack.perturb(logits_model, x, labels))
    one_hot = np.eye(CLASSES, dtype="float32")[labels]
    for y in (labels[:, None], one_hot, one_hot.astype("int32"), labels.astype("float32")):
        x_adv = ops.convert_to_numpy(attack.perturb(logits_model, x, y))
        np.testing.assert_array_equal(x_adv, expected)
    np.testing.assert_allclose(attack.perturb(softmax_model, x, labels), expected, atol=1e-5)

    # One unit z and two units [0, z] are the same classifier.
    sigmoid, single = linear_model(1, "sigmoid"), linear_model(1)
    double = keras.Sequential(
        [single, keras.layers.Dense(2, kernel_initializer=lambda *_, **__: [[0.0, 1.0]])]
    )
    binary = (ops.convert_to_numpy(single(x)) > 0).astype("int32")
    expected = ops.convert_to_numpy(attack.perturb(double, x, binary))
    for model in (sigmoid, single):
        x_adv = ops.convert_to_numpy(attack.perturb(model, x, binary))
        np.testing.assert_allclose(x_adv, expected, atol=1e-5)
        assert not attack.run(model, x, binary, epsilon=0.0, verbose=0).success.any()


def _check_half_precision(attack, model, x, labels):
    half = x.astype("float16")
    x_adv = attack.perturb(model, half, labels)
    assert keras.backend.standardize_dtype(x_adv.dtype) == "float16"
    result = attack.run(model, half, labels, verbose=0)
    assert result.x_adv.dtype == half.dtype
    assert (distance(result.x_adv, half, attack.norm) <= attack.epsilon * (1 + 1e-6)).all()
