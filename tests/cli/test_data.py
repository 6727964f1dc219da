import re

import keras
import numpy as np
import pytest

from keras_secure.cli import data
from keras_secure.cli.data import load_dataset, load_npz
from keras_secure.errors import InputError

CLASSES = 3


def arrays(**changes):
    """Good arrays, with some replaced, or removed by None."""
    generator = np.random.default_rng(0)
    good = {
        "x_train": generator.uniform(size=(60, 4, 5)).astype("float32"),
        "y_train": np.arange(60) % CLASSES,
        "x_test": generator.uniform(size=(12, 4, 5)).astype("float32"),
        "y_test": np.arange(12) % CLASSES,
    }
    return {key: value for key, value in {**good, **changes}.items() if value is not None}


def pair(x, y):
    return {"x": x, "y": y}


@pytest.fixture
def save(tmp_path):
    def save(values, name="mine.npz"):
        np.savez(tmp_path / name, **values)
        return tmp_path / name

    return save


def test_digits_are_embedded_split_by_class_and_the_same_every_time():
    first, second = load_dataset("digits"), load_dataset("digits")
    assert first.x_train.shape == (1437, 8, 8, 1)
    assert first.x_train.dtype == np.float32
    assert first.y_train.dtype == np.int32
    assert (first.x_train.min(), first.x_train.max()) == (0.0, 1.0)
    assert first.is_image
    assert first.num_classes == 10
    shares = np.bincount(first.y_test) / np.bincount(np.r_[first.y_train, first.y_test])
    np.testing.assert_allclose(shares, 0.2, atol=0.01)
    np.testing.assert_array_equal(first.x_test, second.x_test)


def test_no_digit_is_both_trained_on_and_tested():
    digits = load_dataset("digits")
    everything = np.concatenate([digits.x_train, digits.x_test]).reshape(1797, -1)
    from sklearn.datasets import load_digits

    expected = (load_digits().data / 16.0).astype("float32")
    assert sorted(map(bytes, everything)) == sorted(map(bytes, expected))


def test_unknown_name_lists_the_known():
    with pytest.raises(InputError, match=r"'cats'.*digits, mnist, fashion_mnist, cifar10"):
        load_dataset("cats")


@pytest.mark.parametrize("name", data.DOWNLOADED)
def test_without_a_network_the_way_out_is_named(name, monkeypatch):
    def fail():
        raise Exception("URL fetch failure on https://example.org/x.npz:\nNone -- refused")

    monkeypatch.setattr(getattr(keras.datasets, name), "load_data", fail)
    with pytest.raises(InputError, match=r"--data FILE\.npz") as caught:
        load_dataset(name)
    assert "\n" not in str(caught.value)
    assert "refused" in str(caught.value)


def test_downloaded_images_arrive_in_one_form(monkeypatch):
    generator = np.random.default_rng(0)

    def fetched():
        x = generator.integers(0, 256, (70, 32, 32, 3), dtype=np.uint8)
        y = (np.arange(70, dtype=np.uint8) % 10)[:, None]
        return (x[:60], y[:60]), (x[60:], y[60:])

    monkeypatch.setattr(keras.datasets.cifar10, "load_data", fetched)
    cifar = load_dataset("cifar10")
    assert cifar.x_train.shape == (60, 32, 32, 3)
    assert cifar.x_train.max() <= 1.0
    assert cifar.y_train.shape == (60,)


def test_four_arrays_are_taken_as_they_are(save):
    given = arrays()
    loaded = load_npz(save(given))
    assert loaded.name == "mine"
    np.testing.assert_array_equal(loaded.x_train[..., 0], given["x_train"])
    np.testing.assert_array_equal(loaded.y_test, given["y_test"])
    assert loaded.x_train.shape == (60, 4, 5, 1)
    assert (loaded.num_classes, loaded.is_image, loaded.notes) == (3, True, [])


def test_two_arrays_are_split_by_class(save):
    generator = np.random.default_rng(0)
    x, y = generator.uniform(size=(100, 7)), np.repeat([0, 1], [80, 20])
    loaded = load_npz(save(pair(x, y)))
    assert not loaded.is_image
    assert np.bincount(loaded.y_train).tolist() == [64, 16]
    assert np.bincount(loaded.y_test).tolist() == [16, 4]
    assert "split 80 to 20" in loaded.notes[0]
    # Inputs stay with their labels.
    label_of = {row.tobytes(): label for row, label in zip(x.astype("float32"), y, strict=True)}
    for row, label in zip(loaded.x_test, loaded.y_test, strict=True):
        assert label_of[row.tobytes()] == label


