"""Whom a verifier believes: names, dates, revocations, thresholds, endorsements, trust files."""

import json
from datetime import datetime

import pytest

from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity import (
    Trust,
    TrustedKey,
    endorse,
    fingerprint,
    generate_key_pair,
    load_trust,
    save_public_key,
    save_trust,
    sign,
    verify,
)

PAIRS = [generate_key_pair() for _ in range(4)]
PRIVATE, PUBLIC = zip(*PAIRS, strict=True)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.keras"
    path.write_bytes(b"weights")
    return path


def causes(path, trust, **options):
    found = verify(path, trust, **options).causes
    return [cause.removeprefix("integrity.") for cause in found]


def test_what_can_stand_for_a_trust(path, tmp_path):
    sign(path, PRIVATE[0])
    pem = save_public_key(PUBLIC[0], tmp_path / "key.pem")
    file = save_trust(Trust((PUBLIC[0],)), tmp_path / "trust.json")
    for trust in (
        PUBLIC[0], pem, str(pem), pem.read_bytes(), [PUBLIC[1], pem], TrustedKey(PUBLIC[0]),
        Trust((pem,)), Trust(PUBLIC[0]), file, str(file),
    ):  # fmt: skip
        assert causes(path, trust) == []
    for wrong in (7, None, [], b"", PRIVATE[0], tmp_path / "absent"):
        with pytest.raises(InputError):
            verify(path, wrong)


def test_a_revoked_key_is_refused_by_name_and_reason_whatever_date_it_writes(path):
    trust = Trust((PUBLIC[0],)).add(PUBLIC[1], "release 2026")
    revoked = trust.revoke(PUBLIC[1], "a stolen laptop", since="2026-06-01")
    sign(path, PRIVATE[1], created="2020-01-01")
    assert causes(path, trust) == []
    assert causes(path, revoked) == ["revoked_key"]
    (line,) = verify(path, revoked).describe()
    assert "'release 2026'" in line
    assert line.endswith("revoked: a stolen laptop")
    by_print = Trust((PUBLIC[0],)).revoke(fingerprint(PUBLIC[1]), "a stolen laptop")
    assert causes(path, by_print) == ["revoked_key"]
    with pytest.raises(InputError, match="needs a reason"):
        trust.revoke(PUBLIC[1], "")


def test_a_key_out_of_its_dates_is_refused_by_name(path):
    trust = Trust(
        (TrustedKey(PUBLIC[0]),)
    ).add(PUBLIC[1], "winter", not_before="2026-01-01", not_after="2026-03-01")  # fmt: skip
    sign(path, PRIVATE[1], created="2026-02-01")
    assert causes(path, trust, at="2026-02-02") == []
    assert causes(path, trust) == ["expired_key"]
    assert causes(path, trust, at="2025-12-31") == ["expired_key"]
    assert "'winter'" in verify(path, trust).describe()[0]
    sign(path, PRIVATE[1], created="2026-04-01")
    assert causes(path, trust, at="2026-02-02") == ["expired_key"]


def test_a_threshold_counts_keys_and_not_signatures(path):
    trust = Trust(PUBLIC[:3], threshold=2)
    sign(path, PRIVATE[0])
    assert causes(path, trust) == ["threshold"]
    sign(path, PRIVATE[:2])
    assert causes(path, trust) == []
    assert causes(path, trust.revoke(PUBLIC[0], "lost")) == ["revoked_key"]
    for wrong in (0, 4, 1.5, True):
        with pytest.raises(InputError, match="threshold"):
            Trust(PUBLIC[:3], threshold=wrong)
    with pytest.raises(InputError, match="twice"):
        Trust((PUBLIC[0], PUBLIC[0]))


def test_a_new_key_that_the_old_one_vouches_for(path, tmp_path):
    sign(path, PRIVATE[1])
    endorsement = endorse(PUBLIC[1], PRIVATE[0], name="2027", output=tmp_path / "new.endorsement")
    assert causes(path, PUBLIC[0]) == ["untrusted_key"]
    report = verify(path, PUBLIC[0], endorsements=[tmp_path / "new.endorsement"])
    assert report.ok
    assert report.signers[0].name == "2027"
    assert report.signers[0].endorsed_by == (fingerprint(PUBLIC[0]),)
    assert causes(path, PUBLIC[2], endorsements=[endorsement]) == ["untrusted_key"]
    trust = Trust((PUBLIC[0],), endorsements=(endorsement,))
    assert causes(path, trust) == []
    # Whoever stole the old key could vouch for his own.
    assert causes(path, trust.revoke(PUBLIC[0], "stolen")) == ["untrusted_key"]
    assert causes(path, trust.revoke(PUBLIC[1], "stolen")) == ["revoked_key"]
    forged = endorsement.replace(b'"keyid"', b'"keyid" ')
    assert causes(path, PUBLIC[0], endorsements=[forged]) == []  # its payload is the signed part
    with pytest.raises(InputError, match="endorsement"):
        verify(path, PUBLIC[0], endorsements=[b"{}"])
    with pytest.raises(InputError, match="is of type"):
        verify(path, PUBLIC[0], endorsements=[(tmp_path / "a.keras.sig").read_bytes()])


