"""OpenSSF model-signing checks our signatures, and we check its.

It runs in an environment of its own, which `benchmarks/peers/build_integrity.sh` makes; the
environment variable KERAS_SECURE_PEERS names the folder of environments, if it is another.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from keras_secure.errors import IntegrityError
from keras_secure.integrity import (
    generate_key_pair,
    save_private_key,
    save_public_key,
    sign,
    verify,
)

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"
PYTHON = Path(os.environ.get("KERAS_SECURE_PEERS", PEERS), "env-model-signing", "bin", "python")
SHARD = 2**20
pytestmark = pytest.mark.skipif(
    not PYTHON.exists(),
    reason="model-signing is not here: build it with benchmarks/peers/build_integrity.sh, or name "
    "the folder of env-model-signing in KERAS_SECURE_PEERS",
)


@pytest.fixture(scope="module")
def peer():
    """A function that gives model-signing a job and returns its complaint, empty for success."""
    process = subprocess.Popen(
        [PYTHON, PEERS / "worker_model_signing.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def ask(do, path, key, signature=None, **options):
        job = {"do": do, "path": path, "signature": signature or path / "model.sig", "key": key}
        process.stdin.write(json.dumps({**job, **options}, default=str) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())["error"]

    yield ask
    process.stdin.close()
    process.wait(timeout=120)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    private_key, public_key = generate_key_pair("ec-p256")
    return (
        save_private_key(private_key, folder / "private.pem"),
        save_public_key(public_key, folder / "public.pem"),
    )


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "model"
    (root / "sub" / "empty").mkdir(parents=True)
    (root / ".git").mkdir()
    (root / ".git" / "config").write_bytes(b"[core]")
    (root / ".gitignore").write_bytes(b"*.log")
    (root / "weights").write_bytes(os.urandom(2 * SHARD + 100))
    (root / "sub" / "a-b").write_bytes(b"{}")
    (root / "sub.x").write_bytes(b"sorts before sub/ by characters, after it by parts")
    (root / "sub" / "größe").write_bytes(b"umlaut")
    (root / "nothing").write_bytes(b"")
    return root


def command_line(*arguments):
    return subprocess.run(
        [PYTHON, "-m", "model_signing", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("whole_files", [True, False])
@pytest.mark.parametrize("others", [0, 2])
def test_it_accepts_our_signature_and_no_other_contents(peer, keys, folder, whole_files, others):
    more = [generate_key_pair("ed25519")[0], generate_key_pair("hybrid")[0]][:others]
    sign(folder, [*more, keys[0]], whole_files=whole_files)
    assert peer("verify", folder, keys[1]) == ""
    stranger = save_public_key(generate_key_pair("ec-p256")[1], folder.parent / "stranger.pem")
    assert "Key mismatch" in peer("verify", folder, stranger)
    with open(folder / "weights", "r+b") as file:
        file.seek(SHARD + 1)
        file.write(bytes(8))
    problem = peer("verify", folder, keys[1])
    assert "Hash mismatch" in problem
    assert "weights" in problem


def test_its_command_line_accepts_our_signature(keys, folder):
    sign(folder, keys[0])
    arguments = ["verify", "key", "--signature", folder / "model.sig", "--public_key", keys[1]]
    found = command_line(*arguments, folder)
    assert found.returncode == 0, found.stdout + found.stderr
    (folder / "weights").write_bytes(b"other")
    assert command_line(*arguments, folder).returncode == 1


def test_it_accepts_our_signature_of_one_file(peer, keys, tmp_path):
    for size in (5, 2 * SHARD + 5):
        path = tmp_path / f"{size}.keras"
        path.write_bytes(os.urandom(size))
        for whole_files in (True, False):
            signature = sign(path, keys[0], whole_files=whole_files)
            assert peer("verify", path, keys[1], signature) == ""
        path.write_bytes(os.urandom(size))
        assert "mismatch" in peer("verify", path, keys[1], signature)


@pytest.mark.parametrize("whole_files", [True, False])
def test_it_accepts_our_signature_of_links(peer, keys, folder, whole_files):
    (folder / "sub" / "link").symlink_to("../weights")
    (folder / "again").symlink_to("sub/link")
    (folder / "there").symlink_to("sub/empty")
    sign(folder, keys[0], allow_symlinks=True, whole_files=whole_files)
    method = {"method": "files"} if whole_files else {"method": "shards", "shard_size": SHARD}
    assert peer("verify", folder, keys[1], allow_symlinks=True, **method) == ""


def test_it_accepts_our_signature_with_parity(peer, keys, folder):
    sign(folder, keys[0], parity=1)
    assert peer("verify", folder, keys[1]) == ""
    (folder / "model.parity").write_bytes(b"")
    assert peer("verify", folder, keys[1]) != ""


METHODS = {
    "files": {"method": "files"},
    "files by blake2": {"method": "files", "algorithm": "blake2"},
    "shards": {"method": "shards", "shard_size": 1_000_000_000},
    "small shards": {"method": "shards", "shard_size": 100_000},
    "our shards": {"method": "shards", "shard_size": SHARD, "algorithm": "blake2"},
}


@pytest.mark.parametrize("method", METHODS)
def test_we_accept_its_signature_and_no_other_contents(peer, keys, folder, method):
    options = METHODS[method]
    assert peer("sign", folder, keys[0], folder.parent / "s", **options) == ""
    report = verify(folder, keys[1], signature=folder.parent / "s")
    report.raise_if_failed()
    assert report.format == "model_signing"
    uncovered = next(f for f in report.findings if f.id == "integrity.uncovered").evidence["paths"]
    empty = ["nothing"] if options["method"] == "shards" else []
    assert uncovered == sorted([".git/config", ".gitignore", *empty])
    with open(folder / "weights", "r+b") as file:
        file.seek(SHARD + 1)
        file.write(bytes(8))
    (folder / "added").write_bytes(b"x")
    os.rename(folder / "sub" / "a-b", folder / "c")
    (folder / "sub.x").unlink()
    report = verify(folder, keys[1], signature=folder.parent / "s")
    assert [cause.removeprefix("integrity.") for cause in report.causes] == [
        "added", "changed", "missing", "renamed",
    ]  # fmt: skip
    changed = next(f for f in report.findings if f.id == "integrity.changed").evidence
    if "shard_size" in options:
        size = options["shard_size"]
        assert changed["offsets"] == [SHARD // size * size]
    assert report.added == ("added", "c")
    with pytest.raises(IntegrityError, match="'weights' was changed"):
        report.raise_if_failed()


def test_we_accept_what_its_command_line_signed(keys, folder):
    (folder / "ignored").mkdir()
    (folder / "ignored" / "log").write_bytes(b"x")
    signature = folder / "model.sig"
    signed = command_line(
        "sign", "key", "--signature", signature, "--private_key", keys[0],
        "--ignore-paths", folder / "ignored", folder,
    )  # fmt: skip
    assert signed.returncode == 0, signed.stdout + signed.stderr
    report = verify(folder, keys[1])
    report.raise_if_failed()
    uncovered = next(f for f in report.findings if f.id == "integrity.uncovered").evidence["paths"]
    assert uncovered == [".git/config", ".gitignore", "ignored/log"]
    data = signature.read_bytes()
    for position in range(0, len(data), max(len(data) // 40, 1)):
        signature.write_bytes(data[:position] + bytes([data[position] ^ 2]) + data[position + 1 :])
        again = verify(folder, keys[1])
        # What stands outside of its signed part is free, such as the name of a key.
        assert again.ok == (again.findings == report.findings)
    signature.write_bytes(data)
    assert verify(folder, generate_key_pair("ec-p256")[1]).causes == ("integrity.untrusted_key",)


def test_we_accept_its_signature_of_one_file(peer, keys, tmp_path):
    path = tmp_path / "a.keras"
    path.write_bytes(os.urandom(SHARD + 9))
    for options in METHODS.values():
        assert peer("sign", path, keys[0], tmp_path / "a.keras.sig", **options) == ""
        verify(path, keys[1]).raise_if_failed()
    path.write_bytes(os.urandom(SHARD + 9))
    assert verify(path, keys[1]).changed == (".",)


def test_we_accept_its_signature_of_links_that_stay_inside(peer, keys, folder):
    (folder / "link").symlink_to("weights")
    options = {"method": "files", "allow_symlinks": True}
    assert peer("sign", folder, keys[0], folder.parent / "s", **options) == ""
    verify(folder, keys[1], signature=folder.parent / "s").raise_if_failed()
    (folder.parent / "outside").write_bytes((folder / "weights").read_bytes())
    (folder / "link").unlink()
    (folder / "link").symlink_to("../outside")
    assert verify(folder, keys[1], signature=folder.parent / "s").changed == ("link",)


@pytest.mark.parametrize("curve", ["SECP384R1", "SECP521R1"])
def test_we_accept_its_larger_curves(peer, folder, curve):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(getattr(ec, curve)())
    path = folder.parent / "key.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    assert peer("sign", folder, path, folder.parent / "s", method="files") == ""
    verify(folder, key.public_key(), signature=folder.parent / "s").raise_if_failed()
