"""Reading a statement back: our own to the byte, those of others as their format has it."""

from typing import Any

from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity.links import link_problem
from keras_secure.integrity.model_signing_statement import decode_model_signing
from keras_secure.integrity.paths import path_problem
from keras_secure.integrity.shards import SHARD_SIZE
from keras_secure.integrity.statement import (
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
from keras_secure.integrity.statement_fields import (
    HEX,
    WHAT,
    EditedStatementError,
    UnknownStatementError,
    edited,
    mode_field,
    number_field,
    shards_by_path,
    typed_field,
)
from keras_secure.integrity.strict_json import parse_json
from keras_secure.integrity.times import as_time, format_time
from keras_secure.integrity.tree import WHOLE


def decode_statement(payload: bytes) -> Statement:
    """Reads a statement, ours or one of OpenSSF model-signing.

    Args:
        payload: The bytes that were signed.

    Returns:
        The `Statement`.

    Raises:
        EditedStatementError: It is not what signing writes, to the byte where it is ours.
        UnknownStatementError: It is a statement of a kind or version that we do not know.

    Example:

    >>> decode_statement(encode_statement(Statement("m", {}, created="2026-11-21T00:00:00Z"))).name
    'm'
    """
    try:
        content = parse_json(payload, WHAT)
        return _decode(content, payload)
    except (EditedStatementError, UnknownStatementError):
        raise
    except IntegrityError as error:
        raise EditedStatementError(str(error)) from error
    except (KeyError, TypeError, ValueError, AttributeError, InputError) as error:
        raise edited(f"a field is missing or has another type ({error})") from error


def _decode(content: Any, payload: bytes) -> Statement:
    if content["_type"] != STATEMENT_TYPE or content["predicateType"] != PREDICATE_TYPE:
        raise UnknownStatementError(
            f"{WHAT} has type {content['_type']!r} and predicate {content['predicateType']!r}; "
            f"expected {STATEMENT_TYPE!r} and {PREDICATE_TYPE!r}: sign again with a current tool."
        )
    (subject,) = content["subject"]
    predicate = content["predicate"]
    if digest_of_all(predicate["resources"]) != subject["digest"]["sha256"]:
        raise edited("the digest of its subject is not that of its resources")
    if EXTENSION not in predicate:
        return decode_model_signing(subject["name"], predicate)
    statement = _decode_own(subject["name"], predicate)
    if encode_statement(statement) != payload:
        raise edited("it is not, to the byte, what signing writes")
    return statement


def _decode_own(name: Any, predicate: Any) -> Statement:
    extension, method = predicate[EXTENSION], predicate["serialization"]
    if extension["version"] != VERSION:
        raise UnknownStatementError(
            f"{WHAT} has version {extension['version']!r}; expected {VERSION}: upgrade "
            "keras-secure to the version that signed it."
        )
    whole_files = method["method"] == "files"
    resources: dict[str, Any]
    if whole_files:
        resources = {each["name"]: each["digest"] for each in predicate["resources"]}
    else:
        resources = shards_by_path(predicate["resources"])
    links, folders = extension["links"], extension["folders"]
    draft = Statement(
        name=typed_field(name, str),
        files={path: FileRecord(None, None, ()) for path in extension["files"]},
        ignored=tuple(typed_field(path, str) for path in method["ignore_paths"]),
    )
    files = {}
    for path, entry in extension["files"].items():
        seen = is_resource(path, draft)
        by_shards = seen and not whole_files
        digests = [d for _, _, d in resources.get(path, [])] if by_shards else entry["shards"]
        whole = typed_field(resources[path], str) if seen and whole_files else ""
        if any(not HEX.fullmatch(digest) for digest in digests):
            raise edited(f"a digest of {path!r} is none")
        size = number_field(entry["size"])
        files[path] = FileRecord(
            size,
            mode_field(entry["mode"]),
            tuple(typed_field(digest, str) for digest in digests),
            whole,
        )
        if len(files[path].digests) != -(-size // SHARD_SIZE):
            raise edited(f"{path!r} has not as many shards as it is long")
    _check_paths(files, folders, links)
    if format_time(as_time(extension["created"], "Its time")) != extension["created"]:
        raise edited("its time is in another form")
    return Statement(
        name=name,
        files=files,
        folders={path: mode_field(mode) for path, mode in folders.items()},
        links={path: typed_field(target, str) for path, target in links.items()},
        created=typed_field(extension["created"], str),
        serial=number_field(extension["serial"]),
        check_name=typed_field(extension["check_name"], bool),
        parity=extension["parity"],
        ignored=draft.ignored,
        follows_links=bool(links),
        whole_files=whole_files,
    )


def _check_paths(files: Any, folders: Any, links: Any) -> None:
    whole = WHOLE in files
    if whole and (folders or links or any("/" in path for path in files)):
        raise edited("it describes a file and a folder at once")
    for path in [*files, *folders, *links]:
        if path != WHOLE and (problem := path_problem(path)):
            raise edited(f"path {path!r} is not allowed, {problem}")
        parent = path.rpartition("/")[0]
        if parent and parent not in folders:
            raise edited(f"the folder of {path!r} is not in it")
    if len({*files, *folders, *links}) != len(files) + len(folders) + len(links):
        raise edited("a path stands in it as two things")
    for path in links:
        if problem := link_problem(path, links, files, folders):
            raise edited(f"the link {path!r} is not allowed, {problem}")