def test_endorsements_form_chains_and_have_dates(path):
    chain = [
        endorse(PUBLIC[2], PRIVATE[1]),
        endorse(PUBLIC[1], PRIVATE[0], not_after="2099-01-01"),
    ]
    sign(path, PRIVATE[2])
    assert causes(path, PUBLIC[0], endorsements=chain) == []
    assert causes(path, PUBLIC[0], endorsements=chain[:1]) == ["untrusted_key"]
    assert causes(path, PUBLIC[0], endorsements=chain, at="2099-06-01") == ["untrusted_key"]
    ended = [endorse(PUBLIC[2], PRIVATE[0], not_after="2020-01-01")]
    assert causes(path, PUBLIC[0], endorsements=ended) == ["expired_key"]


def test_one_of_two_keys_cannot_vouch_alone(path):
    trust = Trust(PUBLIC[:2], threshold=2)
    sign(path, [PRIVATE[2], PRIVATE[3]])
    alone = [endorse(PUBLIC[n], PRIVATE[0]) for n in (2, 3)]
    assert causes(path, trust, endorsements=alone) == ["untrusted_key"]
    both = [endorse(PUBLIC[n], [PRIVATE[0], PRIVATE[1]]) for n in (2, 3)]
    assert causes(path, trust, endorsements=both) == []


def test_an_endorsement_is_no_signature_and_the_reverse(path, tmp_path):
    sign(path, PRIVATE[0])
    (tmp_path / "a.keras.sig").write_bytes(endorse(PUBLIC[1], PRIVATE[0]))
    assert causes(path, PUBLIC[0]) == ["signature_file"]


def test_a_trust_file_survives_and_can_be_signed(tmp_path):
    trust = (
        Trust((PUBLIC[0],), threshold=1)
        .add(PUBLIC[1], "release", not_before="2026-01-01", not_after="2027-01-01T12:00:00Z")
        .revoke(PUBLIC[2], "lost", since="2026-05-05")
    )
    trust = Trust(trust.keys, 2, trust.revoked, (endorse(PUBLIC[3], PRIVATE[:2]),))
    file = save_trust(trust, tmp_path / "trust.json")
    assert load_trust(file) == trust
    sign(file, PRIVATE[3], serial=4)
    assert load_trust(file, signed_by=PUBLIC[3], min_serial=4) == trust
    with pytest.raises(IntegrityError, match="older release"):
        load_trust(file, signed_by=PUBLIC[3], min_serial=5)
    with pytest.raises(IntegrityError, match="not trusted"):
        load_trust(file, signed_by=PUBLIC[0])
    with pytest.raises(InputError, match="min_serial needs signed_by"):
        load_trust(file, min_serial=5)
    file.write_bytes(file.read_bytes().replace(b'"threshold": 2', b'"threshold": 1'))
    assert load_trust(file).threshold == 1
    with pytest.raises(IntegrityError, match=r"trust\.json' was changed"):
        load_trust(file, signed_by=PUBLIC[3])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "its format is not"),
        ({"version": 2}, "its format is not"),
        ({"threshold": 0}, "threshold"),
        ({"threshold": "1"}, "threshold"),
        ({"keys": []}, "threshold"),
        ({"keys": [{"name": "x"}]}, "'key' is missing"),
        ({"keys": [{"key": "x"}]}, "no key in PEM form"),
        ({"revoke": []}, "unknown fields: revoke"),
        ({"revoked": [{"fingerprint": "sha256:12", "reason": "x"}]}, "is no fingerprint"),
        ({"revoked": [{"fingerprint": "sha256:" + "g" * 64, "reason": "x"}]}, "no trust file"),
        ({"revoked": [{"fingerprint": "sha256:" + "0" * 64, "reason": ""}]}, "no reason"),
        ({"endorsements": ["?"]}, "no trust file"),
    ],
)
def test_a_trust_file_with_a_mistake_is_refused(tmp_path, change, message):
    file = save_trust(Trust((PUBLIC[0],)), tmp_path / "trust.json")
    content = {**json.loads(file.read_bytes()), **change}
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        load_trust(file)


def test_a_trusted_key_takes_what_people_write(tmp_path):
    path = save_public_key(PUBLIC[0], tmp_path / "key.pub")
    key = TrustedKey(path, "release", not_after="2020-01-01")
    assert key.fingerprint == fingerprint(PUBLIC[0])
    (tmp_path / "a").write_bytes(b"1")
    sign(tmp_path / "a", PRIVATE[0])
    assert verify(tmp_path / "a", Trust((key,))).causes == ("integrity.expired_key",)
    for wrong in (datetime(2020, 1, 1), "soon", 2020):
        with pytest.raises(InputError, match=r"not_after is .* with its time zone"):
            TrustedKey(PUBLIC[0], not_after=wrong)
    with pytest.raises(InputError, match="public key file nowhere"):
        TrustedKey("nowhere")
