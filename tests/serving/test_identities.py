"""Keys and tokens: what holds, and every way not to."""

import base64
import json
import os
import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from keras_secure.errors import InputError, IntegrityError
from keras_secure.serving import ApiKeys, Authenticator, Identity, JwtVerifier
from keras_secure.serving.refusal import Refusal

CLAIMS = {"iss": "https://issuer", "aud": "digits", "sub": "alice", "scope": "digits:predict junk"}


@pytest.fixture
def keys(tmp_path):
    return ApiKeys(tmp_path / "keys.json", create=True)


def reason(call, *arguments):
    with pytest.raises(Refusal) as caught:
        call(*arguments)
    assert caught.value.status == 401
    return caught.value.reason


def test_scopes_hold_what_they_say_and_no_more():
    def may(scope, model, verb):
        return Identity("a", "jwt", (scope,)).may(model, verb)

    assert may("digits:predict", "digits", "predict")
    assert not may("digits:predict", "digits", "status")
    assert not may("digits:predict", "digits2", "predict")
    assert may("*:predict", "anything", "predict")
    assert may("digits:*", "digits", "regress")
    assert not may("*:*", "digits", "admin")
    assert not may("*:*", "", "metrics")
    assert may("*:metrics", "", "metrics")
    assert not Identity("a", "jwt", ()).may("digits", "predict")


def test_a_key_is_found_again_and_kept_nowhere(keys, tmp_path):
    text = keys.add("alice", ["digits:predict", "digits:status"], rate=2.5, budget=10)
    other = keys.add("bob", ["*:*"])
    again = ApiKeys(tmp_path / "keys.json")
    identity = again.authenticate(text)
    assert (identity.name, identity.kind) == ("alice", "api_key")
    assert identity.scopes == ("digits:predict", "digits:status")
    assert (identity.rate, identity.budget) == (2.5, 10)
    assert again.authenticate(other).name == "bob"
    stored = (tmp_path / "keys.json").read_text() + (tmp_path / "keys.json.secret").read_text()
    # The secret part may hold underscores itself.
    assert text.split("_", 2)[2] not in stored
    for name in ("keys.json", "keys.json.secret"):
        assert (tmp_path / name).stat().st_mode & 0o077 == 0


def test_what_is_no_key(keys):
    text = keys.add("alice", ["*:*"])
    other = keys.add("bob", ["*:*"])
    swapped = "_".join([*text.split("_")[:2], other.split("_", 2)[2]])
    for wrong in [text[:-1], text + "A", text.swapcase(), "ksk_", "ksk__", "", swapped, "ksk_a_b"]:
        assert reason(keys.authenticate, wrong) == "unknown_key"


def test_expired_and_revoked_keys(keys, tmp_path):
    expired = keys.add("alice", ["*:*"], expires="2020-01-01")
    assert reason(keys.authenticate, expired) == "expired_key"
    revoked = keys.add("bob", ["*:*"])
    running = ApiKeys(tmp_path / "keys.json")
    running._watch._interval = running._watch._next = 0
    assert running.authenticate(revoked).name == "bob"
    keys.revoke(revoked, "left")
    assert running.refresh()
    assert reason(running.authenticate, revoked) == "revoked_key"
    states = {key.name: key.state for key in running.keys}
    assert states == {"alice": "expired", "bob": "revoked"}
    with pytest.raises(InputError, match="no key"):
        keys.revoke("0123456789abcdef")


def test_an_edited_file_is_refused_and_what_was_read_stays_in_force(keys, tmp_path):
    text = keys.add("alice", ["digits:predict"])
    path = tmp_path / "keys.json"
    running = ApiKeys(path)
    running._watch._interval = running._watch._next = 0
    path.write_text(path.read_text().replace("digits:predict", "*:admin"))
    with pytest.raises(IntegrityError, match="was edited"):
        ApiKeys(path)
    authenticator = Authenticator(running)
    assert authenticator.identify({"x-api-key": text}).scopes == ("digits:predict",)
    (tmp_path / "other.secret").write_text(os.urandom(32).hex())
    with pytest.raises(IntegrityError, match="was edited"):
        ApiKeys(path, tmp_path / "other.secret")
    path.write_text("{}")
    with pytest.raises(IntegrityError):
        ApiKeys(path)
    with pytest.raises(InputError, match="cannot be read"):
        ApiKeys(tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    "arguments",
    [
        {"scopes": []},
        {"scopes": ["predict"]},
        {"scopes": ["a/b:predict"]},
        {"scopes": ["*:fly"]},
        {"scopes": ["*:*"], "expires": "soon"},
        {"scopes": ["*:*"], "rate": 0},
        {"scopes": ["*:*"], "budget": -1},
    ],
)
def test_keys_that_are_not_made(keys, arguments):
    with pytest.raises(InputError):
        keys.add("alice", **arguments)
    assert keys.keys == ()


PRIVATE = {
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "RS256": rsa.generate_private_key(65537, 2048),
}
MAKERS = {
    "EdDSA": jwt.algorithms.OKPAlgorithm,
    "ES256": jwt.algorithms.ECAlgorithm,
    "RS256": jwt.algorithms.RSAAlgorithm,
}


@pytest.fixture(scope="module")
def jwks(tmp_path_factory):
    path = tmp_path_factory.mktemp("jwks") / "jwks.json"
    entries = [
        {**MAKERS[name].to_jwk(key.public_key(), as_dict=True), "kid": name, "alg": name}
        for name, key in PRIVATE.items()
    ]
    path.write_text(json.dumps({"keys": entries}))
    return path


@pytest.fixture
def tokens(jwks):
    return JwtVerifier(jwks, issuer="https://issuer", audience="digits")


