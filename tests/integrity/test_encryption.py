"""Encrypted files: whole and authentic, or refused with the cause named and nothing left behind."""

import io
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity import decrypt, encrypt, generate_identity
from keras_secure.integrity.encryption import age_file, sealed_file
from keras_secure.integrity.encryption.chunks import ChunkCipher

KEY, CHUNK = bytes(range(32)), 1024
SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 5]
FAST = {"work_factor": 10}
HEADER = 16 + 2 + 2 + 4 + 32 + 1 + 3 + 64 + 32 + 32


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(sealed_file.seal, "__defaults__", (CHUNK,))


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def sealed(tmp_path, size, name="model", **options):
    plain = random.Random(f"{name} {size}").randbytes(size)
    (tmp_path / name).write_bytes(plain)
    path = encrypt(tmp_path / name, tmp_path / f"{name}.enc", **(options or {"key": KEY}))
    return path, plain


def refuse(path, match, error=IntegrityError, **options):
    """Decryption fails for the reason given, and leaves nothing."""
    before = names(path.parent)
    with pytest.raises(error, match=match):
        decrypt(path, path.parent / "plain", **(options or {"key": KEY}))
    assert names(path.parent) == before


def slow_open(data):
    """The whole file opened by a plain reading of the format's description."""
    import hashlib
    import hmac

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    def derive(secret, salt, info, size):
        return HKDF(SHA256(), size, salt, b"keras_secure.enc 1 " + info).derive(secret)

    length, chunk = int.from_bytes(data[18:20], "big"), int.from_bytes(data[20:24], "big")
    header, salt, slot = data[:length], data[24:56], data[60 : length - 64]
    assert header[:18] == b"keras_secure.enc\0\1"
    assert header[56:60] == bytes([1, 2, 0, 64])
    wrapping = derive(KEY, slot[:16], b"raw key", 32)
    file_key = AESGCM(wrapping).decrypt(bytes(12), slot[16:], None)
    assert header[-64:-32] == hashlib.sha256(header[:-64]).digest()
    mac_key = derive(file_key, None, b"header", 32)
    assert header[-32:] == hmac.new(mac_key, header[:-32], "sha256").digest()
    secret, plain = derive(file_key, salt, b"chunks", 39), b""
    pieces = [data[i : i + chunk + 16] for i in range(length, len(data), chunk + 16)]
    for number, piece in enumerate(pieces):
        last = number == len(pieces) - 1
        nonce = secret[32:] + number.to_bytes(4, "big") + bytes([last])
        plain += AESGCM(secret[:32]).decrypt(nonce, piece, hashlib.sha256(header).digest())
    return plain


