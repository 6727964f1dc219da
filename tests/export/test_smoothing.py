import keras
import numpy as np
import pytest
from scipy.stats import binom, norm

from keras_secure.certification import RandomizedSmoothing
from keras_secure.certification.binomial_bounds import lower_bound
from keras_secure.errors import InputError
from keras_secure.export import Smoothing, Status, export_hardened
from keras_secure.layers import InputGuard


def half_plane(classes=2):
    """Tells on which side of x0 = x1 a point lies; how sure a vote is can be worked out."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(classes)])
    kernel = np.array([[1.0, -1.0], [-1.0, 1.0]]) if classes == 2 else np.array([[-1.0], [1.0]])
    model.set_weights([kernel, np.zeros(classes)])
    return model


X = np.array([[1.0, 0.0], [0.1, 1.0], [0.5, 0.5], [0.62, 0.5]], "float32")
STDDEV = 0.4


def share_of_first(x):
    """The probability under noise that x0 > x1."""
    return norm.cdf((x[:, 0] - x[:, 1]) / (STDDEV * np.sqrt(2)))


def test_the_votes_are_those_of_the_noise_and_repeat_by_seed(tmp_path):
    smoothing = Smoothing(STDDEV, num_samples=2000, seed=3, copies=64)
    bundle = export_hardened(half_plane(), tmp_path / "bundle", smoothing=smoothing)
    serve = bundle.load()
    answer = serve(X)
    shares = share_of_first(X)
    # Five standard deviations of a share of 2000 votes.
    told = answer["predictions"][:2, 0]
    assert (np.abs(told - shares[:2]) < 5 * np.sqrt(shares * (1 - shares) / 2000)[:2] + 1e-6).all()
    assert answer["status"].tolist() == [0, 0, Status.ABSTAINED, 0]
    votes = np.round(answer["predictions"][3] * 2000)
    np.testing.assert_allclose(answer["predictions"][3] * 2000, votes, atol=0.01)
    # Neither batch-mates nor the place in the batch matter; the seed does.
    np.testing.assert_array_equal(serve(X[3:])["predictions"][0], answer["predictions"][3])
    other = Smoothing(STDDEV, num_samples=2000, seed=4, copies=64)
    changed = export_hardened(half_plane(), tmp_path / "other", smoothing=other).load()(X)
    assert not np.array_equal(changed["predictions"][3], answer["predictions"][3])
    assert serve(X[:0])["predictions"].shape == (0, 2)


def test_noise_without_a_seed_is_another_in_each_call_whatever_seed_is_set(tmp_path):
    keras.utils.set_random_seed(5)
    smoothing = Smoothing(STDDEV, num_samples=300)
    serve = export_hardened(half_plane(), tmp_path / "bundle", smoothing=smoothing).load()
    answers = {serve(X[3:] + np.array([[0.3, 0.0]]))["predictions"][0, 0] for _ in range(8)}
    assert len(answers) > 1


def test_it_decides_and_abstains_as_the_certifier_does(tmp_path):
    x = np.stack([np.linspace(0.3, 0.7, 25), np.full(25, 0.5)], axis=1).astype("float32")
    smoothed = RandomizedSmoothing(half_plane(), STDDEV)
    expected = smoothed.predict(x, num_samples=400, alpha=0.01, seed=1)
    smoothing = Smoothing(STDDEV, num_samples=400, alpha=0.01, seed=1)
    bundle = export_hardened(
        half_plane(), tmp_path / "bundle", smoothing=smoothing, signatures=["labels"]
    )
    label = bundle.load(signature="labels")(x)["label"]
    # The noise differs, so that cases near the border may: one abstains, the other does not.
    assert -1 in label
    both = (label >= 0) & (expected >= 0)
    assert (label[both] == expected[both]).all()
    clear = np.abs(share_of_first(x) - 0.5) > 0.15
    assert (label[clear] == expected[clear]).all()


@pytest.mark.parametrize("alpha", [0.001, 0.2])
def test_the_table_of_votes_is_the_binomial_test(alpha):
    needed = Smoothing(0.1, num_samples=60, alpha=alpha).needed
    for both in range(61):
        for first in range((both + 1) // 2, both + 1):
            decided = 2 * first > both and 2 * binom.sf(first - 1, both, 0.5) <= alpha
            assert decided == (first >= needed[both]), (first, both)


def test_radii_are_proved_and_below_the_truth(tmp_path):
    smoothing = Smoothing(STDDEV, num_samples=1000, num_selection=50, alpha=0.001, seed=1)
    bundle = export_hardened(
        half_plane(1), tmp_path / "bundle", smoothing=smoothing, input_guard=InputGuard()
    )
    rows = np.concatenate([X, [[np.nan, 0.0]]]).astype("float32")
    answer = bundle.load(signature="certified")(rows)
    assert answer["label"].tolist()[:3] == [0, 1, -1]
    assert answer["label"][4] == -1
    assert answer["status"].tolist()[:3] == [0, 0, Status.ABSTAINED]
    assert answer["status"][4] == Status.REJECTED
    truth = np.abs(X[:, 0] - X[:, 1]) / np.sqrt(2)
    assert (answer["radius"][:4] <= truth + 1e-6).all()
    assert (answer["radius"][:2] > 0.7 * truth[:2]).all()
    assert answer["radius"][4] == 0
    table = smoothing.radii
    exact = STDDEV * norm.ppf(np.maximum(lower_bound(np.arange(1001), 1000, 0.001), 0.5))
    assert (table <= exact).all()
    np.testing.assert_allclose(table, exact, rtol=1e-6)


def test_an_uneven_number_of_samples_is_counted_exactly(tmp_path):
    smoothing = Smoothing(STDDEV, num_samples=37, seed=1, copies=8, alpha=0.9)
    answer = export_hardened(half_plane(), tmp_path / "b", smoothing=smoothing).load()(X)
    votes = answer["predictions"] * 37
    np.testing.assert_allclose(votes, np.round(votes), atol=1e-4)
    assert set(np.round(votes.sum(axis=1))) <= {0.0, 37.0}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"stddev": 0.0}, r"\(0, inf\)"),
        ({"num_samples": 0}, "from 1 to 10000"),
        ({"alpha": 1.0}, r"\(0, 1\)"),
        ({"seed": -1}, "at least 0"),
        ({"bounds": (1, 0)}, r"pair \(low, high\)"),
    ],
)
def test_wrong_arguments_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        Smoothing(**{"stddev": 0.1, **wrong})


def test_integers_and_sequences_cannot_be_smoothed(tmp_path):
    tokens = keras.Sequential(
        [keras.Input((5,), dtype="int32"), keras.layers.Embedding(9, 2), keras.layers.Flatten()]
    )
    with pytest.raises(InputError, match="floating point numbers of a known shape"):
        export_hardened(tokens, tmp_path / "bundle", smoothing=Smoothing(0.1))
