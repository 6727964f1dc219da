import keras
import numpy as np
import pytest
from scipy import stats

from keras_secure.certification import RandomizedSmoothing, anytime_lower_bound
from keras_secure.certification.binomial_bounds import lower_bound
from keras_secure.certification.noisy_votes import NoisyVotes
from keras_secure.errors import InputError


def linear(dim=3, classes=2):
    """Says class 1 where the first value is above 0: what smoothing does to it is known exactly."""
    model = keras.Sequential([keras.Input((dim,)), keras.layers.Dense(classes)])
    kernel = np.zeros((dim, classes))
    kernel[0, 1] = 1.0
    model.set_weights([kernel, np.array([0.0, 0.0] + [-100.0] * (classes - 2))])
    return model


def points(firsts, dim=3):
    x = np.zeros((len(firsts), dim), "float32")
    x[:, 0] = firsts
    return x


def test_votes_have_the_stated_noise_and_no_other_scale():
    smoothed = RandomizedSmoothing(linear(), stddev=0.5)
    firsts = np.array([0.05, 0.2, 0.5, 0.9])
    successes = smoothed.certify(points(firsts), num_estimation=40_000, seed=1).details["successes"]

    def surprise(stddev):
        expected = stats.norm.cdf(firsts / stddev)
        spread = np.sqrt(40_000 * expected * (1 - expected))
        return np.abs((successes - 40_000 * expected) / spread).max()

    assert surprise(0.5) < 4.5
    assert surprise(0.5 * 2 / 3) > 20
    assert surprise(0.5 * 3 / 2) > 20


def test_votes_of_samples_and_examples_are_independent():
    votes = NoisyVotes(linear(), 1.0, None, None, (3,), 1024, False)
    successes = votes.count(points(np.full(400, 0.3)), np.arange(400), 2, 0, 512)[:, 1]
    variance = 512 * stats.norm.cdf(0.3) * (1 - stats.norm.cdf(0.3))
    ratio = successes.var(ddof=1) / variance
    low, high = stats.chi2.ppf([1e-5, 1 - 1e-5], 399) / 399
    assert low < ratio < high


@pytest.mark.parametrize("adaptive", [False, True])
def test_certified_radii_exceed_the_truth_at_most_alpha_often(adaptive):
    alpha, truth = 0.1, 0.3
    x = points(np.full(600, truth))
    # The truth is a little below the middle one of the radii in question.
    options = {"adaptive": True, "radii": [0.2, 0.3001, 0.4]} if adaptive else {}
    smoothed = RandomizedSmoothing(linear(), stddev=0.5)
    certificate = smoothed.certify(x, num_estimation=1500, alpha=alpha, seed=3, **options)
    exceeded = (certificate.radius > truth).mean()
    assert exceeded <= alpha + 4 * (alpha * (1 - alpha) / 600) ** 0.5
    assert exceeded > 0.03
    # A bound without confidence would exceed it every other time.
    shares = certificate.details["successes"] / certificate.details["samples"]
    assert ((0.5 * stats.norm.ppf(shares)) > truth).mean() > 0.35


def test_fixed_certificate_follows_the_paper():
    x = points([2.0, -0.8, 0.3, 0.0])
    certificate = RandomizedSmoothing(linear(), 0.5).certify(x, num_estimation=5000, seed=4)
    details = certificate.details
    assert details["selected"][:3].tolist() == [1, 0, 1]
    bound = lower_bound(details["successes"], 5000, 0.001)
    np.testing.assert_array_equal(details["probability"], bound)
    certified = bound > 0.5
    assert certificate.prediction.tolist() == np.where(certified, details["selected"], -1).tolist()
    expected = np.where(certified, 0.5 * stats.norm.ppf(bound), 0.0)
    np.testing.assert_allclose(certificate.radius, expected)
    assert certificate.norm == "l2"
    # The last one lies on the boundary: an abstention, which is wrong whatever the label.
    assert certificate.prediction[3] == -1
    for label in (0, 1):
        assert not certificate.correct(np.full(4, label))[3]


def test_radius_grows_with_the_sample_up_to_its_limit():
    x = points([5.0])
    for samples in (1000, 20_000):
        radius = RandomizedSmoothing(linear(), 0.5).certify(x, num_estimation=samples).radius[0]
        assert radius == pytest.approx(0.5 * stats.norm.ppf(0.001 ** (1 / samples)))


def test_neither_batches_nor_company_matter():
    x = points(np.linspace(-1, 1, 9))
    model = linear()
    smoothed = RandomizedSmoothing(model, 0.5)
    options = {"num_selection": 30, "num_estimation": 2100, "seed": 5}
    reference = smoothed.certify(x, batch_size=1024, **options).details["successes"]
    for batch_size in (1, 700, 5000):
        again = smoothed.certify(x, batch_size=batch_size, **options).details["successes"]
        assert np.array_equal(again, reference)
    first_ones = RandomizedSmoothing(model, 0.5).certify(x[:4], **options)
    assert np.array_equal(first_ones.details["successes"], reference[:4])
    assert not np.array_equal(
        smoothed.certify(x, **{**options, "seed": 6}).details["successes"], reference
    )
    assert (
        smoothed.certify(x, 10, 300).details["seed"] != smoothed.certify(x, 10, 300).details["seed"]
    )