@pytest.mark.parametrize("size", SIZES)
def test_the_format_is_the_one_described(tmp_path, small_chunks, size):
    path, plain = sealed(tmp_path, size)
    assert slow_open(path.read_bytes()) == plain
    assert decrypt(path, tmp_path / "again", key=KEY).read_bytes() == plain
    chunks = max(1, -(-size // CHUNK))
    assert path.stat().st_size == HEADER + size + 16 * chunks
    assert names(tmp_path) == ["again", "model", "model.enc"]
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("again", "model.enc")} == {0o600}


def test_every_secret_opens_both_formats(tmp_path):
    recipient = generate_identity(tmp_path / "identity.txt")
    other = generate_identity(tmp_path / "other.txt")
    (tmp_path / "recipients").write_text(f"# two people\n{recipient}\n\n{other}\n")
    (tmp_path / "key").write_bytes(KEY)
    text = (tmp_path / "other.txt").read_text().splitlines()[1]
    secrets = [
        ({"passphrase": "correct horse", **FAST}, {"passphrase": b"correct horse"}, 2),
        ({"key": KEY}, {"key": tmp_path / "key"}, 1),
        ({"recipients": recipient}, {"identities": tmp_path / "identity.txt"}, 2),
        ({"recipients": [recipient, other]}, {"identities": text}, 2),
        (
            {"recipients": tmp_path / "recipients"},
            {"identities": [str(tmp_path / "other.txt"), tmp_path / "identity.txt"]},
            2,
        ),
    ]
    (tmp_path / "model").write_bytes(b"weights" * 30000)
    for to, by, formats in secrets:
        for file_format in ("aes-gcm", "age")[:formats]:
            if file_format == "age" and "recipients" in to:
                pytest.importorskip("pyrage")
            options = {**to, "file_format": file_format, "overwrite": True}
            path = encrypt(tmp_path / "model", tmp_path / "file", **options)
            magic = sealed_file.MAGIC if file_format == "aes-gcm" else age_file.MAGIC
            assert path.read_bytes().startswith(magic)
            plain = decrypt(path, tmp_path / "plain", overwrite=True, **by)
            assert plain.read_bytes() == b"weights" * 30000
    # The same plaintext never gives the same bytes.
    first, second = (sealed(tmp_path, 5, name)[0].read_bytes() for name in "ab")
    assert first[24:56] != second[24:56]


def test_key_objects_and_ssh_keys(tmp_path):
    pyrage = pytest.importorskip("pyrage")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519, x25519

    private = x25519.X25519PrivateKey.generate()
    identity = pyrage.x25519.Identity.generate()
    for file_format in ("age", "aes-gcm"):
        for recipient, own in [
            (private.public_key(), private),
            (identity.to_public(), identity),
            ([identity.to_public(), private.public_key()], [private]),
        ]:
            path, plain = sealed(tmp_path, 9, recipients=recipient, file_format=file_format)
            again = decrypt(path, tmp_path / "again", identities=own)
            assert again.read_bytes() == plain
            path.unlink()
            again.unlink()
    signing = ed25519.Ed25519PrivateKey.generate()
    encodings = (serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH)
    (tmp_path / "id").write_bytes(signing.private_bytes(*encodings, serialization.NoEncryption()))
    line = signing.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    path, plain = sealed(tmp_path, 9, recipients=line.decode())
    assert decrypt(path, tmp_path / "again", identities=tmp_path / "id").read_bytes() == plain
    with pytest.raises(InputError, match="needs the format of age"):
        encrypt(tmp_path / "id", tmp_path / "x", recipients=line.decode(), file_format="aes-gcm")


@pytest.mark.parametrize("size", [0, 2**16 - 1, 2**16, 2**16 + 1, 200000])
def test_files_of_age_are_those_of_other_tools(tmp_path, size):
    pyrage = pytest.importorskip("pyrage")
    plain = random.Random(size).randbytes(size)
    (tmp_path / "model").write_bytes(plain)
    path = encrypt(tmp_path / "model", tmp_path / "a", passphrase="pw", file_format="age", **FAST)
    assert pyrage.passphrase.decrypt(path.read_bytes(), "pw") == plain
    identity = pyrage.x25519.Identity.generate()
    path = encrypt(tmp_path / "model", tmp_path / "b", recipients=str(identity.to_public()))
    assert pyrage.decrypt(path.read_bytes(), [identity]) == plain
    for armored in (False, True):
        data = pyrage.encrypt(plain, [identity.to_public()], armored=armored)
        (tmp_path / "theirs").write_bytes(data)
        again = decrypt(tmp_path / "theirs", tmp_path / "c", identities=identity, overwrite=True)
        assert again.read_bytes() == plain


@pytest.mark.slow
def test_passphrase_files_of_other_tools_are_read(tmp_path):
    pyrage = pytest.importorskip("pyrage")
    # Takes as much time and memory as the other tool chooses.
    (tmp_path / "theirs").write_bytes(pyrage.passphrase.encrypt(b"weights", "pw"))
    options = {"passphrase": "pw", "max_work_factor": 22}
    assert decrypt(tmp_path / "theirs", tmp_path / "d", **options).read_bytes() == b"weights"


# -- tampering --------------------------------------------------------------------------------


def test_every_flipped_bit_is_refused(tmp_path, small_chunks):
    path, _ = sealed(tmp_path, 3 * CHUNK + 5)
    data = path.read_bytes()
    generator = random.Random(0)
    places = {*range(HEADER), *generator.sample(range(HEADER, len(data)), 100)}
    for place in sorted(places):
        damaged = bytearray(data)
        damaged[place] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        # Without its first bytes it is not even known as one of ours.
        error = InputError if place < 16 else IntegrityError
        refuse(path, "begins neither|was not decrypted|of version", error)


def test_every_truncation_is_refused(tmp_path, small_chunks):
    path, _ = sealed(tmp_path, 3 * CHUNK)
    data = path.read_bytes()
    boundaries = [HEADER + i * (CHUNK + 16) for i in range(3)]
    for length in {*range(0, HEADER, 7), *boundaries, *range(HEADER, len(data), 97)}:
        path.write_bytes(data[:length])
        match = "truncated: it" if length in boundaries else "cut short|header|begins neither"
        if length in boundaries[1:]:
            match = f"truncated: what followed byte {length} is missing"
        refuse(path, match, (InputError, IntegrityError))


def test_chunks_cannot_be_added_moved_or_exchanged(tmp_path, small_chunks):
    path, _ = sealed(tmp_path, 3 * CHUNK)
    other, _ = sealed(tmp_path, 3 * CHUNK, "other")
    data, foreign = path.read_bytes(), other.read_bytes()
    size = CHUNK + 16
    head, chunks = data[:HEADER], [data[HEADER + i * size :][:size] for i in range(3)]
    theirs = [foreign[HEADER + i * size :][:size] for i in range(3)]

    def write(*parts):
        path.write_bytes(b"".join(parts))

    write(data, b"x")
    refuse(path, f"bytes were added after its end at byte {len(data)}")
    write(data, chunks[2])
    refuse(path, f"bytes were added after its end at byte {len(data)}")
    write(head, chunks[1], chunks[0], chunks[2])
    refuse(path, f"bytes {HEADER} to {HEADER + size} are not what was written")
    write(head, chunks[0], chunks[0], chunks[1], chunks[2])
    refuse(path, f"bytes {HEADER + size} to {HEADER + 2 * size} are not")
    write(head, chunks[0], chunks[2])
    refuse(path, "are not what was written there")
    write(head, chunks[0], theirs[1], chunks[2])
    refuse(path, "or from another file")
    write(foreign[:HEADER], *chunks)
    refuse(path, "or from another file")
    write(data)
    assert decrypt(path, tmp_path / "plain", key=KEY).stat().st_size == 3 * CHUNK


def test_an_empty_last_chunk_is_refused(tmp_path):
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    cipher = ChunkCipher(AESGCM(KEY), bytes(7), 4, 4)
    chunks = [AESGCM(KEY).encrypt(cipher._nonce(0, False), b"abcd", None)]
    chunks += [AESGCM(KEY).encrypt(cipher._nonce(1, True), b"", None)]
    with pytest.raises(IntegrityError, match="last chunk is empty"):
        cipher.open(io.BytesIO(b"".join(chunks)), io.BytesIO(), "file")


def test_more_chunks_than_can_be_numbered(tmp_path):
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    with pytest.raises(InputError, match="more than 256 chunks"):
        ChunkCipher(AESGCM(KEY), bytes(10), 1, 1).seal(io.BytesIO(bytes(257)), io.BytesIO())


@pytest.mark.parametrize("to", ["passphrase", "recipients"])
def test_tampered_files_of_age(tmp_path, to):
    identity = tmp_path / "identity"
    if to == "recipients":
        pytest.importorskip("pyrage")
        recipient = generate_identity(identity)
        path, _ = sealed(tmp_path, 200_000, recipients=recipient, file_format="age")
        by = {"identities": identity}
    else:
        path, _ = sealed(tmp_path, 200_000, passphrase="pw", file_format="age", **FAST)
        by = {"passphrase": "pw"}
    data = path.read_bytes()
    generator = random.Random(1)
    for place in {*range(0, 300, 4), *generator.sample(range(len(data)), 30)}:
        damaged = bytearray(data)
        damaged[place] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        refuse(
            path,
            "begins neither|was not decrypted|encrypted for|asks for scrypt",
            (InputError, IntegrityError),
            **by,
        )
    for length in [50, 180, 400, 65_536 + 300, len(data) - 2**16, len(data) - 1]:
        path.write_bytes(data[:length])
        refuse(path, "not decrypted|encrypted for", (InputError, IntegrityError), **by)
    path.write_bytes(data + b"x")
    refuse(path, "not decrypted", **by)


# -- secrets ----------------------------------------------------------------------------------


def test_wrong_secrets(tmp_path):
    recipient = generate_identity(tmp_path / "identity")
    generate_identity(tmp_path / "other")
    for file_format in ("age", "aes-gcm"):
        path, _ = sealed(tmp_path, 9, passphrase="pw", file_format=file_format, **FAST)
        refuse(path, "passphrase is wrong", InputError, passphrase="PW")
        refuse(path, "Give the passphrase", InputError, identities=tmp_path / "identity")
        refuse(path, "Give the passphrase", InputError, key=KEY)
        path.unlink()
        if file_format == "age":
            pytest.importorskip("pyrage")
        path, _ = sealed(tmp_path, 9, recipients=recipient, file_format=file_format)
        refuse(path, "none of the given identities", InputError, identities=tmp_path / "other")
        refuse(path, "Give identities", InputError, passphrase="pw")
        path.unlink()
    path, _ = sealed(tmp_path, 9)
    refuse(path, "the key is another", InputError, key=bytes(32))
    refuse(path, "Give the key", InputError, passphrase="pw")


def test_hostile_costs_are_refused_before_they_are_paid(tmp_path):
    import hashlib

    path, _ = sealed(tmp_path, 9, passphrase="pw", file_format="aes-gcm", **FAST)
    data = path.read_bytes()
    place = 57 + 3 + 16
    for log_n, r, p in [(63, 8, 1), (21, 8, 1), (10, 255, 1), (10, 8, 255), (0, 8, 1)]:
        changed = data[:place] + bytes([log_n, r, p]) + data[place + 3 :]
        length = int.from_bytes(data[18:20], "big")
        checksum = hashlib.sha256(changed[: length - 64]).digest()
        path.write_bytes(changed[: length - 64] + checksum + changed[length - 32 :])
        # Of the processor, as the machine may have others to serve.
        start = time.process_time()
        refuse(path, "asks for scrypt", passphrase="pw")
        assert time.process_time() - start < 1
    path, _ = sealed(tmp_path, 9, "age", passphrase="pw", file_format="age", **FAST)
    path.write_bytes(path.read_bytes().replace(b" 10\n", b" 40\n", 1))
    refuse(path, "asks for scrypt", passphrase="pw")


def test_a_header_that_lies(tmp_path):
    import hashlib

    path, _ = sealed(tmp_path, 9)
    data = path.read_bytes()

    def forge(place, new):
        changed = data[:place] + new + data[place + len(new) :]
        checksum = hashlib.sha256(changed[: HEADER - 64]).digest()
        path.write_bytes(changed[: HEADER - 64] + checksum + changed[HEADER - 32 :])

    for place, new, match in [
        (20, bytes(4), "chunks of 0 bytes"),
        (20, b"\xff" * 4, "chunks of"),
        (20, (2**11).to_bytes(4, "big"), "header was altered"),
        (24, bytes(32), "header was altered"),
        (56, b"\x00", "tells of 0 slots"),
        (56, b"\x02", "fewer slots"),
        (57, b"\x09", "unknown way"),
        (58, b"\x00\x01", "1 bytes instead of 64"),
        (18, b"\xff\xff", "header is damaged"),
        (18, b"\x00\x00", "header is damaged"),
    ]:
        forge(place, new)
        refuse(path, match)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "exactly one of recipients, passphrase and key; none"),
        ({"passphrase": "a", "key": KEY}, "more than one kind"),
        ({"passphrase": ""}, "empty"),
        ({"passphrase": 3}, "is a int"),
        ({"key": b"short"}, "5 bytes; expected 32"),
        ({"key": 3}, "a int; expected 32"),
        ({"key": "no such file"}, "neither a key nor"),
        ({"recipients": "no such file"}, "neither a key nor"),
        ({"recipients": [3]}, "A int is no recipient"),
        ({"recipients": "age1" + "q" * 58}, "checksum does not fit"),
        ({"passphrase": "a", "work_factor": 99}, "work_factor is 99"),
        ({"passphrase": "a", "file_format": "zip"}, "file_format is 'zip'"),
        ({"key": KEY, "file_format": "age"}, "knows no keys"),
    ],
)
def test_unusable_arguments(tmp_path, options, match):
    (tmp_path / "model").write_bytes(b"x")
    with pytest.raises(InputError, match=match):
        encrypt(tmp_path / "model", tmp_path / "out", **options)
    assert names(tmp_path) == ["model"]


