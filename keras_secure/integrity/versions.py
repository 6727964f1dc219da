"""A store of signed versions with a pointer to the one in use, and the way back to one that
verifies.

`STORE/versions/000001/NAME`, `.../000002/NAME`, ... are never written to again once they are there.
`STORE/current` is a small text file that names one of them; replacing it is the only step that
changes what is in use, so a crash leaves the one or the other.
"""

import contextlib
import os
import re
import secrets
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity.atomic import sync_folder, write_atomically
from keras_secure.integrity.parity import PARITY_SUFFIX
from keras_secure.integrity.paths import inside
from keras_secure.integrity.signature_file import SIGNATURE_SUFFIX, read_signature, signature_path
from keras_secure.integrity.times import now
from keras_secure.integrity.trust import as_trust
from keras_secure.integrity.verify import verify

POINTER = "current"

_VERSIONS = "versions"
_NUMBER = re.compile(r"[0-9]{6,}")


@dataclass(frozen=True)
class RollbackReport:
    """Which version is in use now, and why no newer one is.

    Args:
        path: The verified version that is in use now.
        version: Its number in the store, as text.
        previous: The number of the version that was in use before.
        refused: Number and causes of each newer version that does not verify.
    """

    path: Path
    version: str
    previous: str
    refused: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def changed(self) -> bool:
        """Whether another version is in use than before."""
        return self.version != self.previous


