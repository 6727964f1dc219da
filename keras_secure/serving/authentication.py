"""From the headers of a request to an identity."""

import logging
from collections.abc import Mapping
from typing import Any

from keras_secure.errors import SecurityError
from keras_secure.serving.api_keys import PREFIX, ApiKeys
from keras_secure.serving.identity import Identity
from keras_secure.serving.refusal import Refusal
from keras_secure.serving.tokens import JwtVerifier

_log = logging.getLogger(__name__)
_MAX_CREDENTIAL = 8192
_HEADERS = ("authorization", "x-api-key")


class Authenticator:
    """Asks the API keys and the tokens who somebody is.

    Args:
        keys: The API keys, or None.
        tokens: The verifier of tokens, or None.
        anonymous: Who a request without credentials is; None refuses it.

    Example:

    >>> Authenticator(anonymous=Identity("anyone", "anonymous", ("*:*",))).identify({}).id
    'anyone'
    """

    def __init__(
        self,
        keys: ApiKeys | None = None,
        tokens: JwtVerifier | None = None,
        anonymous: Identity | None = None,
    ):
        self._keys, self._tokens, self._anonymous = keys, tokens, anonymous

    def identify(self, headers: Mapping[str, str]) -> Identity:
        """Finds out who sent a request.

        Args:
            headers: Its headers, by names in lower case. `Authorization: Bearer` takes a key or a
                token, `X-API-Key` a key.

        Returns:
            The `Identity`.

        Raises:
            Refusal: With status 401: there are no credentials, or they do not hold. Wrong ones are
                refused also where none are needed.
        """
        authorization, key = headers.get("authorization"), headers.get("x-api-key")
        # Of a header that comes twice, what stands before this server may have judged the other.
        given = sum(name.lower() in _HEADERS for name, _ in headers.items())
        if given > 1:
            raise _refusal("Give one of Authorization and X-API-Key, once.", "two_credentials")
        if authorization is None and key is None:
            if self._anonymous is not None:
                return self._anonymous
            raise _refusal("Credentials are missing.", "no_credentials")
        credential = key
        if authorization is not None:
            scheme, _, credential = authorization.partition(" ")
            credential = credential.strip()
            if scheme.lower() != "bearer":
                raise _refusal("Only the scheme Bearer is known.", "unknown_scheme")
        if not credential or len(credential) > _MAX_CREDENTIAL or not credential.isascii():
            raise _refusal("The credentials are malformed.", "malformed_credentials")
        if self._keys is not None and credential.startswith(PREFIX):
            _refreshed(self._keys)
            return self._keys.authenticate(credential)
        if self._tokens is not None and key is None:
            _refreshed(self._tokens)
            return self._tokens.authenticate(credential)
        raise _refusal("The credentials are not known.", "unknown_credentials")


def _refreshed(source: Any) -> None:
    try:
        if source.refresh():
            _log.info("%s changed and was read again", source.path)
    except SecurityError as error:
        # Who broke the file must not lock everybody out; what was valid before stays so.
        _log.error("%s", error)


def _refusal(message: str, reason: str) -> Refusal:
    return Refusal(401, message, reason)
