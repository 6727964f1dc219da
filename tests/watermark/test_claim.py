import base64
import json
from datetime import timedelta

import keras
import numpy as np
import pytest

from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity import generate_key_pair
from keras_secure.integrity.times import now
from keras_secure.watermark import Commitment, SpreadSpectrum, Uchida, commit, embed, verify_claim
from keras_secure.watermark.opening import open_commitment, weights_digest

KEY = "a secret of at least sixteen bytes"
PRIVATE, PUBLIC = generate_key_pair()


def make_model(widths=(64, 64, 64), names=("first", "second", "third")):
    keras.utils.set_random_seed(4)
    model = keras.Sequential([keras.Input((64,))])
    for name, width in zip(names, widths, strict=True):
        model.add(keras.layers.Dense(width, activation="relu", name=name))
    return model


@pytest.fixture(scope="module")
def marked():
    model, mark = make_model(), SpreadSpectrum(KEY, payload="ACME LLC")
    embed(model, mark, layers=["second", "third"])
    return model, mark, commit(mark, model, PRIVATE, layers=["second", "third"])


def claim(model, commitment, key=KEY, public_key=PUBLIC, **options):
    return verify_claim(model, commitment, key, public_key, **options)


def test_a_third_party_needs_commitment_key_and_model_alone(marked, tmp_path):
    model, _, commitment = marked
    commitment.save(tmp_path / "commitment.json")
    model.save(tmp_path / "model.keras")
    report = claim(
        keras.models.load_model(tmp_path / "model.keras"),
        Commitment.load(tmp_path / "commitment.json"),
        released=now() + timedelta(days=1),
    )
    assert report.verdict == "proved"
    assert report.payload == "41434d45204c4c43"
    assert report.payload_matches
    assert [reading.name for reading in report.readings] == [
        "all",
        "second/kernel",
        "third/kernel",
    ]
    assert report.tries == 3
    assert report.p_value == 3 * 2.0**-256
    assert "PROVED" in report.statement
    assert "as the signer states" in report.statement
    json.dumps(report.to_dict())


def test_nothing_secret_is_in_the_file(marked):
    _, mark, commitment = marked
    text = commitment.to_bytes() + base64.b64decode(
        json.loads(commitment.to_bytes())["bundle"]["dsseEnvelope"]["payload"]
    )
    # Each too long, or with a blank in it, to stand in Base64 by chance.
    for secret in (KEY.encode(), b"ACME LLC", b"second", b"SpreadSpectrum", b"margin"):
        assert secret not in text
        assert secret.hex().encode() not in text
    again = commit(mark, marked[0], PRIVATE, layers=["second", "third"], created=commitment.created)
    assert not set(again.content["commitments"].values()) & set(
        commitment.content["commitments"].values()
    ), "two commitments to the same cannot be linked"


def test_an_unmarked_model_and_a_model_of_another_shape_read_differently(marked):
    model, _, commitment = marked
    innocent = make_model()
    innocent.set_weights(
        [np.random.default_rng(1).normal(size=w.shape) for w in model.get_weights()]
    )
    refuted = claim(innocent, commitment)
    assert refuted.verdict == "refuted"
    assert refuted.statement.startswith("REFUTED")
    assert "permuted or rescaled" in refuted.statement
    failed = claim(make_model(widths=(64, 48, 48)), commitment)
    assert failed.verdict == "failed"
    assert failed.statement.startswith("NOT COMPARED")
    assert failed.bit_error_rate is None
    assert "its shape was (64, 64) and is (48, 48)" in failed.statement
    json.dumps(failed.to_dict())


def test_weights_are_found_under_other_names(marked):
    model, _, commitment = marked
    other = make_model(names=("x", "y", "z"))
    other.set_weights(model.get_weights())
    assert claim(other, commitment).verdict == "proved"
    assert claim(other, commitment, layers=["y", "z"]).verdict == "proved"
    assert claim(other, commitment, layers=["x", "y"]).verdict == "refuted"
    with pytest.raises(InputError, match="needs its name"):
        claim(other, commitment, layers=["y"])
    backbone = make_model(widths=(64, 64, 10), names=("x", "y", "head"))
    backbone.layers[1].set_weights(model.layers[1].get_weights())
    partial = claim(backbone, commitment)
    assert partial.verdict == "proved"
    assert "third/kernel" in partial.not_compared[0]


