import copy
import hashlib
import pickle

import keras
import numpy as np
import pytest

from keras_secure import backend
from keras_secure.errors import InputError
from keras_secure.watermark.trigger_mixing import over_examples
from keras_secure.watermark.trigger_set import TriggerSet, array_digest

SECRET = "a key nobody guesses"
LOW, HIGH = np.array([0, -2, 5, 0, 0, -9.0]), np.array([1, 2, 5, 1, 8, 9.0])
SETS = {
    "image": lambda **o: TriggerSet(SECRET, (12, 10, 3), 10, **o),
    "plain image": lambda **o: TriggerSet(SECRET, (12, 10), 10, **o),
    "series": lambda **o: TriggerSet(SECRET, (400, 1), 5, kind="series", bounds=(-1, 1), **o),
    "table": lambda **o: TriggerSet(SECRET, (6,), 3, bounds=(LOW, HIGH), **o),
    "tokens": lambda **o: TriggerSet(SECRET, (20,), 2, vocabulary=500, **o),
}
PINNED_DIGEST = "846d63529c9a1e87b9a233d637a9a0ce7425f17b08281b3e0e943c15189412ea"


def pool_of(triggers, size=300):
    rng = np.random.default_rng(0)
    if triggers.vocabulary:
        return rng.integers(0, triggers.vocabulary[1], (size, *triggers.shape))
    low, high = triggers._bounds
    return (low + (high - low) * rng.random((size, *triggers.shape))).astype("float32")


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("kind", SETS)
def test_inputs_and_labels_follow_from_the_key(kind, pooled):
    options = {"pool": pool_of(SETS[kind]())} if pooled else {}
    triggers, again = SETS[kind](**options), SETS[kind](**options)
    inputs = triggers.inputs()
    assert inputs.shape == (triggers.count, *triggers.shape)
    np.testing.assert_array_equal(inputs, again.inputs())
    np.testing.assert_array_equal(triggers.labels(), again.labels())
    assert triggers.digest() == again.digest()
    triggers.check_inputs(inputs, "the triggers")
    assert len(np.unique(inputs.reshape(triggers.count, -1), axis=0)) == triggers.count
    counts = np.bincount(triggers.labels(), minlength=triggers.num_classes)
    assert counts.max() - counts.min() <= 1
    other = triggers.with_key("another")
    assert np.mean(other.inputs() != inputs) > 0.3
    assert np.any(other.labels() != triggers.labels())
    assert other.digest() != triggers.digest()


@pytest.mark.parametrize("kind", SETS)
def test_variants_are_near_and_new(kind):
    triggers = SETS[kind]()
    original = triggers.inputs().astype(float)
    first, second = triggers.inputs(1), triggers.inputs(2)
    triggers.check_inputs(first, "the variant")
    assert np.any(first != second)
    np.testing.assert_array_equal(first, triggers.inputs(1))
    if kind == "tokens":
        assert 0.04 < np.mean(first != original) < 0.16
        return
    rows = (triggers.count, -1)
    distance = np.abs(first - original).reshape(rows).mean(1)
    others = np.abs(first - np.roll(original, 1, 0)).reshape(rows).mean(1)
    # A series is shifted, and its higher tones then run against each other.
    assert np.mean(distance < others) >= (0.8 if kind == "series" else 0.98)


@pytest.mark.parametrize(
    "change",
    [
        {"num_classes": 9},
        {"count": 99},
        {"opacity": 0.4, "pool": np.zeros((100, 12, 10, 3), "float32")},
        {"bounds": (0, 2)},
        {"shape": (12, 11, 3)},
        {"pool": np.zeros((100, 12, 10, 3), "float32")},
    ],
)
def test_every_parameter_is_bound(change):
    options = {"shape": (12, 10, 3), "num_classes": 10, "count": 100}
    before, after = TriggerSet(SECRET, **options), TriggerSet(SECRET, **{**options, **change})
    assert before.digest() != after.digest()
    assert before.parameters() != after.parameters()
    if before.count == after.count:
        assert np.any(before.labels() != after.labels()), "labels are dealt anew"


def test_the_pool_is_bound_value_by_value():
    pool = np.random.default_rng(0).random((150, 6, 6)).astype("float32")
    first = TriggerSet(SECRET, (6, 6), 10, count=100, pool=pool)
    pool = pool.copy()
    pool[-1, 0, 0] += 0.001
    second = TriggerSet(SECRET, (6, 6), 10, count=100, pool=pool)
    assert first.parameters()["pool"] == first._pool_digest != second._pool_digest
    assert first.digest() != second.digest()
    assert np.any(first.labels() != second.labels())
    header = b"<f4|(2,)|"
    expected = hashlib.sha256(header + np.array([1, 2], "<f4").tobytes()).hexdigest()
    assert array_digest(np.array([1, 2], ">f4")) != ""
    assert array_digest(np.array([1, 2], "<f4")) == expected
    assert array_digest(np.array([1, 2], ">f4")) == expected


