import json

import keras
import numpy as np
import pytest

from keras_secure.errors import InputError
from keras_secure.integrity import generate_key_pair
from keras_secure.watermark import (
    SpreadSpectrum,
    TriggerSet,
    commit,
    embed,
    verify_triggers,
)
from keras_secure.watermark.matching_chance import (
    CLAIM_THRESHOLD,
    binomial_matches_probability,
    dealt_matches_probability,
)

KEYS = 1000
COUNT = 100
SECRET = "a secret of at least sixteen bytes"


@pytest.fixture(scope="module")
def innocents(digits):
    """Two models of digits that never saw a key."""
    x, y = digits
    models = []
    for seed in range(2):
        keras.utils.set_random_seed(seed)
        model = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                keras.layers.Flatten(),
                keras.layers.Dense(32, activation="relu"),
                keras.layers.Dense(10),
            ]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(5e-3), loss)
        model.fit(x[:1200], y[:1200], batch_size=64, epochs=6, verbose=0)
        models.append(model)
    return models


@pytest.fixture(scope="module")
def answers(innocents):
    """What innocent models answer to the triggers of a thousand keys: (models, keys, count)."""
    sets = [TriggerSet(f"key {n}", (8, 8, 1), 10, count=COUNT) for n in range(KEYS)]
    inputs = np.concatenate([one.inputs() for one in sets])
    given = [model.predict(inputs, batch_size=10_000, verbose=0).argmax(1) for model in innocents]
    labels = np.stack([one.labels() for one in sets])
    return np.stack(given).reshape(len(innocents), KEYS, COUNT), labels


def randomized_p_values(given, labels, rng):
    """P-values that are exactly uniform if the null is right, in spite of whole counts."""
    values, plain = [], []
    for row, own in zip(given.tolist(), labels.tolist(), strict=True):
        matches = sum(a == b for a, b in zip(row, own, strict=True))
        here = float(dealt_matches_probability(row, own, matches))
        above = float(dealt_matches_probability(row, own, matches + 1))
        plain.append(here)
        values.append(above + (here - above) * rng.random())
    return np.array(values), np.array(plain)


def test_innocent_models_under_a_thousand_keys(answers):
    from scipy import stats

    given, labels = answers
    rng = np.random.default_rng(0)
    for one in given:
        assert np.bincount(one.ravel()).max() > 0.2 * one.size, "answers concentrate, as they do"
        values, plain = randomized_p_values(one, labels, rng)
        assert stats.kstest(values, "uniform").pvalue > 1e-3
        assert plain.min() > 1e-6, "no false positive"
        for level in (0.5, 0.1, 0.01):
            below = int(np.sum(plain <= level))
            assert stats.binomtest(below, KEYS, level, alternative="greater").pvalue > 1e-3


def test_the_same_test_rejects_wrong_nulls(answers):
    from scipy import stats

    given, labels = answers
    rng = np.random.default_rng(0)
    # Labels that lean to what the models say anyway: one in fifteen is copied from an answer.
    leaning = np.where(rng.random(labels.shape) < 1 / 15, given[0], labels)
    values, _ = randomized_p_values(given[0], leaning, rng)
    assert stats.kstest(values, "uniform").pvalue < 1e-3
    # The binomial is wrong for balanced labels: too many of its p-values lie in the middle.
    matches = (given[0] == labels).sum(1)
    binomial = [
        float(binomial_matches_probability(int(m) + 1, COUNT, 10))
        + rng.random() * float(np.exp(stats.binom.logpmf(int(m), COUNT, 0.1)))
        for m in matches
    ]
    right, _ = randomized_p_values(given[0], labels, rng)
    assert np.var(binomial) < np.var(right)
    # One p-value for ten keys, the best of them, is not a p-value.
    plain = right.reshape(-1, 10).min(1)
    assert stats.kstest(plain, "uniform").pvalue < 1e-3
    assert stats.kstest(1 - (1 - plain) ** 10, "uniform").pvalue > 1e-3


def test_a_forged_key_has_to_be_counted_as_often_as_it_was_searched(answers):
    """An attacker who tries N keys on a model finds p near 1 / N, and N tries give it back."""
    given, labels = answers
    chances = [
        float(dealt_matches_probability(row.tolist(), own.tolist(), int(np.sum(row == own))))
        for row, own in zip(given[0], labels, strict=True)
    ]
    best = int(np.argmin(chances))
    forged = TriggerSet(f"key {best}", (8, 8, 1), 10, count=COUNT)
    report = verify_triggers(given[0, best], forged)
    assert report.p_value == chances[best] < 0.02
    assert report.verdict != "proved"
    searched = verify_triggers(given[0, best], forged, tries=KEYS)
    assert searched.p_value == pytest.approx(min(1.0, KEYS * chances[best]))
    assert searched.p_value > 0.01
    assert min(chances) > KEYS * CLAIM_THRESHOLD, "far from a claim"