def test_another_key_another_signer_and_wrong_dates_refute(marked):
    model, mark, commitment = marked
    other_key = claim(model, commitment, key=KEY + "!")
    assert other_key.verdict == "refuted"
    assert "another key" in other_key.statement
    assert not other_key.readings
    with_zero = claim(model, commitment, key=KEY + "\0")
    assert with_zero.verdict == "refuted", "a longer key with zeros behind it is another key"
    stranger = claim(model, commitment, public_key=generate_key_pair()[1])
    assert (stranger.verdict, stranger.claim) == ("refuted", True)
    assert "not signed by the claimant's key" in stranger.statement
    late = claim(model, commitment, released="2020-01-01")
    assert late.verdict == "refuted"
    assert "before it" in late.statement
    future = commit(mark, model, PRIVATE, created=now() + timedelta(days=2))
    assert "in the future" in claim(model, future).statement
    assert claim(model, future).verdict == "refuted"


def test_the_reference_must_be_the_one_that_was_committed_to(marked):
    model, _, commitment = marked
    order = np.random.default_rng(0).permutation(64)
    w = model.get_weights()
    w[0], w[1], w[2] = w[0][:, order] * 3, w[1][order] * 3, w[2][order] / 3
    w[2], w[3], w[4] = w[2][:, order] * 0.3, w[3][order] * 0.3, w[4][order] / 0.3
    permuted = make_model()
    permuted.set_weights(w)
    x = np.random.default_rng(2).normal(size=(8, 64))
    np.testing.assert_allclose(
        permuted.predict(x, verbose=0), model.predict(x, verbose=0), rtol=0.01, atol=1e-5
    )
    assert claim(permuted, commitment).verdict == "refuted"
    aligned = claim(permuted, commitment, reference=model)
    assert aligned.verdict == "proved"
    assert aligned.aligned
    assert aligned.tries == 6, "three readings, as it is and re-aligned"
    assert "re-alignment" in aligned.statement
    swapped = claim(permuted, commitment, reference=permuted)
    assert swapped.verdict == "refuted"
    assert "not the model that was committed to" in swapped.statement


def test_tries_are_counted(marked):
    model, _, commitment = marked
    assert claim(model, commitment, tries=1000).p_value == 3000 * 2.0**-256


def test_plain_messages_and_uchida_too():
    model = make_model()
    for mark in (SpreadSpectrum(KEY, num_bits=64), Uchida(KEY, message="12345678")):
        embed(model, mark, layers="first")
        commitment = commit(mark, model, PRIVATE, layers="first")
        opened = open_commitment(commitment, KEY).mark
        assert np.array_equal(opened.message(), mark.message())
        assert opened.get_config() == mark.get_config()
        report = claim(model, commitment)
        assert (report.verdict, report.payload) == ("proved", None)


def test_what_cannot_be_committed_to_is_refused(marked):
    model, mark, _ = marked
    with pytest.raises(InputError, match="guessing"):
        commit(SpreadSpectrum("short"), model, PRIVATE)
    with pytest.raises(InputError, match="digest"):
        commit(mark, model, PRIVATE, triggers="no digest")
    with pytest.raises(InputError, match="without its key"):
        commit(SpreadSpectrum.from_config(mark.get_config()), model, PRIVATE)
    digest = "ab" * 32
    assert commit(mark, model, PRIVATE, triggers=digest).content["triggers"] == digest


def test_time_stamps_of_others_are_carried(marked, tmp_path):
    _, _, commitment = marked
    token = b"\x30\x82..." + bytes.fromhex(commitment.digest) + b"..."
    stamped = commitment.stamped("rfc3161", token)
    stamped.save(tmp_path / "c.json")
    loaded = Commitment.load(tmp_path / "c.json")
    assert loaded == stamped
    assert loaded.timestamps[0].token == token
    assert loaded.digest == commitment.digest
    assert "rfc3161 time stamp it carries" in claim(marked[0], loaded).statement
    with pytest.raises(InputError, match="does not contain"):
        commitment.stamped("rfc3161", b"another document's token")
    with pytest.raises(InputError, match="opentimestamps or rfc3161"):
        commitment.stamped("sundial", token)