def test_many_examples_and_blocks_are_all_counted():
    votes = NoisyVotes(linear(), 0.5, None, None, (3,), 512, False)
    x = points(np.linspace(-1, 1, 150))
    seen = []
    counts = votes.count(x, np.arange(150), 7, 0, 3000, progress=seen.append)
    assert (counts.sum(axis=1) == 3000).all()
    assert sum(seen) == 150 * 3000
    # In parts, and for some of the examples: the same votes.
    rows = np.array([3, 70, 149])
    parts = votes.count(x, rows, 7, 0, 1024) + votes.count(x, rows, 7, 1024, 3000)
    assert np.array_equal(parts, counts[rows])
    other = votes.count(x, rows, 7, 0, 3000, second_stream=True)
    assert (other.sum(axis=1) == 3000).all()
    assert not np.array_equal(other, counts[rows])


def test_adaptive_takes_the_beginning_of_the_fixed_sample_and_decides_alike():
    x = points(np.concatenate([np.linspace(-2, 2, 60), [0.52, 0.95, -0.49]]))
    smoothed = RandomizedSmoothing(linear(), 0.5)
    radii = [0, 0.5, 1.0]
    fixed = smoothed.certify(x, num_estimation=20_000, seed=8)
    adaptive = smoothed.certify(x, num_estimation=20_000, seed=8, adaptive=True, radii=radii)
    for radius in radii:
        decisions = [(c.prediction >= 0) & (c.radius >= radius) for c in (fixed, adaptive)]
        assert np.array_equal(*decisions)
    assert np.array_equal(fixed.details["selected"], adaptive.details["selected"])
    samples = adaptive.details["samples"]
    assert samples.mean() < 0.4 * 20_000
    votes = NoisyVotes(smoothed.model, 0.5, None, None, (3,), 1024, False)
    for row in (0, 20, 61):
        counts = votes.count(x, np.array([row]), 8, 0, int(samples[row]))[0]
        assert counts[adaptive.details["selected"][row]] == adaptive.details["successes"][row]


def test_a_single_radius_is_cheap_and_what_is_below_is_an_abstention():
    smoothed = RandomizedSmoothing(linear(), 0.5)
    certificate = smoothed.certify(
        points([3.0, 0.2]), num_estimation=20_000, seed=9, adaptive=True, radii=[0.5]
    )
    assert certificate.prediction.tolist() == [1, -1]
    assert certificate.radius.tolist() == [0.5, 0.0]
    assert (certificate.details["samples"] <= 1000).all()


def test_predict_abstains_near_the_boundary_only():
    x = points(np.concatenate([np.full(200, 0.0), np.full(50, 0.4), np.full(50, -0.4)]))
    predicted = RandomizedSmoothing(linear(), 0.5).predict(x, num_samples=500, alpha=0.05, seed=1)
    # On the boundary either answer is wrong by the definition of the test.
    assert (predicted[:200] >= 0).mean() < 0.05 + 4 * (0.05 * 0.95 / 200) ** 0.5
    assert (predicted[200:250] == 1).all()
    assert (predicted[250:] == 0).all()


def test_bounds_are_applied_to_the_noisy_inputs():
    class Outside(keras.Model):
        def call(self, x):
            outside = keras.ops.any((x < 0) | (x > 1), axis=-1, keepdims=True)
            return keras.ops.cast(keras.ops.concatenate([~outside, outside], axis=-1), "float32")

    x = np.full((1, 3), 0.5, "float32")
    for bounds, expected in ((None, 1), ((0, 1), 0)):
        assert RandomizedSmoothing(Outside(), 2.0, bounds).predict(x, seed=1).tolist() == [expected]


def test_answers_that_are_no_number_vote_for_no_class():
    class Breaking(keras.Model):
        def call(self, x):
            bad = keras.ops.where(x[:, :1] > 0.5, float("nan"), 0.0)
            return keras.ops.concatenate([bad + 1.0, bad], axis=-1)

    certificate = RandomizedSmoothing(Breaking(), 0.5).certify(
        points([0.0]), num_estimation=20_000, seed=1
    )
    share = certificate.details["successes"][0] / 20_000
    assert share == pytest.approx(stats.norm.cdf(1.0), abs=0.02)


def test_the_models_own_abstention_is_no_answer():
    model = linear(classes=3)
    model.set_weights([model.get_weights()[0], np.array([0.0, 0.0, 100.0])])
    smoothed = RandomizedSmoothing(model, 0.5)
    assert smoothed.predict(points([1.0]), seed=1).tolist() == [2]
    model.abstains = True
    assert smoothed.predict(points([1.0]), seed=1).tolist() == [-1]
    certificate = smoothed.certify(points([1.0]), num_estimation=500, seed=1)
    assert (certificate.prediction[0], certificate.radius[0]) == (-1, 0.0)


