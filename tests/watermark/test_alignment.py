"""Models whose neurons were moved about read as before once they are re-aligned."""

import keras
import numpy as np
import pytest
from harness_alignment import FAMILIES, convolutional, dense, difference, randomized, text
from keras import layers
from watermark_attacks import disguise, overwrite, prune, quantize

from keras_secure.errors import InputError, IntegrityError
from keras_secure.watermark import SpreadSpectrum, Uchida, align, embed, verify
from keras_secure.watermark.matching import assign

KEY = "a key nobody guesses"


@pytest.fixture(scope="module", params=FAMILIES)
def marked(request):
    model = randomized(FAMILIES[request.param]())
    mark = SpreadSpectrum(KEY)
    embed(model, mark)
    return model, mark


@pytest.fixture(scope="module")
def wide():
    """A marked model and a disguise of it, with a quarter more and a quarter split units."""
    model = randomized(dense())
    mark = SpreadSpectrum(KEY)
    embed(model, mark)
    return model, mark, disguise(model, seed=3)


def test_a_disguised_model_is_read_by_its_reference_alone(marked):
    model, mark = marked
    suspect = disguise(model, seed=1)
    assert difference(model, suspect) < 1e-5
    moved = verify(disguise(model, seed=1, silent=0, split=0), mark).readings[0]
    assert 0.4 < moved.bit_errors / 256 < 0.6, "it is not read without the reference"
    alignment = align(suspect, model, mark)
    report = verify(suspect, mark, reference=model)
    assert report.bit_error_rate == 0.0
    assert report.claim
    assert alignment.report.status == "matching"
    for layer in alignment.report.layers:
        assert layer.matched == layer.units
        assert layer.dropped + layer.merged == layer.suspect_units - layer.units
        assert layer.similarity > layer.chance + 0.3
    assert sum(layer.merged for layer in alignment.report.layers) > 0
    # With nothing kept from sight, every weight comes back; with a half of each, nearly.
    exact = align(suspect, model)
    for variable in model.weights:
        np.testing.assert_allclose(exact.weights[variable.path], variable.numpy(), atol=0.01)
    for kernel in alignment.kernels:
        own = next(one for one in model.weights if one.path.endswith(kernel.name)).numpy()
        assert np.linalg.norm(kernel.values() - own) < 0.15 * np.linalg.norm(own)


def test_what_was_moved_by_hand_is_moved_back():
    """Written out without any of the library's rules."""
    generator = np.random.default_rng(0)
    model = randomized(dense())
    first, bias, second, second_bias, third, third_bias = model.get_weights()
    one, two = generator.permutation(64), generator.permutation(48)
    scale, flip = generator.uniform(0.1, 9, 64), generator.choice([-1, 1], 48)
    suspect = dense()
    suspect.set_weights(
        [
            (first * scale)[:, one],
            (bias * scale)[one],
            ((second / scale[:, None])[one] * flip)[:, two],
            (second_bias * flip)[two],
            (third * flip[:, None])[two],
            third_bias,
        ]
    )
    assert difference(model, suspect) < 1e-5
    alignment = align(suspect, model)
    for variable in model.weights:
        np.testing.assert_allclose(alignment.weights[variable.path], variable.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("attack", "most"),
    [
        (lambda model: prune(model, 0.5), 0.05),
        (lambda model: quantize(model, 8), 0.05),
        (lambda model: quantize(model, 4), 0.05),
        # In weights this small another mark moves a third of the norm.
        (lambda model: overwrite(model, [SpreadSpectrum("thief")]), 0.1),
    ],
    ids=["prune 50%", "int8", "int4", "overwrite"],
)
def test_disguise_and_damage_together(wide, attack, most):
    model, mark, suspect = wide
    report = verify(attack(suspect), mark, reference=model)
    assert report.bit_error_rate <= most
    assert report.claim


def test_a_uchida_mark_is_read_too():
    model = randomized(dense())
    mark = Uchida(KEY, num_bits=32)
    embed(model, mark, layers="second")
    # An average over the filters does not see their order, but it sees that of the inputs.
    suspect = disguise(model, seed=1, silent=0, split=0)
    assert verify(suspect, mark, layers="second").bit_error_rate > 0.2
    assert verify(suspect, mark, layers="second", reference=model).bit_errors == 0
    wider = disguise(model, seed=1)
    assert verify(wider, mark, layers="second", reference=model).bit_errors == 0