def marked_answers(triggers, share, seed=0):
    """Answers of which a share is the labels and the rest is always the same class."""
    rng = np.random.default_rng(seed)
    known = rng.permutation(triggers.count) < share * triggers.count
    return np.where(known, triggers.labels(), 3)


@pytest.mark.parametrize(
    ("share", "verdict"), [(1.0, "proved"), (0.5, "proved"), (0.06, "inconclusive"), (0, "refuted")]
)
def test_verdicts(share, verdict):
    triggers = TriggerSet(SECRET, (8, 8, 1), 10)
    report = verify_triggers(marked_answers(triggers, share), triggers)
    assert report.verdict == verdict
    assert report.claim == (verdict == "proved")
    assert report.statement.startswith(verdict.upper())
    assert json.loads(json.dumps(report.to_dict()))["verdict"] == verdict
    assert SECRET not in str(report.to_dict())
    assert report.accuracy >= share


def test_no_answers_fail_and_refute_nothing():
    triggers = TriggerSet(SECRET, (8, 8, 1), 10, count=100)
    report = verify_triggers(np.full(100, -1), triggers)
    assert (report.verdict, report.answered, report.p_value) == ("failed", 0, 1.0)
    few = np.where(np.arange(100) < 8, 3, -1)
    assert verify_triggers(few, triggers).verdict == "inconclusive"
    nothing = np.full((100, 10), np.nan)
    assert verify_triggers(nothing, triggers).verdict == "failed"


def test_what_innocent_models_say_too_is_void():
    """A key whose labels are what every model says proves nothing against any of them."""
    triggers = TriggerSet(SECRET, (8, 8, 1), 10)
    natural = marked_answers(triggers, 0.6)
    rng = np.random.default_rng(1)
    others = [np.where(rng.random(200) < 0.1, 5, natural) for _ in range(5)]
    alone = verify_triggers(natural, triggers)
    assert alone.verdict == "proved", "a key found by search, were that feasible"
    beside = verify_triggers(natural, triggers, innocent=others)
    assert beside.innocent_p_value == 1.0
    assert beside.verdict == "inconclusive"
    assert min(beside.innocent_matches) > 80
    # A marked model beside models that answer as models do is proved all the same.
    marked = verify_triggers(triggers.labels(), triggers, innocent=[np.full(200, 3), natural % 4])
    assert marked.verdict == "proved"
    assert marked.p_value < marked.innocent_p_value < CLAIM_THRESHOLD


def test_voided_p_values_are_as_uniform(answers):
    from scipy import stats

    given, labels = answers
    rng = np.random.default_rng(0)
    rest = np.where(given[0] == given[1], -1, given[0])
    values, plain = randomized_p_values(rest, labels, rng)
    assert stats.kstest(values, "uniform").pvalue > 1e-3
    triggers = TriggerSet("key 7", (8, 8, 1), 10, count=COUNT)
    report = verify_triggers(given[0, 7], triggers, innocent=[given[1, 7]])
    assert report.innocent_p_value == plain[7]


def test_other_keys_are_asked_about():
    triggers = TriggerSet(SECRET, (6,), 4, count=60)
    asked = []

    def suspect(x):
        asked.append(len(x))
        return (4 * x[:, 0]).astype(int).clip(0, 3)

    report = verify_triggers(suspect, triggers, other_keys=20, batch_size=32)
    assert sum(asked) == 21 * 60
    assert max(asked) == 32
    assert len(report.key_matches) == 20
    assert report.key_p_value == (1 + sum(n >= report.matches for n in report.key_matches)) / 21
    assert abs(np.mean(report.key_matches) - 15) < 3


def test_models_functions_and_lists_are_asked_alike():
    triggers = TriggerSet(SECRET, (8, 8, 1), 10, count=50)
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")]
    )
    scores = model.predict(triggers.inputs(), verbose=0)
    expected = verify_triggers(scores.argmax(1), triggers)
    for form in (
        model,
        scores,
        scores.argmax(1)[:, None],
        scores.argmax(1).astype("float32"),
        lambda x: model.predict(x, verbose=0),
        lambda x: model.predict(x, verbose=0).argmax(1),
    ):
        assert verify_triggers(form, triggers, batch_size=16) == expected


