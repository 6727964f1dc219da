"""Encrypting and decrypting files and folders."""

import os
from pathlib import Path
from typing import Any, BinaryIO, Literal

from keras_secure.errors import InputError
from keras_secure.integrity.encryption import age_file, sealed_file
from keras_secure.integrity.encryption.credentials import (
    Credentials,
    read_identities,
    read_recipients,
)
from keras_secure.integrity.encryption.derivation import check_work_factor
from keras_secure.integrity.encryption.packing import pack
from keras_secure.integrity.encryption.temporary import (
    UNPACKED,
    check_output,
    put_in_place,
    temporary_file,
)
from keras_secure.integrity.encryption.unpacking import is_archive, sync_tree, unpack

FileFormat = Literal["age", "aes-gcm"]


def encrypt(
    path: str | os.PathLike,
    output: str | os.PathLike,
    *,
    recipients: Any = (),
    passphrase: str | bytes | None = None,
    key: bytes | str | os.PathLike | None = None,
    file_format: FileFormat | None = None,
    work_factor: int = 17,
    overwrite: bool = False,
) -> Path:
    """Encrypts a file, or a folder as a whole, signature and all.

    Memory does not grow with the size. Contents and length of every chunk are authenticated; that
    a file exists, and about how large it is, is not hidden. Who encrypted it is not shown either:
    whoever knows a recipient can encrypt for it, so sign what you encrypt.

    Args:
        path: The file or folder. Of a folder its files, empty folders, modes, and symbolic links
            that stay inside are kept.
        output: The file to create. It appears whole or not at all.
        recipients: Who can decrypt it: one or several of `"age1..."`, `"ssh-ed25519 ..."`, the path
            of a file with one on each line, an `X25519PublicKey`, or an object of pyrage.
            `generate_identity` makes one.
        passphrase: Or what decrypts it.
        key: Or the 32 bytes that decrypt it, or the path of a file that holds them.
        file_format: `"age"`, which other tools read; `"aes-gcm"`, our own, which
            `keras_secure.integrity.encryption.sealed_file` describes. None takes age's where pyrage
            is installed and the secret is not a `key`, which age does not know.
        work_factor: Base-2 logarithm of scrypt's N, for a passphrase: 17 takes 128 MiB and a third
            of a second, for whoever guesses as well.
        overwrite: Whether a file at `output` may be replaced.

    Returns:
        The path of the encrypted file.

    Raises:
        InputError: Something given cannot be used, or `output` exists.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "model.keras").write_bytes(b"weights")
    ...     key = os.urandom(32)
    ...     sealed = encrypt(f"{folder}/model.keras", f"{folder}/model.enc", key=key)
    ...     decrypt(sealed, f"{folder}/again.keras", key=key).read_bytes()
    b'weights'

    Reference:
        age-encryption.org/v1; Hoang, Reyhanitabar, Rogaway, Vizar 2015 (IACR ePrint 2015/189).
    """
    credentials = read_recipients(recipients, passphrase, key)
    module = _choose(file_format, credentials)
    check_work_factor(work_factor)
    path, output = Path(path), _absolute(output)
    check_output(output, overwrite)
    with (
        _open_source(path, output) as reader,
        temporary_file(output, "encrypting") as (temporary, writer),
    ):
        module.seal(reader, writer, credentials, work_factor)
        _sync(writer)
        put_in_place(temporary, output, overwrite)
    return output


