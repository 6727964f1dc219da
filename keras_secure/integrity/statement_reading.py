"""Reading a statement back: our own to the byte, model-signing's by what its format defines."""

import re
from typing import Any

from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity.links import link_problem
from keras_secure.integrity.paths import path_problem, traversal_problem
from keras_secure.integrity.shards import SHARD_SIZE, shard_bounds
from keras_secure.integrity.statement import (
    ALWAYS_IGNORED,
    EXTENSION,
    PREDICATE_TYPE,
    STATEMENT_TYPE,
    VERSION,
    FileRecord,
    Statement,
    digest_of_all,
    encode_statement,
    is_resource,
)
from keras_secure.integrity.strict_json import parse_json
from keras_secure.integrity.times import as_time, format_time
from keras_secure.integrity.tree import WHOLE

_WHAT = "The signed statement"
_HEX = re.compile(r"[0-9a-f]{64}|[0-9a-f]{128}")
_ALGORITHMS = {"sha256": "sha256", "blake2": "blake2b", "blake2b": "blake2b"}
_MAX_SHARD = 2**50


class EditedStatementError(IntegrityError):
    """A statement that no signing program writes: it was changed after it was written."""


def decode_statement(payload: bytes) -> Statement:
    """Reads a statement, ours or one of OpenSSF model-signing.

    Args:
        payload: The bytes that were signed.

    Returns:
        The `Statement`.

    Raises:
        EditedStatementError: It is not what signing writes, to the byte where it is ours.
        IntegrityError: It is a statement of a kind or version that we do not know.

    Example:

    >>> decode_statement(encode_statement(Statement("m", {}, created="2026-11-21T00:00:00Z"))).name
    'm'
    """
    try:
        content = parse_json(payload, _WHAT)
        return _decode(content, payload)
    except EditedStatementError:
        raise
    except IntegrityError as error:
        if isinstance(error, _UnknownError):
            raise IntegrityError(str(error)) from error
        raise EditedStatementError(str(error)) from error
    except (KeyError, TypeError, ValueError, AttributeError, InputError) as error:
        raise _edited(f"a field is missing or has another type ({error})") from error


class _UnknownError(IntegrityError):
    pass


def _decode(content: Any, payload: bytes) -> Statement:
    if content["_type"] != STATEMENT_TYPE or content["predicateType"] != PREDICATE_TYPE:
        raise _UnknownError(
            f"{_WHAT} has type {content['_type']!r} and predicate {content['predicateType']!r}; "
            f"expected {STATEMENT_TYPE!r} and {PREDICATE_TYPE!r}: sign again with a current tool."
        )
    (subject,) = content["subject"]
    predicate = content["predicate"]
    if digest_of_all(predicate["resources"]) != subject["digest"]["sha256"]:
        raise _edited("the digest of its subject is not that of its resources")
    if EXTENSION not in predicate:
        return _decode_foreign(subject["name"], predicate)
    statement = _decode_own(subject["name"], predicate)
    if encode_statement(statement) != payload:
        raise _edited("it is not, to the byte, what signing writes")
    return statement


