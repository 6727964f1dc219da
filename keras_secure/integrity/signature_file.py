"""Where the signature of a folder or file lies, and what can be believed of it."""

import os
from datetime import datetime
from pathlib import Path

from keras_secure.errors import InputError, IntegrityError
from keras_secure.findings import Finding
from keras_secure.integrity.authenticate import Authentication, authenticate
from keras_secure.integrity.dsse import read_envelope
from keras_secure.integrity.paths import inside
from keras_secure.integrity.trust import Trust

SIGNATURE_NAME = "model.sig"
SIGNATURE_SUFFIX = ".sig"


def signature_path(root: Path, signature: str | os.PathLike | None = None) -> Path:
    """Where the signature of a root is: inside a folder, beside a file, or where the caller says.

    Raises:
        InputError: There is nothing at `root`.

    Example:

    >>> signature_path(Path(__file__)).name
    'signature_file.py.sig'
    """
    if not root.exists():
        raise InputError(f"There is no {root}; give the folder or file that is or was signed.")
    if signature is not None:
        return Path(signature)
    return root / SIGNATURE_NAME if root.is_dir() else root.with_name(root.name + SIGNATURE_SUFFIX)


def own_names(root: Path, signature: Path) -> frozenset[str]:
    """The names below a folder that no signature can describe: that of the signature itself."""
    name = inside(signature, root) if root.is_dir() else None
    return frozenset() if name is None else frozenset([name])


def read_signature(
    signature: Path, trust: Trust, at: datetime, allow_unknown_signers: bool = False
) -> Authentication:
    """Reads a signature file and checks who signed it.

    Args:
        signature: The file.
        trust: Whom to believe.
        at: When to look at the dates of keys.
        allow_unknown_signers: As for `authenticate`.

    Returns:
        What can be believed; a file that is missing or broken is a finding and no error.

    Raises:
        InputError: The file is there and cannot be read, or an endorsement is none.
    """
    if not os.path.lexists(signature):
        return _refused(
            "unsigned",
            f"there is no signature: {signature} is missing",
            "Get it from the publisher; if this was never signed, sign it with "
            "`keras-secure sign`.",
        )
    try:
        envelope, data = read_envelope(signature)
    except IntegrityError as error:
        return _refused("signature_file", str(error).rstrip("."))
    return authenticate(envelope, data, trust, at, allow_unknown_signers)


def _refused(
    name: str, statement: str, remedy: str = "Get it again from its publisher."
) -> Authentication:
    finding = Finding(f"integrity.{name}", "critical", statement, {}, remedy)
    return Authentication(None, (), (finding,))