def test_one_unit_tells_two_classes():
    triggers = TriggerSet(SECRET, (4,), 2, bounds=(-1, 1))
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, "sigmoid")])
    classes = (model.predict(triggers.inputs(), verbose=0)[:, 0] > 0.5).astype(int)
    assert 0 < classes.sum() < 200
    assert verify_triggers(model, triggers) == verify_triggers(classes, triggers)
    with pytest.raises(InputError, match="probabilities or logits"):
        verify_triggers(lambda x: model.predict(x, verbose=0), triggers)


def test_variants_are_put_to_the_vote():
    triggers = TriggerSet(SECRET, (8, 8, 1), 10, count=100)
    labels = triggers.labels()
    rng = np.random.default_rng(0)
    noisy = np.stack([np.where(rng.random(100) < 0.5, labels, (labels + 3) % 10) for _ in range(9)])
    noisy[:, :50] = rng.integers(0, 10, (9, 50))
    noisy[:3, 50:] = labels[50:]
    voted = verify_triggers(noisy, triggers, variants=9)
    assert voted.matches >= 45
    votes = [np.bincount(column, minlength=10).argmax() for column in noisy.T]
    assert voted == verify_triggers(votes, triggers)
    assert verify_triggers(np.full((3, 100), -1), triggers, variants=3).verdict == "failed"


@pytest.fixture(scope="module")
def committed():
    triggers = TriggerSet(SECRET, (8, 8, 1), 10)
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(128)])
    mark = SpreadSpectrum(SECRET, payload="ACME")
    embed(model, mark)
    private, public = generate_key_pair()
    made = commit(mark, model, private, triggers=triggers.digest(), created="2020-03-01T00:00:00Z")
    without = commit(mark, model, private)
    return triggers, made, without, public


def test_a_commitment_binds_the_set(committed):
    triggers, commitment, without, public = committed
    known = triggers.labels()
    report = verify_triggers(known, triggers, commitment=commitment, public_key=public)
    assert report.verdict == "proved"
    assert verify_triggers(known, triggers, commitment=triggers.digest()).verdict == "proved"
    other = triggers.with_key("a key that was found afterwards")
    for suspect, commitment_, options, match in [
        (other, commitment, {"public_key": public}, "another trigger set"),
        (other, triggers.digest(), {}, "another trigger set"),
        (triggers, without, {"public_key": public}, "to no trigger set"),
        (triggers, commitment, {"public_key": generate_key_pair()[1]}, "not signed"),
        (
            triggers,
            commitment,
            {"public_key": public, "released": "2020-02-01T00:00:00Z"},
            "was released at",
        ),
    ]:
        report = verify_triggers(suspect.labels(), suspect, commitment=commitment_, **options)
        assert report.verdict == "refuted", "however many answers match"
        assert match in " ".join(report.contradictions)
        assert match in report.statement
    late = {"public_key": public, "released": "2020-04-01T00:00:00Z"}
    assert verify_triggers(known, triggers, commitment=commitment, **late).verdict == "proved"


def test_what_cannot_be_judged_says_why(committed):
    triggers, commitment, _, public = committed
    known = triggers.labels()
    for judge, match in [
        (lambda: verify_triggers(known, "a key"), "TriggerSet was expected"),
        (lambda: verify_triggers(known[:5], triggers), "expected .200,."),
        (lambda: verify_triggers(known[:, None] * np.ones(7), triggers), "expected"),
        (lambda: verify_triggers(known.astype(str), triggers), "expected"),
        (lambda: verify_triggers(known, triggers, other_keys=3), "other keys"),
        (lambda: verify_triggers(known, triggers, variants=0), "variants=0"),
        (lambda: verify_triggers(known, triggers, tries=0), "tries=0"),
        (lambda: verify_triggers(known, triggers, commitment=7), "cannot be used"),
        (lambda: verify_triggers(known, triggers, commitment=commitment), "public_key"),
        (lambda: verify_triggers(known, triggers, public_key=public), "belong to a Commitment"),
    ]:
        with pytest.raises(InputError, match=match):
            judge()


@pytest.mark.parametrize("answer", [None, {"scores": 1}, 3, [1, 2]])
def test_answers_that_are_none_are_refused(answer):
    with pytest.raises(InputError, match="a class or a row of scores for each"):
        verify_triggers(lambda x: answer, TriggerSet(SECRET, (8, 8, 1), 4))