def _decode_own(name: Any, predicate: Any) -> Statement:
    extension, method = predicate[EXTENSION], predicate["serialization"]
    if extension["version"] != VERSION:
        raise _UnknownError(
            f"{_WHAT} has version {extension['version']!r}; expected {VERSION}: upgrade "
            "keras-secure to the version that signed it."
        )
    whole_files = method["method"] == "files"
    resources: dict[str, Any]
    if whole_files:
        resources = {each["name"]: each["digest"] for each in predicate["resources"]}
    else:
        resources = _by_path(predicate["resources"])
    links, folders = extension["links"], extension["folders"]
    draft = Statement(
        name=_typed(name, str),
        files={path: FileRecord(None, None, ()) for path in extension["files"]},
        ignored=tuple(_typed(path, str) for path in method["ignore_paths"]),
    )
    files = {}
    for path, entry in extension["files"].items():
        seen = is_resource(path, draft)
        by_shards = seen and not whole_files
        digests = [d for _, _, d in resources.get(path, [])] if by_shards else entry["shards"]
        whole = _typed(resources[path], str) if seen and whole_files else ""
        if any(not _HEX.fullmatch(digest) for digest in digests):
            raise _edited(f"a digest of {path!r} is none")
        size = _number(entry["size"])
        files[path] = FileRecord(
            size,
            _mode(entry["mode"]),
            tuple(_typed(digest, str) for digest in digests),
            whole,
        )
        if len(files[path].digests) != -(-size // SHARD_SIZE):
            raise _edited(f"{path!r} has not as many shards as it is long")
    _check_paths(files, folders, links)
    if format_time(as_time(extension["created"], "Its time")) != extension["created"]:
        raise _edited("its time is in another form")
    return Statement(
        name=name,
        files=files,
        folders={path: _mode(mode) for path, mode in folders.items()},
        links={path: _typed(target, str) for path, target in links.items()},
        created=_typed(extension["created"], str),
        serial=_number(extension["serial"]),
        check_name=_typed(extension["check_name"], bool),
        parity=extension["parity"],
        ignored=draft.ignored,
        follows_links=bool(links),
        whole_files=whole_files,
    )


def _check_paths(files: Any, folders: Any, links: Any) -> None:
    whole = WHOLE in files
    if whole and (folders or links or any("/" in path for path in files)):
        raise _edited("it describes a file and a folder at once")
    for path in [*files, *folders, *links]:
        if path != WHOLE and (problem := path_problem(path)):
            raise _edited(f"path {path!r} is not allowed, {problem}")
        parent = path.rpartition("/")[0]
        if parent and parent not in folders:
            raise _edited(f"the folder of {path!r} is not in it")
    if len({*files, *folders, *links}) != len(files) + len(folders) + len(links):
        raise _edited("a path stands in it as two things")
    for path in links:
        if problem := link_problem(path, links, files, folders):
            raise _edited(f"the link {path!r} is not allowed, {problem}")


def _decode_foreign(name: Any, predicate: Any) -> Statement:
    method = predicate["serialization"]
    algorithm = _ALGORITHMS.get(method["hash_type"])
    if algorithm is None or method["method"] not in ("files", "shards"):
        raise _UnknownError(
            f"{_WHAT} uses method {method['method']!r} with {method['hash_type']!r}; expected "
            "'files' or 'shards' with 'sha256' or 'blake2': sign again with one of these."
        )
    if method["method"] == "files":
        shard_size = None
        files = {}
        for resource in predicate["resources"]:
            path = resource["name"]
            if path in files:
                raise _edited(f"{path!r} stands in it twice")
            files[path] = FileRecord(None, None, (resource["digest"],))
    else:
        # Its protocol buffers write every number as one with a fraction.
        written = method["shard_size"]
        whole = int(written) if type(written) is float and written.is_integer() else written
        shard_size = _number(whole, 1, _MAX_SHARD)
        files = {
            path: _joined(path, shards, shard_size)
            for path, shards in _by_path(predicate["resources"]).items()
        }
    for path in files:
        if path != WHOLE and (problem := traversal_problem(path)):
            raise _edited(f"path {path!r} is not allowed, {problem}")
    if WHOLE in files and len(files) > 1:
        raise _edited("it describes a file and a folder at once")
    ignored = [_typed(path, str) for path in method.get("ignore_paths", [])]
    statement = Statement(
        name=_typed(name, str),
        files=files,
        ignored=tuple(sorted({*ignored, *ALWAYS_IGNORED})),
        shard_size=shard_size,
        algorithm=algorithm,
        follows_links=_typed(method["allow_symlinks"], bool),
        own=False,
    )
    expected = statement.resource_algorithm
    if any(resource["algorithm"] != expected for resource in predicate["resources"]):
        raise _edited(f"its resources are not all hashed by {expected!r}")
    return statement


def _joined(path: str, shards: list[tuple[int, int, str]], shard_size: int) -> FileRecord:
    size = shards[-1][1]
    expected = shard_bounds(size, shard_size)
    # Compared one by one: a size out of thin air must not allocate its shards.
    for (start, end, _), bounds in zip(shards, expected, strict=False):
        if (start, end) != bounds:
            raise _edited(f"the shards of {path!r} do not follow each other")
    if len(shards) != -(-size // shard_size):
        raise _edited(f"shards of {path!r} are missing")
    return FileRecord(size, None, tuple(digest for _, _, digest in shards))


def _by_path(resources: Any) -> dict[str, list[tuple[int, int, str]]]:
    found: dict[str, list[tuple[int, int, str]]] = {}
    for resource in resources:
        path, start, end = resource["name"].split(":")
        if not _HEX.fullmatch(resource["digest"]):
            raise _edited(f"the digest of {resource['name']!r} is none")
        found.setdefault(path, []).append((_digits(start), _digits(end), resource["digest"]))
    return found


def _digits(text: str) -> int:
    if not re.fullmatch(r"0|[1-9][0-9]{0,18}", text):
        raise _edited(f"{text!r} is no offset")
    return int(text)


def _number(value: Any, low: int = 0, high: int = 2**63 - 1) -> int:
    if type(value) is not int or not low <= value <= high:
        raise _edited(f"{value!r} is not a number from {low} to {high}")
    return value


def _mode(value: Any) -> int | None:
    return None if value is None else _number(value, 0, 0o7777)


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise _edited(f"{value!r} is no {kind.__name__}")
    return value


def _edited(reason: str) -> EditedStatementError:
    return EditedStatementError(f"{_WHAT} was changed after it was written: {reason}.")
