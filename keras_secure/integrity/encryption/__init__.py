"""Encryption at rest: files and folders that only their holders open, and only whole."""

from keras_secure.integrity.encryption.credentials import generate_identity
from keras_secure.integrity.encryption.files import decrypt, encrypt

__all__ = ["decrypt", "encrypt", "generate_identity"]
