"""Statements and envelopes from strangers: read to the byte, and never past their limits."""

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_secure.errors import IntegrityError
from keras_secure.integrity import generate_key_pair, verify
from keras_secure.integrity.dsse import (
    STATEMENT_PAYLOAD,
    Envelope,
    dump_envelope,
    parse_envelope,
)
from keras_secure.integrity.links import link_problem
from keras_secure.integrity.paths import path_problem
from keras_secure.integrity.sign import add_signatures
from keras_secure.integrity.statement import FileRecord, Statement, encode_statement
from keras_secure.integrity.statement_fields import EditedStatementError
from keras_secure.integrity.statement_reading import decode_statement

PRIVATE, PUBLIC = generate_key_pair()
DIGEST = "ab" * 32
WHEN = "2026-11-21T12:00:00Z"

names = st.text(
    st.characters(codec="utf-8", exclude_characters='/\\<>:"|?*. \x7f', exclude_categories=["C"]),
    min_size=1,
    max_size=8,
).filter(lambda name: not path_problem(name))


@settings(max_examples=60, deadline=None)
@given(
    contents=st.dictionaries(names, st.integers(0, 3 * 2**20), max_size=6),
    folder=names,
    serial=st.integers(0, 2**63 - 1),
    whole=st.booleans(),
    mode=st.integers(0, 0o7777) | st.none(),
)
def test_a_statement_survives_its_bytes(contents, folder, serial, whole, mode):
    files = {
        (f"{folder}/{name}" if number % 2 else name): FileRecord(
            size, mode, (DIGEST,) * -(-size // 2**20), DIGEST if whole else ""
        )
        for number, (name, size) in enumerate(contents.items())
        if name != folder
    }
    statement = Statement(
        "name", files, {folder: mode}, {}, WHEN, serial, True, {"a": 1}, (), whole_files=whole
    )
    payload = encode_statement(statement)
    assert decode_statement(payload) == statement
    again = json.dumps(json.loads(payload), sort_keys=True)
    with pytest.raises(EditedStatementError, match="to the byte"):
        decode_statement(again.encode())


def statement_of(path="a", size=1, mode=0o644, **options):
    return encode_statement(
        Statement("m", {path: FileRecord(size, mode, (DIGEST,))}, created=WHEN, **options)
    )


@pytest.mark.parametrize(
    "path",
    [
        "../a",
        "/etc/passwd",
        "a/../../b",
        "",
        "a//b",
        "a/",
        "C:/a",
        "a\\b",
        "a\0b",
        "nul",
        "a.",
        "x/y",
    ],
)
def test_paths_that_escape_are_refused_even_when_signed(tmp_path, path):
    with pytest.raises((EditedStatementError, ValueError)):
        decode_statement(statement_of(path))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'{"_type":"a","_type":"b"}',
        b'{"_type":NaN}',
        statement_of().replace(b'"size":1', b'"size":-1'),
        statement_of().replace(b'"size":1', b'"size":1e3'),
        statement_of().replace(b'"size":1', b'"size":9223372036854775807'),
        statement_of().replace(b'"mode":420', b'"mode":99999'),
        statement_of().replace(b'"serial":0', b'"serial":true'),
        statement_of().replace(b'"serial":0', b'"serial":' + b"9" * 6000),
        statement_of().replace(b'"a:0:1"', b'"a:1:0"'),
        statement_of().replace(b'"a:0:1"', b'"a"'),
        statement_of().replace(DIGEST.encode(), b"zz" * 32),
        statement_of().replace(b'"links":{}', b'"links":{"l":"/etc"}'),
        statement_of().replace(b'"folders":{}', b'"folders":{"a":0}'),
        statement_of().replace(WHEN.encode(), b"today"),
        statement_of().replace(WHEN.encode(), b"2026-11-21T13:00:00+01:00"),
        statement_of() + b" ",
    ],
)
def test_what_no_signing_program_writes_is_refused(payload):
    decode_statement(statement_of())
    with pytest.raises(EditedStatementError):
        decode_statement(payload)


def test_a_statement_of_another_kind_or_a_later_version_says_so():
    later = statement_of().replace(b'"version":1', b'"version":2')
    with pytest.raises(IntegrityError, match="upgrade") as caught:
        decode_statement(later)
    assert not isinstance(caught.value, EditedStatementError)
    other = statement_of().replace(
        b"https://model_signing/signature", b"https://slsa.dev/provenance"
    )
    with pytest.raises(IntegrityError, match="predicate"):
        decode_statement(other)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_noise_is_refused_and_never_crashes(data):
    with pytest.raises(IntegrityError):
        parse_envelope(data, "It")
    with pytest.raises(IntegrityError):
        decode_statement(data)


plain_values = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
)
json_values = st.recursive(
    plain_values,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_value_in_any_place_is_refused_or_read_and_never_crashes(data):
    content = json.loads(statement_of())
    place, key = content, data.draw(st.sampled_from(sorted(content)))
    while isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans()):
        place = place[key]
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(keys))
    value = data.draw(json_values)
    same = place[key] == value and type(place[key]) is type(value)
    place[key] = value
    payload = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    if same:
        return
    try:
        decode_statement(payload)
    except IntegrityError:
        return
    # What is left is a statement without our part, as others write it.
    assert "keras_secure" not in content["predicate"]


def signed(payload, kind=STATEMENT_PAYLOAD):
    return dump_envelope(add_signatures(Envelope(payload, kind, ()), [PRIVATE]))


def test_a_signed_statement_that_cannot_be_read_is_refused(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"x")
    for payload in (b"", b"{}", b'"' * 10, statement_of("../a"), b"[" * 50_000):
        (tmp_path / "a.sig").write_bytes(signed(payload))
        assert verify(path, PUBLIC).causes == ("integrity.statement",)
    (tmp_path / "a.sig").write_bytes(signed(statement_of(), "text/plain"))
    assert verify(path, PUBLIC).causes == ("integrity.signature_file",)
    odd = signed(statement_of(), "text/plain").replace(b'"text/plain"', b'"\\ud800"')
    (tmp_path / "a.sig").write_bytes(odd)
    assert verify(path, PUBLIC).causes == ("integrity.signature_file",)


def test_too_many_signatures_are_not_tried(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"x")
    content = json.loads(signed(statement_of()))
    entries = content["dsseEnvelope"]["signatures"]
    content["dsseEnvelope"]["signatures"] = entries * 1000
    (tmp_path / "a.sig").write_text(json.dumps(content))
    assert verify(path, PUBLIC).causes == ("integrity.signature_file",)


@pytest.mark.parametrize("field", ["payload", "sig"])
def test_only_plain_base64_is_read(field):
    content = json.loads(signed(statement_of()))
    envelope = content["dsseEnvelope"]
    holder = envelope if field == "payload" else envelope["signatures"][0]
    holder[field] = "\n" + holder[field]
    with pytest.raises(IntegrityError):
        parse_envelope(json.dumps(content).encode(), "It")
    assert base64.b64decode(envelope["payload"])


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("f", ""), ("d", ""), ("./f", ""), ("d/../f", ""), ("other", ""),
        ("", "empty"), ("/f", "absolute"), ("..", "out of the folder"), ("d/../../f", "out of"),
        ("absent", "nothing that is signed"), ("l", "back to itself"),
        ("toward/../f", "another link"), ("toward/f", "another link"), ("a\\b", "backslash"),
    ],
)  # fmt: skip
def test_where_links_may_lead(target, problem):
    links = {"l": target, "other": "f", "toward": "d"}
    found = link_problem("l", links, ["f", "d/f"], ["d"])
    assert (problem in found) if problem else not found