def test_a_mistyped_secret_is_not_shown(tmp_path):
    generate_identity(tmp_path / "identity")
    secret = (tmp_path / "identity").read_text().splitlines()[1]
    path, _ = sealed(tmp_path, 9)
    for mistyped in (secret[:-1] + "x", secret[:20].lower() + secret[20:], secret[1:]):
        with pytest.raises(InputError) as caught:
            decrypt(path, tmp_path / "plain", identities=mistyped)
        assert secret[20:40] not in str(caught.value)


def test_places_that_are_kept(tmp_path):
    path, _ = sealed(tmp_path, 9)
    for call, source in ((encrypt, tmp_path / "model"), (decrypt, path)):
        (tmp_path / "kept").write_bytes(b"old")
        with pytest.raises(InputError, match="exists and was kept"):
            call(source, tmp_path / "kept", key=KEY)
        assert (tmp_path / "kept").read_bytes() == b"old"
        call(source, tmp_path / "kept", key=KEY, overwrite=True)
        (tmp_path / "kept").unlink()
        with pytest.raises(InputError, match="Choose a folder"):
            call(source, tmp_path / "nowhere" / "out", key=KEY)
        with pytest.raises(InputError, match="cannot be read"):
            call(tmp_path / "nothing", tmp_path / "out", key=KEY)
    identity = tmp_path / "identity"
    generate_identity(identity)
    assert identity.stat().st_mode & 0o777 == 0o600
    with pytest.raises(InputError, match="exists and was kept"):
        generate_identity(identity)
    assert generate_identity(identity, overwrite=True).startswith("age1")
    with pytest.raises(InputError, match="no encrypted file"):
        decrypt(tmp_path / "model", tmp_path / "out", key=KEY)


