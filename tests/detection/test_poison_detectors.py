"""Spectral signatures and activation clustering, on features whose poison is known."""

import json

import numpy as np
import pytest
from harness_attacks import linear_model
from sklearn.metrics import roc_auc_score

from keras_secure.detection import ActivationClustering, SpectralSignatures, layer_features
from keras_secure.errors import InputError

CLASSES, TARGET = 8, 3


def features_with_poison(share, seed=0, per_class=400, distance=14.0, num_features=12):
    """Classes around random centres; poison comes from all others and shares one direction.

    `share` is that of the poison in the target class.
    """
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(CLASSES, num_features)) * 3
    labels = np.repeat(np.arange(CLASSES), per_class)
    features = centres[labels] + rng.normal(size=(len(labels), num_features))
    count = round(share / (1 - share) * per_class)
    sources = rng.choice([c for c in range(CLASSES) if c != TARGET], count)
    trigger = np.zeros(num_features)
    trigger[5] = distance
    poison = centres[TARGET] + 0.3 * centres[sources] + trigger
    poison = poison + rng.normal(size=(count, num_features))
    features = np.concatenate([features, poison])
    labels = np.concatenate([labels, np.full(count, TARGET)])
    return features, labels, np.arange(len(labels)) >= len(labels) - count


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.6])
def test_whitened_signatures_find_the_poison_whatever_its_share(share):
    for seed in range(2):
        features, labels, poisoned = features_with_poison(share, seed)
        report = SpectralSignatures().inspect_features(features, labels)
        here = labels == TARGET
        assert roc_auc_score(poisoned[here], report.scores[here]) > 0.99
        assert report.flagged[poisoned].mean() > 0.98
        assert report.flagged[~poisoned].mean() <= 0.01
        assert report.suspicious_classes == (TARGET,)


def test_the_published_score_is_the_squared_projection_and_fails_at_half():
    features, labels, poisoned = features_with_poison(0.1)
    report = SpectralSignatures(method="plain").inspect_features(features, labels)
    for label in range(CLASSES):
        rows = features[labels == label]
        rows = rows - rows.mean(axis=0)
        direction = np.linalg.svd(rows)[2][0]
        np.testing.assert_allclose(report.scores[labels == label], (rows @ direction) ** 2)
    here = labels == TARGET
    assert roc_auc_score(poisoned[here], report.scores[here]) > 0.99
    features, labels, poisoned = features_with_poison(0.5)
    here = labels == TARGET
    half = SpectralSignatures(method="plain").inspect_features(features, labels)
    assert roc_auc_score(poisoned[here], half.scores[here]) < 0.7


def test_plain_signatures_flag_the_promised_share_of_normal_features():
    rng = np.random.default_rng(0)
    labels = np.arange(20_000) % 4
    features = rng.normal(size=(20_000, 5)) * [1, 2, 3, 4, 9]
    for rate in (0.01, 0.1):
        detector = SpectralSignatures(method="plain", false_positive_rate=rate)
        share = detector.inspect_features(features, labels).flagged.mean()
        # A threshold at 2/3 or 3/2 of the scale would be far off.
        assert 0.7 * rate < share < 1.4 * rate


@pytest.mark.parametrize("make", [SpectralSignatures, ActivationClustering])
def test_clean_sets_are_searched_no_oftener_than_promised(make):
    searched, flagged = 0, []
    sets = 15
    detector = make(class_false_positive_rate=0.2)
    for seed in range(sets):
        features, labels, _ = features_with_poison(0.0, seed, per_class=80)
        report = detector.inspect_features(features, labels)
        flagged.append(report.flagged.mean())
        searched += any(np.isfinite(one.threshold) for one in report.classes)
    # 3 expected at most; 9 would be more than three standard deviations above.
    assert searched < 9
    # A class that is searched by mistake may lose its smaller half: 0.2 / 8 / 2 at most.
    assert np.mean(flagged) < 0.02