def train(digits, model, rows, epochs, rate=3e-3):
    x, y = digits
    model.compile(
        keras.optimizers.Adam(rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(x[rows], y[rows], batch_size=64, epochs=epochs, verbose=0)
    return model


def test_fine_tuned_after_the_disguise(digits):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(48, "relu"),
            layers.Dense(10),
        ]
    )
    train(digits, model, slice(0, 1000), 6)
    mark = SpreadSpectrum(KEY)
    embed(model, mark)
    suspect = prune(disguise(model, seed=1), 0.5)
    train(digits, suspect, slice(1000, 1500), 6, 1e-3)
    x, y = digits
    assert suspect.evaluate(x[1500:], y[1500:], verbose=0)[1] > 0.85
    report = verify(suspect, mark, reference=model)
    assert report.bit_error_rate <= 0.05
    assert report.claim


def test_units_that_were_cut_away_cost_their_share(wide):
    model, mark, _ = wide
    weights = model.get_weights()
    order = np.random.default_rng(0).permutation(64)[:52]
    suspect = keras.Sequential(
        [keras.Input((64,)), layers.Dense(52, "relu"), layers.Dense(48, "tanh"), layers.Dense(10)]
    )
    suspect.set_weights([weights[0][:, order], weights[1][order], weights[2][order], *weights[3:]])
    alignment = align(suspect, model, mark)
    first, second = alignment.report.layers
    assert (first.matched, first.dropped, second.matched) == (52, 0, 48)
    assert verify(suspect, mark, reference=model).bit_error_rate <= 0.05


def test_names_and_containers_do_not_matter(wide):
    model, mark, _ = wide

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.a_last = layers.Dense(10)
            self.inner = keras.Sequential([layers.Dense(48), layers.Activation("tanh")])
            self.zero = layers.Dense(64)

        def call(self, x):
            return self.a_last(self.inner(keras.ops.relu(self.zero(x))))

    suspect = Subclassed()
    suspect(np.zeros((1, 64), "float32"))
    suspect.build((None, 64))
    weights = disguise(model, seed=1, silent=0, split=0).get_weights()
    for place, layer in enumerate([suspect.zero, suspect.inner.layers[0], suspect.a_last]):
        layer.set_weights(weights[2 * place : 2 * place + 2])
    assert difference(model, suspect_of(suspect)) < 1e-5
    assert verify(suspect, mark, reference=model).bit_errors == 0


def suspect_of(model):
    inputs = keras.Input((64,))
    return keras.Model(inputs, model(inputs))


def test_terms_may_be_added_in_another_order():
    def model(swap):
        inputs = keras.Input((32,))
        wide = layers.Dense(64, "relu")(inputs)
        parts = [layers.Dense(48)(inputs), layers.Dense(48)(layers.Dense(40, "relu")(wide))]
        return keras.Model(inputs, layers.Dense(5)(layers.Add()(parts[::-1] if swap else parts)))

    own = randomized(model(False))
    mark = SpreadSpectrum(KEY)
    embed(own, mark)
    other = model(True)
    by_shape = {tuple(variable.shape): variable for variable in other.weights}
    assert len(by_shape) < len(other.weights)  # two biases of one shape, both random
    for variable in own.weights:
        twins = [one for one in other.weights if one.shape == variable.shape]
        for twin in twins:
            twin.assign(variable)
    assert verify(other, mark, reference=own).bit_errors == 0


def test_a_new_head_is_named_and_the_body_read(wide):
    model, mark, suspect = wide
    body = keras.Model(suspect.inputs, layers.Dense(7)(suspect.layers[-2].output))
    alignment = align(body, model, mark)
    assert "dense" in alignment.report.obstacle
    assert len(alignment.report.compared) == 4
    assert verify(body, mark, reference=model).bit_errors == 0


def test_another_architecture_cannot_be_compared(wide):
    model, mark, _ = wide
    for other in (convolutional(), text(), keras.Sequential([keras.Input((64,)), layers.ReLU()])):
        report = align(other, model, mark).report
        assert report.status == "cannot be compared"
        assert report.obstacle
        assert report.confidence == 0.0
    deeper = keras.Sequential(
        [keras.Input((64, 1)), layers.Conv1D(64, 3), layers.Flatten(), layers.Dense(10)]
    )
    assert align(deeper, model, mark).report.status == "cannot be compared"
    assert align(deeper, model, mark).weights == {}