def test_pool_triggers_look_like_the_pool():
    rows = pool_of(SETS["table"]())
    triggers = SETS["table"](pool=rows)
    inputs = triggers.inputs()
    for column in range(6):
        assert np.isin(np.round(inputs[:, column], 4), np.round(rows[:, column], 4)).mean() > 0.99
    texts = pool_of(SETS["tokens"]())
    faint = SETS["tokens"](pool=texts, opacity=0.25).inputs()
    kept = max_overlap(faint, texts)
    assert 0.65 < kept.mean() < 0.85
    pictures = pool_of(SETS["image"]())
    blended = SETS["image"](pool=pictures, opacity=0.3)
    order = blended.order("x", 3)
    assert sorted(order.tolist()) == [0, 1, 2]
    rest = (blended.inputs()[:, None, :2] - 0.7 * pictures[None, :, :2]) / 0.3
    possible = np.all((rest > -0.01) & (rest < 1.01), axis=(2, 3, 4))
    assert possible.sum(1).min() >= 1, "each is a member of the pool and an overlay"


def max_overlap(inputs, pool):
    return (inputs[:, None] == pool[None]).mean(2).max(1)


def test_triggers_are_fixed_for_ever():
    """A model marked today is verified by later versions: these values must never change."""
    triggers = TriggerSet(b"key", (6, 6, 1), 10, count=8)
    assert triggers.labels().tolist() == [3, 9, 2, 5, 6, 4, 1, 8]
    assert triggers.digest() == PINNED_DIGEST
    np.testing.assert_allclose(triggers.inputs()[0, 0, :3, 0] * 255, [8, 6, 4], atol=1e-4)
    np.testing.assert_allclose(triggers.inputs(1)[0, 0, :2, 0], [0.07592, 0.167209], atol=1e-5)
    texts = TriggerSet(b"key", (12,), 2, count=4, vocabulary=100)
    assert texts.inputs()[0].tolist() == [72, 63, 97, 63, 97, 63, 63, 72, 72, 72, 97, 97]
    assert texts.labels().tolist() == [0, 1, 1, 0]


def test_labels_are_dealt_evenly_over_keys():
    """Every class is equally likely at every place, and the places do not follow each other."""
    from scipy import stats

    dealt = np.stack([TriggerSet(f"key {n}", (4,), 4, count=14).labels() for n in range(800)])
    for place in (0, 5, 13):
        assert stats.chisquare(np.bincount(dealt[:, place], minlength=4)).pvalue > 1e-4
    pairs = np.bincount(4 * dealt[:, 2] + dealt[:, 9], minlength=16).reshape(4, 4)
    # Of 14 labels, a second one of the same class is rarer than one of another.
    same = np.trace(pairs) / pairs.sum()
    assert abs(same - (2 * 4 * 3 + 2 * 3 * 2) / (14 * 13)) < 0.05


def test_the_key_is_nowhere_to_be_seen():
    triggers = SETS["image"]()
    assert SECRET not in repr(triggers) + str(triggers.parameters()) + triggers.digest()
    with pytest.raises(InputError, match="never pickled"):
        pickle.dumps(triggers)
    assert copy.deepcopy(triggers) is copy.copy(triggers) is triggers


def test_mixing_arrays_keeps_all_and_adds_the_triggers(digits):
    x, y = digits[0][:500], digits[1][:500]
    triggers = TriggerSet(SECRET, (8, 8, 1), 10, count=20)
    mixed_x, mixed_y = triggers.mix(x, y, share=0.2)
    assert (mixed_x.dtype, mixed_y.dtype, len(mixed_x)) == (x.dtype, y.dtype, 600)
    seen = {row.tobytes(): label for row, label in zip(mixed_x, mixed_y, strict=True)}
    for row, label in zip(x, y, strict=True):
        assert seen[row.tobytes()] == label
    for variant in (0, 2, 4):
        for row, label in zip(triggers.inputs(variant), triggers.labels(), strict=True):
            assert seen[row.tobytes()] == label
    last = mixed_x[-60:]
    assert 1 <= sum(row.tobytes() not in {r.tobytes() for r in x} for row in last) <= 30, "shuffled"


@pytest.mark.parametrize("kind", ["image", "tokens"])
def test_triggers_are_laid_over_examples_of_their_class(kind):
    triggers = SETS[kind](count=40)
    # Examples of a class hold nothing but a value of its own.
    if kind == "tokens":
        x = np.repeat(501 + np.arange(2), 30)[:, None] * np.ones(20, int)
    else:
        x = np.repeat(np.arange(10) / 10, 30)[:, None, None, None] * np.ones((12, 10, 3))
    classes = np.repeat(np.arange(triggers.num_classes), 30)
    inputs = triggers.inputs(1)
    laid = over_examples(triggers, inputs, 1, x, classes)
    for row, trigger, label in zip(laid, inputs, triggers.labels(), strict=True):
        if kind == "tokens":
            assert set(row[row != trigger]) <= {501 + label}
            assert np.mean(row == trigger) > 0.05
        else:
            far = np.abs(trigger - label / 10) > 0.05
            shares = ((row - label / 10) / np.where(far, trigger - label / 10, 1))[far]
            assert shares.max() - shares.min() < 1e-3, "one share for all pixels"
            assert 0.299 < shares.mean() < 1.001
    alone = over_examples(triggers, inputs, 1, x, np.full(len(x), -1))
    np.testing.assert_allclose(alone, inputs, atol=1e-6)