def test_other_arrays_are_ignored_and_named(save):
    objects = np.array([{"a": 1}], dtype=object)
    loaded = load_npz(
        save({**arrays(), "class_names": np.array(["a", "b", "c"]), "extra": objects})
    )
    assert loaded.notes == ["Arrays that were not used: 'class_names', 'extra'."]


@pytest.mark.parametrize("columns", [CLASSES, 1])
def test_one_hot_and_column_labels_are_converted(save, columns):
    given = arrays()
    labels = np.eye(CLASSES)[given["y_train"]] if columns > 1 else given["y_train"][:, None] * 1.0
    loaded = load_npz(save({**given, "y_train": labels}))
    np.testing.assert_array_equal(loaded.y_train, given["y_train"])


def test_bytes_are_divided_by_255(save):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 4, 5), dtype=np.uint8)
    loaded = load_npz(save(arrays(x_train=pixels, x_test=pixels[:12])))
    np.testing.assert_allclose(loaded.x_train[..., 0], pixels / 255.0, rtol=1e-6)
    assert loaded.notes == []


def test_other_ranges_are_scaled_by_the_training_images_alone(save):
    x_train = np.random.default_rng(0).uniform(-2.0, 6.0, (60, 4, 5))
    x_train[0, 0, :2] = (-2.0, 6.0)
    x_test = np.full((12, 4, 5), 2.0)
    x_test[0, 0, 0] = 100.0
    loaded = load_npz(save(arrays(x_train=x_train, x_test=x_test)))
    np.testing.assert_allclose(loaded.x_train[..., 0], (x_train + 2) / 8, atol=1e-6)
    assert loaded.x_test[1, 0, 0, 0] == 0.5
    assert loaded.x_test[0, 0, 0, 0] == 1.0
    assert "-2 to 6; 1 test values outside it were clipped" in loaded.notes[0]


def test_tables_are_scaled_by_column_and_constants_survive(save):
    x = np.c_[np.linspace(0, 1000, 60), np.full(60, 7.0), np.linspace(-1, 1, 60)]
    loaded = load_npz(save(arrays(x_train=x, x_test=x[:12])))
    np.testing.assert_allclose(loaded.x_train[:, 0], np.linspace(0, 1, 60), atol=1e-6)
    np.testing.assert_allclose(loaded.x_train[:, 2], np.linspace(0, 1, 60), atol=1e-6)
    assert (loaded.x_train[:, 1] == 0).all()
    assert "training column" in loaded.notes[0]


def test_mnist_file_loads(real_data):
    mnist = load_npz(real_data / "mnist.npz")
    assert mnist.x_train.shape == (60000, 28, 28, 1)
    assert (mnist.x_train.max(), mnist.num_classes) == (1.0, 10)


