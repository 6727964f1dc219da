import keras
import numpy as np
import pytest
from harness_layers import run_layer_harness
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_secure.errors import InputError
from keras_secure.layers import OutputGuard

P = np.random.default_rng(0).dirichlet(np.full(7, 0.4), 40).astype("float32")


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"round_to": 2},
        {"top_k": 3},
        {"round_to": 1, "top_k": 2, "from_logits": True},
        {"labels_only": True},
        {"temperature": 2.5, "min_confidence": 0.5},
        {"temperature": 0.5, "from_logits": True, "round_to": 2},
    ],
)
def test_harness(options, tmp_path):
    run_layer_harness(OutputGuard, options, P, tmp_path, float16_dtype="float32", atol=1e-7)


def test_without_options_probabilities_pass_unchanged():
    assert np.array_equal(np.asarray(OutputGuard()(P)), P)


@settings(max_examples=150, deadline=None)
@given(
    weights=st.lists(st.sampled_from([0, 1, 1, 2, 3, 50, 51]), min_size=2, max_size=12),
    jitter=st.floats(0, 1e-3),
    round_to=st.integers(0, 6),
    top_k=st.one_of(st.none(), st.integers(1, 4)),
)
def test_rounding_keeps_the_winner_strictly_ahead(weights, jitter, round_to, top_k):
    p = np.array(weights, "float64") + jitter * np.arange(len(weights)) + 1e-9
    p = (p / p.sum()).astype("float32")[None]
    out = np.asarray(OutputGuard(round_to=round_to, top_k=top_k)(p))[0]
    winner = p[0].argmax()
    assert (np.delete(out, winner) < out[winner]).all()
    units = out.astype("float64") * 10**round_to
    np.testing.assert_allclose(units, np.round(units), atol=0.1)
    others = np.delete(np.abs(out - p[0]), winner)
    kept = np.delete(out > 0, winner)
    assert (others[kept] <= 0.5001 * 10.0**-round_to + 1e-6).all()
    assert abs(out[winner] - p[0, winner]) <= 1.5001 * 10.0**-round_to + 1e-6
    assert out.min() >= 0
    assert out.max() <= 1


def test_many_classes_that_all_round_to_zero_keep_their_winner():
    p = np.full((1, 1000), 1e-3, "float32")
    p[0, 618] = 1.1e-3
    out = np.asarray(OutputGuard(round_to=2)(p))
    assert out.argmax() == 618
    assert np.count_nonzero(out) == 1
    assert out.max() == np.float32(0.01)


def test_top_k_keeps_the_best_unchanged_and_zeroes_the_rest():
    out = np.asarray(OutputGuard(top_k=3)(P))
    for row, kept in zip(P, out, strict=True):
        best = np.argsort(-row, kind="stable")[:3]
        assert np.array_equal(kept[best], row[best])
        assert not np.delete(kept, best).any()
    assert np.array_equal(np.asarray(OutputGuard(top_k=99)(P)), P)


def test_top_k_with_ties_keeps_the_first():
    out = OutputGuard(top_k=1)(np.full((2, 4), 0.25, "float32"))
    assert np.asarray(out).tolist() == [[0.25, 0, 0, 0]] * 2


def test_labels_only_is_the_prediction():
    out = np.asarray(OutputGuard(labels_only=True)(P))
    assert np.array_equal(out, np.eye(7)[P.argmax(-1)])


def test_logits_become_probabilities():
    logits = np.random.default_rng(1).normal(0, 4, (5, 6)).astype("float32")
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(np.asarray(OutputGuard(from_logits=True)(logits)), expected, 1e-5)
    logits[0, 1] = -np.inf
    out = np.asarray(OutputGuard(from_logits=True)(logits))
    assert out[0, 1] == 0
    assert abs(out[0].sum() - 1) < 1e-6


@pytest.mark.parametrize(
    "options", [{}, {"round_to": 2}, {"top_k": 1}, {"labels_only": True}, {"from_logits": True}]
)
@pytest.mark.parametrize("classes", [1, 4])
def test_a_non_finite_row_becomes_zeros_and_others_stay(options, classes):
    p = np.random.default_rng(2).dirichlet(np.ones(5), 4)[:, :classes].astype("float32")
    alone = np.asarray(OutputGuard(**options)(p))
    p = np.repeat(p, 2, axis=0)
    p[1, 0], p[5, 0] = np.nan, np.inf
    out = np.asarray(OutputGuard(**options)(p))
    assert not out[[1, 5]].any()
    assert np.array_equal(out[::2], alone)
    assert np.isfinite(out).all()


