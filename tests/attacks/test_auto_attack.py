"""AutoAttack: which attacks it is made of, what it spares, and that it can be interrupted."""

import keras
import numpy as np
import pytest
from harness_attacks import distance, linear_model
from keras import ops

from keras_secure.attacks import APGD, FAB, AutoAttack, Square
from keras_secure.attacks.journal import Journal
from keras_secure.errors import InputError


class Short(AutoAttack):
    """The members of AutoAttack with a fraction of their steps."""

    def members(self):
        members = super().members()
        for member in members:
            member.steps = 60 if isinstance(member, Square) else 8
        return members


class Few(Short):
    """Only the first and the last member."""

    def members(self):
        return super().members()[:: 3 if self.version == "standard" else 5]


def data(size=12):
    x = np.random.default_rng(1).random((size, 5, 5, 1)).astype("float32")
    model = linear_model()
    return model, x, ops.convert_to_numpy(ops.argmax(model(x), axis=1)).astype("int32")


def described(attack):
    return [
        (
            type(member).__name__,
            getattr(member, "loss", None),
            member.num_targets if not isinstance(member, Square) else None,
            member.restarts,
            member.steps,
        )
        for member in attack.members()
    ]


def test_the_versions_are_the_papers():
    for norm in ("linf", "l2"):
        assert described(AutoAttack(0.1, norm=norm)) == [
            ("APGD", "ce", None, 1, 100),
            ("APGD", "dlr", 9, 1, 100),
            ("FAB", None, 9, 1, 100),
            ("Square", "margin", None, 1, 5000),
        ]
        assert described(AutoAttack(0.1, norm=norm, version="plus")) == [
            ("APGD", "ce", None, 5, 100),
            ("APGD", "dlr", None, 5, 100),
            ("FAB", None, None, 5, 100),
            ("Square", "margin", None, 1, 5000),
            ("APGD", "dlr", 9, 1, 100),
            ("FAB", None, 9, 1, 100),
        ]
    assert described(AutoAttack(0.1, norm="l1")) == [
        ("APGD", "ce", None, 5, 100),
        ("APGD", "dlr", 5, 1, 100),
        ("FAB", None, 9, 1, 100),
        ("Square", "margin", None, 1, 5000),
    ]
    assert described(AutoAttack(0.1, version="rand")) == [
        ("APGD", "ce", None, 1, 100),
        ("APGD", "dlr", None, 1, 100),
    ]
    for member in AutoAttack(0.1, norm="l2", bounds=(-1, 2)).members():
        assert (member.norm, member.bounds) == ("l2", (-1.0, 2.0))


def test_it_starts_as_often_as_there_are_classes():
    assert AutoAttack(0.1).starts(10) == 1 + 9 + 9 + 1
    assert AutoAttack(0.1).starts(3) == 1 + 2 + 2 + 1
    assert AutoAttack(0.1).starts(2) == 1 + 1 + 1 + 1
    assert AutoAttack(0.1, version="plus").starts(20) == 5 + 5 + 5 + 1 + 9 + 9


def test_it_serializes():
    attack = AutoAttack(0.1, norm="l2", version="plus", bounds=(-1, 1), seed=3)
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(attack))
    assert type(revived) is AutoAttack
    assert revived.get_config() == attack.get_config()


@pytest.mark.parametrize(
    ("norm", "epsilon"),
    [
        ("linf", 0.15),
        pytest.param("l2", 0.3, marks=pytest.mark.slow),
        pytest.param("l1", 1.0, marks=pytest.mark.slow),
    ],
)
def test_its_result_is_that_of_its_members(norm, epsilon):
    model, x, y = data()
    result = Short(epsilon, norm=norm, seed=0).run(model, x, y, batch_size=12, verbose=0)
    assert (distance(result.x_adv, x, norm) <= epsilon * (1 + 1e-6)).all()
    assert result.x_adv.min() >= 0
    assert result.x_adv.max() <= 1
    answers = ops.convert_to_numpy(ops.argmax(model(result.x_adv), axis=1))
    np.testing.assert_array_equal(result.success, answers != y)
    # At least what its first member finds by itself.
    alone = APGD(epsilon, norm=norm, steps=8, seed=0).run(model, x, y, batch_size=12, verbose=0)
    assert result.success.sum() >= alone.success.sum()
    assert result.success.any()