BAD_IMAGE = np.random.default_rng(1).uniform(size=(60, 4, 5))
HOLED = BAD_IMAGE.copy()
HOLED[17, 2, 2] = np.nan
ENDLESS = BAD_IMAGE.copy()
ENDLESS[3] = np.inf
LABELS = np.arange(60) % CLASSES
REFUSED = {
    "wrong keys": ({"images": BAD_IMAGE, "labels": LABELS}, "'images', 'labels'; expected x_train"),
    "three of four": (arrays(y_test=None), "holds 'x_test', 'x_train', 'y_train'"),
    "no arrays": ({}, "holds no arrays"),
    "lengths": (arrays(y_train=LABELS[:59]), "59 labels for 60 examples"),
    "test lengths": (arrays(y_test=LABELS[:11]), "y_test has 11 labels for 12"),
    "shapes": (arrays(x_test=np.zeros((12, 5, 4))), r"\(4, 5\) and x_test of \(5, 4\)"),
    "ranks": (arrays(x_test=np.zeros((12, 20))), r"x_test of \(20,\)"),
    "scalar x": (pair(np.float32(1), LABELS), r"x has shape \(\)"),
    "scalar y": (arrays(y_train=np.int32(1)), r"y_train has shape \(\)"),
    "flat x": (arrays(x_train=np.zeros(60)), r"shape \(60,\)"),
    "video": (arrays(x_train=np.zeros((60, 2, 2, 2, 2))), r"shape \(60, 2, 2, 2, 2\)"),
    "empty images": (arrays(x_train=np.zeros((60, 0, 5))), "none of them empty"),
    "no examples": (pair(np.zeros((0, 5)), np.zeros(0, int)), "none of them empty"),
    "channels first": (arrays(x_train=np.zeros((60, 3, 8, 8))), "channels-first.*moveaxis"),
    "text x": (arrays(x_train=np.full((60, 4), "a")), "x_train has type <U1"),
    "complex x": (arrays(x_train=BAD_IMAGE + 1j), "complex128"),
    "objects": (arrays(x_train=np.array([{}] * 60, dtype=object)), "Python objects.*never loaded"),
    "nan": (arrays(x_train=HOLED), "1 examples, the first at position 17"),
    "inf": (arrays(x_train=ENDLESS), "first at position 3"),
    "huge": (arrays(x_train=BAD_IMAGE * 1e35), "huge values"),
    "mixed types": (
        arrays(x_train=(BAD_IMAGE * 255).astype(np.uint8)),
        "x_train is uint8 and x_test is float32",
    ),
    "text labels": (arrays(y_train=np.full(60, "cat")), "y_train holds text"),
    "date labels": (arrays(y_train=np.full(60, "2020", "M8[Y]")), "type datetime64"),
    "fractions": (arrays(y_train=LABELS + 0.5), "holds 0.5 at position 0.*regression"),
    "nan label": (arrays(y_train=np.where(LABELS == 2, np.nan, 0.0)), "holds nan at position 2"),
    "negative": (arrays(y_train=LABELS - 1), "negative label -1"),
    "identifiers": (arrays(y_train=LABELS + 2**40), "look like identifiers"),
    "out of range": (arrays(y_train=np.where(LABELS == 2, 255, LABELS)), "label 255 is out of"),
    "from one": (arrays(y_train=LABELS + 1), "class 0 has no example"),
    "unseen": (arrays(y_test=np.full(12, 3)), "y_test holds label 3, which is not in y_train"),
    "one class": (arrays(y_train=np.zeros(60, int)), "every training label is 0"),
    "soft labels": (arrays(y_train=np.full((60, 2), 0.5)), "row 0 is not one-hot"),
    "several labels": (arrays(y_train=np.ones((60, 2))), "row 0 is not one-hot"),
    "cube labels": (arrays(y_train=np.zeros((60, 1, 1), int)), r"shape \(60, 1, 1\)"),
    "few training": (arrays(x_train=BAD_IMAGE[:49], y_train=LABELS[:49]), "49 training examples"),
    "few test": (arrays(x_test=BAD_IMAGE[:9], y_test=LABELS[:9]), "9 test examples"),
    "few to split": (pair(BAD_IMAGE[:50], LABELS[:50]), "50 examples of 3 classes are too few"),
    "lonely class": (pair(BAD_IMAGE, np.r_[LABELS[:59], 3]), "class 3 has a single example"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_arrays_are_refused_in_one_line(save, case):
    values, words = REFUSED[case]
    with pytest.raises(InputError, match=words) as caught:
        load_npz(save(values))
    message = str(caught.value)
    assert "\n" not in message
    # What happened, what was expected, what to do.
    assert re.search(r"mine.npz.+; expected .+: .+\.$", message), message
    assert len(message) < 320


def test_bad_files_are_refused_in_one_line(tmp_path, save):
    whole = save(arrays()).read_bytes()
    files = {
        "text.npz": b"x,y\n1,2\n",
        "empty.npz": b"",
        "half.npz": whole[: len(whole) // 2],
        "zip.npz": b"PK\x03\x04 but not really",
        "flipped.npz": whole[:400] + bytes([whole[400] ^ 255]) + whole[401:],
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    np.save(tmp_path / "bare.npy", np.zeros(3))
    for name in [*files, "bare.npy", "missing.npz", "."]:
        with pytest.raises(InputError) as caught:
            load_npz(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert ".npz file" in str(caught.value), name