@pytest.mark.parametrize("round_to", [0, 1, 2, 4])
def test_one_output_keeps_its_decision(round_to):
    p = np.array([0, 0.3, 0.4996, 0.5, 0.5004, 0.7, 1], "float32")[:, None]
    out = np.asarray(OutputGuard(round_to=round_to)(p))
    assert np.array_equal(out > 0.5, p > 0.5)
    assert np.abs(out - p).max() <= 1.01 * 10.0**-round_to
    labels = np.asarray(OutputGuard(labels_only=True)(p))
    assert np.array_equal(labels, p > 0.5)
    logits = np.log(p[1:-1]) - np.log1p(-p[1:-1])
    sigmoid = np.asarray(OutputGuard(from_logits=True)(logits))
    np.testing.assert_allclose(sigmoid, p[1:-1], rtol=1e-5)


def test_sequences_are_guarded_position_by_position():
    p = P[:40].reshape(8, 5, 7)
    guard = OutputGuard(round_to=2, top_k=2)
    assert np.array_equal(np.asarray(guard(p)).reshape(40, 7), np.asarray(guard(P)))


def test_half_precision_inputs_are_returned_in_float32():
    p = keras.ops.cast(P, "float16")
    out = OutputGuard(round_to=4)(p)
    assert keras.backend.standardize_dtype(out.dtype) == "float32"
    assert np.array_equal(np.asarray(out).argmax(-1), np.asarray(p).argmax(-1))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"round_to": 7}, "from 0 to 6"),
        ({"round_to": 1.5}, "from 0 to 6"),
        ({"top_k": 0}, "at least 1"),
        ({"top_k": 2.5}, "at least 1"),
        ({"labels_only": True, "round_to": 2}, "Leave both out"),
        ({"temperature": 0}, "finite number above 0"),
        ({"temperature": float("inf")}, "finite number above 0"),
        ({"min_confidence": 0.0}, "above 0 and at most 1"),
        ({"min_confidence": 1.1}, "above 0 and at most 1"),
    ],
)
def test_wrong_arguments_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        OutputGuard(**wrong)


def test_an_unknown_number_of_classes_is_refused():
    with pytest.raises(InputError, match="known number of classes"):
        OutputGuard()(keras.Input((None,)))


@settings(max_examples=60, deadline=None)
@given(
    weights=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=8),
    temperature=st.sampled_from([0.02, 0.5, 2.0, 50.0, 1e6]),
    from_logits=st.booleans(),
)
def test_a_temperature_evens_out_and_keeps_the_decision(weights, temperature, from_logits):
    p = np.array(weights, "float64") + 1e-4
    p = p[None] / (p.sum() if len(p) > 1 else 1.001)
    logits = np.log(p) if p.shape[1] > 1 else np.log(p) - np.log1p(-p)
    inputs = (logits if from_logits else p).astype("float32")
    out = np.asarray(OutputGuard(temperature=temperature, from_logits=from_logits)(inputs))
    if p.shape[1] == 1:
        expected = 1 / (1 + np.exp(-logits / temperature))
        assert (out > 0.5) == (inputs > (0.0 if from_logits else 0.5))
    else:
        powers = np.exp((logits - logits.max()) / temperature)
        expected = powers / powers.sum()
        assert out.argmax() == inputs.argmax()
    np.testing.assert_allclose(out, expected, rtol=2e-4 / min(1, temperature), atol=1e-6)


@pytest.mark.parametrize("classes", [1, 3])
def test_abstains_below_the_confidence_alone(classes):
    p = np.array([[0.5, 0.3, 0.2], [0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], "float32")[:, :classes]
    out = np.asarray(OutputGuard(min_confidence=0.6)(p))
    assert np.array_equal(out[1:], p[1:])
    assert not out[0].any()
    rows = np.vstack([p, np.full((1, classes), np.nan, "float32")])
    guard = OutputGuard(min_confidence=0.6, labels_only=True)
    _, valid, confident = guard.release(keras.ops.convert_to_tensor(rows))
    assert np.asarray(valid)[:, 0].tolist() == [True, True, True, False]
    assert np.asarray(confident)[:3, 0].tolist() == [False, True, True]


def test_confidence_counts_after_the_temperature():
    p = np.array([[0.6, 0.4]], "float32")
    assert np.asarray(OutputGuard(min_confidence=0.6, temperature=0.5)(p)).any()
    assert not np.asarray(OutputGuard(min_confidence=0.6, temperature=2.0)(p)).any()
