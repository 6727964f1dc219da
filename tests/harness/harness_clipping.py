"""The slow truth about clipped sums: every example's gradient alone, in float64 where it counts."""

import warnings

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from keras_secure.errors import FallbackWarning
from keras_secure.privacy import PerExampleClipping

SIZE = 5


def normal(*shape, seed=0):
    """Standard normal float32 values."""
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def sequential(shape, *parts, dtype=None):
    """A Sequential model of inputs of this shape."""
    return keras.Sequential([keras.Input(shape, dtype=dtype), *parts])


def randomized(model, seed=5):
    """Gives every weight random values, so that zeros of an initializer hide nothing."""
    random = np.random.default_rng(seed)
    for variable in model.variables:
        if keras.backend.is_float_dtype(variable.dtype):
            variable.assign(random.normal(size=variable.shape, scale=0.5))
    return model


def seed_states(model):
    """The variables that decide what dropout draws next."""
    return [v for v in model.variables if v.name == "seed_generator_state"]


def true_clipped_sum(model, losses, clip, mask=None, loss_scale=1.0):
    """Differentiates the losses of one forward pass one by one and clips each gradient.

    Returns:
        (list of float64 arrays, gradient norms of shape (batch,)).
    """
    variables = model.trainable_variables
    with tf.GradientTape(persistent=True) as tape:
        values = losses()
        singles = [values[i] * loss_scale for i in range(values.shape[0])]
    total, norms = None, []
    for index, single in enumerate(singles):
        gradients = tape.gradient(single, [v.value for v in variables])
        gradients = [
            np.zeros(v.shape)
            if g is None
            else np.asarray(tf.convert_to_tensor(g), "float64") / loss_scale
            for v, g in zip(variables, gradients, strict=True)
        ]
        norm = np.sqrt(sum(np.sum(g**2) for g in gradients))
        norms.append(norm)
        counts = np.isfinite(norm) and (mask is None or bool(mask[index]))
        factor = min(1.0, clip / max(norm, 1e-300)) if counts else 0.0
        clipped = [factor * g if factor else np.zeros_like(g) for g in gradients]
        total = clipped if total is None else [a + b for a, b in zip(total, clipped, strict=True)]
    return total, np.array(norms)


def assert_exact(
    model,
    losses,
    size,
    *,
    clip=None,
    mask=None,
    modes=("eager",),
    tolerance=1e-5,
    loss_scale=1.0,
    engine=None,
):
    """Asserts that the engine's clipped sum is the true one, relative to its global norm.

    Args:
        model: A built model.
        losses: Function without arguments that runs the model and returns losses (batch,).
        size: Examples in the batch.
        clip: The bound; None takes the median norm, so that some examples are clipped and some not.
        mask: Optional (batch,) bool.
        modes: Of "eager", "graph" and "jit".
        tolerance: Allowed relative error.
        loss_scale: Handed to the engine.
        engine: A `PerExampleClipping` to use.

    Returns:
        The largest relative error found.
    """
    seeds = seed_states(model)
    before = [np.asarray(s) for s in seeds]

    def rewind():
        for state, value in zip(seeds, before, strict=True):
            state.assign(value)

    rewind()
    _, norms = true_clipped_sum(model, losses, 1.0, loss_scale=loss_scale)
    assert np.nanmax(norms) > 0, "the test's gradients are zero"
    clip = float(np.nanmedian(norms)) if clip is None else clip
    rewind()
    truth, norms = true_clipped_sum(model, losses, clip, mask, loss_scale)
    scale = np.sqrt(sum(np.sum(t**2) for t in truth))
    engine = engine or PerExampleClipping(model)
    worst = 0.0
    for mode in modes:

        def run():
            found, _, _ = engine.clipped_sum(
                lambda: (losses(), None),
                l2_norm_clip=clip,
                batch_size=size,
                example_mask=None if mask is None else keras.ops.convert_to_tensor(mask),
                loss_scale=loss_scale,
            )
            return found.values, found.norms

        if mode != "eager":
            run = tf.function(run, jit_compile=mode == "jit", autograph=False)
        rewind()
        values, found_norms = run()
        difference = [np.asarray(v, "float64") - t for v, t in zip(values, truth, strict=True)]
        error = np.sqrt(sum(np.sum(d**2) for d in difference)) / scale
        assert error <= tolerance, f"{mode}: relative error {error:.2g}"
        finite = np.isfinite(norms)
        if mask is not None:
            finite = finite & mask
        np.testing.assert_allclose(
            np.asarray(found_norms)[finite], norms[finite], rtol=10 * tolerance, atol=1e-12
        )
        for value, variable in zip(values, model.trainable_variables, strict=True):
            assert value.dtype == tf.float32
            assert tuple(value.shape) == tuple(variable.shape)
        worst = max(worst, error)
    rewind()
    return worst


def squared_error(y, outputs):
    """Squared error of each example, summed within it."""
    total = 0.0
    targets = tree.flatten(y)
    for target, output in zip(targets, tree.flatten(outputs), strict=True):
        output = keras.ops.cast(output, "float32")
        axes = tuple(range(1, len(output.shape)))
        total = total + keras.ops.sum(keras.ops.square(output - target), axis=axes)
    return total


def check(model, x=None, *, training=False, fallback=(), weights=None, **options):
    """Asserts exactness on random targets, and which layers take the announced fallback.

    Args:
        model: A built model.
        x: Inputs of `SIZE` examples; None draws them.
        training: Whether the model runs as in training.
        fallback: The classes of the layers that run with copies of their weights.
        weights: Optional sample weights, shape (SIZE,).
        **options: For `assert_exact`.

    Returns:
        The largest relative error found.
    """
    x = normal(SIZE, *model.input_shape[1:]) if x is None else x
    outputs = model(x, training=False)
    y = tree.map_structure(lambda o: normal(*o.shape, seed=1), outputs)

    def losses():
        values = squared_error(y, model(x, training=training))
        return values if weights is None else values * weights

    engine = PerExampleClipping(model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        error = assert_exact(model, losses, SIZE, engine=engine, **options)
    found = {type(layer) for layer in engine.gradients.layers()[1]}
    assert found == set(fallback), f"the fallback was taken by {found}"
    announced = [str(w.message) for w in caught if issubclass(w.category, FallbackWarning)]
    assert bool(announced) == bool(fallback)
    assert all("one copy of their weights" in message for message in announced)
    assert len(set(announced)) == len(announced), "announced more than once"
    return error
