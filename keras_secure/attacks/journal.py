"""The progress of a search on disk, so that another process can go on with it."""

import hashlib
import io
import json
import os
import zipfile
from pathlib import Path

import keras
import numpy as np

from keras_secure.errors import InputError
from keras_secure.integrity.atomic import write_atomically


class Journal:
    """Keeps what a search has found so far in one file, which is always whole.

    Args:
        path: The file; it need not exist, its folder must.
        fingerprint: Dictionary of strings that say what is searched. A file with others is refused.
        seed: Written into a new file; in a file that is there its own one holds.

    Attributes:
        seed: The seed that the search has to use.

    Raises:
        InputError: If the file is none of this kind, or of another search.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     journal = Journal(f"{folder}/progress", {"data": "digits"}, seed=3)
    ...     journal.write({"success": np.array([True, False])})
    ...     again = Journal(f"{folder}/progress", {"data": "digits"}, seed=4)
    >>> again.seed, again.resume()["success"]
    (3, array([ True, False]))
    """

    def __init__(self, path, fingerprint, seed):
        self._path = Path(path)
        self._arrays: dict[str, np.ndarray] = {}
        self._header = {"fingerprint": fingerprint, "seed": seed}
        if self._path.exists():
            header, self._arrays = _read(self._path)
            _compare(self._path, header["fingerprint"], fingerprint)
            self._header["seed"] = header["seed"]
        elif not self._path.parent.is_dir():
            raise InputError(
                f"checkpoint={os.fspath(path)!r} cannot be written: there is no folder "
                f"{self._path.parent}. Make it, or give another path."
            )
        self.seed = self._header["seed"]

    def resume(self):
        """Returns the arrays that were written last, by name; nothing for a new file."""
        return self._arrays

    def write(self, arrays):
        """Replaces the file by one that holds these arrays.

        Args:
            arrays: Dictionary of arrays.
        """
        buffer = io.BytesIO()
        header = np.frombuffer(json.dumps(self._header).encode(), "uint8")
        np.savez(buffer, header=header, **arrays)
        write_atomically(self._path, buffer.getvalue())


def fingerprint_of(model, x, labels, **settings):
    """Says in short strings what a search works on.

    Args:
        model: A Keras model: its weights count, and its configuration where it has one.
        x: Array of inputs.
        labels: Array of labels, or whatever holds arrays of them.
        settings: Anything that JSON can hold.

    Returns:
        A dictionary of strings under `data`, `labels`, `model` and the names of the settings.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> before = fingerprint_of(model, np.zeros((1, 2)), [0], epsilon=0.1)
    >>> model.set_weights([weight + 1 for weight in model.get_weights()])
    >>> after = fingerprint_of(model, np.zeros((1, 2)), [0], epsilon=0.1)
    >>> [name for name in before if before[name] != after[name]]
    ['model']
    """
    return {
        "data": _digest([x]),
        "labels": _digest(_leaves(labels)),
        "model": _digest(
            [_structure(model), *(keras.ops.convert_to_numpy(w) for w in model.weights)]
        ),
        **{name: json.dumps(value, sort_keys=True) for name, value in settings.items()},
    }


def _read(path):
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(arrays.pop("header").tobytes())
        return {"fingerprint": dict(header["fingerprint"]), "seed": int(header["seed"])}, arrays
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"checkpoint={os.fspath(path)!r} holds no progress of an attack ({error}). Give the "
            "path of one that does, or of no file to begin anew."
        ) from error


def _compare(path, written, expected):
    differing = sorted(
        name for name in {*written, *expected} if written.get(name) != expected.get(name)
    )
    if differing:
        raise InputError(
            f"checkpoint={os.fspath(path)!r} was written by another search: {', '.join(differing)} "
            "differ from what was given now, so its results do not belong to it. Repeat the call "
            "that wrote it, or give another path to begin anew."
        )


def _structure(model):
    try:
        config = model.get_config()
    except (NotImplementedError, TypeError, ValueError):
        config = None
    # Keras numbers the layers of a process: a model built once more has other names.
    numbers: dict[str, str] = {}
    _collect_names(config, numbers)
    text = json.dumps(
        _renamed(config, numbers), sort_keys=True, default=lambda value: type(value).__qualname__
    )
    return _text(f"{type(model).__qualname__} {text}")


def _collect_names(config, numbers):
    if isinstance(config, dict):
        if isinstance(config.get("name"), str):
            numbers.setdefault(config["name"], f"#{len(numbers)}")
        for key in sorted(config, key=str):
            _collect_names(config[key], numbers)
    elif isinstance(config, (list, tuple)):
        for value in config:
            _collect_names(value, numbers)


def _renamed(config, numbers):
    if isinstance(config, dict):
        return {str(key): _renamed(value, numbers) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [_renamed(value, numbers) for value in config]
    return numbers.get(config, config) if isinstance(config, str) else config


def _leaves(values):
    if isinstance(values, dict):
        return [leaf for name in sorted(values) for leaf in (_text(name), *_leaves(values[name]))]
    if isinstance(values, (list, tuple)) and any(value is None for value in values):
        return [leaf for value in values for leaf in _leaves(value)]
    return [_text("none") if values is None else np.asarray(keras.ops.convert_to_numpy(values))]


def _text(text):
    return np.frombuffer(str(text).encode(), "uint8")


def _digest(arrays):
    digest = hashlib.sha256()
    for array in arrays:
        array = np.asarray(array)
        digest.update(f"{array.dtype} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
