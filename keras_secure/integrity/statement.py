"""What is signed: an in-toto statement of every shard, as model-signing writes it, and more.

Under `predicate` stand `serialization` and `resources`, which model-signing reads, and an object
`keras_secure` for what it leaves out: files that it ignores, empty files and folders, permission
bits, links, parity, the time and the serial number.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keras_secure.integrity.links import linked_file
from keras_secure.integrity.shards import SHARD_SIZE, shard_bounds
from keras_secure.integrity.strict_json import canonical_bytes
from keras_secure.integrity.tree import WHOLE

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
EXTENSION = "keras_secure"
VERSION = 1
# What model-signing leaves out of every folder, whatever it is told.
ALWAYS_IGNORED = (".git", ".gitattributes", ".github", ".gitignore")


@dataclass(frozen=True)
class FileRecord:
    """What a statement says of one file.

    Args:
        size: Length in bytes; None where a statement of others does not tell it.
        mode: Permission bits; None where they were not recorded.
        digests: Hexadecimal digest of each shard, or of the whole file.
        whole: Digest of the whole file beside those of its shards; may be empty.
    """

    size: int | None
    mode: int | None
    digests: tuple[str, ...]
    whole: str = ""


@dataclass(frozen=True)
class Statement:
    """The signed description of a folder or a file.

    Args:
        name: Name of the folder or file when it was signed, for information.
        files: What is recorded of each plain file, by its path; `"."` is the root where that is a
            file itself, and then the other names are those of files beside it.
        folders: Permission bits of each folder below the root.
        links: Target of each symbolic link.
        created: When it was signed, by the signer's clock.
        serial: A number that grows with each release of the same thing.
        check_name: Whether the root must still have the name it was signed under.
        parity: What repair needs to know; None without parity.
        ignored: Paths that model-signing leaves out.
        shard_size: Bytes of a shard; None for one digest per file.
        algorithm: Hash function of the digests.
        follows_links: Whether links stand among the files, by the bytes that they lead to.
        whole_files: Whether model-signing is shown one digest per file, and shards stand in our
            extension only. The library reads both forms, its command line this one alone.
        own: Whether it has our extension, so that nothing outside it is tolerated.
    """

    name: str
    files: Mapping[str, FileRecord]
    folders: Mapping[str, int | None] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    created: str = ""
    serial: int = 0
    check_name: bool = False
    parity: Any = None
    ignored: tuple[str, ...] = ()
    shard_size: int | None = SHARD_SIZE
    algorithm: str = "sha256"
    follows_links: bool = False
    whole_files: bool = False
    own: bool = True

    @property
    def resource_algorithm(self) -> str:
        """The name that model-signing gives to digests of this kind."""
        if self.whole_files or self.shard_size is None:
            return self.algorithm
        return f"{self.algorithm}-sharded-{self.shard_size}"

    def is_ignored(self, path: str) -> bool:
        """Whether model-signing leaves a path out."""
        return is_below(path, self.ignored)


def is_below(path: str, tops: tuple[str, ...]) -> bool:
    """Whether a path is one of `tops` or lies below one.

    Example:

    >>> is_below(".git/config", (".git",)), is_below(".gitmodules", (".git",))
    (True, False)
    """
    return any(path == top or path.startswith(f"{top}/") for top in tops)


def encode_statement(statement: Statement) -> bytes:
    """The one byte string that stands for a statement of our own.

    Args:
        statement: What to sign, with shards of `SHARD_SIZE` and SHA-256.

    Returns:
        Canonical JSON.

    Example:

    >>> encode_statement(Statement("model", {}))[:38]
    b'{"_type":"https://in-toto.io/Statement'
    """
    resources = _resources(statement)
    method: dict[str, Any] = {"method": "files", "hash_type": statement.algorithm}
    if not statement.whole_files:
        method |= {"method": "shards", "shard_size": statement.shard_size}
    content = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": statement.name, "digest": {"sha256": digest_of_all(resources)}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                **method,
                "allow_symlinks": bool(statement.links),
                "ignore_paths": list(statement.ignored),
            },
            "resources": resources,
            EXTENSION: _extension(statement),
        },
    }
    # It protects nothing: it tells a statement that was edited from a signature that was.
    digest = hashlib.sha256(canonical_bytes(content)).hexdigest()
    content["predicate"][EXTENSION]["digest"] = digest  # type: ignore[index]
    return canonical_bytes(content)


def digest_of_all(resources: list[dict[str, str]]) -> str:
    """SHA-256 of all digests in order, which in-toto has as the digest of the subject."""
    digest = hashlib.sha256()
    for resource in resources:
        digest.update(bytes.fromhex(resource["digest"]))
    return digest.hexdigest()


def is_resource(path: str, statement: Statement) -> bool:
    """Whether model-signing sees a path: not what it ignores, nor a file beside a file."""
    return not statement.is_ignored(path) and (WHOLE not in statement.files or path == WHOLE)


def _resources(statement: Statement) -> list[dict[str, str]]:
    sources = {path: path for path in statement.files}
    for link in statement.links:
        # model-signing follows links, to files alone.
        if (target := linked_file(link, statement.links, statement.files)) is not None:
            sources[link] = target
    resources, algorithm = [], statement.resource_algorithm
    for path in sorted(sources, key=_path_order):
        if not is_resource(path, statement):
            continue
        record = statement.files[sources[path]]
        if statement.whole_files:
            resources.append({"name": path, "algorithm": algorithm, "digest": record.whole})
            continue
        bounds = shard_bounds(record.size or 0, statement.shard_size or SHARD_SIZE)
        for (start, end), digest in zip(bounds, record.digests, strict=True):
            name = f"{path}:{start}:{end}"
            resources.append({"name": name, "algorithm": algorithm, "digest": digest})
    return resources


def _extension(statement: Statement) -> dict[str, Any]:
    files = {}
    for path, record in statement.files.items():
        entry: dict[str, Any] = {"size": record.size, "mode": record.mode}
        if statement.whole_files or not is_resource(path, statement):
            entry["shards"] = list(record.digests)
        files[path] = entry
    return {
        "version": VERSION,
        "created": statement.created,
        "serial": statement.serial,
        "check_name": statement.check_name,
        "files": files,
        "folders": dict(statement.folders),
        "links": dict(statement.links),
        "parity": statement.parity,
    }


def _path_order(path: str) -> tuple[str, ...]:
    """The order of paths by their parts, which is model-signing's."""
    return () if path == WHOLE else tuple(path.split("/"))