@pytest.mark.parametrize(
    "detector",
    [
        SpectralSignatures(false_positive_rate=0.05),
        SpectralSignatures(method="plain", false_positive_rate=0.05),
        ActivationClustering(false_positive_rate=0.05),
    ],
)
def test_trusted_examples_calibrate_whatever_the_distribution(detector):
    """Skewed, heavy-tailed features; only new clean examples of the same kind are judged."""
    rng = np.random.default_rng(0)

    def draw(count):
        labels = np.arange(count) % 4
        return rng.lognormal(0, 1.2, size=(count, 4)) + labels[:, None], labels

    shares = []
    for _ in range(8):
        features, labels = draw(800)
        report = detector.inspect_features(features, labels, trusted=draw(400))
        shares.append(report.flagged.mean())
    # The threshold is a random order statistic of 100 scores in each of 4 classes.
    assert 0.025 < np.mean(shares) < 0.07


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_activation_clustering_finds_a_small_cluster(share):
    features, labels, poisoned = features_with_poison(share)
    report = ActivationClustering().inspect_features(features, labels)
    here = labels == TARGET
    assert roc_auc_score(poisoned[here], report.scores[here]) > 0.99
    assert report.flagged[poisoned].mean() > 0.95
    assert report.flagged[~poisoned].mean() <= 0.01


def test_activation_clustering_suspects_no_cluster_above_its_relative_size():
    features, labels, _ = features_with_poison(0.5)
    report = ActivationClustering().inspect_features(features, labels)
    assert not report.flagged.any()
    assert report.finding().severity == "ok"


def test_the_report_says_what_was_found_as_json():
    features, labels, poisoned = features_with_poison(0.3)
    finding = SpectralSignatures().inspect_features(features, labels).finding()
    assert finding.severity == "high"
    assert "class 3" in finding.statement
    evidence = json.loads(json.dumps(finding.to_dict(), allow_nan=False))["evidence"]
    assert abs(evidence["num_flagged"] - poisoned.sum()) < 0.05 * poisoned.sum()
    assert len(evidence["classes"]) == CLASSES
    assert evidence["promise"]


def test_one_hot_labels_are_as_good():
    features, labels, _ = features_with_poison(0.2)
    report = SpectralSignatures().inspect_features(features, np.eye(CLASSES)[labels])
    expected = SpectralSignatures().inspect_features(features, labels)
    np.testing.assert_array_equal(report.scores, expected.scores)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: SpectralSignatures(method="robust"), "whitened, plain"),
        (lambda: SpectralSignatures(directions=0), "at least 1"),
        (lambda: SpectralSignatures(false_positive_rate=0), r"\(0, 1\)"),
        (lambda: SpectralSignatures(class_false_positive_rate=2), r"\(0, 1\]"),
        (lambda: ActivationClustering(components=0), "at least 1"),
        (lambda: ActivationClustering(max_relative_size=0.7), r"\(0, 0.5\]"),
        (lambda: inspected(np.ones((40, 3)), np.zeros(39)), "do not fit"),
        (lambda: inspected(np.full((40, 3), np.nan), np.zeros(40)), "NaN"),
        (lambda: inspected(np.ones((40, 3)), np.arange(40)), "fewer than 20"),
    ],
)
def test_what_cannot_be_used_is_refused(make, match):
    with pytest.raises(InputError, match=match):
        make()


def inspected(features, labels):
    return SpectralSignatures().inspect_features(features, labels)


def test_too_few_trusted_examples_are_refused():
    features, labels, _ = features_with_poison(0.0, per_class=60)
    with pytest.raises(InputError, match="needs 99"):
        SpectralSignatures().inspect_features(features, labels, trusted=(features, labels))


@pytest.mark.parametrize("detector", [SpectralSignatures, ActivationClustering])
def test_equal_features_are_no_two_groups(detector):
    features, labels, _ = features_with_poison(0.0, per_class=30)
    features[labels == 0] = 1.0
    report = detector().inspect_features(features, labels)
    assert not report.flagged[labels == 0].any()


@pytest.mark.parametrize(
    ("x", "match"),
    [
        (np.zeros((0, 5, 5, 1), "float32"), "at least one example"),
        ((row for row in np.zeros((4, 5, 5, 1))), "generator"),
        (np.full((4, 5, 5, 1), np.nan, "float32"), "NaN"),
    ],
)
def test_features_of_no_array_are_refused(x, match):
    with pytest.raises(InputError, match=match):
        layer_features(linear_model(), x)