# -- interruptions ----------------------------------------------------------------------------


def test_what_a_stream_refuses_is_reported(tmp_path):
    pytest.importorskip("pyrage")
    recipient = generate_identity(tmp_path / "identity")

    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(28, "No space left on device")

    credentials = age_file.Credentials((recipient,))
    # Bytes few enough that pyrage's own buffer holds them until it drops the error with them.
    with pytest.raises(OSError, match="No space left"):
        age_file.seal(io.BytesIO(b"x"), Full(), credentials, 10)
    data = io.BytesIO()
    age_file.seal(io.BytesIO(b"x" * 10), data, credentials, 10)
    data.seek(0)
    identity = age_file.Credentials(((tmp_path / "identity").read_text().split()[-1],))
    with pytest.raises(OSError, match="No space left"):
        age_file.open_sealed(data, Full(), identity, 20, "file")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="processes are killed")
@pytest.mark.parametrize("file_format", ["age", "aes-gcm"])
def test_a_killed_process_leaves_what_the_next_call_removes(tmp_path, file_format):
    if file_format == "age":
        pytest.importorskip("pyrage")
    recipient = generate_identity(tmp_path / "identity")
    options = {"recipients": recipient, "file_format": file_format}
    path, plain = sealed(tmp_path, 3 * 2**20, **options)
    before = names(tmp_path)
    script = (
        "import sys, time\n"
        "from keras_secure.integrity.encryption import decrypt, temporary\n"
        "import keras_secure.integrity.encryption.files as files\n"
        "def stop(*_):\n"
        "    print('written', flush=True)\n"
        "    time.sleep(60)\n"
        "files.put_in_place = stop\n"
        "decrypt(sys.argv[1], sys.argv[2], identities=sys.argv[3])\n"
    )
    arguments = [str(path), str(tmp_path / "plain"), str(tmp_path / "identity")]
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "written\n"
    (left,) = set(names(tmp_path)) - set(before)
    assert left.startswith(".plain.")
    assert left.endswith(".decrypting")
    assert (tmp_path / left).stat().st_mode & 0o777 == 0o600
    # While its process lives, nobody takes it away.
    decrypt(path, tmp_path / "plain", identities=tmp_path / "identity").unlink()
    assert left in names(tmp_path)
    process.kill()
    process.wait()
    process.stdout.close()
    assert (tmp_path / left).read_bytes() == plain  # this is what must not stay
    with pytest.raises(InputError):  # even a call that fails
        decrypt(tmp_path / "model", tmp_path / "other", identities=tmp_path / "identity")
    assert names(tmp_path) == before


def test_neither_keras_nor_tensorflow_is_imported(tmp_path):
    script = (
        "import sys\n"
        "from keras_secure.integrity import decrypt, encrypt\n"
        "assert 'cryptography' not in sys.modules\n"
        f"encrypt({str(__file__)!r}, {str(tmp_path / 'a')!r}, key=bytes(32))\n"
        f"decrypt({str(tmp_path / 'a')!r}, {str(tmp_path / 'b')!r}, key=bytes(32))\n"
        "assert not {'keras', 'tensorflow', 'numpy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert (tmp_path / "b").read_bytes() == Path(__file__).read_bytes()
    assert os.path.exists(tmp_path / "a")


def test_a_folder_is_no_encrypted_file(tmp_path):
    with pytest.raises(InputError) as caught:
        decrypt(tmp_path, tmp_path / "out", key=bytes(32))
    assert str(caught.value) == f"{tmp_path} is not a plain file. Give the path of a file."