def make(algorithm="EdDSA", key=None, kid=None, **claims):
    content = {**CLAIMS, "exp": time.time() + 60, **claims}
    content = {name: value for name, value in content.items() if value is not None}
    headers = {"kid": algorithm if kid is None else kid}
    return jwt.encode(content, key or PRIVATE[algorithm], algorithm, headers=headers)


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "RS256"])
def test_a_token_that_holds(tokens, algorithm):
    identity = tokens.authenticate(make(algorithm, aud=["others", "digits"]))
    assert (identity.id, identity.kind) == ("jwt:alice", "jwt")
    assert identity.scopes == ("digits:predict",)
    assert tokens.authenticate(make(algorithm, scope=None)).scopes == ()


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"exp": 1}, "expired_token"),
        ({"exp": None}, "invalid_token"),
        ({"iss": "https://other"}, "invalid_token"),
        ({"iss": None}, "invalid_token"),
        ({"aud": "other"}, "invalid_token"),
        ({"aud": None}, "invalid_token"),
        ({"sub": None}, "invalid_token"),
        ({"sub": ""}, "malformed_token"),
        ({"sub": "a" * 300}, "malformed_token"),
        ({"nbf": 4e9}, "invalid_token"),
        ({"kid": "other"}, "unknown_key"),
        ({"kid": "RS256"}, "invalid_token"),
        ({"key": ed25519.Ed25519PrivateKey.generate()}, "invalid_token"),
    ],
)
def test_tokens_that_do_not_hold(tokens, claims, why):
    assert reason(tokens.authenticate, make(**claims)) == why


def part(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def test_tokens_that_choose_their_own_algorithm(tokens, jwks):
    claims = {**CLAIMS, "exp": time.time() + 60}
    unsigned = f"{part({'alg': 'none', 'kid': 'EdDSA'})}.{part(claims)}."
    reason(tokens.authenticate, unsigned)
    pem = (
        PRIVATE["RS256"]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    import hashlib
    import hmac

    for secret in (pem, jwks.read_bytes(), b""):
        start = f"{part({'alg': 'HS256', 'kid': 'RS256'})}.{part(claims)}"
        mac = hmac.new(secret, start.encode(), hashlib.sha256).digest()
        text = f"{start}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"
        assert reason(tokens.authenticate, text) == "invalid_token"
    for name in ("HS256", "none"):
        with pytest.raises(InputError, match="Symmetric"):
            JwtVerifier(jwks, issuer="a", audience="b", algorithms=[name])


def test_every_altered_byte_of_a_token_is_noticed(tokens):
    text = make()
    tokens.authenticate(text)
    # The last letter of a signature holds bits that belong to nothing.
    for place in range(len(text) - 1):
        other = "A" if text[place] != "A" else "B"
        reason(tokens.authenticate, text[:place] + other + text[place + 1 :])
    for text in ["", ".", "..", "a.b.c", "é", "A" * 10_000, "e30.e30.e30", part([]) + ".e30.e30"]:
        reason(tokens.authenticate, text)


def test_files_of_keys_for_tokens_that_cannot_be_used(tmp_path, jwks):
    for content in ["", "[]", '{"keys": []}', '{"keys": [{"kty": "oct", "k": "AA"}]}']:
        path = tmp_path / "jwks.json"
        path.write_text(content)
        with pytest.raises(InputError, match="JWKS"):
            JwtVerifier(path, issuer="a", audience="b")
    with pytest.raises(InputError, match="issuer and audience"):
        JwtVerifier(jwks, issuer="", audience="b")


def test_new_keys_for_tokens_are_read_while_serving(tmp_path, jwks):
    path = tmp_path / "jwks.json"
    path.write_text(jwks.read_text())
    tokens = JwtVerifier(path, issuer="https://issuer", audience="digits")
    tokens._watch._interval = tokens._watch._next = 0
    key = ed25519.Ed25519PrivateKey.generate()
    entry = jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    path.write_text(json.dumps({"keys": [{**entry, "kid": "new", "alg": "EdDSA"}]}))
    authenticator = Authenticator(tokens=tokens)
    new, old = make(key=key, kid="new"), make()
    assert authenticator.identify({"authorization": f"Bearer {new}"}).id == "jwt:alice"
    assert reason(authenticator.identify, {"authorization": f"Bearer {old}"}) == "unknown_key"


def test_headers(keys, tokens):
    text, token = keys.add("alice", ["*:*"]), make()
    authenticator = Authenticator(keys, tokens)
    for headers in (
        {"x-api-key": text},
        {"authorization": f"Bearer {text}"},
        {"authorization": f"bearer  {text} "},
    ):
        assert authenticator.identify(headers).name == "alice"
    assert authenticator.identify({"authorization": f"Bearer {token}"}).id == "jwt:alice"
    for headers, why in [
        ({}, "no_credentials"),
        ({"x-api-key": text, "authorization": f"Bearer {text}"}, "two_credentials"),
        ({"x-api-key": token}, "unknown_credentials"),
        ({"authorization": f"Basic {text}"}, "unknown_scheme"),
        ({"authorization": text}, "unknown_scheme"),
        ({"authorization": "Bearer "}, "malformed_credentials"),
        ({"x-api-key": ""}, "malformed_credentials"),
        ({"x-api-key": "ksk_é_é"}, "malformed_credentials"),
        ({"x-api-key": "k" * 9000}, "malformed_credentials"),
    ]:
        assert reason(authenticator.identify, headers) == why
    anyone = Authenticator(keys, anonymous=Identity("anyone", "anonymous", ("*:status",)))
    assert anyone.identify({}).id == "anyone"
    assert reason(anyone.identify, {"x-api-key": text[:-1]}) == "unknown_key"
