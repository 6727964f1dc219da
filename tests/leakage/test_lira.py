"""The likelihood ratio attack: its formula, what it gains, and real models."""

import keras
import numpy as np
import pytest
from scipy.stats import norm

import keras_secure as ks
from keras_secure.errors import InputError
from keras_secure.leakage import ShadowScores, lira, lira_from_scores, train_shadows
from keras_secure.leakage.lira import likelihood_ratios
from keras_secure.leakage.report import measure
from keras_secure.leakage.shadows import random_halves


def world(num_shadows, size=1000, gain=1.5, spread=5.0, seed=0):
    """A target and shadows whose scores are normal, some examples being far harder than others."""
    generator = np.random.default_rng(seed)
    hardness = generator.normal(0, spread, size)
    members = np.vstack(
        [generator.random(size) < 0.5, random_halves(num_shadows, size, seed)],
    )
    scores = hardness + gain * members + generator.normal(size=members.shape)
    return scores[0], members[0], ShadowScores(scores[1:], members[1:])


@pytest.mark.parametrize("num_shadows", [4, 8, 62])
def test_ratios_of_few_shadows_share_one_variance(num_shadows):
    scores, _, shadows = world(num_shadows, size=50)
    groups = [[], []]
    for column in range(50):
        inside = shadows.members[:, column]
        for group, chosen in zip(groups, (inside, ~inside), strict=True):
            group.append(shadows.scores[chosen, column])
    residuals = [np.concatenate([own - own.mean() for own in group]) for group in groups]
    freedom = [sum(len(own) - 1 for own in group) for group in groups]
    deviations = [np.sqrt(np.sum(r**2) / f) for r, f in zip(residuals, freedom, strict=True)]
    likelihoods = [
        norm.logpdf(scores, [own.mean() for own in group], deviation)
        for group, deviation in zip(groups, deviations, strict=True)
    ]
    found = likelihood_ratios(scores, shadows, "online")
    np.testing.assert_allclose(found, likelihoods[0] - likelihoods[1], rtol=1e-9, atol=1e-9)
    tail = norm.sf(scores, [own.mean() for own in groups[1]], deviations[1])
    offline = likelihood_ratios(scores, shadows, "offline")
    np.testing.assert_allclose(norm.sf(offline), tail, rtol=1e-9)


def test_ratios_of_many_shadows_use_each_examples_own_variance():
    scores, _, shadows = world(64, size=30)
    inside = np.ma.array(shadows.scores, mask=~shadows.members)
    outside = np.ma.array(shadows.scores, mask=shadows.members)
    likelihoods = [
        norm.logpdf(scores, own.mean(axis=0).data, own.std(axis=0, ddof=1).data)
        for own in (inside, outside)
    ]
    found = likelihood_ratios(scores, shadows, "online")
    np.testing.assert_allclose(found, likelihoods[0] - likelihoods[1], rtol=1e-9)


def test_halves_are_halves_and_differ():
    members = random_halves(8, 1000, seed=0)
    assert np.all(members.sum(axis=0) == 4)
    sizes = members.sum(axis=1)
    assert np.all(abs(sizes - 500) < 4 * np.sqrt(250))
    assert len(np.unique(members.T, axis=0)) > 60  # of the 70 ways to choose 4 of 8
    assert np.array_equal(members, random_halves(8, 1000, seed=0))
    assert not np.array_equal(random_halves(8, 1000), random_halves(8, 1000))


def test_with_many_shadows_the_attack_reaches_what_theory_allows():
    scores, members, shadows = world(200, size=4000, gain=1.5)
    report = lira_from_scores(scores, members, shadows)
    # Two normals 1.5 deviations apart, each example's position being known.
    low, high = report.auc_interval
    assert low - 0.01 < norm.cdf(1.5 / np.sqrt(2)) < high + 0.01
    assert report.advantage == pytest.approx(2 * norm.cdf(0.75) - 1, abs=0.05)
    for point in report.tpr_at_fpr[1:]:
        assert point.tpr == pytest.approx(norm.sf(norm.isf(point.max_fpr) - 1.5), abs=0.06)


def test_comparison_with_shadow_models_finds_more_than_a_threshold():
    scores, members, shadows = world(16, size=4000)
    alone = measure("threshold", scores[members], scores[~members])
    offline = lira_from_scores(scores, members, shadows, variant="offline")
    online = lira_from_scores(scores, members, shadows)
    for report in (offline, online):
        assert report.auc_interval[0] > alone.auc_interval[1] + 0.1
        assert report.tpr_at_fpr[1].tpr_interval[0] > alone.tpr_at_fpr[1].tpr_interval[1]
    assert (online.attack, offline.attack) == ("lira online", "lira offline")
    assert online.num_shadows == 16
    assert offline.advantage is None