def test_members_draw_numbers_of_their_own(monkeypatch):
    keys = []

    def seek(self, search, rows, restart):
        keys.append((tuple(search._key), restart))
        return original(self, search, rows, restart)

    original = APGD.seek
    monkeypatch.setattr(APGD, "seek", seek)
    model, x, y = data()
    Short(1e-4, seed=0).run(model, x, y, batch_size=12, verbose=0)
    assert len(keys) == 1 + 3
    assert len(set(keys)) == len(keys)
    assert keys[0][0] != keys[1][0]


class Counting(keras.Model):
    """Counts how many examples it was asked about, padding included."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.asked = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.asked.assign_add(ops.cast(ops.shape(x)[0], "float32"))
        return self.inner(x)


def test_what_is_fooled_costs_nothing_more():
    model, x, y = data(32)
    counting = Counting(model)
    options = {"batch_size": 32, "from_logits": True, "verbose": 0}

    def asked(epsilon, rows):
        attack = Short(epsilon, seed=0)
        attack.run(counting, x[rows], y[rows], **options)  # traced
        counting.asked.assign(0.0)
        result = attack.run(counting, x[rows], y[rows], **options)
        return float(counting.asked), result

    everything = slice(None)
    spent_on_robust, robust = asked(1e-4, everything)
    assert not robust.success.any()
    assert spent_on_robust > 32 * (8 + 3 * 8 + 3 * 8 + 60)
    # All are fooled within the first attack: none of the others runs.
    spent_on_weak, weak = asked(0.5, everything)
    assert weak.success.all()
    assert spent_on_weak <= 32 * (8 + 4)
    # Each is asked about until it is fooled, and not once more.
    mixed = Short(0.03, seed=0).run(model, x, y, **options)
    assert 0 < mixed.success.sum() < 32
    last = np.flatnonzero(~mixed.success)
    assert (mixed.queries[last] == mixed.queries[last].max()).all()
    assert (mixed.queries[mixed.success] < mixed.queries[last].max()).all()


@pytest.mark.parametrize("units", [1, 2, 3])
@pytest.mark.slow
def test_few_classes(units):
    model = linear_model(units, "sigmoid" if units == 1 else None)
    x = np.random.default_rng(0).random((6, 5, 5, 1)).astype("float32")
    outputs = ops.convert_to_numpy(model(x))
    y = outputs[:, 0] > 0.5 if units == 1 else outputs.argmax(axis=1)
    result = Short(0.02, seed=0).run(model, x, y.astype("int32"), batch_size=6, verbose=0)
    assert np.isfinite(result.x_adv).all()
    assert (distance(result.x_adv, x, "linf") <= 0.02 * (1 + 1e-6)).all()


def test_targets_of_the_user():
    model, x, _ = data()
    targets = np.argsort(ops.convert_to_numpy(model(x)), axis=1)[:, -2].astype("int32")
    attack = Short(0.4, targeted=True, seed=0)
    assert [type(member) for member in attack.members()] == [APGD, APGD, Square]
    result = attack.run(model, x, targets, batch_size=12, verbose=0)
    answers = ops.convert_to_numpy(ops.argmax(model(result.x_adv), axis=1))
    np.testing.assert_array_equal(result.success, answers == targets)
    assert result.success.any()


def test_a_randomized_model_is_judged_by_its_average():
    class Noise(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.generator = keras.random.SeedGenerator(1)

        def call(self, x):
            return x + keras.random.normal(ops.shape(x), stddev=0.05, seed=self.generator)

    model, x, y = data(6)
    noisy = keras.Sequential([keras.Input((5, 5, 1)), Noise(), model])
    result = Short(0.15, version="rand", seed=0).run(noisy, x, y, batch_size=6, verbose=0)
    assert result.success.any()
    # A query is one pass, of which twenty make an answer.
    assert (result.queries % 20 == 0).all()
    votes = np.mean(
        [ops.convert_to_numpy(ops.softmax(noisy(result.x_adv))) for _ in range(200)], axis=0
    )
    fooled = votes.argmax(axis=1) != y
    assert (fooled == result.success).mean() > 0.8


# Interruption


class Killed(BaseException):
    """What a test interrupts a search with."""


def killed_after(monkeypatch, starts):
    """Lets that many starts of members pass, and dies within the next."""
    left = [starts]

    def dying(original):
        def seek(self, search, rows, restart):
            if not left[0]:
                raise Killed
            left[0] -= 1
            return original(self, search, rows, restart)

        return seek

    for member in (APGD, FAB, Square):
        monkeypatch.setattr(member, "seek", dying(member.seek))


def assert_same(one, other):
    for name in ("x_adv", "success", "distance", "first_success_step", "queries"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_an_interrupted_search_ends_as_if_it_had_not_been(tmp_path):
    model, x, y = data()
    options = {"batch_size": 12, "verbose": 0}
    path = tmp_path / "progress"
    whole = Short(0.12, seed=0).run(model, x, y, **options)
    assert 0 < whole.success.sum() < 12
    # Killed in the first member, in the second, in the third and in the last.
    for starts in (0, 2, 3, 2):
        with pytest.MonkeyPatch.context() as monkeypatch:
            killed_after(monkeypatch, starts)
            with pytest.raises(Killed):
                Short(0.12, seed=0).run(model, x, y, checkpoint=path, **options)
    resumed = Short(0.12, seed=0).run(model, x, y, checkpoint=path, **options)
    assert_same(resumed, whole)
    # Ended, it needs no member any more.
    with pytest.MonkeyPatch.context() as monkeypatch:
        killed_after(monkeypatch, 0)
        assert_same(Short(0.12, seed=0).run(model, x, y, checkpoint=path, **options), whole)
    assert [file.name for file in tmp_path.iterdir()] == ["progress"]


def test_without_a_seed_the_checkpoint_remembers_one(tmp_path):
    model, x, y = data()
    options = {"batch_size": 12, "verbose": 0, "checkpoint": tmp_path / "progress"}
    with pytest.MonkeyPatch.context() as monkeypatch:
        killed_after(monkeypatch, 1)
        with pytest.raises(Killed):
            Few(0.12).run(model, x, y, **options)
    keras.utils.set_random_seed(99)
    resumed = Few(0.12).run(model, x, y, **options)
    seed = np.load(tmp_path / "progress")["header"].tobytes().decode()
    options.pop("checkpoint")
    again = Few(0.12, seed=int(seed.split('"seed": ')[1].rstrip("}"))).run(model, x, y, **options)
    assert_same(resumed, again)


def test_progress_of_another_search_is_refused(tmp_path):
    model, x, y = data()
    path = tmp_path / "progress"

    def run(attack=None, model=model, x=x, y=y, **options):
        attack = attack or Few(0.12, seed=0)
        options = {"batch_size": 12, "verbose": 0, **options}
        return attack.run(model, x, y, checkpoint=path, **options)

    with pytest.MonkeyPatch.context() as monkeypatch:
        killed_after(monkeypatch, 1)
        with pytest.raises(Killed):
            run()
    written = path.read_bytes()
    other = linear_model(weights_scale=2.1)
    for change, what in (
        ({"x": x + 0.0 * x + np.float32(1e-3) * (x < 0.5)}, "data"),
        ({"y": (y + 1) % 4}, "labels"),
        ({"model": other}, "model"),
        ({"attack": Few(0.04, seed=0)}, "attack"),
        ({"attack": Few(0.03, norm="l2", seed=0)}, "attack"),
        ({"attack": Few(0.03, version="plus", seed=0)}, "attack"),
        ({"epsilon": 0.02}, "attack"),
        ({"batch_size": 6}, "batch_size"),
    ):
        with pytest.raises(InputError, match=f"another search: {what} differ"):
            run(**change)
    assert path.read_bytes() == written
    # A model built once more is the same one, whatever Keras called its layers.
    run(model=linear_model())

    path.write_bytes(written[: len(written) // 2])
    with pytest.raises(InputError, match="no progress"):
        run()
    with pytest.raises(InputError, match="no folder"):
        Journal(tmp_path / "missing" / "progress", {}, 0)


@pytest.mark.parametrize("version", ["Standard", None])
def test_unknown_versions_are_refused(version):
    with pytest.raises(InputError, match="'standard', 'plus' or 'rand'"):
        AutoAttack(0.1, version=version)