def resigned(commitment, change, private_key=PRIVATE):
    """A commitment whose signer changed its content afterwards, and signed it again."""
    from keras_secure.integrity.dsse import Envelope, Signature, dump_envelope, signed_bytes
    from keras_secure.integrity.keys import sign_bytes
    from keras_secure.integrity.strict_json import canonical_bytes
    from keras_secure.watermark.commitment import PAYLOAD_TYPE

    content = commitment.content
    change(content)
    payload = canonical_bytes(content)
    signature = sign_bytes(private_key, signed_bytes(payload, PAYLOAD_TYPE))
    return Commitment(dump_envelope(Envelope(payload, PAYLOAD_TYPE, (Signature("", signature),))))


@pytest.mark.parametrize("field", ["key", "layers", "payload", "reference", "scheme"])
def test_a_hash_that_does_not_fit_what_is_opened_refutes_even_when_signed(marked, field):
    model, _, commitment = marked

    def change(content):
        content["commitments"][field] = "00" * 32

    report = claim(model, resigned(commitment, change))
    assert report.verdict == "refuted"
    assert field in report.contradictions[0]


def test_the_sealed_part_cannot_be_exchanged(marked):
    model, _, commitment = marked
    other = commit(SpreadSpectrum(KEY, payload="OTHER"), model, PRIVATE)

    def exchange(content):
        content["sealed"] = other.content["sealed"]

    assert "does not open" in claim(model, resigned(commitment, exchange)).statement

    def with_salt(content):
        content["sealed"], content["salt"] = other.content["sealed"], other.content["salt"]

    assert "another key" in claim(model, resigned(commitment, with_salt)).statement


def test_every_flipped_bit_of_what_is_signed_is_noticed(marked):
    """Random places in the signed content and the signature: refused, or refuted by name."""
    model, _, commitment = marked
    file = json.loads(commitment.to_bytes())
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(40):
        tampered = json.loads(commitment.to_bytes())
        envelope = tampered["bundle"]["dsseEnvelope"]
        part = ("payload", "sig")[int(rng.integers(2))]
        holder = envelope if part == "payload" else envelope["signatures"][0]
        data = bytearray(base64.b64decode(holder[part]))
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        holder[part] = base64.b64encode(bytes(data)).decode()
        assert tampered != file
        try:
            changed = Commitment.from_bytes(json.dumps(tampered).encode())
        except IntegrityError:
            outcomes.add("refused")
            continue
        assert not changed.is_signed_by(PUBLIC)
        outcomes.add("unsigned")
    assert outcomes == {"refused", "unsigned"}
    assert claim(model, changed).verdict == "refuted"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b'{"schema":"x","bundle":{},"timestamps":[]}',
        b"9" * 5000,
    ],
)
def test_what_is_no_commitment_is_refused(data, tmp_path):
    with pytest.raises(IntegrityError):
        Commitment.from_bytes(data)
    with pytest.raises(InputError, match="cannot be read"):
        Commitment.load(tmp_path / "nothing.json")


def test_the_digest_of_weights_is_of_shapes_types_and_values(marked):
    model, _, _ = marked
    digest = weights_digest(model)
    renamed = make_model(names=("a", "b", "c"))
    renamed.set_weights(model.get_weights())
    assert weights_digest(renamed) == digest
    changed = model.get_weights()
    changed[5][0] = np.nextafter(changed[5][0], np.float32(1))
    renamed.set_weights(changed)
    assert weights_digest(renamed) != digest


@pytest.mark.parametrize("tries", [0, -1, 1e-20, None])
def test_no_number_of_tries_makes_a_proof_of_nothing(marked, tries):
    _, _, commitment = marked
    for reference in (None, marked[0]):
        with pytest.raises(InputError, match="an integer of at least 1 was expected"):
            claim(make_model(), commitment, tries=tries, reference=reference)
