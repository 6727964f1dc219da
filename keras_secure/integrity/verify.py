"""Verification of a signed folder: is it, to the byte, what the holder of a trusted key signed?"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity.key_files import KeySource, load_public_key
from keras_secure.integrity.keys import fingerprint
from keras_secure.integrity.manifest import (
    FORMAT,
    MANIFEST_NAME,
    PUBLIC_KEY_NAME,
    SIGNATURE_NAME,
    VERSION,
    canonical_bytes,
    describe_file,
    is_plain_file,
    path_problem,
    read_limited,
    read_manifest,
    walk,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


@dataclass(frozen=True)
class VerificationReport:
    """What `verify_bundle` found.

    Args:
        folder: The folder that was checked.
        signature_valid: Whether the trusted key signed the manifest as it stands.
        changed: Files whose bytes or size differ, or that became a link or a special file.
        missing: Files that were signed and are gone.
        added: Files that nobody signed.
        key_fingerprint: Fingerprint of the trusted key.
        carried_key_fingerprint: Fingerprint of the folder's own `public_key.pem`, for information;
            None where there is none that can be read.
        problem: What is wrong with the manifest or the signature; empty when nothing is.
    """

    folder: str
    signature_valid: bool
    changed: tuple[str, ...]
    missing: tuple[str, ...]
    added: tuple[str, ...]
    key_fingerprint: str
    carried_key_fingerprint: str | None
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether every file is the one that the trusted key signed, and nothing was added."""
        return (
            self.signature_valid
            and not self.problem
            and not (self.changed or self.missing or self.added)
        )

    @property
    def carried_key_matches(self) -> bool | None:
        """Whether the key that the folder carries is the trusted one; None when it has none."""
        if self.carried_key_fingerprint is None:
            return None
        return self.carried_key_fingerprint == self.key_fingerprint

    def describe(self) -> list[str]:
        """One line per thing that is wrong; empty when the folder is intact."""
        lines = [f"{name!r} was changed" for name in self.changed]
        lines += [f"{name!r} is missing" for name in self.missing]
        lines += [f"{name!r} was added" for name in self.added]
        return lines + ([self.problem] if self.problem else [])

    def raise_if_failed(self) -> None:
        """Does nothing for an intact folder.

        Raises:
            IntegrityError: It is not intact; the message names every file concerned.
        """
        if not self.ok:
            raise IntegrityError(
                f"{self.folder} is not what key {self.key_fingerprint} signed: "
                f"{'; '.join(self.describe())}. Do not use it; get it again from its publisher."
            )

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as a JSON-serializable dictionary."""
        return {
            "ok": self.ok,
            "carried_key_matches": self.carried_key_matches,
            **{k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()},
        }


def verify_bundle(folder: str | os.PathLike, public_key: KeySource) -> VerificationReport:
    """Checks every file of a signed folder against a key that the caller trusts.

    Files are hashed as a stream and never interpreted, so this is safe on hostile input. A key
    found inside the folder proves nothing and is only reported. To trust it all the same, name it:
    `verify_bundle(folder, folder / "public_key.pem")`.

    The answer holds for the bytes that were read: keep the folder out of reach of writers between
    this call and its use.

    Args:
        folder: The folder that `sign_bundle` signed.
        public_key: The trusted Ed25519 public key, its PEM file, or the file's bytes.

    Returns:
        A `VerificationReport`. After any single change it names exactly the file that changed,
        the manifest and the signature included.

    Raises:
        InputError: The key cannot be used, or `folder` is not a signed folder at all.
        IntegrityError: The manifest or the signature is a link, or too large to be read.

    Example:

    >>> import tempfile
    >>> from keras_secure.integrity import generate_key_pair, sign_bundle
    >>> private_key, public_key = generate_key_pair()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "weights").write_bytes(b"123")
    ...     _ = sign_bundle(folder, private_key)
    ...     _ = Path(folder, "weights").write_bytes(b"124")
    ...     verify_bundle(folder, public_key).changed
    ('weights',)
    """
    key = load_public_key(public_key)
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give the folder that was signed.")
    manifest_data = _read_optional(folder / MANIFEST_NAME)
    signature = _read_optional(folder / SIGNATURE_NAME)
    if manifest_data is None and signature is None:
        raise InputError(
            f"{folder} has neither {MANIFEST_NAME} nor {SIGNATURE_NAME}, so it is not a signed "
            "folder. Sign it with `keras_secure.integrity.sign_bundle`."
        )
    found, unusual = _describe_files(folder)
    signature_valid = _is_signed(key, signature, manifest_data)
    own = {MANIFEST_NAME: manifest_data, SIGNATURE_NAME: signature}
    missing = {name for name, data in own.items() if data is None}
    blamed: set[str] = set()
    problem = ""
    if not missing and not signature_valid:
        blamed, problem = _blame(key, folder, manifest_data, signature, found)
    # Where the manifest alone is at fault, comparing files with it would accuse the innocent.
    if blamed == {MANIFEST_NAME} or manifest_data is None:
        recorded = None
    else:
        try:
            recorded = read_manifest(manifest_data)["files"]
        except IntegrityError as error:
            recorded, problem = None, str(error)
            blamed.add(MANIFEST_NAME)
    changed, gone, added = _compare(recorded, found, unusual)
    return VerificationReport(
        folder=str(folder),
        signature_valid=signature_valid,
        changed=tuple(sorted(blamed | changed)),
        missing=tuple(sorted(missing | gone)),
        added=tuple(sorted(added)),
        key_fingerprint=fingerprint(key),
        carried_key_fingerprint=_carried_fingerprint(folder),
        problem=problem,
    )


def _compare(
    recorded: dict[str, Any] | None, found: dict[str, Any], unusual: set[str]
) -> tuple[set[str], set[str], set[str]]:
    """Returns the paths that were changed, that are gone, and that were added."""
    if recorded is None:
        return set(), set(), set()
    present = found.keys() | unusual
    changed = {path for path in recorded if path in present and found.get(path) != recorded[path]}
    return changed, recorded.keys() - present, present - recorded.keys()


def _blame(
    key: "Ed25519PublicKey",
    folder: Path,
    manifest_data: bytes | None,
    signature: bytes | None,
    found: dict[str, Any],
) -> tuple[set[str], str]:
    """Says which of manifest and signature is at fault when the two do not fit."""
    rebuilt = canonical_bytes({"files": found, "format": FORMAT, "version": VERSION})
    if _is_signed(key, signature, rebuilt):
        return {MANIFEST_NAME}, f"{MANIFEST_NAME} is not the one that was signed"
    carried = _carried_key(folder)
    if carried is not None and carried != key and _is_signed(carried, signature, manifest_data):
        return set(), (
            f"the signature is not by the trusted key but by {fingerprint(carried)}, which the "
            "folder carries itself and which proves nothing"
        )
    if rebuilt == manifest_data:
        return {SIGNATURE_NAME}, (
            f"{SIGNATURE_NAME} is not a signature of {MANIFEST_NAME} by the trusted key"
        )
    return {MANIFEST_NAME, SIGNATURE_NAME}, (
        f"{MANIFEST_NAME} and {SIGNATURE_NAME} do not fit each other, so neither can be trusted"
    )


def _is_signed(key: "Ed25519PublicKey", signature: bytes | None, data: bytes | None) -> bool:
    from cryptography.exceptions import InvalidSignature

    if signature is None or data is None:
        return False
    try:
        key.verify(signature, data)
    except InvalidSignature:
        return False
    return True


def _describe_files(folder: Path) -> tuple[dict[str, Any], set[str]]:
    found, unusual = {}, set()
    for path, entry in walk(folder):
        if is_plain_file(entry) and not path_problem(path):
            found[path] = describe_file(Path(folder, path))
        else:
            unusual.add(path)
    return found, unusual


def _carried_key(folder: Path) -> "Ed25519PublicKey | None":
    try:
        return load_public_key(read_limited(folder / PUBLIC_KEY_NAME))
    except (InputError, IntegrityError):
        return None


def _carried_fingerprint(folder: Path) -> str | None:
    carried = _carried_key(folder)
    return None if carried is None else fingerprint(carried)


def _read_optional(path: Path) -> bytes | None:
    return read_limited(path) if os.path.lexists(path) else None
