import numpy as np
import pytest
from scipy import stats

from keras_secure.certification.binomial_bounds import lower_bound, needed_successes
from keras_secure.certification.early_decision import EarlyDecision


def follow(rule, streams):
    """Verdicts at the end, and samples used, of boolean streams of shape (num, trials)."""
    successes = np.cumsum(streams, axis=1)
    verdicts = np.zeros((len(streams), len(rule.radii)), "int8")
    used = np.zeros(len(streams), int)
    for look in rule.looks:
        open_ = (verdicts == 0).any(axis=1)
        used[open_] = look
        fresh = rule.verdicts(successes[open_, look - 1], look)
        verdicts[open_] = np.where(verdicts[open_] == 0, fresh, verdicts[open_])
    return verdicts, used


def draw(probability, num, trials, seed=0):
    return np.random.default_rng(seed).random((num, trials)) < probability


def test_certificates_are_wrong_at_most_alpha_often_and_uncorrected_looks_are_not():
    """At the very edge of radius 0.5 every certificate for 0.5 is one too many."""
    alpha, trials, num = 0.05, 1500, 4000
    streams = draw(stats.norm.cdf(1.0), num, trials)
    rule = EarlyDecision([0.5], stddev=0.5, trials=trials, alpha=alpha, unit=10)
    verdicts, _ = follow(rule, streams)
    spread = 5 * (alpha * (1 - alpha) / num) ** 0.5
    assert (verdicts == 1).mean() <= alpha + spread
    # The level is used, and not thrown away.
    assert (verdicts == 1).mean() > 0.6 * alpha
    # A fixed sample's bound, looked at as often, fails the same test.
    looks = np.array(rule.looks)
    successes = np.cumsum(streams, axis=1)[:, looks - 1]
    naive = (lower_bound(successes, looks, alpha) > stats.norm.cdf(1.0)).any(axis=1)
    assert naive.mean() > 2 * alpha + spread


def test_all_radii_certified_at_once_are_wrong_at_most_alpha_often():
    alpha, num = 0.05, 4000
    rule = EarlyDecision([0.0, 0.4, 0.5, 0.6], 0.5, 1000, alpha, unit=10)
    # The truth lies just below the second radius, so that any certificate from there on is wrong.
    verdicts, _ = follow(rule, draw(stats.norm.cdf(0.8), num, 1000))
    wrong = (verdicts[:, 1:] == 1).any(axis=1)
    assert wrong.mean() <= alpha + 5 * (alpha * (1 - alpha) / num) ** 0.5
    assert (verdicts[:, 0] == 1).mean() > 0.99


def test_decisions_are_those_of_the_whole_sample_at_a_fraction_of_it():
    trials, alpha = 20_000, 0.001
    rule = EarlyDecision([0.0, 0.5, 1.0], 0.5, trials, alpha, unit=20)
    rng = np.random.default_rng(1)
    # Votes as models give them: mostly clear, a few anywhere.
    probabilities = np.concatenate([1 - 10.0 ** rng.uniform(-6, -0.3, 250), rng.random(50)])
    streams = rng.random((300, trials)) < probabilities[:, None]
    verdicts, used = follow(rule, streams)
    fixed = np.stack([streams.sum(axis=1) >= needed for needed in rule.needed], axis=1)
    assert np.array_equal(verdicts == 1, fixed)
    assert (verdicts != 0).all()
    assert used.mean() < 0.35 * trials
    # At alpha itself the whole sample would have decided alike, but for a count on the edge.
    at_alpha = [needed_successes(stats.norm.cdf(r / 0.5), trials, alpha) for r in rule.radii]
    assert all(0 <= ours - theirs <= 1 for ours, theirs in zip(rule.needed, at_alpha, strict=True))


@pytest.mark.parametrize("missing", [1, 0])
def test_disagreement_is_bounded_where_the_whole_sample_is_on_the_edge(missing):
    """All orders of a sample that has just enough successes, or one too few."""
    trials, num, disagreement = 800, 4000, 0.05
    rule = EarlyDecision([0.3], 0.5, trials, 0.1, unit=10, disagreement=disagreement)
    successes = rule.needed[0] - missing
    rng = np.random.default_rng(2)
    sample = np.arange(trials) < successes
    streams = rng.permuted(np.tile(sample, (num, 1)), axis=1)
    verdicts, _ = follow(rule, streams)
    differs = (verdicts[:, 0] == 1).mean() if missing else (verdicts[:, 0] == -1).mean()
    assert differs <= disagreement + 5 * (disagreement / num) ** 0.5
    # And it is not zero: the streams are hard enough to tell.
    assert differs > 0.002


def test_what_nothing_can_change_is_decided():
    rule = EarlyDecision([0.0, 1.9, 3.0], 0.5, 1000, 0.001, unit=100)
    # No number of successes proves these radii, so they are refused at the first look.
    assert rule.verdicts([100], 100)[0].tolist()[1:] == [-1, -1]
    needed = rule.needed[0]
    assert rule.verdicts([needed], 1000)[0, 0] == 1
    assert rule.verdicts([needed - 1], 1000)[0, 0] == -1
    assert rule.looks == sorted(set(rule.looks))
    assert all(look % 100 == 0 for look in rule.looks)


def test_a_sample_of_one_unit_has_one_look():
    rule = EarlyDecision([0.0], 0.5, 100, 0.001, unit=256)
    assert rule.looks == [100]
    assert rule.verdicts([100, 50], 100).tolist() == [[1], [-1]]


def test_edges_spend_the_disagreement_and_no_more():
    """Their tails, by scipy's slow and exact hypergeometric distribution."""
    rule = EarlyDecision([0.0, 0.5, 1.2], 0.5, 3000, 0.01, unit=50)
    certifying, refusing = np.zeros((2, len(rule.looks), 3))
    for row, look in enumerate(rule.looks):
        verdicts = rule.verdicts(np.arange(look + 1), look)
        assert (np.diff(verdicts, axis=0) >= 0).all()
        for column, needed in enumerate(rule.needed):
            above = np.count_nonzero(verdicts[:, column] != 1)
            below = np.count_nonzero(verdicts[:, column] == -1) - 1
            certifying[row, column] = stats.hypergeom.sf(above - 1, 3000, needed - 1, look)
            refusing[row, column] = stats.hypergeom.cdf(below, 3000, needed, look)
    for spent in (certifying, refusing):
        assert spent.sum() <= rule.disagreement * (1 + 1e-6)
        assert spent.sum() > 0.2 * rule.disagreement
        assert (spent.sum(axis=0) > 0).all()
