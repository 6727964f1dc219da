"""Statements of OpenSSF model-signing, over whole files or over shards."""

from typing import Any

from keras_secure.integrity.paths import traversal_problem
from keras_secure.integrity.shards import shard_bounds
from keras_secure.integrity.statement import ALWAYS_IGNORED, FileRecord, Statement
from keras_secure.integrity.statement_fields import (
    WHAT,
    UnknownStatementError,
    edited,
    number_field,
    shards_by_path,
    typed_field,
)
from keras_secure.integrity.tree import WHOLE

_ALGORITHMS = {"sha256": "sha256", "blake2": "blake2b", "blake2b": "blake2b"}
_MAX_SHARD = 2**50


def decode_model_signing(name: Any, predicate: Any) -> Statement:
    """Reads a statement of OpenSSF model-signing.

    Args:
        name: The name of its subject.
        predicate: Its predicate.

    Returns:
        The `Statement`, of which model-signing knows no lengths, permission bits or folders.

    Raises:
        EditedStatementError: It is not what model-signing writes.
        UnknownStatementError: It uses a digest or a method that we do not know.
    """
    method = predicate["serialization"]
    algorithm = _ALGORITHMS.get(method["hash_type"])
    if algorithm is None or method["method"] not in ("files", "shards"):
        raise UnknownStatementError(
            f"{WHAT} uses method {method['method']!r} with {method['hash_type']!r}; expected "
            "'files' or 'shards' with 'sha256' or 'blake2': sign again with one of these."
        )
    if method["method"] == "files":
        shard_size = None
        files = {}
        for resource in predicate["resources"]:
            path = resource["name"]
            if path in files:
                raise edited(f"{path!r} stands in it twice")
            files[path] = FileRecord(None, None, (resource["digest"],))
    else:
        # Its protocol buffers write every number as one with a fraction.
        written = method["shard_size"]
        whole = int(written) if type(written) is float and written.is_integer() else written
        shard_size = number_field(whole, 1, _MAX_SHARD)
        files = {
            path: _joined(path, shards, shard_size)
            for path, shards in shards_by_path(predicate["resources"]).items()
        }
    for path in files:
        if path != WHOLE and (problem := traversal_problem(path)):
            raise edited(f"path {path!r} is not allowed, {problem}")
    if WHOLE in files and len(files) > 1:
        raise edited("it describes a file and a folder at once")
    ignored = [typed_field(path, str) for path in method.get("ignore_paths", [])]
    statement = Statement(
        name=typed_field(name, str),
        files=files,
        ignored=tuple(sorted({*ignored, *ALWAYS_IGNORED})),
        shard_size=shard_size,
        algorithm=algorithm,
        follows_links=typed_field(method["allow_symlinks"], bool),
        own=False,
    )
    expected = statement.resource_algorithm
    if any(resource["algorithm"] != expected for resource in predicate["resources"]):
        raise edited(f"its resources are not all hashed by {expected!r}")
    return statement


def _joined(path: str, shards: list[tuple[int, int, str]], shard_size: int) -> FileRecord:
    size = shards[-1][1]
    expected = shard_bounds(size, shard_size)
    # Compared one by one: a size out of thin air must not allocate its shards.
    for (start, end, _), bounds in zip(shards, expected, strict=False):
        if (start, end) != bounds:
            raise edited(f"the shards of {path!r} do not follow each other")
    if len(shards) != -(-size // shard_size):
        raise edited(f"shards of {path!r} are missing")
    return FileRecord(size, None, tuple(digest for _, _, digest in shards))