def decrypt(
    path: str | os.PathLike,
    output: str | os.PathLike,
    *,
    identities: Any = (),
    passphrase: str | bytes | None = None,
    key: bytes | str | os.PathLike | None = None,
    unpack_folder: bool = True,
    max_work_factor: int = 20,
    overwrite: bool = False,
) -> Path:
    """Decrypts what `encrypt`, or a tool of age, wrote.

    Plaintext is written to a temporary file of mode 0600 beside `output`, and renamed when every
    byte of it is authentic; otherwise it is removed. What a killed process left is removed by the
    next call.

    Args:
        path: The encrypted file.
        output: The file or folder to create; a file has mode 0600, a folder 0700.
        identities: What decrypts a file for recipients: one or several of `"AGE-SECRET-KEY-1..."`,
            the path of an identity file or of an OpenSSH private key, an `X25519PrivateKey`, or an
            object of pyrage.
        passphrase: Or the passphrase.
        key: Or the 32 bytes, or the path of a file that holds them.
        unpack_folder: Whether to unpack what was encrypted as a folder; False leaves it as a tar
            archive.
        max_work_factor: The most that is spent on a passphrase because the file says so, as base-2
            logarithm of scrypt's N; 20 takes 1 GiB.
        overwrite: Whether a file at `output` may be replaced. Folders never are.

    Returns:
        The path of the file or folder.

    Raises:
        IntegrityError: The file is not, to the byte, what was encrypted; or it holds a folder that
            would write outside of itself.
        InputError: What was given does not open it, it is no encrypted file, or `output` exists.

    Example:

    >>> import tempfile
    >>> from keras_secure.integrity import generate_identity
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     recipient = generate_identity(f"{folder}/identity.txt")
    ...     bundle = Path(folder, "bundle")
    ...     bundle.mkdir()
    ...     _ = (bundle / "weights").write_bytes(b"123")
    ...     sealed = encrypt(bundle, f"{folder}/bundle.enc", recipients=recipient)
    ...     again = decrypt(sealed, f"{folder}/again", identities=f"{folder}/identity.txt")
    ...     [file.name for file in again.iterdir()]
    ['weights']
    """
    credentials = read_identities(identities, passphrase, key)
    check_work_factor(max_work_factor, "max_work_factor")
    path, output = Path(path), _absolute(output)
    check_output(output, overwrite)
    with _open_file(path) as reader, temporary_file(output, "decrypting") as (temporary, writer):
        _open_by_format(reader, writer, credentials, max_work_factor, str(path))
        _sync(writer)
        if not (unpack_folder and is_archive(writer)):
            put_in_place(temporary, output, overwrite)
            return output
        if output.is_symlink() or output.is_file():
            raise InputError(
                f"{path} holds a folder, and {output} is a file that was kept. Give the path of a "
                "new folder."
            )
        folder = temporary.with_name(temporary.name + UNPACKED)
        unpack(writer, folder, str(path))
        sync_tree(folder)
        put_in_place(folder, output, overwrite=False)
    return output


def _choose(file_format: str | None, credentials: Credentials) -> Any:
    if file_format not in (None, "age", "aes-gcm"):
        raise InputError(f"file_format is {file_format!r}; give 'age', 'aes-gcm' or None.")
    if file_format == "age" and credentials.key is not None:
        raise InputError(
            "age knows no keys of 32 bytes. Give recipients or a passphrase, or "
            "file_format='aes-gcm'."
        )
    if file_format is None:
        has_age = credentials.key is None and age_file.is_available()
        return age_file if has_age else sealed_file
    return age_file if file_format == "age" else sealed_file


def _open_source(path: Path, output: Path) -> BinaryIO:
    if not path.is_dir():
        return _open_file(path)
    inside = output.parent.resolve()
    if inside == path.resolve() or path.resolve() in inside.parents:
        raise InputError(
            f"{output} lies in the folder {path} that is to be encrypted. Give a path outside it."
        )
    return pack(path)


def _open_file(path: Path) -> BinaryIO:
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is not a plain file. Give the path of a file.")
    try:
        return open(path, "rb")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path} cannot be read: {reason}.") from error


def _open_by_format(
    reader: BinaryIO, writer: Any, credentials: Credentials, max_work_factor: int, name: str
) -> None:
    start = reader.read(64)
    reader.seek(0)
    if start.startswith(sealed_file.MAGIC):
        module: Any = sealed_file
    elif start.startswith((age_file.MAGIC, age_file.ARMOR)):
        module = age_file
    else:
        raise InputError(
            f"{name} is no encrypted file: it begins neither as one of keras_secure nor as one of "
            "age. Give what `encrypt` wrote; if this is it, it is damaged."
        )
    module.open_sealed(reader, writer, credentials, max_work_factor, name)


def _absolute(output: str | os.PathLike) -> Path:
    path = Path(os.path.abspath(output))
    if not path.name:
        raise InputError(f"{output} cannot be written; give the path of a new file.")
    return path


def _sync(writer: BinaryIO) -> None:
    writer.flush()
    os.fsync(writer.fileno())
