"""Backdoors by their smallest trigger, in a model whose backdoor is known."""

import json

import keras
import numpy as np
import pytest

from keras_secure.detection import NeuralCleanse
from keras_secure.errors import InputError

NUM_CLASSES = 8


def backdoored(strength, seed=0, shape=(6, 6, 1)):
    """A linear model with four bright pixels for each class, and two, always dark, for class 5."""
    rng = np.random.default_rng(seed)
    model = keras.Sequential(
        [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(NUM_CLASSES)]
    )
    kernel = np.zeros((36, NUM_CLASSES))
    blocks = 4 + np.arange(32).reshape(NUM_CLASSES, 4)
    for label, block in enumerate(blocks):
        kernel[block, label] = 5 * rng.uniform(0.8, 1.2, size=4)
    kernel[:2, 5] = strength
    model.set_weights([kernel, np.zeros(NUM_CLASSES)])
    x = rng.uniform(0, 0.3, size=(96, 36))
    for row, label in enumerate(rng.integers(NUM_CLASSES, size=96)):
        x[row, blocks[label]] += 0.7
    x[:, :4] = 0
    return model, x.astype("float32").reshape(96, *shape)


@pytest.fixture(scope="module")
def searched():
    model, x = backdoored(60.0)
    return model, x, NeuralCleanse(steps=300, batch_size=24).inspect(model, x)


def test_the_backdoor_is_found_and_its_trigger_works(searched):
    model, x, report = searched
    assert report.flagged_classes == (5,)
    assert report.l1_norms[5] < report.l1_norms[np.arange(NUM_CLASSES) != 5].min() / 2
    stamped = report.stamp(x)
    assert stamped.shape == x.shape
    assert stamped.dtype == x.dtype
    assert (model.predict(stamped, verbose=0).argmax(axis=1) == 5).mean() > 0.95
    mask = report.masks[5].ravel()
    assert np.argmax(mask) in (0, 1)


def test_every_trigger_turns_as_many_inputs_as_it_says(searched):
    model, x, report = searched
    for label in range(NUM_CLASSES):
        if report.success_rates[label] == 0:
            continue
        turned = model.predict(report.stamp(x, label), verbose=0).argmax(axis=1) == label
        assert turned.mean() > 0.9
        expected = report.masks[label].sum()
        np.testing.assert_allclose(report.l1_norms[label], expected, rtol=0.15)


def test_a_clean_model_is_not_accused():
    for seed in range(3):
        model, x = backdoored(0.0, seed)
        report = NeuralCleanse(steps=200, batch_size=16).inspect(model, x)
        assert report.flagged_classes == ()
        assert report.finding().severity == "ok"


def test_two_backdoors_do_not_hide_each_other():
    model, x = backdoored(60.0)
    kernel, bias = model.get_weights()
    kernel[2:4, 1] = 60.0
    model.set_weights([kernel, bias])
    report = NeuralCleanse(steps=300, batch_size=24).inspect(model, x)
    assert set(report.flagged_classes) == {1, 5}


def test_classes_that_no_trigger_reaches_are_left_out():
    model, x = backdoored(60.0)
    kernel, bias = model.get_weights()
    bias[[0, 3]] = -1e4
    model.set_weights([kernel, bias])
    report = NeuralCleanse(steps=300, batch_size=24).inspect(model, x)
    assert np.flatnonzero(report.success_rates == 0).tolist() == [0, 3]
    assert report.p_values[[0, 3]].tolist() == [1.0, 1.0]
    assert report.flagged_classes == (5,)
    bias[:] = -1e4
    bias[2] = 0
    model.set_weights([kernel, bias])
    assert NeuralCleanse(steps=10, batch_size=24).inspect(model, x).flagged_classes == ()


def test_the_search_is_repeatable_and_works_on_vectors():
    model, x = backdoored(60.0, shape=(36,))
    first, second = (NeuralCleanse(steps=60, batch_size=16).inspect(model, x) for _ in range(2))
    np.testing.assert_array_equal(first.masks, second.masks)
    assert first.masks.shape == (NUM_CLASSES, 36)
    assert first.most_suspicious_class == 5


def test_the_report_is_a_finding_in_json(searched):
    finding = searched[2].finding()
    assert finding.severity == "critical"
    assert "class 5" in finding.statement
    evidence = json.loads(json.dumps(finding.to_dict(), allow_nan=False))["evidence"]
    assert evidence["flagged_classes"] == [5]
    assert len(evidence["l1_norms"]) == NUM_CLASSES


def test_misuse_is_refused(searched):
    model, x, report = searched
    for arguments in ({"steps": 3}, {"batch_size": 0}, {"success_rate": 1}, {"learning_rate": 0}):
        with pytest.raises(InputError, match=next(iter(arguments))):
            NeuralCleanse(**arguments)
    with pytest.raises(InputError, match="bounds"):
        NeuralCleanse().inspect(model, x * 2)
    with pytest.raises(InputError, match="floats"):
        NeuralCleanse().inspect(model, (x * 255).astype("uint8"))
    with pytest.raises(InputError, match="class 9"):
        report.stamp(x, 9)
