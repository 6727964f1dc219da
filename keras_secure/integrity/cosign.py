"""A further signature on what others have signed already."""

import os
from pathlib import Path
from typing import Any

from keras_secure.errors import InputError
from keras_secure.integrity.atomic import write_atomically, writing
from keras_secure.integrity.dsse import dump_envelope, read_envelope
from keras_secure.integrity.keys import fingerprint
from keras_secure.integrity.sign import add_signatures, load_signers
from keras_secure.integrity.signature_file import signature_path
from keras_secure.integrity.verify import verify


def cosign(
    path: str | os.PathLike,
    keys: Any,
    trust: Any,
    *,
    signature: str | os.PathLike | None = None,
) -> Path:
    """Adds signatures to those that are there, once all is verified to be what those sign.

    For keys that lie on different machines: one signs, the others add theirs. Together they reach
    the threshold of a verifier.

    Args:
        path: The folder or file.
        keys: A private key, or several, as for `sign`.
        trust: Whom to believe about what is there, as for `verify`; threshold 1 is enough.
        signature: Where the signature is, if not at its usual place.

    Returns:
        The path of the signature file.

    Raises:
        InputError: A key cannot be used, or has signed already.
        IntegrityError: It is not what those who signed it signed.

    Example:

    >>> import tempfile
    >>> from keras_secure.integrity import Trust, generate_key_pair, sign, verify
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pairs = [generate_key_pair(), generate_key_pair()]
    ...     _ = Path(folder, "weights").write_bytes(b"123")
    ...     _ = sign(folder, pairs[0][0])
    ...     _ = cosign(folder, pairs[1][0], trust=pairs[0][1])
    ...     verify(folder, Trust((pairs[0][1], pairs[1][1]), threshold=2)).ok
    True
    """
    root = Path(os.path.abspath(path))
    target = signature_path(root, signature)
    signers = load_signers(keys, root)
    verify(root, trust, signature=target, allow_unknown_signers=True).raise_if_failed()
    envelope, _ = read_envelope(target)
    there = {each.key_id for each in envelope.signatures}
    for key in signers:
        if (name := fingerprint(key.public_key())) in there:
            raise InputError(f"{name} has signed {target} already; give another key.")
    with writing(target):
        write_atomically(target, dump_envelope(add_signatures(envelope, signers)))
    return target
