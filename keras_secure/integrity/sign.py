"""Signing a folder or a file, to the last byte, name and permission bit."""

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from keras_secure.arguments import is_integer
from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity.atomic import remove_leftovers, write_atomically, writing
from keras_secure.integrity.dsse import (
    STATEMENT_PAYLOAD,
    Envelope,
    Signature,
    dump_envelope,
    key_hint,
    signed_bytes,
)
from keras_secure.integrity.key_files import load_private_key
from keras_secure.integrity.key_pem import public_pem
from keras_secure.integrity.keys import fingerprint, kind_of, sign_bytes
from keras_secure.integrity.links import link_problem
from keras_secure.integrity.parity import parity_name, write_parity
from keras_secure.integrity.paths import inside, path_problem, printable
from keras_secure.integrity.shards import digest_files, digest_files_twice
from keras_secure.integrity.signature_file import own_names, signature_path
from keras_secure.integrity.statement import (
    ALWAYS_IGNORED,
    FileRecord,
    Statement,
    encode_statement,
)
from keras_secure.integrity.times import as_time, format_time, now
from keras_secure.integrity.tree import WHOLE, Tree, location, survey


def sign(
    path: str | os.PathLike,
    keys: Any,
    *,
    parity: float | int | None = None,
    root_name: bool = False,
    serial: int = 0,
    created: datetime | str | None = None,
    allow_symlinks: bool = False,
    whole_files: bool | None = None,
    signature: str | os.PathLike | None = None,
) -> Path:
    """Signs a folder or a file, so that `verify` can name whatever changes later, and where.

    The signature is one file, `model.sig` at the top of a folder or `FILE.sig` beside a file. If
    one of the keys is of kind `"ec-p256"`, OpenSSF model-signing can check it too.

    Args:
        path: The folder or file; a signature that is there is replaced.
        keys: A private key, its unencrypted PEM file or the file's bytes, or several of these.
        parity: What to write beside it to repair it from: a share of its shards as a float, or a
            number of shards; None for nothing.
        root_name: Whether the folder or file must keep its name.
        serial: A number that grows with each release of the same thing, so that a verifier can
            refuse an older one.
        created: The time to state; the present by default.
        allow_symlinks: Whether symbolic links are signed, with their targets, which must lie in
            the same folder; otherwise they are refused.
        whole_files: Whether to record a digest of each whole file too, which takes a second pass
            over the bytes: the command line of model-signing checks nothing else, while its library
            reads shards. By default, if one of the keys is of kind `"ec-p256"`.
        signature: Where to write the signature, if not at its usual place.

    Returns:
        The path of the signature file.

    Raises:
        InputError: A key, an argument or a file cannot be used.
        IntegrityError: The folder holds what cannot be signed: a link that is not allowed, a
            special file, or a name that other systems read differently.

    Example:

    >>> import tempfile
    >>> from keras_secure.integrity import generate_key_pair, verify
    >>> private_key, public_key = generate_key_pair()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "weights").write_bytes(b"123")
    ...     _ = sign(folder, private_key, serial=1)
    ...     verify(folder, public_key, min_serial=1).ok
    True

    Reference:
        in-toto attestation framework, Statement v1; DSSE v1.0.0; Sigstore bundle format v0.3.
    """
    root = Path(os.path.abspath(path))
    target = signature_path(root, signature)
    signers = load_signers(keys, root)
    if not is_integer(serial) or not 0 <= serial < 2**63:
        raise InputError(f"serial is {serial!r}; expected a whole number from 0 to 2^63 - 1.")
    time = now() if created is None else as_time(created, "created")
    # What a signing that was killed has left would be signed as a part of the model.
    remove_leftovers([target, location(root, parity_name(root), not root.is_dir())])
    skip = own_names(root, target)
    tree = _checked(survey(root, skip), allow_symlinks)
    table = None
    if parity is not None:
        tree, table = _with_parity(tree, skip, parity)
    if whole_files is None:
        whole_files = any(kind_of(key) == "ec-p256" for key in signers)
    statement = Statement(
        name=root.name,
        files=_records(tree, whole_files),
        folders=tree.folders,
        links=tree.links,
        created=format_time(time),
        serial=int(serial),
        check_name=bool(root_name),
        parity=table,
        ignored=tuple(sorted({*ALWAYS_IGNORED, *skip})) if root.is_dir() else (),
        whole_files=whole_files,
    )
    envelope = Envelope(encode_statement(statement), STATEMENT_PAYLOAD, ())
    with writing(target):
        write_atomically(target, dump_envelope(add_signatures(envelope, signers)))
    return target


