"""A manifest: the SHA-256 and the size of every file of a folder, as canonical JSON."""

import json
import os
import re
from pathlib import Path
from typing import Any

from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity.atomic import write_atomically
from keras_secure.integrity.paths import path_problem, printable
from keras_secure.integrity.shards import digest_files
from keras_secure.integrity.small_files import read_plain_file
from keras_secure.integrity.strict_json import canonical_bytes, no_duplicates
from keras_secure.integrity.tree import WHOLE, survey

FORMAT = "keras_secure.manifest"
VERSION = 1
MANIFEST_NAME = "manifest.json"

_DIGEST = re.compile(r"[0-9a-f]{64}")


def build_manifest(folder: str | os.PathLike) -> dict[str, Any]:
    """Hashes every file below `folder`, except a manifest at its top.

    Empty folders are not recorded: they carry no bytes.

    Args:
        folder: The folder to describe.

    Returns:
        `{"files": {path: {"sha256": hex, "size": bytes}}, "format": ..., "version": 1}` where each
        path is relative to `folder` with `/` between its parts.

    Raises:
        InputError: `folder` is not a folder or cannot be read.
        IntegrityError: It holds a symbolic link, a device, a pipe, a socket, or a name that other
            systems would read differently (backslash, control character, drive letter).

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.txt").write_bytes(b"abc")
    ...     build_manifest(folder)["files"]["a.txt"]["size"]
    3
    """
    tree = survey(Path(folder), skip=(MANIFEST_NAME,))
    if WHOLE in tree.files:
        raise InputError(f"Folder {os.fspath(folder)} cannot be read: it is a file.")
    for path in [*tree.links, *tree.special]:
        raise IntegrityError(
            f"{printable(path)} in {folder} is a symbolic link or a special file, whose bytes the "
            "folder does not own. Replace it by a plain file, or remove it."
        )
    for path in tree.files:
        if problem := path_problem(path):
            raise IntegrityError(
                f"File {path!r} in {folder} cannot be put into a manifest: {problem}. Rename it."
            )
    found = digest_files([tree.location(path) for path in tree.files], shard_size=None)
    files = {
        path: {"sha256": file.digests[0], "size": file.size}
        for path, file in zip(tree.files, found, strict=True)
    }
    return {"files": files, "format": FORMAT, "version": VERSION}


def write_manifest(folder: str | os.PathLike, manifest: dict[str, Any] | None = None) -> Path:
    """Writes `manifest.json` into a folder in one step.

    Args:
        folder: The folder that the manifest describes.
        manifest: What `build_manifest` returned; built here when it is not given.

    Returns:
        The path of the manifest.

    Raises:
        InputError: The manifest is not well formed, or `folder` is not a folder.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.txt").write_bytes(b"abc")
    ...     list(read_manifest(write_manifest(folder))["files"])
    ['a.txt']
    """
    data = canonical_bytes(build_manifest(folder) if manifest is None else manifest)
    _parse(data, "The given manifest", InputError)
    path = Path(folder, MANIFEST_NAME)
    write_atomically(path, data)
    return path


def read_manifest(source: str | os.PathLike | bytes) -> dict[str, Any]:
    """Reads a manifest and accepts nothing but the canonical form that we write.

    Args:
        source: The manifest file, the folder that holds it, or its bytes.

    Returns:
        The manifest, as `build_manifest` returns it.

    Raises:
        InputError: There is no such file.
        IntegrityError: It is not canonical JSON (bad syntax, a key twice, other spacing or order),
            has another format or version, or names a path outside its folder.

    Example:

    >>> read_manifest(b'{"files":{},"format":"keras_secure.manifest","version":1}')["files"]
    {}
    """
    if isinstance(source, bytes):
        return _parse(source, "The manifest", IntegrityError)
    path = Path(source)
    path = path / MANIFEST_NAME if path.is_dir() else path
    return _parse(read_plain_file(path), f"The manifest {path}", IntegrityError)


def _parse(data: bytes, what: str, error: type[Exception]) -> dict[str, Any]:
    def refuse(reason: str) -> Exception:
        return error(f"{what} cannot be trusted: {reason}. Build and sign it again.")

    try:
        manifest = json.loads(data, object_pairs_hook=no_duplicates)
        canonical = canonical_bytes(manifest)
    except (ValueError, RecursionError) as cause:
        raise refuse(f"it is not valid JSON ({cause})") from cause
    if not isinstance(manifest, dict) or set(manifest) != {"files", "format", "version"}:
        raise refuse("it does not have exactly the fields files, format and version")
    if manifest["format"] != FORMAT or manifest["version"] != VERSION:
        raise refuse(
            f"it has format {manifest['format']!r} version {manifest['version']!r}, "
            f"and {FORMAT!r} version {VERSION} was expected"
        )
    if not isinstance(manifest["files"], dict):
        raise refuse("its files are not a JSON object")
    for path, entry in manifest["files"].items():
        if problem := path_problem(path):
            raise refuse(f"path {path!r} is not allowed, {problem}")
        if path == MANIFEST_NAME:
            raise refuse(f"it lists {path}, which no manifest can describe")
        if not _is_description(entry):
            raise refuse(f"the entry of {path!r} is not a SHA-256 and a size")
    if canonical != data:
        raise refuse("it is not in canonical form (key order, spacing or escapes)")
    return manifest


def _is_description(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and set(entry) == {"sha256", "size"}
        and isinstance(entry["sha256"], str)
        and _DIGEST.fullmatch(entry["sha256"]) is not None
        and type(entry["size"]) is int
        and entry["size"] >= 0
    )
