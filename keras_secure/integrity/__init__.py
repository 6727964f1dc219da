"""Bytes that are what they claim to be: manifests, Ed25519 signatures, and their verification.

This room knows files and keys, and never a live model.
"""

from keras_secure.integrity.encryption import decrypt, encrypt, generate_identity
from keras_secure.integrity.key_files import (
    load_private_key,
    load_public_key,
    save_private_key,
    save_public_key,
)
from keras_secure.integrity.keys import fingerprint, generate_key_pair
from keras_secure.integrity.manifest import build_manifest, read_manifest, write_manifest
from keras_secure.integrity.signing import sign_bundle
from keras_secure.integrity.verify import VerificationReport, verify_bundle

__all__ = [
    "VerificationReport",
    "build_manifest",
    "decrypt",
    "encrypt",
    "fingerprint",
    "generate_identity",
    "generate_key_pair",
    "load_private_key",
    "load_public_key",
    "read_manifest",
    "save_private_key",
    "save_public_key",
    "sign_bundle",
    "verify_bundle",
    "write_manifest",
]
