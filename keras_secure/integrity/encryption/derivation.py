"""Keys from other secrets: HKDF from random ones, scrypt from passphrases."""

from keras_secure.errors import InputError

_LABEL = b"keras_secure.enc 1 "


def derive(secret: bytes, salt: bytes | None, purpose: bytes, size: int = 32) -> bytes:
    """Derives a key of our own format for one purpose (HKDF-SHA256, RFC 5869)."""
    return hkdf(secret, salt, _LABEL + purpose, size)


def hkdf(secret: bytes, salt: bytes | None, info: bytes, size: int = 32) -> bytes:
    """HKDF-SHA256 (RFC 5869)."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), size, salt, info).derive(secret)


def scrypt(passphrase: bytes, salt: bytes, log_n: int, r: int, p: int) -> bytes:
    """Derives 32 bytes from a passphrase in 128 * r * 2^log_n bytes of memory (RFC 7914).

    Raises:
        InputError: There is not so much memory.
    """
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    try:
        return Scrypt(salt, 32, 2**log_n, r, p).derive(passphrase)
    except MemoryError as error:
        raise InputError(
            f"scrypt with N = 2^{log_n} needs {128 * r * 2**log_n // 2**20} MiB of memory, and "
            "there is not so much. Use a larger machine, or a smaller work_factor when encrypting."
        ) from error


def check_work_factor(work_factor: int, name: str = "work_factor") -> None:
    """Raises `InputError` unless scrypt's log2 N is one that can be meant."""
    if type(work_factor) is not int or not 10 <= work_factor <= 24:
        raise InputError(
            f"{name} is {work_factor!r}; expected a whole number from 10 to 24, the base-2 "
            "logarithm of scrypt's N. 17 takes 128 MiB and about a third of a second."
        )
