"""Steps: what is divided by what, what counts, and where the budget ends."""

import numpy as np

from keras_secure.audit.self_check.checks.check import require
from keras_secure.audit.self_check.checks.subjects import (
    examples,
    model_with_every_turn,
    movement,
    secure_model,
)
from keras_secure.privacy import UnstatedSampling

_DIVISOR = 10.0


def _ready(**plan):
    secure = secure_model(expected_batch_size=_DIVISOR, **plan)
    x, y = examples(6, seed=5)
    secure(x)
    secure.optimizer.build(secure.model.trainable_variables)
    secure.optimizer.begin_phase(UnstatedSampling(), _DIVISOR)
    return secure, x, y


def _step(secure, x, y, real):
    mask = (np.arange(len(x)) < real).astype("float32")
    secure.train_step({"x": x, "y": y, "mask": mask})


def the_divisor_is_fixed():
    """With every example clipped, the step is (sum of clipped gradients) / expected batch size."""
    secure, x, y = _ready(l2_norm_clip=1e-3)
    weights = secure.model.get_weights()
    alone = []
    for index in range(3):
        secure.model.set_weights(weights)
        one = slice(index, index + 1)
        alone.append(movement(secure.model, lambda one=one: _step(secure, x[one], y[one], 1)))
    secure.model.set_weights(weights)
    together = movement(secure.model, lambda: _step(secure, x, y, 3))
    require(
        np.allclose(np.linalg.norm(alone, axis=1), 1e-3 / _DIVISOR, rtol=1e-2),
        "one clipped example does not move the weights by clip / expected batch size",
    )
    require(
        np.allclose(together, np.sum(alone, axis=0), atol=1e-6),
        "the step of a batch is not the sum of the steps of its examples",
    )


def padding_counts_as_nothing():
    """What stands in the padded rows has no influence."""
    secure, x, y = _ready()
    weights = secure.model.get_weights()
    expected = movement(secure.model, lambda: _step(secure, x, y, 3))
    secure.model.set_weights(weights)
    x[3:] = 100.0
    found = movement(secure.model, lambda: _step(secure, x, y, 3))
    require(np.allclose(found, expected, atol=1e-7), "padded rows change the step")


def empty_batches_count():
    """A draw without examples still adds noise and is entered in the ledger."""
    secure, x, y = _ready(noise_multiplier=1.0)
    moved = movement(secure.model, lambda: _step(secure, x, y, 0))
    require(
        np.linalg.norm(moved) > 1e-3, "an empty batch releases no noise, which tells it was empty"
    )
    require(secure.optimizer.executed_steps == 1, "an empty batch is not counted")


def every_step_is_counted():
    """fit, a second fit, train_on_batch and compiling anew: the ledger has them all."""
    secure = secure_model(noise_multiplier=1.0, expected_batch_size=8)
    x, y = examples(16, seed=6)
    secure.fit(x, y, batch_size=8, verbose=0)
    secure.fit(x, y, batch_size=8, verbose=0)
    secure.train_on_batch(x[:8], y[:8])
    phases = secure.optimizer.ledger.phases(secure.optimizer.executed_steps)
    counted = sum(phase.steps for phase in phases)
    require(counted == 5, f"5 private steps were taken, the ledger has {counted}")
    again = secure_model(secure.model, noise_multiplier=1.0, expected_batch_size=8).optimizer
    secure.compile(again, secure.loss, run_eagerly=True)
    require(again.executed_steps == 5, "compiling anew forgets what was spent")


def no_step_beyond_the_budget():
    """Beyond the limit a step releases nothing."""
    secure, x, y = _ready(noise_multiplier=50.0)
    steps = secure.optimizer.limit_to(0.05, 1e-3)
    require(steps > 0, "a budget of epsilon 0.05 holds no step at noise 50")
    spent = secure.optimizer.epsilon(1e-3)
    for _ in range(steps):
        _step(secure, x, y, 6)
    require(
        secure.optimizer.epsilon(1e-3) <= 0.05 and spent == 0, "the budget was crossed while held"
    )
    moved = movement(secure.model, lambda: _step(secure, x, y, 6))
    require(np.linalg.norm(moved) == 0, "a step beyond the budget still releases something")


def the_penalty_is_outside_the_clip():
    """A weight regularizer sees no data: it is neither clipped nor divided by the batch."""
    import keras

    model = model_with_every_turn()
    kernel = model.trainable_variables[0]
    secure, x, y = _ready_with(model)
    weights = model.get_weights()
    without = movement(model, lambda: _step(secure, x, y, 6))
    model.set_weights(weights)
    kernel.regularizer = keras.regularizers.L2(0.5)
    with_it = movement(model, lambda: _step(secure, x, y, 6))
    model.set_weights(weights)
    expected = np.asarray(kernel, "float64").ravel()
    found = (with_it - without)[: len(expected)]
    require(np.allclose(found, expected, atol=1e-5), "a weight regularizer is scaled or clipped")


def _ready_with(model):
    secure = secure_model(model, expected_batch_size=_DIVISOR)
    x, y = examples(6, seed=5)
    secure(x)
    secure.optimizer.build(model.trainable_variables)
    secure.optimizer.begin_phase(UnstatedSampling(), _DIVISOR)
    return secure, x, y
