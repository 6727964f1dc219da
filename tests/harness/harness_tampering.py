"""Signed folders and files, and ways to tamper with them that know what they will be called.

`tamper(bundle, number)` changes a fresh copy in the way and place that a number stands for, and
returns the exact set of causes that verification must name.
"""

import base64
import copy
import hashlib
import json
import os
import random
import shutil
from datetime import UTC, datetime
from pathlib import Path

from keras_secure.integrity import Trust, generate_key_pair, sign, verify
from keras_secure.integrity.trust import TrustedKey

SHARD = 2**20
PRIVATE, PUBLIC = generate_key_pair()
EC_PRIVATE, EC_PUBLIC = generate_key_pair("ec-p256")
REVOKED_PRIVATE, REVOKED = generate_key_pair()
EXPIRED_PRIVATE, EXPIRED = generate_key_pair()
STRANGER = generate_key_pair()[0]


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


class Folder:
    """A folder with every kind of file, in an old and a new release, signed by two keys."""

    keys = (EC_PRIVATE, PRIVATE)
    trust = (
        Trust((PUBLIC, EC_PUBLIC), threshold=2)
        .add(REVOKED, "the stolen one")
        .revoke(REVOKED, "stolen")
        .add(EXPIRED, "the old one", not_after="2020-01-01")
    )
    files = ("weights", "sub/a", "sub/b", "sub/deep/c", ".git/config", ".gitignore", "model.parity")
    folders = ("sub", "sub/deep", ".git", "sub/empty")
    link = "sub/link"

    def __init__(self, place):
        self.place = Path(place)
        self.root, self.old = self.place / "new" / "model", self.place / "old" / "model"
        for serial, root in ((1, self.old), (2, self.root)):
            for folder in self.folders:
                (root / folder).mkdir(parents=True)
            for number, name in enumerate(self.files[:-1]):
                size = SHARD + 100 if name == "weights" else 40 + 30 * number + serial
                (root / name).write_bytes(random.Random(f"{name}{serial}").randbytes(size))
            (root / "nothing").write_bytes(b"")
            (root / self.link).symlink_to("../weights")
            sign(root, list(self.keys), serial=serial, parity=1, allow_symlinks=True)
        self.signature = "model.sig"

    @property
    def beside(self):
        """Names of files that can be gone while there still is something to verify."""
        return self.files

    def fresh(self):
        copied = self.place / "tampered"
        shutil.rmtree(copied, ignore_errors=True)
        shutil.copytree(self.root, copied / "model", symlinks=True)
        return copied / "model"

    def ways(self):
        contents = [flip, flip, truncate, extend, remove, rename, mode, to_link, to_folder, swap]
        # Most of what an attacker can write without a key is in the signature file.
        return [*contents, *SIGNATURE_WAYS, *FOLDER_WAYS, *[several] * 8]

    def resign_old(self, chance):
        """Signs the old release at some time in the past; all of it is genuine."""
        sign(
            self.old,
            list(self.keys),
            serial=chance.randrange(2),
            created=datetime.fromtimestamp(chance.randrange(10**9, 1_700_000_000), UTC),
            allow_symlinks=bool(self.link),
        )


class SingleFile(Folder):
    """A single file with its signature and its parity beside it, signed by one key."""

    keys = (PRIVATE,)
    trust = Trust((PUBLIC, TrustedKey(REVOKED, "the stolen one"))).revoke(REVOKED, "stolen")
    files = ("model.keras", "model.keras.parity")
    folders = ()
    link = None

    def __init__(self, place):
        self.place = Path(place)
        for serial, name in ((1, "old"), (2, "new")):
            folder = self.place / name
            folder.mkdir(parents=True)
            path = folder / "model.keras"
            path.write_bytes(random.Random(serial).randbytes(3000 + serial))
            sign(path, list(self.keys), serial=serial, parity=1)
        self.root, self.old = self.place / "new" / "model.keras", self.place / "old" / "model.keras"
        self.signature = "model.keras.sig"

    def fresh(self):
        copied = self.place / "tampered"
        shutil.rmtree(copied, ignore_errors=True)
        shutil.copytree(self.root.parent, copied)
        return copied / "model.keras"

    def ways(self):
        contents = [
            flip,
            truncate,
            extend,
            mode,
            remove,
            to_link,
            to_folder,
            swap,
            several,
            several,
        ]
        return [*contents, replay, roll_back, *SIGNATURE_WAYS]

    @property
    def beside(self):
        return self.files[1:]