@pytest.mark.parametrize("variant", ["online", "offline"])
def test_where_nothing_leaks_the_interval_holds_one_half(variant):
    covered = 0
    for seed in range(100):
        scores, members, shadows = world(8, size=200, gain=0.0, seed=seed)
        low, high = lira_from_scores(scores, members, shadows, variant=variant).auc_interval
        covered += low <= 0.5 <= high
    assert covered >= 95 - 4 * np.sqrt(0.05 * 0.95 * 100)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"members": np.ones(6)}, "expected booleans"),
        ({"members": np.ones(5, bool)}, r"shape \(6,\)"),
        ({"target_scores": np.zeros(5)}, r"expected \(6,\)"),
        ({"target_scores": np.full(6, np.inf)}, "finite"),
        ({"variant": "both"}, "'online' or 'offline'"),
        ({"members": np.ones(6, bool)}, "6 members and 0 non-members"),
        ({"shadows": ShadowScores(np.zeros((3, 6)), np.ones((3, 6), bool))}, "not trained on it"),
        ({"shadows": ShadowScores(np.zeros((2, 6)), np.eye(2, 6) > 0)}, "4 or more"),
    ],
)
def test_refusals_say_what_to_do(changes, words):
    good = {
        "target_scores": np.zeros(6),
        "members": np.arange(6) < 3,
        "shadows": ShadowScores(np.zeros((4, 6)), random_halves(4, 6)),
    }
    assert lira_from_scores(**good).auc == 0.5
    with pytest.raises(InputError, match=words):
        lira_from_scores(**{**good, **changes})


def test_broken_shadow_scores_are_refused():
    with pytest.raises(InputError, match="members boolean"):
        ShadowScores(np.zeros((2, 3)), np.zeros((2, 3)))
    with pytest.raises(InputError, match="1 shadow scores are not finite"):
        ShadowScores([[np.nan, 0.0]], np.zeros((1, 2), bool))
    with pytest.raises(InputError, match="num_shadows=1"):
        random_halves(1, 10)


SIZE, DIMENSION = 600, 24


def noisy_pool(seed):
    """Labels of which a third are random: to know them is to remember them."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(SIZE, DIMENSION)).astype("float32")
    y = np.where(generator.random(SIZE) < 0.33, generator.integers(0, 2, SIZE), x[:, 0] > 0)
    return x, y.astype("int32"), generator.permutation(SIZE) < SIZE // 2


def network():
    return keras.Sequential(
        [
            keras.Input((DIMENSION,)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(2),
        ]
    )


LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def fitting(compiled, model, **options):
    """A `train` that starts from fresh weights; plain SGD carries nothing over in its state."""

    def train(x, y):
        model.set_weights(keras.models.clone_model(model).get_weights())
        compiled.fit(x, y, verbose=0, **options)
        return model

    return train


def test_an_overfitted_model_is_exposed_and_refutes_a_small_epsilon():
    x, y, members = noisy_pool(0)
    model = network()
    model.compile(keras.optimizers.SGD(0.5), LOSS)
    # Ten passes in one epoch: epochs cost more than steps.
    again = fitting(model, model, batch_size=50, epochs=4)

    def train(x, y):
        return again(np.tile(x, (10, 1)), np.tile(y, 10))

    train(x[members], y[members])
    scores = ks.leakage.logit_confidences(model, x, y)
    shadows = train_shadows(train, x, y, num_shadows=8, seed=1)
    online = lira_from_scores(scores, members, shadows)
    assert online.auc >= 0.7
    assert online.auc_interval[0] > 0.65
    assert online.contradiction(0.25, 1e-5) is not None
    offline = lira_from_scores(scores, members, shadows, variant="offline")
    assert offline.auc_interval[0] > 0.6


def test_a_private_model_respects_its_epsilon_at_every_operating_point():
    x, y, members = noisy_pool(0)
    model = network()
    secure = ks.SecureModel(model)
    optimizer = ks.optimizers.DPSGD(0.5, l2_norm_clip=1.0, noise_multiplier=2.0, seed=1)
    secure.compile(optimizer, LOSS)
    train = fitting(secure, model, batch_size=50, epochs=5)
    train(x[members], y[members])
    # Before the shadow models, which spend on other data.
    epsilon = optimizer.epsilon(1e-4)
    assert epsilon < 3.0
    scores = ks.leakage.logit_confidences(model, x, y)
    shadows = train_shadows(train, x, y, num_shadows=8, seed=1)
    report = lira_from_scores(scores, members, shadows)
    low, high = report.auc_interval
    assert low <= 0.5 <= high or report.contradiction(epsilon, 1e-4) is None
    assert report.auc < 0.65


def test_one_call_trains_scores_and_measures():
    x, y, members = noisy_pool(0)
    model = network()
    model.compile(keras.optimizers.SGD(0.1), LOSS)
    kept = keras.models.clone_model(model)
    kept.set_weights(model.get_weights())
    sizes = []

    def train(x, y):
        sizes.append(len(x))
        assert len(x) == len(y)
        return model

    report = lira(kept, train, x, y, members, num_shadows=4, seed=0)
    assert (report.num_shadows, report.num_members, report.num_non_members) == (4, 300, 300)
    assert sizes == random_halves(4, SIZE, seed=0).sum(axis=1).tolist()
    # Shadow models that never learn tell nothing.
    assert report.auc == 0.5