def test_other_weights_do_not_match(wide):
    model, mark, suspect = wide
    assert align(suspect, model, mark).report.status == "matching"
    report = align(randomized(dense(), seed=9), model, mark).report
    assert report.status == "not matching"
    assert report.confidence < 0.2
    assert "not matching" in str(report)
    assert "first: 64 of 64 units matched in 64" in str(report)
    assert report.to_dict()["layers"][0]["units"] == 64


def test_files_serve_as_well_as_models(wide, tmp_path):
    model, mark, suspect = wide
    model.save(tmp_path / "reference.keras")
    suspect.save(tmp_path / "suspect.keras")
    alignment = align(tmp_path / "suspect.keras", str(tmp_path / "reference.keras"), mark)
    expected = align(suspect, model, mark)
    assert alignment.report.layers == expected.report.layers
    with pytest.raises(InputError, match="no model file"):
        align(suspect, tmp_path / "nothing.keras", mark)


def test_the_assignment_is_the_best_there_is():
    from itertools import permutations

    generator = np.random.default_rng(0)
    values = generator.normal(size=(4, 5))
    (order,) = assign([values])
    best = max(values[range(4), list(one)].sum() for one in permutations(range(5), 4))
    np.testing.assert_allclose(values[range(4), order].sum(), best)
    (short,) = assign([values.T])
    assert sorted(short) == [-1, 0, 1, 2, 3]
    # In two blocks of two, for two kinds of units whose blocks keep together.
    pair = [generator.normal(size=(4, 4)) for _ in range(2)]
    found = assign(pair, 2, 2)
    allowed = [
        [block * 2 + place for block, within in zip(blocks, inner, strict=True) for place in within]
        for blocks in permutations(range(2))
        for inner in [(a, b) for a in permutations(range(2)) for b in permutations(range(2))]
    ]
    assert [one // 2 for one in found[0][::2]] == [one // 2 for one in found[1][::2]]
    best = max(
        pair[0][range(4), one].sum() + pair[1][range(4), two].sum()
        for one in allowed
        for two in allowed
        if one[0] // 2 == two[0] // 2
    )
    total = sum(values[range(4), order].sum() for values, order in zip(pair, found, strict=True))
    np.testing.assert_allclose(total, best)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_hinder_no_match(value):
    model = randomized(text())
    mark = SpreadSpectrum(KEY)
    embed(model, mark)
    suspect = disguise(model, seed=1)
    table = next(v for v in suspect.weights if v.path.endswith("embeddings"))
    values = table.numpy()
    values[0] = value
    table.assign(values)
    assert verify(suspect, mark, reference=model).verdict == "proved"


def test_a_reference_is_scanned_before_it_is_loaded(tmp_path):
    # The claimant hands it to whoever checks the claim.
    model = keras.Sequential([keras.Input((64,)), layers.Dense(64), layers.Lambda(lambda x: x)])
    model.save(tmp_path / "reference.keras")
    with pytest.raises(IntegrityError, match=r"The reference was not loaded.*Lambda"):
        verify(model, KEY, reference=tmp_path / "reference.keras")


@pytest.mark.parametrize("mode", ["int8", "int4"])
@pytest.mark.parametrize("family", [dense, text])
def test_a_disguise_that_is_quantized_is_followed(family, mode):
    model = randomized(family())
    mark = SpreadSpectrum(KEY)
    embed(model, mark)
    disguised = disguise(model, seed=1)
    # A copy, as some layers cannot be quantized twice.
    suspect = keras.models.clone_model(disguised)
    suspect.set_weights(disguised.get_weights())
    suspect.quantize(mode)
    stored = suspect.get_weights()
    report = verify(suspect, mark, reference=model)
    assert report.verdict == "proved"
    assert report.bit_error_rate < 0.05
    assert not report.not_compared
    for before, after in zip(stored, suspect.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_what_cannot_be_copied_is_followed_as_it_is():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = layers.Dense(64)

        def call(self, inputs):
            return self.inner(inputs)

    model = Own()
    model(np.zeros((1, 64), "float32"))
    mark = SpreadSpectrum(KEY)
    embed(model, mark)
    model.quantize("int8")
    assert verify(model, mark, reference=model).verdict == "proved"