def base_of(root):
    return root if root.is_dir() else root.parent


def fingerprint(bundle):
    """What tells a tampered copy from any other."""
    digest = hashlib.sha256()
    for path in sorted((bundle.place / "tampered").rglob("*")):
        status = path.lstat()
        facts = [str(path), status.st_mode, status.st_size]
        if path.is_symlink():
            facts.append(os.readlink(path))
        elif path.is_file() and status.st_size < 2**24:
            facts.append(hashlib.sha256(path.read_bytes()).hexdigest())
        digest.update(repr(facts).encode())
    return digest.hexdigest()


def tamper(bundle, number):
    """Returns a tampered copy, the causes to expect, and the way that was taken."""
    chance = random.Random(number)
    ways = bundle.ways()
    way = ways[number % len(ways)]
    root = bundle.fresh()
    return root, way(bundle, root, chance), way.__name__


def judge(bundle, root):
    """The causes that verification names, without their prefix."""
    report = verify(root, bundle.trust, min_serial=2)
    assert report.ok == (not report.causes)
    json.dumps(report.to_dict())
    return report, {cause.removeprefix("integrity.") for cause in report.causes}


# What happens to files.


def flip(bundle, root, chance):
    name = chance.choice(bundle.files)
    path = base_of(root) / name
    data = bytearray(path.read_bytes())
    place = chance.randrange(len(data))
    data[place] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
    report = verify(root, bundle.trust)
    (finding,) = report.failures
    assert finding.evidence["path"] in (name, ".")
    assert finding.evidence["offsets"] == [place // SHARD * SHARD]
    return {"changed"}


def truncate(bundle, root, chance):
    path = base_of(root) / chance.choice(bundle.files)
    os.truncate(path, chance.randrange(path.stat().st_size))
    return {"truncated"}


def extend(bundle, root, chance):
    path = base_of(root) / chance.choice(bundle.files)
    with open(path, "ab") as file:
        file.write(chance.randbytes(chance.randrange(1, 50)))
    return {"extended"}


def remove(bundle, root, chance):
    more = ["nothing", bundle.link] if root.is_dir() else []
    name = chance.choice([*bundle.beside, *more, bundle.signature])
    (base_of(root) / name).unlink()
    return {"unsigned"} if name == bundle.signature else {"missing"}


def rename(bundle, root, chance):
    path = root / chance.choice(bundle.files)
    os.rename(path, root / chance.choice(bundle.folders) / f"renamed-{chance.randrange(1000)}")
    return {"renamed"}


def mode(bundle, root, chance):
    path = base_of(root) / chance.choice([*bundle.files, *bundle.folders])
    before = path.stat().st_mode & 0o777
    # Never a right of the owner's that is needed to read it; but who else may, and setuid.
    path.chmod(before ^ chance.choice([chance.randrange(1, 0o100), 0o4000]))
    return {"mode"}


def to_link(bundle, root, chance):
    more = ["nothing"] if root.is_dir() else []
    path = base_of(root) / chance.choice([*bundle.beside, *more])
    outside = base_of(root).parent / f"outside-{chance.randrange(1000)}"
    os.rename(path, outside)
    path.symlink_to(chance.choice([outside, f"../{outside.name}", "nowhere", path.name]))
    return {"symlink"}


def to_folder(bundle, root, chance):
    more = ["nothing"] if root.is_dir() else []
    path = base_of(root) / chance.choice([*bundle.beside, *more])
    path.unlink()
    path.mkdir()
    path.chmod(0o700 | chance.randrange(0o100))
    return {"special"}


def several(bundle, root, chance):
    """Different things to two, three or four files at once, each of which must be named."""
    ways = {
        "changed": lambda data: data[:-1] + bytes([data[-1] ^ chance.randrange(1, 256)]),
        "truncated": lambda data: data[: chance.randrange(1, len(data))],
        "extended": lambda data: data + chance.randbytes(chance.randrange(1, 50)),
    }
    names = chance.sample(bundle.files, min(chance.randrange(2, 5), len(bundle.files)))
    causes = set()
    for name in names:
        more = ["mode", "missing"] if name in bundle.beside else ["mode"]
        path, cause = base_of(root) / name, chance.choice([*ways, *more])
        if cause == "mode":
            path.chmod(path.stat().st_mode & 0o777 ^ chance.randrange(1, 0o100))
        elif cause == "missing":
            path.unlink()
        else:
            path.write_bytes(ways[cause](path.read_bytes()))
        causes.add(cause)
    report = verify(root, bundle.trust)
    assert {finding.evidence["path"] for finding in report.failures} <= {*names, "."}
    assert len(report.failures) == len(names)
    if root.is_dir() and chance.random() < 0.5:
        causes |= chance.choice([add_file, add_folder, add_link, add_pipe])(bundle, root, chance)
    return causes


def add_file(bundle, root, chance):
    name = chance.choice(["new", ".hidden", "saved_model.pb", "model.sig2", "größe", "a\nb"])
    folder = root / chance.choice([*bundle.folders, "."])
    (folder / name).write_bytes(chance.randbytes(chance.randrange(1, 300)))
    return {"added"}


def copy_file(bundle, root, chance):
    shutil.copy(
        root / chance.choice(bundle.files), root / "sub" / f"copied-{chance.randrange(1000)}"
    )
    return {"added"}


def add_folder(bundle, root, chance):
    (root / chance.choice([*bundle.folders, "."]) / f"more-{chance.randrange(1000)}").mkdir()
    return {"folder_added"}


def remove_folder(bundle, root, chance):
    (root / "sub" / "empty").rmdir()
    return {"folder_missing"}


def rename_folder(bundle, root, chance):
    os.rename(root / "sub" / "deep", root / f"deep-{chance.randrange(1000)}")
    return {"folder_added", "folder_missing", "renamed"}


def swap(bundle, root, chance):
    """Two files exchanged, and sometimes a third one longer."""
    names = chance.sample(bundle.files, len(bundle.files))
    first, second = (base_of(root) / name for name in names[:2])
    kept = first.with_name("kept")
    os.rename(first, kept)
    os.rename(second, first)
    os.rename(kept, second)
    report = verify(root, bundle.trust, check_modes=False)
    assert [finding.id for finding in report.failures] == ["integrity.swapped"] * 2
    if len(names) == 2 or chance.random() < 0.2:
        return {"swapped"}
    with open(root / names[2], "ab") as file:
        file.write(chance.randbytes(chance.randrange(1, 50)))
    return {"swapped", "extended"}


def add_link(bundle, root, chance):
    targets = ["weights", "/etc/passwd", "../../outside", f"nowhere-{chance.random()}", "sub"]
    (root / f"new-{chance.randrange(1000)}").symlink_to(chance.choice(targets))
    return {"symlink"}


def turn_link(bundle, root, chance):
    path = root / bundle.link
    path.unlink()
    targets = ["a", "../.gitignore", "/etc/passwd", "../weights/", "..", f"../{chance.random()}"]
    path.symlink_to(chance.choice(targets))
    return {"symlink"}


def link_to_copy(bundle, root, chance):
    path = root / bundle.link
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(chance.choice([data, chance.randbytes(40)]))
    return {"symlink"}


def add_pipe(bundle, root, chance):
    os.mkfifo(root / chance.choice(bundle.folders) / f"pipe-{chance.randrange(1000)}")
    return {"special"}


def replay(bundle, root, chance):
    """An old signature over new contents; every file differs between the releases."""
    bundle.resign_old(chance)
    shutil.copy(base_of(bundle.old) / bundle.signature, base_of(root) / bundle.signature)
    report = verify(root, bundle.trust)
    assert any(finding.id == "integrity.other_contents" for finding in report.findings)
    causes = {cause.removeprefix("integrity.") for cause in report.causes}
    assert causes
    assert causes <= {"changed", "extended", "truncated"}
    return {"rollback", *causes}


def roll_back(bundle, root, chance):
    """The whole old release, whose signature is as valid as ever."""
    bundle.resign_old(chance)
    for path in sorted(base_of(bundle.old).rglob("*")):
        if path.is_file() and not path.is_symlink():
            shutil.copy(path, base_of(root) / path.relative_to(base_of(bundle.old)))
    assert verify(root, bundle.trust).ok
    return {"rollback"}


FOLDER_WAYS = [
    add_file, copy_file, add_folder, remove_folder, rename_folder, add_link, turn_link,
    link_to_copy, add_pipe, replay, roll_back,
]  # fmt: skip


# What happens to the signature file.


def flip_signature(bundle, root, chance):
    path = base_of(root) / bundle.signature
    before = path.read_bytes()
    data = bytearray(before)
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
    return expected_of(before, bytes(data))


def flip_proof(bundle, root, chance):
    """A bit of one of the signatures themselves, which are a small part of the file."""
    path = base_of(root) / bundle.signature
    before = path.read_bytes()
    content = json.loads(before)
    entry = chance.choice(content["dsseEnvelope"]["signatures"])
    proof = bytearray(base64.b64decode(entry["sig"]))
    proof[chance.randrange(len(proof))] ^= 1 << chance.randrange(8)
    entry["sig"] = base64.b64encode(proof).decode()
    path.write_bytes(canonical(content))
    return {"signature"}


def expected_of(before, data):
    """What an edit of a signature file must be called, read with nothing but json and base64."""
    old = json.loads(before)["dsseEnvelope"]
    try:
        pairs = []

        def note(items):
            pairs.append(len(dict(items)) == len(items))
            return dict(items)

        content = json.loads(data.decode(), object_pairs_hook=note)
        new = content["dsseEnvelope"]
        payload = base64.b64decode(new["payload"], validate=True)
        proofs = [base64.b64decode(entry["sig"], validate=True) for entry in new["signatures"]]
        if not all(pairs) or content["mediaType"] != json.loads(before)["mediaType"]:
            return {"signature_file"}
        content["verificationMaterial"].get("publicKey", {}).get("hint")
        same_type = new["payloadType"] == old["payloadType"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return {"signature_file"}
    if not same_type:
        return {"signature_file"}
    if payload != base64.b64decode(old["payload"]):
        return {"statement"}
    if proofs != [base64.b64decode(entry["sig"]) for entry in old["signatures"]]:
        return {"signature"}
    return {"signature_file"}


def truncate_signature(bundle, root, chance):
    path = base_of(root) / bundle.signature
    os.truncate(path, chance.randrange(path.stat().st_size))
    return {"signature_file"}


def spoil_json(bundle, root, chance):
    path = base_of(root) / bundle.signature
    data = path.read_bytes()
    place = chance.choice([place for place, byte in enumerate(data) if byte in b",:{}"])
    path.write_bytes(
        chance.choice(
            [
                data[:place] + chance.choice([b" ", b"\n", b"\t", b"  "]) + data[place:],
                data[:place] + chance.randbytes(8) + data[place:],
                data[:-1] + b',"more%d":%d}' % (chance.randrange(1000), chance.randrange(1000)),
                chance.randbytes(chance.randrange(1, 2000)),
                b"[" * chance.randrange(1, 9000),
                data + b"\n",
                b" " + data,
                data.replace(b'":"', b'": "', 1),
                data[:-1] + b',"more":1}',
                data[:-1] + b"," + data[1:],
                b"[" * 5000 + b"]" * 5000,
                b"",
                b"{}",
                b"\xff" + data,
                data.replace(b'"keyid"', b'"keyId"', 1),
            ]
        )
    )
    return {"signature_file"}


def replace_signature_file(bundle, root, chance):
    path = base_of(root) / bundle.signature
    kept = path.with_name("kept")
    os.rename(path, kept)
    kind = chance.choice(["link", "folder", "pipe", "large"])
    if kind == "link":
        path.symlink_to("kept")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        with open(path, "wb") as file:
            file.truncate(2**27 + chance.randrange(1000))
    return {"signature_file"}


def edit(bundle, root, change, fix):
    """Edits the signed statement; `fix` makes it consistent again, as a careful forger would."""
    path = base_of(root) / bundle.signature
    content = json.loads(path.read_bytes())
    envelope = content["dsseEnvelope"]
    statement = json.loads(base64.b64decode(envelope["payload"]))
    before = copy.deepcopy(statement)
    change(statement["predicate"])
    assert statement != before
    if fix:
        digest = hashlib.sha256()
        for resource in statement["predicate"]["resources"]:
            digest.update(bytes.fromhex(resource["digest"]))
        statement["subject"][0]["digest"]["sha256"] = digest.hexdigest()
        del statement["predicate"]["keras_secure"]["digest"]
        own = hashlib.sha256(canonical(statement)).hexdigest()
        statement["predicate"]["keras_secure"]["digest"] = own
    envelope["payload"] = base64.b64encode(canonical(statement)).decode()
    path.write_bytes(canonical(content))
    return {"signature"} if fix else {"statement"}


def a_change(chance):
    other = hashlib.sha256(chance.randbytes(8)).hexdigest()

    def digest(predicate):
        # A link has the digest of the file that it leads to, so a careful forger edits both.
        before = chance.choice(predicate["resources"])["digest"]
        for resource in predicate["resources"]:
            resource["digest"] = other if resource["digest"] == before else resource["digest"]

    def serial(predicate):
        predicate["keras_secure"]["serial"] += chance.randrange(1, 10**9)

    def created(predicate):
        predicate["keras_secure"]["created"] = (
            f"20{chance.randrange(30, 90)}-01-0{chance.randrange(1, 9)}T00:00:00Z"
        )

    def file_mode(predicate):
        entry = chance.choice(list(predicate["keras_secure"]["files"].values()))
        entry["mode"] ^= 1 << chance.randrange(9)

    def name(predicate):
        predicate["keras_secure"]["check_name"] = True

    def parity(predicate):
        predicate["keras_secure"]["parity"] = None

    return chance.choice([digest, serial, created, file_mode, name, parity])


def edit_carelessly(bundle, root, chance):
    return edit(bundle, root, a_change(chance), fix=False)


def edit_carefully(bundle, root, chance):
    return edit(bundle, root, a_change(chance), fix=True)


def drop_a_signature(bundle, root, chance):
    path = base_of(root) / bundle.signature
    content = json.loads(path.read_bytes())
    signatures = content["dsseEnvelope"]["signatures"]
    number = chance.randrange(len(signatures))
    del signatures[number]
    path.write_bytes(canonical(content))
    return {"threshold"} if number else {"signature_file"}


def double_a_signature(bundle, root, chance):
    path = base_of(root) / bundle.signature
    content = json.loads(path.read_bytes())
    signatures = content["dsseEnvelope"]["signatures"]
    signatures.insert(chance.randrange(len(signatures) + 1), chance.choice(signatures))
    path.write_bytes(canonical(content))
    return {"signature_file"}


def sign_by_another(bundle, root, chance):
    is_folder = root.is_dir()
    keys = {"untrusted_key": STRANGER, "revoked_key": REVOKED_PRIVATE}
    if is_folder:
        keys["expired_key"] = EXPIRED_PRIVATE
    cause = chance.choice(sorted(keys))
    good = list(bundle.keys) if chance.random() < 0.5 else []
    sign(root, [*good, keys[cause]], serial=2, allow_symlinks=is_folder)
    return {cause}


SIGNATURE_WAYS = [
    flip_signature, flip_signature, flip_proof, truncate_signature, spoil_json,
    replace_signature_file, edit_carelessly, edit_carefully, drop_a_signature, double_a_signature,
    sign_by_another,
]  # fmt: skip
