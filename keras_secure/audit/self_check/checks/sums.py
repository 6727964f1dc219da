"""Clipped sums: equal to a loop over examples, and bounded whatever an example holds."""

import keras
import numpy as np
from keras import ops

from keras_secure import backend
from keras_secure.audit.self_check.checks.check import require
from keras_secure.audit.self_check.checks.subjects import examples, model_with_every_turn
from keras_secure.privacy import PerExampleClipping

_CLIP = 0.7


def _loss(model, x, y):
    logits = model(x, training=True)
    return keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)


def _clipped(model, x, y, mask=None, clip=_CLIP):
    def losses():
        return _loss(model, x, y), None

    total, _, _ = PerExampleClipping(model).clipped_sum(
        losses,
        l2_norm_clip=clip,
        batch_size=len(x),
        example_mask=None if mask is None else ops.convert_to_tensor(mask),
    )
    return _vector(total.values), total.l2_bound


def _vector(tensors):
    return np.concatenate([np.asarray(t, "float64").ravel() for t in tensors])


def sums_equal_the_loop():
    """Each example's gradient, taken alone and clipped in float64, adds up to the engine's sum."""
    model = model_with_every_turn()
    x, y = examples(6, seed=1)
    expected = 0.0
    for index in range(len(x)):

        def alone(index=index):
            return ops.sum(_loss(model, x[index : index + 1], y[index : index + 1])), None

        _, _, found = backend.gradients(alone, lambda: model.trainable_variables, dense=True)
        gradient = _vector(found)
        expected = expected + gradient * min(1.0, _CLIP / np.linalg.norm(gradient))
    found, _ = _clipped(model, x, y)
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    require(error < 1e-5, f"the clipped sum differs from the loop over examples by {error:.1e}")


def one_example_moves_a_sum_by_the_clip_at_most():
    """Over neighbouring batches, also of hostile scale, no sum moves by more than the clip."""
    model = model_with_every_turn()
    for turn in range(12):
        scale = 10.0 ** np.random.default_rng(turn).uniform(-3, 6)
        x, y = examples(4, seed=turn, scale=scale)
        mask = np.ones(4, bool)
        with_it, bound = _clipped(model, x, y, mask)
        mask[turn % 4] = False
        without_it, _ = _clipped(model, x, y, mask)
        moved = np.linalg.norm(with_it - without_it)
        require(bound == _CLIP, f"the sum states the bound {bound}, not the clip {_CLIP}")
        require(
            moved <= _CLIP * (1 + 1e-6),
            f"one example moves the sum by {moved / _CLIP:.4f} clips",
        )


def non_finite_examples_count_as_zero():
    """An example whose gradient is NaN leaves the sum of the others as it is."""
    model = model_with_every_turn()
    x, y = examples(4, seed=3)
    mask = np.array([True, True, True, False])
    expected, _ = _clipped(model, x, y, mask)
    x[3] = np.nan
    found, _ = _clipped(model, x, y)
    require(np.all(np.isfinite(found)), "an example with a NaN gradient spoils the sum")
    require(
        np.allclose(found, expected, atol=1e-6), "an example with a NaN gradient changes the sum"
    )
