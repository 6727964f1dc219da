"""Requests and answers in the audit log, for the eyes of those who hold a key."""

import base64
import io
import json
from collections.abc import Iterable
from typing import Any

from keras_secure.errors import InputError
from keras_secure.integrity.encryption import sealed_file
from keras_secure.integrity.encryption.credentials import read_identities, read_recipients
from keras_secure.serving.masking import Masking


class InputSealer:
    """Masks requests and encrypts them.

    Args:
        recipients: Who can read them, as for `keras_secure.integrity.encrypt`. The server itself
            cannot.
        masked: Fields that nobody shall read, as for `Masking`.
    """

    def __init__(self, recipients: Any, masked: Iterable[str] = ()):
        self._credentials = read_recipients(recipients, None, None)
        self._masked = tuple(masked)
        Masking(self._masked)

    def seal(self, request: dict[str, Any], answer: Any, also_masked: tuple[str, ...] = ()) -> str:
        """Returns the text for the log.

        Args:
            request: The body of a request.
            answer: That of its answer.
            also_masked: Fields that its model declares to be sensitive.
        """
        masking = Masking((*self._masked, *also_masked))
        content = {"answer": answer, "request": masking.hide(request)}
        writer = io.BytesIO()
        reader = io.BytesIO(json.dumps(content).encode())
        sealed_file.seal(reader, writer, self._credentials, work_factor=17)
        return base64.b64encode(writer.getvalue()).decode()


def open_inputs(sealed: str, identities: Any) -> dict[str, Any]:
    """Reads what `InputSealer.seal` wrote.

    Args:
        sealed: The field `sealed` of a line.
        identities: As for `keras_secure.integrity.decrypt`.

    Returns:
        `{"request": ..., "answer": ...}`.

    Raises:
        InputError: The identities do not open it, or it is no such text.
        IntegrityError: It was altered.

    Example:

    >>> import tempfile
    >>> from keras_secure.integrity import generate_identity
    >>> from keras_secure.serving.sealed_inputs import InputSealer
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sealer = InputSealer(generate_identity(f"{folder}/identity.txt"), ["name"])
    ...     sealed = sealer.seal({"name": "Ann"}, {"predictions": [1]})
    ...     open_inputs(sealed, f"{folder}/identity.txt")
    {'answer': {'predictions': [1]}, 'request': {'name': '***'}}
    """
    try:
        reader = io.BytesIO(base64.b64decode(sealed, validate=True))
    except (ValueError, TypeError) as error:
        raise InputError("The field holds no sealed request.") from error
    writer = io.BytesIO()
    credentials = read_identities(identities, None, None)
    sealed_file.open_sealed(reader, writer, credentials, 20, "The sealed request")
    return json.loads(writer.getvalue())
