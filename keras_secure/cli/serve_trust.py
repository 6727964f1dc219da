"""The option `--trust` of the commands around a server: one trust file, or public keys."""

from typing import Any

from keras_secure.integrity import load_trust
from keras_secure.integrity.trust_files import is_trust_file


def read_trust_files(files: list[str]) -> Any:
    """Makes a trust of what `--trust` was given.

    Args:
        files: Public keys, any of which is enough, or one trust file.

    Returns:
        What `keras_secure.integrity.verify` takes.
    """
    if len(files) == 1 and is_trust_file(files[0]):
        return load_trust(files[0])
    return files[0] if len(files) == 1 else files
