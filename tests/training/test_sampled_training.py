"""What fit draws, from which data, and what the ledger says of it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_secure as ks
from keras_secure.errors import InputError, PrivacyError
from keras_secure.privacy import (
    BallsInBinsSampling,
    DeterministicPasses,
    PoissonSampling,
    UnstatedSampling,
)

X = np.arange(40, dtype="float32")[:, None] / 40
Y = np.sin(X)
TRACES = []


class Seen(keras.layers.Layer):
    """Notes the inputs of every executed step, and every trace."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def call(self, inputs):
        TRACES.append(1)
        tf.numpy_function(lambda x: self.batches.append(np.round(x * 40).ravel()), [inputs], [])
        return inputs


def private(seen=False, **plan):
    front = [Seen()] if seen else []
    model = keras.Sequential([keras.Input((1,)), *front, keras.layers.Dense(1)])
    secure = ks.SecureModel(model)
    values = {"l2_norm_clip": 1.0, "noise_multiplier": 2.0, **plan}
    secure.compile(ks.optimizers.DPSGD(0.01, **values), loss="mse")
    return secure


def samplings(secure):
    optimizer = secure.optimizer
    return [(p.sampling, p.steps) for p in optimizer.ledger.phases(optimizer.executed_steps)]


class Batched(keras.utils.PyDataset):
    def __init__(self, size=8, count=40):
        super().__init__()
        self.size, self.count, self.reads = size, count, 0

    def __len__(self):
        return -(-self.count // self.size)

    def __getitem__(self, number):
        self.reads += 1
        part = slice(number * self.size, min(self.count, (number + 1) * self.size))
        return X[part], Y[part]


def dataset():
    return tf.data.Dataset.from_tensor_slices((X, Y))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (None, PoissonSampling(0.2, 40, 24)),
        ("poisson", PoissonSampling(0.2, 40, 24)),
        ("balls_in_bins", BallsInBinsSampling(5)),
        ("deterministic", DeterministicPasses(5)),
        (UnstatedSampling(), PoissonSampling(0.2, 40, 24)),
    ],
)
def test_arrays_are_drawn_as_the_plan_says(name, expected):
    secure = private(sampling=name)
    secure.fit(X, Y, batch_size=8, epochs=3, verbose=0)
    assert samplings(secure) == [(expected, 15)]
    assert np.isfinite(secure.optimizer.epsilon(1e-3))
    copy = ks.optimizers.DPOptimizer.from_config(secure.optimizer.get_config())
    assert copy.sampling == secure.optimizer.sampling


def test_passes_of_several_fits_and_odd_lengths_are_separate_phases():
    secure = private(sampling="deterministic")
    for _ in range(2):
        secure.fit(X, Y, batch_size=8, epochs=3, steps_per_epoch=2, verbose=0)
    passes = DeterministicPasses(5)
    assert samplings(secure) == [(passes, 6), (passes, 6)]
    four = UnstatedSampling().loss_distribution(2.0, 4).get_epsilon_for_delta(1e-5)
    assert secure.optimizer.epsilon(1e-5) == pytest.approx(four, rel=1e-3)


def executed(secure):
    """The examples of every batch that a step was executed on, without the checks before."""
    batches = secure.model.layers[0].batches
    return [batch.astype(int).tolist() for batch in batches if len(batch) >= 8]


def test_passes_go_on_across_epochs_in_the_same_order():
    secure = private(seen=True, sampling="deterministic")
    secure.fit(X, Y, batch_size=8, epochs=5, steps_per_epoch=3, shuffle=False, verbose=0)
    expected = [list(range(8 * k, 8 * k + 8)) for k in range(5)]
    assert executed(secure)[-15:] == expected * 3


@pytest.mark.parametrize("name", ["poisson", "balls_in_bins", "deterministic"])
def test_many_steps_are_one_trace(name):
    secure = private(seen=True, sampling=name)
    x = np.resize(X, (250, 1))
    secure.fit(x, np.sin(x), batch_size=5, verbose=0, epochs=1)
    before = len(TRACES)
    secure.fit(x, np.sin(x), batch_size=5, verbose=0, epochs=20)
    # The second fit checks the model eagerly, once; its 1,000 steps are traced no more.
    assert secure.optimizer.executed_steps == 1050
    eager = len(TRACES) - before
    secure.fit(x, np.sin(x), batch_size=5, verbose=0, epochs=1)
    assert len(TRACES) - before == 2 * eager < 20


SOURCES = {
    "list": lambda: list(zip(X, Y, strict=True)),
    "batches": Batched,
    "uneven batches": lambda: Batched(7),
    "dataset": dataset,
    "mapped dataset": lambda: dataset().map(lambda x, y: (x * 2, y)).map(lambda x, y: (x / 2, y)),
}


