"""The data sets that commands work on: embedded, downloaded by Keras, or the user's own arrays."""

import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from keras_secure.cli.arrays import checked_inputs, scaled_inputs
from keras_secure.cli.labels import class_count, integer_labels
from keras_secure.errors import InputError

EMBEDDED = ("digits",)
DOWNLOADED = ("mnist", "fashion_mnist", "cifar10")
KNOWN = EMBEDDED + DOWNLOADED

LAYOUTS = (("x_train", "y_train", "x_test", "y_test"), ("x", "y"))
"""Names of the arrays in an .npz file, the first that is there."""

SPLIT_SEED = 20
"""One fixed split, so that two runs on the same file are comparable."""

TEST_SHARE = 0.2

MIN_TRAIN, MIN_TEST = 50, 10
"""Below this no accuracy means anything: ten right of ten still allows a true 69%."""


@dataclass(frozen=True)
class Dataset:
    """Arrays ready for training.

    Args:
        name: What the data are called in reports.
        x_train: float32 in [0, 1], shape (n, height, width, channels) or (n, features).
        y_train: int32 labels from 0 to `num_classes` - 1, shape (n,).
        x_test: As `x_train`.
        y_test: As `y_train`.
        num_classes: Count of classes, each with at least one training example.
        is_image: Whether the examples are images.
        notes: What was done to the arrays, one sentence each.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    num_classes: int
    is_image: bool
    notes: list[str] = field(default_factory=list)


def load_dataset(name: str) -> Dataset:
    """Loads a data set by name.

    Args:
        name: One of `KNOWN`. `"digits"` comes with scikit-learn; the others are downloaded once by
            `keras.datasets`.

    Returns:
        A `Dataset`.

    Raises:
        InputError: If the name is unknown, or the download fails.

    Example:

    >>> digits = load_dataset("digits")
    >>> digits.x_train.shape, digits.x_test.shape, digits.num_classes
    ((1437, 8, 8, 1), (360, 8, 8, 1), 10)
    """
    if name not in KNOWN:
        raise InputError(
            f"Unknown data set {name!r}; expected one of {', '.join(KNOWN)}: choose one of them, "
            f"or give your own arrays with --data FILE.npz."
        )
    if name in EMBEDDED:
        from sklearn.datasets import load_digits

        bunch = load_digits()
        arrays = _split((bunch.images / 16.0).astype("float32"), bunch.target, name)
    else:
        arrays = _downloaded(name)
    return _dataset(name, name, arrays)


def load_npz(path) -> Dataset:
    """Loads arrays `x_train, y_train, x_test, y_test`, or `x, y` to be split 80 to 20 by class.

    `x` holds images (n, h, w) or (n, h, w, c), or a table (n, features). 8-bit values are divided
    by 255, values in [0, 1] are kept, and anything else is scaled by the range of the training
    examples and clipped. `y` holds integers or one-hot rows.

    Args:
        path: A file written by `numpy.savez`. It is read without pickle, so it cannot run code.

    Returns:
        A `Dataset` named after the file.

    Raises:
        InputError: In one line, whatever is wrong with the file or its arrays.
    """
    path = Path(path)
    arrays, ignored = _read(path)
    notes = []
    if len(arrays) == 2:
        arrays = _split(*arrays, path.name)
        notes.append("The examples were split 80 to 20 by class with a fixed seed.")
    if ignored:
        notes.append(f"Arrays that were not used: {_listed(ignored)}.")
    dataset = _dataset(path.stem, path.name, arrays)
    dataset.notes.extend(notes)
    return dataset


def _dataset(name: str, source: str, arrays) -> Dataset:
    x_train, y_train, x_test, y_test = arrays
    x_train = checked_inputs(x_train, f"{source}: x_train")
    x_test = checked_inputs(x_test, f"{source}: x_test")
    y_train = integer_labels(y_train, f"{source}: y_train", len(x_train))
    y_test = integer_labels(y_test, f"{source}: y_test", len(x_test))
    for part, labels, least in (("training", y_train, MIN_TRAIN), ("test", y_test, MIN_TEST)):
        if len(labels) < least:
            raise InputError(
                f"{source}: {len(labels)} {part} examples; expected at least {least}: give more "
                f"data, nothing measured on so few would mean anything."
            )
    num_classes = class_count(y_train, y_test, source)
    x_train, x_test, notes = scaled_inputs(x_train, x_test, source)
    is_image = x_train.ndim == 4
    return Dataset(name, x_train, y_train, x_test, y_test, num_classes, is_image, notes)


def _downloaded(name: str):
    import keras

    try:
        (x_train, y_train), (x_test, y_test) = getattr(keras.datasets, name).load_data()
    except Exception as error:  # Keras raises bare Exceptions for every network failure
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            f"Data set {name!r} could not be downloaded ({type(error).__name__}: {reason}); "
            f"expected a network connection or a copy in the Keras cache: without one, use "
            f"--dataset digits or give your own arrays with --data FILE.npz."
        ) from error
    return x_train, y_train, x_test, y_test


def _read(path: Path) -> tuple[tuple[np.ndarray, ...], list[str]]:
    """The four arrays, or the two, and the names of the others; those are not even read."""
    remedy = "write the file with numpy.savez(FILE, x_train=..., y_train=..., ...)"
    if not path.exists():
        raise InputError(f"There is no file {path}; expected an .npz file: check the path.")
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected an .npz file: give the file in it.")
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise InputError(f"{path.name} holds one bare array; expected an .npz file: {remedy}.")
        with loaded:
            names = next((names for names in LAYOUTS if set(names) <= set(loaded.files)), None)
            if names is None:
                raise InputError(
                    f"{path.name} holds {_listed(loaded.files)}; expected x_train, y_train, "
                    f"x_test, y_test (or x, y): save it with numpy.savez and these names."
                )
            arrays = tuple(loaded[name] for name in names)
            return arrays, [name for name in loaded.files if name not in names]
    except InputError:
        raise
    except ValueError as error:
        if "allow_pickle" not in str(error) or not zipfile.is_zipfile(path):
            raise InputError(f"{path.name} is not an .npz file; {remedy}.") from error
        raise InputError(
            f"{path.name} holds Python objects, which could run code and are never loaded; "
            f"expected arrays of numbers: convert them with numpy.asarray(..., dtype='float32')."
        ) from error
    except (OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path.name} cannot be read as an .npz file ({reason}); expected a complete archive: "
            f"{remedy}."
        ) from error


def _split(x, y, source: str):
    from sklearn.model_selection import train_test_split

    x = checked_inputs(x, f"{source}: x")
    labels = integer_labels(y, f"{source}: y", len(x))
    classes, counts = np.unique(labels, return_counts=True)
    num_test = int(np.ceil(TEST_SHARE * len(labels)))
    if counts.min() < 2:
        raise InputError(
            f"{source}: class {classes[np.argmin(counts)]} has a single example, which cannot be "
            f"both trained on and tested; expected at least 2 of every class: add some or drop it."
        )
    if len(labels) < MIN_TRAIN + MIN_TEST or num_test < len(classes):
        raise InputError(
            f"{source}: {len(labels)} examples of {len(classes)} classes are too few to split; "
            f"expected at least {max(MIN_TRAIN + MIN_TEST, 5 * len(classes))}: give more data."
        )
    train, test = train_test_split(
        np.arange(len(labels)), test_size=num_test, stratify=labels, random_state=SPLIT_SEED
    )
    return x[train], labels[train], x[test], labels[test]


def _listed(names) -> str:
    shown = [repr(name) for name in sorted(names)]
    more = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
    return (", ".join(shown[:8]) + more) if shown else "no arrays"
