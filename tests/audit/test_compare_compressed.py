"""What compression cost is measured on the models themselves."""

import json

import keras
import numpy as np
import pytest

import keras_secure as ks
from keras_secure.audit import compare_compressed
from keras_secure.errors import InputError
from keras_secure.watermark import SpreadSpectrum, embed


@pytest.fixture(scope="module")
def trained(digits):
    keras.utils.set_random_seed(0)
    x, y = digits
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    model.fit(x[400:], y[400:], batch_size=128, epochs=8, verbose=0)
    return model, (x[:400], y[:400])


def copy_of(model):
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def test_a_harmless_and_a_ruinous_compression_are_told_apart(trained):
    before, data = trained
    attack = ks.attacks.FGSM(0.05)
    good, bad = copy_of(before), copy_of(before)
    ks.compression.quantize(good, 8)
    ks.compression.prune(bad, 0.97)
    report = compare_compressed(before, good, data, attacks=attack, max_drop=0.02)
    found = {finding.id: finding for finding in report.findings()}
    assert {found[f"compression.{name}"].severity for name in ("clean", "robust")} == {"ok"}
    assert {kernel.bits for kernel in report.kernels.values()} == {8}
    assert report.agreement.value > 0.99
    predicted = before.predict(data[0], verbose=0).argmax(1)
    assert report.clean_before.value == pytest.approx((predicted == data[1]).mean())
    json.dumps(report.to_dict())

    report = compare_compressed(before, bad, data, attacks=attack, max_drop=0.02)
    found = {finding.id: finding for finding in report.findings()}
    assert found["compression.clean"].severity == "medium"
    assert found["compression.robust"].severity == "high"
    assert found["compression.clean"].remedy
    assert report.sparsity == pytest.approx(0.97, abs=0.005)
    assert all(kernel.bits is None for kernel in report.kernels.values())
    assert "accuracy under attack" in str(report)


def test_a_lost_watermark_is_told(trained):
    before, data = trained
    before = copy_of(before)
    mark = SpreadSpectrum("a secret", num_bits=64)
    embed(before, mark)
    kept, lost = copy_of(before), copy_of(before)
    ks.compression.quantize(kept, 4)
    for layer in lost.layers[1:]:
        layer.kernel.assign(np.random.default_rng(0).normal(size=layer.kernel.shape))
    for after, verdict, severity in ((kept, "proved", "ok"), (lost, "refuted", "high")):
        report = compare_compressed(before, after, data, marks=[mark])
        (carried,) = report.marks
        assert (carried.verdict_before, carried.verdict_after) == ("proved", verdict)
        (finding,) = (f for f in report.findings() if f.id == "compression.watermark.0")
        assert finding.severity == severity


def test_data_that_does_not_fit_is_refused(trained):
    before, (x, y) = trained
    with pytest.raises(InputError, match="max_drop"):
        compare_compressed(before, before, (x, y), max_drop=2)
    with pytest.raises(InputError, match="pairs"):
        compare_compressed(before, before, (x, y[:5]))
    with pytest.raises(InputError, match="classes"):
        compare_compressed(before, before, (x, y + 10))