@pytest.mark.parametrize("name", SOURCES)
def test_sources_give_the_examples_they_hold(name):
    source = ks.training.RandomAccess(SOURCES[name]())
    assert len(source) == 40
    numbers = np.array([39, 0, 7, 0, 21])
    parts = source.rows(numbers)
    assert set(parts) == {"x", "y"}
    np.testing.assert_allclose(parts["x"], X[numbers], rtol=1e-6)
    np.testing.assert_allclose(parts["y"], Y[numbers], rtol=1e-6)


@pytest.mark.parametrize("name", ["list", "batches", "dataset"])
def test_training_on_a_source_equals_training_on_its_arrays(name):
    def trained(x, y=None, **options):
        keras.utils.set_random_seed(1)
        secure = private(seed=1)
        secure.fit(x, y, batch_size=8, epochs=2, verbose=0, **options)
        return secure

    plain = trained(X, Y, validation_split=0.25)
    other = trained(ks.training.RandomAccess(SOURCES[name]()), validation_split=0.25)
    assert samplings(other) == samplings(plain) == [(PoissonSampling(8 / 30, 30, 24), 8)]
    for first, second in zip(plain.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5)


def test_a_draw_reads_each_batch_once_and_a_cache_spares_reading():
    data = Batched()
    source, cached = ks.training.RandomAccess(data), ks.training.RandomAccess(data, 5)
    for reader, first, second in ((source, 3, 3), (cached, 3, 0)):
        data.reads = 0
        reader.rows(np.array([0, 1, 2, 9, 9, 39]))
        assert data.reads == first
        reader.rows(np.array([5, 10, 38]))
        assert data.reads == first + second


def test_memory_mapped_files_stay_on_the_disk(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    from keras_secure.training.private_data import PrivateArrays

    assert PrivateArrays(mapped, Y).parts["x"] is mapped
    secure = private()
    secure.fit(mapped, Y, batch_size=8, verbose=0)
    assert samplings(secure) == [(PoissonSampling(0.2, 40, 24), 5)]


def test_class_weights_meet_the_labels_of_a_source():
    labels = (np.arange(40) % 2).astype("int32")
    secure = private()
    source = ks.training.RandomAccess(list(zip(X, labels, strict=True)))
    secure.fit(source, batch_size=8, class_weight={0: 1.0, 1: 2.0}, verbose=0)
    with pytest.raises(InputError, match="hold y"):
        secure.fit(source, labels, batch_size=8)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (3, "single examples"),
        ([], "empty"),
        (tf.data.Dataset.range(5).repeat(), "random access|length"),
        (tf.data.Dataset.range(9).filter(lambda x: x > 3), "random access|length"),
        ([(1, 2, 3, 4)], "at most"),
    ],
)
def test_sources_without_random_access_are_refused(source, message):
    with pytest.raises(InputError, match=message):
        ks.training.RandomAccess(source).rows(np.array([0]))


def test_own_pipelines_stay_unstated_unless_stated():
    for data in (dataset().batch(8), Batched()):
        secure = private(expected_batch_size=8)
        secure.fit(data, epochs=2, verbose=0)
        assert samplings(secure) == [(UnstatedSampling(), 10)]
        for stated in ("deterministic", DeterministicPasses(5)):
            secure = private(expected_batch_size=8, sampling=stated)
            secure.fit(data, epochs=2, verbose=0)
            secure.fit(data, verbose=0)
            assert samplings(secure) == [
                (DeterministicPasses(5), 10),
                (DeterministicPasses(5), 5),
            ]


def test_single_batches_show_no_passes():
    secure = private(expected_batch_size=8, sampling="deterministic")
    for _ in range(3):
        secure.train_on_batch(X[:8], Y[:8])
    assert samplings(secure) == [(UnstatedSampling(), 3)]


@pytest.mark.parametrize(
    ("sampling", "data", "message"),
    [
        ("poisson", dataset().batch(8), r"RandomAccess\(\.\.\.\)"),
        ("balls_in_bins", Batched(), r"RandomAccess\(\.\.\.\)"),
        ("deterministic", dataset().batch(8).repeat(), "DeterministicPasses"),
        (DeterministicPasses(6), Batched(), "State 5"),
        (BallsInBinsSampling(6), dataset().batch(8), "State 5"),
    ],
)
def test_statements_that_cannot_be_true_are_refused(sampling, data, message):
    secure = private(expected_batch_size=8, sampling=sampling)
    with pytest.raises(PrivacyError, match=message):
        secure.fit(data, verbose=0)
    assert secure.optimizer.executed_steps == 0


def test_unknown_kinds_are_refused():
    with pytest.raises(PrivacyError, match="'balls_in_bins'"):
        private(sampling="shuffled")
