"""JSON Web Tokens, checked against the keys of a JWKS file."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from keras_secure.errors import InputError
from keras_secure.serving.changes import FileWatch
from keras_secure.serving.identity import Identity, is_scope
from keras_secure.serving.refusal import Refusal

# None is symmetric: whoever can read the file of keys must not be able to make tokens.
ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip

_MAX_BYTES, _MAX_SUBJECT = 8192, 256


class JwtVerifier:
    """Tells whose token a JWT is.

    A token must be signed by a key of the file that its `kid` names, by the algorithm that the key
    is for, and have `iss`, `aud`, `sub`, `exp`; its `scope` holds scopes as `Identity` has them,
    separated by spaces. Addresses of keys in a token are never followed.

    Args:
        jwks: The JWKS file; it is read again when it changes.
        issuer: What `iss` must be.
        audience: What `aud` must name.
        algorithms: Which algorithms count, of `ALGORITHMS`.
        leeway: Seconds by which clocks may differ.

    Raises:
        InputError: The file cannot be used, or an argument.

    Example:

    >>> import tempfile, time
    >>> import jwt
    >>> from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    >>> key = Ed25519PrivateKey.generate()
    >>> entry = jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    >>> claims = {"iss": "us", "aud": "digits", "sub": "alice", "scope": "digits:predict"}
    >>> token = jwt.encode(
    ...     {**claims, "exp": time.time() + 60}, key, "EdDSA", headers={"kid": "1"})
    >>> with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
    ...     json.dump({"keys": [{**entry, "kid": "1", "alg": "EdDSA"}]}, file)
    ...     file.flush()
    ...     JwtVerifier(file.name, issuer="us", audience="digits").authenticate(token).id
    'jwt:alice'

    Reference:
        RFC 7519 (JWT), RFC 7517 (JWK), RFC 8725 (best current practices).
    """

    def __init__(
        self,
        jwks: str | os.PathLike,
        *,
        issuer: str,
        audience: str,
        algorithms: Iterable[str] = ("EdDSA", "ES256", "PS256", "RS256"),
        leeway: float = 5.0,
    ):
        self.path = Path(jwks)
        self.algorithms = tuple(algorithms)
        unknown = [name for name in self.algorithms if name not in ALGORITHMS]
        if unknown or not self.algorithms:
            raise InputError(
                f"The algorithms {unknown} of tokens cannot be used; expected some of "
                f"{', '.join(ALGORITHMS)}. Symmetric ones are left out on purpose."
            )
        if not issuer or not audience:
            raise InputError("Give issuer and audience, or tokens for others would be accepted.")
        self.issuer, self.audience, self.leeway = issuer, audience, leeway
        self._watch = FileWatch(self.path)
        self._keys = self._read()

    def authenticate(self, token: str) -> Identity:
        """Finds out whose token this is.

        Args:
            token: The token in compact form.

        Returns:
            The `Identity`.

        Raises:
            Refusal: With status 401: it does not hold.
        """
        jwt = _jwt()
        if len(token) > _MAX_BYTES:
            raise _refusal("it is too long", "malformed_token")
        try:
            header = jwt.get_unverified_header(token)
            key = self._keys.get(header.get("kid"))
            if key is None:
                raise _refusal("its key is not known", "unknown_key")
            # A key serves one algorithm, or a token could choose a weaker one.
            allowed = [key.algorithm_name] if key.algorithm_name in self.algorithms else []
            claims = jwt.decode(
                token,
                key.key,
                algorithms=allowed,
                audience=self.audience,
                issuer=self.issuer,
                leeway=self.leeway,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise _refusal("it is expired", "expired_token") from error
        except jwt.InvalidTokenError as error:
            raise _refusal("it does not hold", "invalid_token") from error
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise _refusal("it is malformed", "malformed_token") from error
        subject, scope = claims["sub"], claims.get("scope", "")
        if not isinstance(subject, str) or not 0 < len(subject) <= _MAX_SUBJECT:
            raise _refusal("its subject is no name", "malformed_token")
        named = scope.split() if isinstance(scope, str) else []
        scopes = tuple(item for item in named if is_scope(item))
        return Identity(f"jwt:{subject}", "jwt", scopes, subject)

    def refresh(self) -> bool:
        """Reads the file again if it changed; returns whether it did.

        Raises:
            InputError: It cannot be used; the keys that were read before stay in force.
        """
        if not self._watch.changed():
            return False
        self._keys = self._read()
        return True

    def _read(self) -> dict[str, Any]:
        jwt = _jwt()
        try:
            entries = json.loads(self.path.read_bytes())["keys"]
            keys = [jwt.PyJWK(entry) for entry in entries if entry.get("use", "sig") == "sig"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, jwt.PyJWTError) as error:
            raise InputError(
                f"The JWKS file {self.path} cannot be used: {error}. Give the JSON that the "
                "issuer of the tokens publishes."
            ) from error
        kept = {
            key.key_id: key for key in keys if key.key_id and key.algorithm_name in self.algorithms
        }
        if not kept:
            raise InputError(
                f"The JWKS file {self.path} has no key with a `kid` for "
                f"{' or '.join(self.algorithms)}. "
                "Give the file that the issuer publishes, or its algorithms."
            )
        return kept


def _jwt() -> Any:
    try:
        import jwt
    except ImportError as error:
        raise InputError(
            "Tokens need the package PyJWT: pip install 'keras-secure[serve]'."
        ) from error
    return jwt


def _refusal(message: str, reason: str) -> Refusal:
    return Refusal(401, f"The token is refused: {message}.", reason)
