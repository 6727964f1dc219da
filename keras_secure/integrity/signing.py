"""Signing a folder: its manifest and an Ed25519 signature over the manifest's bytes."""

import os
from pathlib import Path
from typing import Any

from keras_secure.integrity.atomic import write_atomically
from keras_secure.integrity.key_files import KeySource, load_private_key, public_pem
from keras_secure.integrity.manifest import (
    MANIFEST_NAME,
    PUBLIC_KEY_NAME,
    SIGNATURE_NAME,
    build_manifest,
    canonical_bytes,
    describe_file,
)


def sign_bundle(
    folder: str | os.PathLike, private_key: KeySource, include_public_key: bool = True
) -> dict[str, Any]:
    """Signs every file of a folder, so that `verify_bundle` can name whatever changes later.

    `manifest.sig` is the plain 64-byte signature of `manifest.json`, so that other tools can check
    it: `openssl pkeyutl -verify -pubin -inkey KEY.pem -rawin -in manifest.json -sigfile
    manifest.sig`.

    Args:
        folder: The folder to sign; a former manifest and signature are replaced.
        private_key: An Ed25519 private key, its unencrypted PEM file or the file's bytes.
        include_public_key: Whether to write `public_key.pem` too. It is for information: whoever
            can change the folder can change the key in it, so it is never trusted by itself.

    Returns:
        The manifest that was signed.

    Raises:
        InputError: The key or the folder cannot be read.
        IntegrityError: The folder holds links or special files.

    Example:

    >>> import tempfile
    >>> from keras_secure.integrity import generate_key_pair, verify_bundle
    >>> private_key, public_key = generate_key_pair()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "weights").write_bytes(b"123")
    ...     _ = sign_bundle(folder, private_key)
    ...     verify_bundle(folder, public_key).ok
    True
    """
    key = load_private_key(private_key)
    folder = Path(folder)
    manifest = build_manifest(folder)
    if include_public_key:
        write_atomically(folder / PUBLIC_KEY_NAME, public_pem(key.public_key()))
        manifest["files"][PUBLIC_KEY_NAME] = describe_file(folder / PUBLIC_KEY_NAME)
    data = canonical_bytes(manifest)
    # An interruption between the two leaves a signature that does not fit: refused, never trusted.
    write_atomically(folder / MANIFEST_NAME, data)
    write_atomically(folder / SIGNATURE_NAME, key.sign(data))
    return manifest
