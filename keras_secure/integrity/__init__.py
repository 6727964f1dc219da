"""Bytes that are what they claim to be: keys, signatures, and their verification.

This room knows files and keys, and never a live model.
"""

from keras_secure.integrity.cosign import cosign
from keras_secure.integrity.encryption import decrypt, encrypt, generate_identity
from keras_secure.integrity.endorsement import endorse
from keras_secure.integrity.isolation import LoadLimits
from keras_secure.integrity.key_files import (
    load_private_key,
    load_public_key,
    save_private_key,
    save_public_key,
)
from keras_secure.integrity.keys import fingerprint, generate_key_pair
from keras_secure.integrity.load import load_model
from keras_secure.integrity.manifest import build_manifest, read_manifest, write_manifest
from keras_secure.integrity.repair import repair
from keras_secure.integrity.repair_report import RepairReport
from keras_secure.integrity.report import VerificationReport
from keras_secure.integrity.scan import ScanLimits, ScanReport, scan
from keras_secure.integrity.sign import sign
from keras_secure.integrity.trust import Revocation, Trust, TrustedKey
from keras_secure.integrity.trust_files import load_trust, save_trust
from keras_secure.integrity.verify import verify
from keras_secure.integrity.versions import RollbackReport, current, publish, rollback

__all__ = [
    "LoadLimits",
    "RepairReport",
    "Revocation",
    "RollbackReport",
    "ScanLimits",
    "ScanReport",
    "Trust",
    "TrustedKey",
    "VerificationReport",
    "build_manifest",
    "cosign",
    "current",
    "decrypt",
    "encrypt",
    "endorse",
    "fingerprint",
    "generate_identity",
    "generate_key_pair",
    "load_model",
    "load_private_key",
    "load_public_key",
    "load_trust",
    "publish",
    "read_manifest",
    "repair",
    "rollback",
    "save_private_key",
    "save_public_key",
    "save_trust",
    "scan",
    "sign",
    "verify",
    "write_manifest",
]