def test_single_units_and_named_outputs_are_classifiers_too():
    inputs = keras.Input((3,))
    unit = keras.layers.Dense(1, activation="sigmoid")
    model = keras.Model(inputs, {"answer": unit(inputs)})
    unit.set_weights([np.array([[4.0], [0.0], [0.0]]), np.zeros(1)])
    assert RandomizedSmoothing(model, 0.2).predict(points([1.0, -1.0])).tolist() == [1, 0]
    several = keras.Model(inputs, [unit(inputs), keras.layers.Dense(2)(inputs)])
    with pytest.raises(InputError, match="2 outputs"):
        RandomizedSmoothing(several, 0.2).predict(points([1.0]))


def test_the_graph_is_traced_once_and_sees_new_weights():
    calls = []

    class Counted(keras.Model):
        def __init__(self):
            super().__init__()
            self.last = keras.layers.Dense(2)

        def call(self, x):
            calls.append(x.shape)
            return self.last(x)

    model = Counted()
    smoothed = RandomizedSmoothing(model, 0.5)
    smoothed.certify(points([1.0]), num_estimation=300, seed=1)
    traced = len(calls)
    smoothed.certify(points(np.linspace(0, 1, 130)), num_estimation=700, seed=2)
    smoothed.certify(points([0.1]), num_estimation=3000, seed=3, adaptive=True, radii=[0.1, 0.2])
    smoothed.predict(points([1.0, 2.0]), num_samples=17)
    assert len(calls) == traced
    for answer in (0, 1):
        model.set_weights([np.zeros((3, 2)), np.eye(2)[answer]])
        assert smoothed.predict(points([1.0])).tolist() == [answer]


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_whole_loop_compiled_counts_the_same(jit_compile):
    smoothed = RandomizedSmoothing(linear(), 0.5, jit_compile=jit_compile)
    plain = RandomizedSmoothing(linear(), 0.5, jit_compile=False)
    x = points([0.1, -0.3])
    counted = [s.certify(x, 20, 600, seed=1).details["successes"] for s in (smoothed, plain)]
    # Rounding may move a sample that lies on the boundary.
    assert np.abs(counted[0] - counted[1]).max() <= 1


def test_certificates_hold_against_attacks_within_the_radius(digits):
    """Digits, a model trained under noise, and the best of many directions at the radius."""
    x, y = digits[0].reshape(-1, 64), digits[1]
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.GaussianNoise(0.3),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss=loss)
    model.fit(x[300:], y[300:], epochs=8, batch_size=64, verbose=0)
    smoothed = RandomizedSmoothing(model, 0.3)
    certificate = smoothed.certify(x[:60], num_estimation=4000, seed=1)
    assert certificate.certified_accuracy(y[:60], 0.0).value > 0.8
    assert certificate.average_certified_radius(y[:60]).value > 0.2
    # Towards the next example of another class, as far as the radius: the answer stays.
    other = np.array([np.flatnonzero(y[:60] != label)[0] for label in y[:60]])
    direction = x[other] - x[:60]
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    moved = x[:60] + certificate.radius[:, None].astype("float32") * direction
    answers = smoothed.predict(moved, num_samples=2000, seed=2)
    held = (answers == certificate.prediction) | (answers == -1) | (certificate.prediction == -1)
    assert held.all()


def test_an_anytime_bound_may_be_read_off_an_adaptive_certificate():
    smoothed = RandomizedSmoothing(linear(), 0.5)
    details = smoothed.certify(
        points([0.8]), num_estimation=20_000, seed=1, adaptive=True, radii=[0.4]
    ).details
    bound = anytime_lower_bound(details["successes"], details["samples"], 0.001)
    assert 0.5 < bound[0] < stats.norm.cdf(0.8 / 0.5)


X = np.zeros((2, 3), "float32")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.certify(X.astype("int32")), "floating point"),
        (lambda s: s.certify([X, X]), "one array"),
        (lambda s: s.certify(X[:0]), "at least one example"),
        (lambda s: s.certify(X * np.nan), "NaN"),
        (lambda s: s.certify(X, num_selection=0), "num_selection=0"),
        (lambda s: s.certify(X, num_estimation=10.0), "num_estimation=10.0"),
        (lambda s: s.certify(X, alpha=0), "alpha=0"),
        (lambda s: s.certify(X, seed=-1), "seed=-1"),
        (lambda s: s.certify(X, batch_size=0), "batch_size=0"),
        (lambda s: s.certify(X, radii=[1.0]), "without adaptive"),
        (lambda s: s.certify(X, adaptive=True), "radii"),
        (lambda s: s.certify(X, adaptive=True, radii=[-1]), "radii"),
        (lambda s: RandomizedSmoothing(s.model, 0), "stddev=0"),
        (lambda s: RandomizedSmoothing(None, 0.5), "model=None cannot be called"),
        (lambda s: RandomizedSmoothing(s.model, 0.5, bounds=(1, 0)), "low < high"),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call(RandomizedSmoothing(linear(), 0.5))