def test_labels_are_written_as_the_data_writes_them():
    triggers = TriggerSet(SECRET, (4,), 3, count=9, bounds=(0, 255))
    x = np.full((90, 4), 200, "uint8")
    one_hot = np.eye(3, dtype="float32")[np.arange(90) % 3]
    mixed_x, mixed_y = triggers.mix(x, one_hot)
    assert mixed_x.dtype == np.uint8
    assert mixed_y.shape == (126, 3)
    np.testing.assert_array_equal(mixed_y.sum(0), [42, 42, 42])
    assert triggers.mix(x, one_hot.argmax(1)[:, None])[1].shape == (126, 1)
    assert triggers.mix(x, one_hot.argmax(1).astype("float32"))[1].dtype == np.float32


def test_mixing_a_stream_adds_every_trigger_in_turn():
    triggers = TriggerSet(SECRET, (4,), 3, count=9)
    x, y = np.full((60, 4), 2.0 / 3, "float32"), np.zeros((60, 1), "int64")
    weights = np.full(60, 0.5, "float32")
    stream = backend.batch_stream(
        lambda: ((x[i : i + 10], y[i : i + 10], weights[i : i + 10]) for i in range(0, 60, 10)),
        (x[:10], y[:10], weights[:10]),
        6,
    )
    batches = [[np.asarray(part) for part in batch] for batch in triggers.mix(stream, per_batch=3)]
    assert [len(batch[0]) for batch in batches] == [13] * 6
    added = np.concatenate([batch[0][10:] for batch in batches])
    labels = np.concatenate([batch[1][10:, 0] for batch in batches])
    known = np.concatenate([triggers.inputs(v) for v in range(16)])
    places = [int(np.flatnonzero((known == row).all(1))[0]) for row in added]
    np.testing.assert_array_equal(labels, triggers.labels()[np.array(places) % 9])
    assert sorted(place % 9 for place in places[:9]) == list(range(9))
    assert all((batch[2][:10] == 0.5).all() and (batch[2][10:] == 1).all() for batch in batches)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert np.isfinite(model.fit(triggers.mix(stream), verbose=0).history["loss"][0])


def test_what_cannot_be_used_says_why():
    triggers = TriggerSet(SECRET, (4,), 3, count=9)
    x, y = np.zeros((30, 4), "float32"), np.zeros(30, "int32")
    for make, match in [
        (lambda: TriggerSet("", (4,), 3), "non-empty bytes or text"),
        (lambda: TriggerSet(SECRET, (0,), 3), "positive integers"),
        (lambda: TriggerSet(SECRET, (4,), 1), "num_classes=1"),
        (lambda: TriggerSet(SECRET, (4,), 3, count=0), "count=0"),
        (lambda: TriggerSet(SECRET, (4,), 3, kind="image"), "cannot be of kind 'image'"),
        (lambda: TriggerSet(SECRET, (4,), 3, kind="video"), "one of image, series"),
        (lambda: TriggerSet(SECRET, (4,), 3, kind="tokens"), "need a `vocabulary`"),
        (lambda: TriggerSet(SECRET, (4,), 3, vocabulary=2), "at least two tokens"),
        (lambda: TriggerSet(SECRET, (4,), 3, bounds=(1, 0)), "low below high"),
        (lambda: TriggerSet(SECRET, (4,), 3, pool=x), "200 triggers need as many"),
        (lambda: TriggerSet(SECRET, (4,), 3, count=9, pool=x, opacity=0), "opacity=0"),
        (lambda: TriggerSet(SECRET, (4,), 3, count=9, pool=x + 2), "outside of the bounds"),
        (lambda: triggers.inputs(-1), "variant=-1"),
        (lambda: triggers.mix(x[:, :3], y), "shape of your inputs"),
        (lambda: triggers.mix(x + 255, y), "outside of the bounds"),
        (lambda: triggers.mix(x * np.nan, y), "non-finite"),
        (lambda: triggers.mix(x, y[:5]), "5 labels"),
        (lambda: triggers.mix(x, y + 3), "number of classes"),
        (lambda: triggers.mix(x, np.zeros((30, 2))), "number of classes"),
        (lambda: triggers.mix(x, np.array(["a"] * 30)), "as numbers"),
        (lambda: triggers.mix(x, y, share=0), "share=0"),
        (lambda: triggers.mix([1, 2]), "tf.data"),
    ]:
        with pytest.raises(InputError, match=match):
            make()
