"""Detectors of adversarial inputs: their scores, their thresholds, and who gets past them."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import ndimage

import keras_secure as ks
from keras_secure import backend
from keras_secure.detection import DetectedModel, FeatureSqueezingDetector, MahalanobisDetector
from keras_secure.detection.input_detector import calibrate
from keras_secure.detection.squeezers import BitDepth, Median
from keras_secure.errors import InputError


@pytest.fixture(scope="module")
def trained(digits):
    """A classifier of the digits, trained on the first 900 of them."""
    keras.utils.set_random_seed(7)
    x, y = digits
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(16, 3, padding="same", activation="relu", name="maps"),
            layers.Flatten(name="flat"),
            layers.Dense(48, activation="relu", name="hidden"),
            layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss=loss)
    model.fit(x[:900], y[:900], batch_size=64, epochs=10, verbose=0)
    return model


@pytest.mark.parametrize(("count", "rate"), [(19, 0.05), (99, 0.1), (250, 0.03)])
def test_the_expected_rate_is_the_one_promised(count, rate):
    """Mean rate on new scores over many calibrations, for a skewed distribution."""
    rng = np.random.default_rng(count)
    rates = []
    for _ in range(3000):
        calibration = calibrate(rng.lognormal(size=count), rate)
        # The exact rate of this threshold.
        rates.append(1 - lognormal_cdf(calibration.threshold))
    assert calibration.expected_rate <= rate + 1e-12
    assert np.mean(rates) == pytest.approx(calibration.expected_rate, rel=0.08)
    assert np.mean(np.array(rates) <= calibration.rate_bound(0.9)) == pytest.approx(0.9, abs=0.025)


def lognormal_cdf(value):
    from scipy.stats import lognorm

    return lognorm.cdf(value, 1.0)


def test_the_threshold_is_no_higher_than_the_promise_needs():
    scores = np.random.default_rng(0).permutation(np.arange(100.0))
    calibration = calibrate(scores, 0.1)
    assert calibration.threshold == 90.0
    assert (scores > calibration.threshold).sum() + 1 == round(101 * calibration.expected_rate)


def test_equal_scores_flag_nothing():
    assert calibrate(np.ones(50), 0.05).threshold == 1.0


@pytest.mark.parametrize(
    ("scores", "rate", "match"),
    [
        (np.arange(18.0), 0.05, "at least 19"),
        (np.array([0.0, np.nan] * 20), 0.05, "not finite"),
        (np.arange(18.0), 1.0, r"\(0, 1\)"),
    ],
)
def test_a_promise_that_cannot_be_given_is_refused(scores, rate, match):
    with pytest.raises(InputError, match=match):
        calibrate(scores, rate)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_the_median_is_that_of_scipy(size):
    x = np.random.default_rng(0).uniform(size=(3, 7, 6, 2)).astype("float32")
    expected = ndimage.median_filter(x, size=(1, size, size, 1), mode="reflect")
    np.testing.assert_array_equal(Median(size)(x), expected)


def test_bit_depth_rounds_to_the_nearest_level_and_lets_gradients_through():
    x = ops.convert_to_tensor([[-1.0, -0.4, 0.1, 0.9, 1.0]])
    rounded, gradient = backend.input_gradient(
        lambda x: (ops.sum(BitDepth(2, (-1.0, 1.0))(x)), BitDepth(2, (-1.0, 1.0))(x)), x
    )
    np.testing.assert_allclose(rounded[1], [[-1, -1 / 3, 1 / 3, 1, 1]], atol=1e-6)
    np.testing.assert_array_equal(gradient, np.ones((1, 5)))


def test_the_squeezing_score_is_the_largest_change_of_probabilities(trained, digits):
    x = digits[0][:20]
    squeezers = [ks.layers.FeatureSqueezing(bit_depth=1), Median(2)]
    detector = FeatureSqueezingDetector(trained, squeezers)
    expected = np.zeros(20)
    for row in range(20):
        one = x[row : row + 1]
        clean = np.asarray(ops.softmax(trained(one)))[0]
        for squeezer in squeezers:
            changed = np.asarray(ops.softmax(trained(squeezer(one))))[0]
            expected[row] = max(expected[row], np.abs(changed - clean).sum())
    np.testing.assert_allclose(detector.scores(x, batch_size=8), expected, atol=1e-5)


def test_the_mahalanobis_score_is_the_distance_to_the_nearest_class(trained, digits):
    x, y = digits[0][900:1100], digits[1][900:1100]
    detector = MahalanobisDetector(trained, ["hidden"], shrinkage=0.1, seed=3).fit(x, y)
    fitted = np.random.default_rng(3).permutation(200)[:100]
    read = keras.Model(trained.inputs, trained.get_layer("hidden").output)
    features = read.predict(x, verbose=0).astype("float64")
    means = {c: features[fitted][y[fitted] == c].mean(axis=0) for c in range(10)}
    scatter = np.zeros((48, 48))
    for row in fitted:
        apart = features[row] - means[y[row]]
        scatter += np.outer(apart, apart) / 100
    scatter = 0.9 * scatter + 0.1 * np.trace(scatter) / 48 * np.eye(48)
    inverse = np.linalg.inv(scatter)
    distances = np.array(
        [min((row - m) @ inverse @ (row - m) for m in means.values()) for row in features]
    )
    expected = distances / np.median(distances[fitted])
    np.testing.assert_allclose(detector.scores(x), expected, rtol=2e-3)


@pytest.mark.parametrize("kind", ["squeezing", "mahalanobis"])
def test_scores_are_the_same_in_every_graph_and_have_gradients(kind, trained, digits):
    x = digits[0][900:1700]
    detector = fitted_detector(kind, trained, digits)
    batch = ops.convert_to_tensor(x[:16])
    expected = detector.scores(x[:16])
    for jit_compile in (False, True):
        graph = backend.compiled(detector.score, jit_compile=jit_compile)
        np.testing.assert_allclose(graph(batch), expected, rtol=1e-4, atol=1e-5)
    _, gradient = backend.input_gradient(lambda x: ops.sum(detector.score(x)), batch)
    assert np.isfinite(gradient).all()
    assert (np.abs(gradient).sum(axis=(1, 2, 3)) > 0).mean() > 0.9


def fitted_detector(kind, model, digits):
    x, y = digits
    if kind == "squeezing":
        detector = FeatureSqueezingDetector(model, [ks.layers.FeatureSqueezing(bit_depth=2)])
    else:
        detector = MahalanobisDetector(model, ["maps", "flat", "hidden"])
    return detector.fit(x[900:1600], y[900:1600], false_positive_rate=0.05)


@pytest.mark.parametrize("kind", ["squeezing", "mahalanobis"])
def test_few_clean_inputs_are_flagged(kind, trained, digits):
    detector = fitted_detector(kind, trained, digits)
    # 197 new ones at 5%: beyond 24 lies less than one chance in a thousand.
    assert detector.flag(digits[0][1600:]).sum() <= 24


def test_a_detected_model_abstains_where_its_detector_flags(trained, digits):
    x = digits[0][1500:1600]
    detector = fitted_detector("mahalanobis", trained, digits)
    noisy = np.clip(x + np.random.default_rng(0).normal(0, 0.3, x.shape), 0, 1).astype("float32")
    both = np.concatenate([x, noisy])
    detected = DetectedModel(trained, detector)
    outputs = detected.predict(both, verbose=0)
    plain = trained.predict(both, verbose=0)
    flagged = detector.flag(both)
    assert 20 < flagged.sum() < 180
    assert outputs.shape == (200, 11)
    np.testing.assert_allclose(outputs[:, :10], plain, atol=1e-4)
    expected = np.where(flagged, 10, plain.argmax(axis=1))
    np.testing.assert_array_equal(outputs.argmax(axis=1), expected)
    # Carlini and Wagner's (margin + 1) times the largest logit, once the smallest is zero.
    shifted = plain - plain.min(axis=1, keepdims=True)
    margin = np.asarray(detector.margin(ops.convert_to_tensor(both)))
    np.testing.assert_allclose(
        outputs[:, 10] - plain.min(axis=1), (margin + 1) * shifted.max(axis=1), rtol=1e-3
    )


def test_an_attack_that_ignores_the_detector_is_seen_and_an_adaptive_one_is_not(trained, digits):
    x, y = digits[0][1600:1660], digits[1][1600:1660]
    detector = fitted_detector("mahalanobis", trained, digits)
    pgd = ks.attacks.PGD(epsilon=0.2, steps=20, seed=0)
    plain = np.asarray(pgd.perturb(trained, ops.convert_to_tensor(x), y))
    fooled = trained.predict(plain, verbose=0).argmax(axis=1) != y
    assert fooled.mean() > 0.8
    assert detector.flag(plain)[fooled].mean() > 0.8

    detected = DetectedModel(trained, detector)
    adaptive = ks.attacks.PGD(epsilon=0.2, steps=60, step_size=0.02, seed=0)
    result = adaptive.run(detected, x, y, batch_size=60, verbose=0)
    through = trained.predict(result.x_adv, verbose=0).argmax(axis=1) != y
    through &= ~detector.flag(result.x_adv)
    assert through.mean() > 0.4
    assert np.abs(through.mean() - result.success.mean()) < 0.05


def test_misuse_is_refused(trained, digits):
    x = digits[0][:100]
    with pytest.raises(InputError, match="call fit"):
        FeatureSqueezingDetector(trained).flag(x)
    with pytest.raises(InputError, match="call fit"):
        DetectedModel(trained, MahalanobisDetector(trained))
    with pytest.raises(InputError, match="no `margin`"):
        DetectedModel(trained, object())
    with pytest.raises(InputError, match="one Keras layer"):
        FeatureSqueezingDetector(trained, [np.round])
    with pytest.raises(InputError, match="shrinkage"):
        MahalanobisDetector(trained, shrinkage=2)
    with pytest.raises(InputError, match="labels"):
        MahalanobisDetector(trained).fit(x, np.zeros(3))
    detected = DetectedModel(trained, fitted_detector("squeezing", trained, digits))
    with pytest.raises(InputError, match="cannot be saved"):
        detected.get_config()


@pytest.mark.parametrize("kind", ["squeezing", "mahalanobis"])
def test_an_input_with_nan_is_flagged(kind, trained, digits):
    detector = fitted_detector(kind, trained, digits)
    x = digits[0][:3].copy()
    x[1, 0, 0] = np.nan
    x[2, 1, 1] = np.inf
    np.testing.assert_array_equal(detector.flag(x)[1:], [True, True])
    np.testing.assert_array_equal(detector.scores(x)[:1], detector.scores(x[:1]))


def test_labels_may_be_a_column_or_one_hot_rows(trained, digits):
    x, y = digits[0][:200], digits[1][:200]
    scores = [
        MahalanobisDetector(trained).fit(x, labels).scores(x[:20])
        for labels in (y, y[:, None], np.eye(10)[y])
    ]
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(scores[0], scores[2])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda x: (one for one in x), "generator"),
        (lambda x: x.astype(str), "type <U.*array of numbers"),
        (lambda x: x * np.nan, "x_clean holds NaN"),
    ],
)
def test_what_no_detector_can_score_is_refused(change, match, trained, digits):
    for kind in (FeatureSqueezingDetector, MahalanobisDetector):
        with pytest.raises(InputError, match=match):
            kind(trained).fit(change(digits[0][:100]))


@pytest.mark.parametrize("kind", [FeatureSqueezingDetector, MahalanobisDetector])
def test_bytes_are_scored_by_models_that_scale_them(kind, trained, digits):
    scaling = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Rescaling(1 / 255)])
    model = keras.Model(scaling.inputs[0], trained(scaling.outputs[0]))
    hidden = {"layers": "scaled"} if kind is MahalanobisDetector else {"bounds": (0, 255)}
    if kind is MahalanobisDetector:
        scaling.layers[-1].name = "scaled"
    pixels = (digits[0][:100] * 255).astype("uint8")
    detector = kind(model, **hidden).fit(pixels)
    np.testing.assert_array_equal(
        detector.scores(pixels), detector.scores(pixels.astype("float32"))
    )


def test_inputs_outside_the_bounds_of_the_squeezers_are_refused(trained, digits):
    with pytest.raises(InputError, match=r"to 255, outside bounds=\(0, 1\)"):
        FeatureSqueezingDetector(trained).fit(digits[0][:100] * 255)
