"""Loading a model file that was verified and scanned, byte for byte the same one."""

import contextlib
import importlib
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

from keras_secure.errors import InputError, IntegrityError, SecurityError
from keras_secure.integrity.isolation import LoadLimits, report, try_in_isolation
from keras_secure.integrity.private_copy import private_copy, signed_root
from keras_secure.integrity.scan import ScanLimits, scan
from keras_secure.integrity.verify import verify

MODEL_NAME = "model.keras"

_ZIP = b"PK\x03\x04"


def load_model(
    path: str | os.PathLike,
    trust: Any,
    *,
    signature: str | os.PathLike | None = None,
    min_serial: int | None = None,
    custom_objects: Mapping[str, Any] | Iterable[Any] = (),
    compile: bool = True,
    scan: bool = True,
    scan_limits: ScanLimits | None = None,
    isolate: bool = False,
    limits: LoadLimits | None = None,
) -> Any:
    """Loads a `.keras` file after proving who made it and that opening it is safe.

    The file is copied to a private folder first. There its signature is verified, the file is
    scanned without Keras, and at last loaded with `safe_mode=True`; so whoever exchanges the
    original meanwhile changes nothing.

    Args:
        path: The file; or a folder with a file `model.keras`, such as a bundle.
        trust: Whom to believe, as `keras_secure.integrity.verify` takes it; a file in a signed
            folder is verified with the whole folder. None asks for no signature: who made the file
            is then unknown.
        signature: The signature, if it is not at its usual place.
        min_serial: The lowest serial number that is accepted.
        custom_objects: Classes and functions of yours that the file may name: by name, or as a
            list, which takes their own names. What is registered with Keras and not given here is
            refused by the scan, but for what Keras and this library bring.
        compile: Whether to compile the model as it was when it was saved.
        scan: Whether to scan the file; False trusts whoever signed it to have done so.
        scan_limits: What the file may ask of the scan.
        isolate: Whether to load it first in a process of its own under `limits`. That takes some
            seconds, and holds bombs; it is no sandbox.
        limits: What loading may take there; a `LoadLimits`.

    Returns:
        The `keras.Model`.

    Raises:
        IntegrityError: It is not what a trusted key signed, the scan finds something of at least
            medium severity, or it does not load in isolation.
        InputError: There is no such file, it is in another format, or it needs a custom object.

    Example:

    >>> import tempfile
    >>> import keras
    >>> from keras_secure.integrity import generate_key_pair, sign
    >>> private_key, public_key = generate_key_pair()
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(f"{folder}/model.keras")
    ...     _ = sign(f"{folder}/model.keras", private_key)
    ...     load_model(f"{folder}/model.keras", trust=public_key).count_params()
    10
    """
    path = Path(os.path.abspath(path))
    if not path.exists():
        raise InputError(f"There is no {path}; give a .keras file, or a folder that has one.")
    objects = _by_name(custom_objects)
    root, place = (path, None) if trust is None else signed_root(path, signature)
    with private_copy(root, place) as (copied, copied_signature), _named(copied, root):
        if trust is not None:
            verify(
                copied, trust, signature=copied_signature, min_serial=min_serial
            ).raise_if_failed()
        file = copied / path.relative_to(root) if root != path else copied
        file = file / MODEL_NAME if file.is_dir() else file
        _check_format(file, path)
        if scan:
            _scan(file, objects, scan_limits)
        if isolate:
            bounds = LoadLimits() if limits is None else limits
            try_in_isolation(str(file), objects, compile, bounds)
        return _load(str(file), objects, compile, path)


@contextlib.contextmanager
def _named(copied: Path, root: Path) -> Iterator[None]:
    """Speaks of the file that was given: by the time of an error its copy is gone."""
    try:
        yield
    except SecurityError as error:
        said = str(error).replace(os.fspath(copied), os.fspath(root))
        raise type(error)(said) from error


def load_in_isolation(request: Mapping[str, Any]) -> None:
    """What the other process does: loads, and tells how it ended."""
    try:
        objects = {
            name: reduce(getattr, path.split("."), importlib.import_module(module))
            for name, (module, path) in request["custom_objects"].items()
        }
        _load(request["path"], objects, request["compile"], "The file")
    except BaseException as error:
        report(" ".join(f"{type(error).__name__}: {error}".split()))
        os._exit(1)
    report("loaded")
    # No destructor may have a last word.
    os._exit(0)


def _load(file: str, objects: Mapping[str, Any], compile: bool, name: Any) -> Any:
    import keras

    _check_safe_mode(keras)
    try:
        return keras.saving.load_model(
            file, custom_objects=dict(objects), compile=compile, safe_mode=True
        )
    # Keras has no error of its own for what it cannot load.
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise InputError(
            f"{name} is not a model that Keras {keras.__version__} loads: {error} If it names "
            "classes or functions of yours, give them as custom_objects."
        ) from error


def _check_safe_mode(keras: Any) -> None:
    """Refuses a process in which `keras.config.enable_unsafe_deserialization` was called.

    It outweighs `safe_mode=True`, and Keras does not say whether it is on; so a function of our own
    is offered, which safe mode must refuse.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is unsafe is the point
        offered = keras.saving.serialize_keras_object(lambda x: x)
    try:
        keras.saving.deserialize_keras_object(offered, safe_mode=True)
    except ValueError:
        return
    raise InputError(
        "keras.config.enable_unsafe_deserialization() is in force in this process, and Keras then "
        "runs code from model files in spite of safe_mode=True. Load in a process without it."
    )


def _scan(file: Path, objects: Mapping[str, Any], limits: ScanLimits | None) -> None:
    names = {name for given, thing in objects.items() for name in _names(given, thing)}
    found = scan(file, allow=sorted(names), limits=limits)
    if found.format != "keras":
        raise IntegrityError(
            f"{file.name} is of format {found.format!r}, and a .keras file was expected."
        )
    found.raise_if_failed()


def _by_name(custom_objects: Mapping[str, Any] | Iterable[Any]) -> dict[str, Any]:
    if isinstance(custom_objects, Mapping):
        objects = dict(custom_objects)
    else:
        objects = {getattr(thing, "__name__", repr(thing)): thing for thing in custom_objects}
    for name, thing in objects.items():
        if not isinstance(name, str) or not callable(thing):
            raise InputError(
                f"The custom object {name!r} is a {type(thing).__name__}; expected classes and "
                "functions, by name or in a list."
            )
    return objects


def _names(given: str, thing: Any) -> set[str]:
    """The names under which a file may speak of a custom object."""
    import keras

    own = getattr(thing, "__name__", given)
    module = getattr(thing, "__module__", "")
    registered = keras.saving.get_registered_name(thing)
    return {given, own, registered, f"{module}>{own}", f"{module}>{given}"}


def _check_format(file: Path, path: Path) -> None:
    if not file.is_file() or file.is_symlink():
        raise InputError(
            f"{path} holds no file {MODEL_NAME}. Give a .keras file; open a bundle's SavedModel "
            "with keras_secure.export.open_bundle."
        )
    with open(file, "rb") as opened:
        if opened.read(len(_ZIP)) != _ZIP or file.suffix != ".keras":
            raise InputError(
                f"{path} is not a .keras file, the one format that safe_mode holds for. Save the "
                "model anew as .keras; load weights alone with SecureCheckpoint or after a scan."
            )