def add_signatures(envelope: Envelope, signers: Sequence[Any]) -> Envelope:
    """Signs the payload of an envelope with more keys, one of EC P-256 in the first place."""
    message = signed_bytes(envelope.payload, envelope.payload_type)
    ordered = sorted(signers, key=lambda key: kind_of(key) != "ec-p256")
    new = [Signature(fingerprint(k.public_key()), sign_bytes(k, message)) for k in ordered]
    hint = envelope.hint or key_hint(public_pem(ordered[0].public_key()))
    return replace(envelope, signatures=(*envelope.signatures, *new), hint=hint)


def load_signers(keys: Any, root: Path) -> list[Any]:
    """Loads the private keys to sign with, none of which may lie in what is signed.

    Raises:
        InputError: A key cannot be used, stands there twice, or would be shipped.
    """
    several = keys if isinstance(keys, list | tuple) else [keys]
    if not several:
        raise InputError("There is no key to sign with; give a private key, or several.")
    for key in several:
        if isinstance(key, str | os.PathLike) and inside(Path(key), root) is not None:
            raise InputError(
                f"The private key {os.fspath(key)} lies in {root}, so whoever gets that could sign "
                "as you. Keep it elsewhere; if it was ever shipped, revoke it."
            )
    signers = [load_private_key(key) for key in several]
    if len({fingerprint(key.public_key()) for key in signers}) < len(signers):
        raise InputError("A key was given twice; expected different ones: give each once.")
    return signers


def _checked(tree: Tree, allow_symlinks: bool) -> Tree:
    for path in tree.special:
        raise IntegrityError(
            f"{printable(path)} in {tree.root} is a device, a pipe or a socket, which has no bytes "
            "to sign. Remove it."
        )
    for path in [*tree.files, *tree.folders, *tree.links]:
        if path != WHOLE and (problem := path_problem(path)):
            raise IntegrityError(
                f"{printable(path)!r} in {tree.root} cannot be signed: {problem}. Rename it."
            )
    for path in tree.links:
        if not allow_symlinks:
            raise IntegrityError(
                f"{path} in {tree.root} is a symbolic link. Replace it by the file that it leads "
                "to, or sign with allow_symlinks=True."
            )
        if problem := link_problem(path, tree.links, tree.files, tree.folders):
            raise IntegrityError(
                f"The link {path} in {tree.root} cannot be signed: {problem}. Replace it by the "
                "file that it leads to."
            )
    return tree


def _with_parity(tree: Tree, skip: frozenset[str], parity: float | int) -> tuple[Tree, dict]:
    name = parity_name(tree.root)
    sizes = {path: size for path, (size, _) in tree.files.items() if path != name}
    table = write_parity(tree.root, parity, sizes)
    return survey(tree.root, skip, beside=[table.name]), table.to_dict()


def _records(tree: Tree, whole_files: bool) -> dict[str, FileRecord]:
    places = [tree.location(path) for path in tree.files]
    if WHOLE in tree.files:
        places[list(tree.files).index(WHOLE)] = tree.root.resolve()
    if whole_files:
        found, whole = digest_files_twice(places)
    else:
        found, whole = digest_files(places), [""] * len(places)
    records = {}
    for (path, (size, mode)), file, digest in zip(tree.files.items(), found, whole, strict=True):
        if file.size != size:
            raise IntegrityError(
                f"{path} in {tree.root} changed its length meanwhile. Keep writers away from it, "
                "and sign again."
            )
        records[path] = FileRecord(size, mode, tuple(file.digests), digest)
    return records
