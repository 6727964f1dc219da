"""Losses on logits: their formulas, and that no scale, tie or saturation spoils them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_secure import backend
from keras_secure.attacks.losses import (
    logit_ratio,
    margin,
    reached_logit_ratio,
    targeted_logit_ratio,
)


def slow(logits, label, target=None):
    """The formulas of the paper for one example, in float64; (margin, dlr, targeted dlr)."""
    z = [float(value) for value in logits]
    descending = sorted(z, reverse=True)
    others = max(value for index, value in enumerate(z) if index != label)
    lead = others - z[label]
    untargeted = lead / (descending[0] - descending[2]) if len(z) > 2 else lead
    if target is None:
        return lead, untargeted, None
    ahead = z[target] - z[label]
    if len(z) > 3:
        ahead /= descending[0] - (descending[2] + descending[3]) / 2
    elif len(z) == 3:
        ahead /= descending[0] - descending[2]
    return lead, untargeted, ahead


@settings(max_examples=40, deadline=None)
@given(classes=st.integers(2, 7), seed=st.integers(0, 10_000))
def test_losses_are_the_formulas(classes, seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(5, classes)).astype("float32")
    labels = rng.integers(0, classes, 5).astype("int32")
    targets = ((labels + rng.integers(1, classes, 5)) % classes).astype("int32")
    expected = [slow(*row) for row in zip(logits, labels, targets, strict=True)]
    found = zip(
        ops.convert_to_numpy(margin(logits, labels)),
        ops.convert_to_numpy(logit_ratio(logits, labels)),
        ops.convert_to_numpy(targeted_logit_ratio(logits, labels, targets)),
        strict=True,
    )
    np.testing.assert_allclose(list(found), expected, rtol=1e-4, atol=1e-5)


LOSSES = {
    "untargeted": logit_ratio,
    "targeted": lambda logits, labels: targeted_logit_ratio(
        logits, labels, (labels + 1) % logits.shape[1]
    ),
    "reached": reached_logit_ratio,
}


@pytest.mark.parametrize("classes", [3, 5])
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("scale", [1e-20, 1e4, 1e30])
def test_the_ratio_knows_no_scale(name, classes, scale):
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(20, classes)).astype("float32")
    labels = rng.integers(0, 3, 20).astype("int32")
    factor = np.float32(scale)

    def loss(values):
        return ops.sum(LOSSES[name](values, labels))

    np.testing.assert_allclose(
        LOSSES[name](factor * logits, labels), LOSSES[name](logits, labels), rtol=1e-4, atol=1e-6
    )
    gradient = ops.convert_to_numpy(backend.input_gradient(loss, ops.convert_to_tensor(logits))[1])
    scaled = backend.input_gradient(loss, ops.convert_to_tensor(factor * logits))[1]
    scaled = factor * ops.convert_to_numpy(scaled)
    np.testing.assert_allclose(scaled, gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("classes", [2, 3, 4, 6])
@pytest.mark.parametrize("name", LOSSES)
def test_ties_give_numbers_and_a_direction(name, classes):
    labels = np.array([0, 1, 0], "int32")
    logits = np.zeros((3, classes), "float32")
    logits[1] = -7.0
    logits[2] = 3e38

    def loss(values):
        return ops.sum(LOSSES[name](values, labels))

    value, gradient = backend.input_gradient(loss, ops.convert_to_tensor(logits))
    assert np.isfinite(ops.convert_to_numpy(value))
    gradient = ops.convert_to_numpy(gradient)
    assert np.isfinite(gradient).all()
    assert (np.abs(gradient).max(axis=1) > 0).all()


def test_a_masked_class_hides_no_gradient():
    logits = np.array([[2.0, 1.0, -np.inf, -np.inf]], "float32")
    labels = np.array([0], "int32")
    value, gradient = backend.input_gradient(
        lambda values: ops.sum(logit_ratio(values, labels)), ops.convert_to_tensor(logits)
    )
    assert float(value) < 0
    assert (np.sign(ops.convert_to_numpy(gradient))[0, :2] == [-1, 1]).all()