def publish(store: str | os.PathLike, source: str | os.PathLike, trust: Any) -> Path:
    """Copies a signed folder or file into a store and puts it into use, if it verifies.

    Args:
        store: The folder of the store, made if it is not there.
        source: What to publish, signed; a single file is copied with its signature and parity.
        trust: Whom to believe, as for `verify`.

    Returns:
        The path of the copy, which is in use now.

    Raises:
        InputError: The store or the source cannot be used.
        IntegrityError: The source, or the copy, does not verify; what is in use stays so.

    Example:

    >>> import tempfile
    >>> from keras_secure.integrity import generate_key_pair, sign
    >>> private_key, public_key = generate_key_pair()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model = Path(folder, "model.bin")
    ...     for text in ("first", "second"):
    ...         _ = model.write_text(text)
    ...         _ = sign(model, private_key)
    ...         path = publish(f"{folder}/store", model, public_key)
    ...     current(f"{folder}/store").read_text()
    'second'
    """
    store, source = Path(os.path.abspath(store)), Path(os.path.abspath(source))
    if inside(store, source) is not None:
        raise InputError(
            f"The store {store} lies in {source}, which nobody could verify then. Give a folder "
            "outside of what is published."
        )
    verify(source, trust).raise_if_failed()
    versions = store / _VERSIONS
    staging = versions / f".{secrets.token_hex(8)}.part"
    try:
        staging.mkdir(parents=True)
        _copy(source, staging)
        # Bytes may be lost on their way, and the source may have changed meanwhile.
        verify(staging / source.name, trust).raise_if_failed()
        number = _rename_to_next(versions, staging)
        sync_folder(versions)
        _point(store, number, source.name)
    except OSError as error:
        raise InputError(
            f"{source} cannot be published to {store}: {error.strerror or error}. What was in use "
            "is in use still."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return versions / number / source.name


def current(store: str | os.PathLike) -> Path:
    """The version of a store that is in use; verify it before you load it.

    Args:
        store: The folder of the store.

    Returns:
        Its path.

    Raises:
        InputError: There is no store, or nothing was published yet.
        IntegrityError: The pointer was edited: it names no version.
    """
    number, name = _pointer(Path(store))
    return Path(store, _VERSIONS, number, name)


def rollback(
    store: str | os.PathLike,
    trust: Any,
    *,
    min_serial: int | None = None,
    not_before: datetime | str | None = None,
    leave_current: bool = False,
) -> RollbackReport:
    """Goes back to the last version that verifies.

    Versions are tried from the newest, by serial number and time as they are signed and not by the
    names of folders, which anybody can change. Versions later than the one in use are not tried:
    somebody went back from them.

    Args:
        store: The folder of the store.
        trust: Whom to believe, as for `verify`.
        min_serial: The lowest serial number that is acceptable, so that nobody can bring back a
            version with a known flaw by damaging all later ones.
        not_before: The earliest time of signing that is acceptable, for the same purpose.
        leave_current: Whether to go back even if the version in use verifies.

    Returns:
        A `RollbackReport`.

    Raises:
        InputError: There is no such store.
        IntegrityError: No version verifies; nothing was changed.

    Example:

    >>> import tempfile
    >>> from keras_secure.integrity import generate_key_pair, sign
    >>> private_key, public_key = generate_key_pair()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model, store = Path(folder, "model.bin"), f"{folder}/store"
    ...     for serial, text in enumerate(["first", "second"]):
    ...         _ = model.write_text(text)
    ...         _ = sign(model, private_key, serial=serial)
    ...         path = publish(store, model, public_key)
    ...     _ = path.write_text("damaged")
    ...     rollback(store, public_key).path.read_text()
    'first'
    """
    store, trust = Path(os.path.abspath(store)), as_trust(trust)
    previous, _ = _pointer(store)
    refused: list[tuple[str, tuple[str, ...]]] = []
    for number, path in _candidates(store, trust, previous, leave_current):
        report = verify(path, trust, min_serial=min_serial, not_before=not_before)
        if report.ok:
            if number != previous:
                _point(store, number, path.name)
            return RollbackReport(path, number, previous, tuple(refused))
        refused.append((number, tuple(report.describe())))
    reasons = "; ".join(f"{number}: {', '.join(causes)}" for number, causes in refused)
    raise IntegrityError(
        f"No version in {store} can be gone back to ({reasons or 'there is no other'}). Nothing "
        "was changed; repair one, or publish a good one."
    )


def _candidates(
    store: Path, trust: Any, newest: str, leave_current: bool
) -> list[tuple[str, Path]]:
    found = []
    for folder in (store / _VERSIONS).iterdir():
        if not _NUMBER.fullmatch(folder.name) or int(folder.name) > int(newest):
            continue
        if leave_current and folder.name == newest:
            continue
        for path in _signed_things(folder):
            statement = read_signature(signature_path(path), trust, now()).statement
            order = (-1, "") if statement is None else (statement.serial, statement.created)
            found.append((*order, int(folder.name), folder.name, path))
    return [(number, path) for *_, number, path in sorted(found, reverse=True)]


def _signed_things(folder: Path) -> list[Path]:
    beside = (SIGNATURE_SUFFIX, PARITY_SUFFIX)
    return [path for path in sorted(folder.iterdir()) if not path.name.endswith(beside)]


def _copy(source: Path, folder: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, folder / source.name, symlinks=True)
        return
    for suffix in ("", SIGNATURE_SUFFIX, PARITY_SUFFIX):
        path = source.with_name(source.name + suffix)
        if path.exists():
            shutil.copy2(path, folder / path.name)


def _rename_to_next(versions: Path, staging: Path) -> str:
    while True:
        numbers = [int(path.name) for path in versions.iterdir() if _NUMBER.fullmatch(path.name)]
        number = f"{max(numbers, default=0) + 1:06d}"
        # Two who publish at once get two numbers: a folder with something in it is not replaced.
        with contextlib.suppress(FileExistsError):
            (versions / number).mkdir()
            os.rename(staging, versions / number)
            return number


def _point(store: Path, number: str, name: str) -> None:
    write_atomically(store / POINTER, f"{number}/{name}\n".encode())
    sync_folder(store)


def _pointer(store: Path) -> tuple[str, str]:
    try:
        text = (store / POINTER).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{store} has no readable file {POINTER!r} ({error.strerror}), so it is no store of "
            "versions, or nothing was published yet. Use `keras_secure.integrity.publish`."
        ) from error
    except UnicodeDecodeError as error:
        raise _edited(store) from error
    number, _, name = text.removesuffix("\n").partition("/")
    unsafe = name in ("", ".", "..") or set(name) & set("/\\\0\n")
    if unsafe or not _NUMBER.fullmatch(number) or not (store / _VERSIONS / number).is_dir():
        raise _edited(store)
    return number, name


def _edited(store: Path) -> IntegrityError:
    return IntegrityError(
        f"The pointer {store / POINTER} names no version of the store: it was edited or damaged. "
        "Write NUMBER/NAME of a version that verifies into it."
    )
