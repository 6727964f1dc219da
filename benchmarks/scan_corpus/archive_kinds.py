"""Archives that put files where they do not belong, or that two readers read differently."""

import struct
import zipfile

from scan_corpus.config_kinds import UNSAFE_ONLY, code, lambda_layer
from scan_corpus.hdf5_kinds import bomb_of_zeros
from scan_corpus.keras_archives import (
    clean_model,
    dumped,
    entry,
    metadata,
    model,
    target,
    weights,
    write_model,
    zipped,
)
from scan_corpus.kinds import kind
from scan_corpus.payloads import MARKER, PYTHON, pickled

EXTRACTION = "where the archive is extracted, as Keras does for assets"
READERS = "where two readers disagree"


def harmful_config(variant):
    return dumped(model([lambda_layer(variant, code(variant))], variant), variant)


def clean_entries(variant):
    return [
        ("metadata.json", metadata()),
        ("config.json", dumped(clean_model(), variant)),
        ("model.weights.h5", weights()),
    ]


def write(folder, variant, entries):
    path = target(folder, variant, ".keras")
    path.write_bytes(zipped(entries, variant))
    return path


def with_member(name, harm, effect, cve=""):
    """Registers a function that returns what else lies in a clean model's archive."""

    def register(make):
        def build(folder, variant):
            return write(folder, variant, [*clean_entries(variant), *make(variant)])

        kind(name, "archive", harm, effect, cve)(build)
        return make

    return register


@with_member("zip-traversal", "archive", EXTRACTION)
def _traversal(variant):
    up = variant.pick(("../../", "assets/../../", "a/b/../../../", "./../"), "up")
    return [(f"{up}tmp/{MARKER}.py", b"print()\n")]


@with_member("zip-absolute", "archive", EXTRACTION)
def _absolute(variant):
    root = variant.pick(("/tmp/", "//tmp/", "/"), "root")
    return [(f"{root}{MARKER}", b"0")]


@with_member("zip-windows-path", "archive", EXTRACTION + ", on Windows")
def _windows(variant):
    name = variant.pick(("..\\..\\evil.txt", "C:\\evil.txt", "assets\\..\\..\\x", "C:/x"), "name")
    return [(name, b"0")]


@with_member("zip-symlink", "archive", EXTRACTION)
def _symlink(variant):
    where = variant.pick((b"/etc/passwd", b"../../..", b"/"), "target")
    return [entry("assets/layers/link", where, mode=0o120777)]


@with_member("zip-device", "archive", EXTRACTION)
def _device(variant):
    mode = variant.pick((0o010644, 0o020644, 0o060644), "mode")
    return [entry("assets/layers/pipe", b"", mode=mode)]


@with_member("zip-bomb", "resources", EXTRACTION)
def _bomb(variant):
    size = variant.pick((200, 100, 60), "size") * 2**20
    info, data = entry("assets/layers/vocabulary.txt", b"0" * size, zipfile.ZIP_DEFLATED)
    return [(info, data)]


@with_member("zip-many-entries", "resources", EXTRACTION)
def _many(variant):
    count = variant.pick((70_000, 30_000), "count")
    return [(f"assets/{at}", b"") for at in range(count)]


@with_member("zip-executable", "code", "where a loader or a person runs what lies beside a model")
def _executable(variant):
    return [
        variant.pick(
            (
                ("assets/setup.py", f"x = 0\n{PYTHON}\n".encode()),
                ("assets/custom_ops.so", b"\x7fELF\x02\x01\x01" + bytes(200)),
                ("assets/run.exe", b"MZ\x90\x00" + bytes(200)),
                ("assets/layers/words.txt", b"\x7fELF\x02\x01\x01" + bytes(200)),
                ("assets/run.sh", b"#!/bin/sh\nexit 0\n"),
                ("__init__.py", b"import os\n"),
                ("assets/module.pyc", bytes(200)),
            ),
            "executable",
        )
    ]


@with_member("zip-pickle", "code", "where a loader unpickles assets")
def _pickle(variant):
    name = variant.pick(("assets/state.pkl", "assets/data.joblib", "assets/words.txt"), "name")
    return [(name, pickled(variant))]


@with_member("zip-duplicate-weights", "archive", READERS)
def _duplicate_weights(variant):
    return [("model.weights.h5", weights(lambda file: file.create_group("other")))]


@kind("zip-duplicate-config", "archive", "code", UNSAFE_ONLY + "; " + READERS)
def _duplicate_config(folder, variant):
    first, second = dumped(clean_model(), variant), harmful_config(variant)
    if variant.pick((False, True), "harmful first"):
        first, second = second, first
    return write(
        folder,
        variant,
        [
            ("metadata.json", metadata()),
            ("config.json", first),
            ("config.json", second),
            ("model.weights.h5", weights()),
        ],
    )


@kind("zip-name-mismatch", "archive", "code", READERS, "", ("prefix", "comment"))
def _mismatch(folder, variant):
    """The directory at the end shows a clean config; whoever reads from the front finds another."""
    held = zipped([*clean_entries(variant), ("config.txt_", harmful_config(variant))], variant)
    # The local header alone is renamed.
    held = held.replace(b"config.txt_", b"config.json", 1)
    path = target(folder, variant, ".keras")
    path.write_bytes(held)
    return path


@kind("zip-hidden-archive", "archive", "code", READERS)
def _hidden(folder, variant):
    """A second archive in the first's slack, for whoever reads local headers in turn."""
    hidden = zipped(
        [
            ("metadata.json", metadata()),
            ("config.json", harmful_config(variant)),
            ("model.weights.h5", weights()),
        ],
        variant,
    )
    end = hidden.rindex(b"PK\x05\x06")
    path = target(folder, variant, ".keras")
    from dataclasses import replace

    shown = zipped(clean_entries(variant), replace(variant, prefix=hidden[:end]))
    path.write_bytes(shown)
    return path


@kind("zip-nul-name", "archive", "code", READERS, "", ("prefix",))
def _nul(folder, variant):
    """Readers that end a name at NUL see a second config."""
    entries = [*clean_entries(variant), ("config.json@.txt", harmful_config(variant))]
    path = target(folder, variant, ".keras")
    path.write_bytes(zipped(entries, variant).replace(b"config.json@", b"config.json\0"))
    return path


@kind("zip-encrypted", "archive", "archive", "hides its content from scanners")
def _encrypted(folder, variant):
    held = bytearray(zipped(clean_entries(variant), variant))
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = -1
        while (start := held.find(signature, start + 1)) >= 0:
            held[start + at] |= 1
    path = target(folder, variant, ".keras")
    path.write_bytes(held)
    return path


def central_entries(held):
    """Where each header of the directory at an archive's end begins."""
    end = held.rindex(b"PK\x05\x06")
    count, at = struct.unpack_from("<H", held, end + 10)[0], held.index(b"PK\x01\x02")
    starts = []
    for _ in range(count):
        starts.append(at)
        name, extra, comment = struct.unpack_from("<HHH", held, at + 28)
        at += 46 + name + extra + comment
    return starts


@kind("zip-declared-size", "archive", "resources", "reserves what an entry claims to hold")
def _declared(folder, variant):
    held = bytearray(zipped(clean_entries(variant), variant))
    claimed = variant.pick((0xFFFFFFF0, 2**31, 50), "claimed")
    for at in central_entries(held):
        name = struct.unpack_from("<H", held, at + 28)[0]
        if b"weights" in held[at + 46 : at + 46 + name]:
            struct.pack_into("<I", held, at + 24, claimed)
    path = target(folder, variant, ".keras")
    path.write_bytes(held)
    return path


@kind("zip-overlap", "archive", "resources", EXTRACTION, "", ("prefix",))
def _overlap(folder, variant):
    """Many entries that share one stored kernel: Fifield's bomb in small."""
    kernel = entry("assets/kernel", bytes(4 * 2**20), zipfile.ZIP_DEFLATED)
    held = bytearray(zipped([*clean_entries(variant), kernel], variant))
    end = held.rindex(b"PK\x05\x06")
    starts = central_entries(held)
    at = next(at for at in starts if b"assets/kernel" in held[at : at + 80])
    header = bytes(held[at : at + 46 + len("assets/kernel")])
    many = variant.pick((500, 60), "many")
    added = b"".join(header[:46] + f"assets/{number:06d}".encode() for number in range(many))
    held[end:end] = added
    end += len(added)
    count, _, size = struct.unpack_from("<HHI", held, end + 8)
    struct.pack_into("<HHI", held, end + 8, count + many, count + many, size + len(added))
    path = target(folder, variant, ".keras")
    path.write_bytes(held)
    return path


@kind(
    "prefixed-archive", "archive", "archive", "runs as a script, opens as a model", "", ("prefix",)
)
def _prefixed(folder, variant):
    from dataclasses import replace

    script = variant.pick((b"#!/bin/sh\nexit 0\n", b"<?php exit(); ?>\n", b"MZ" + bytes(64)), "it")
    path = target(folder, variant, ".keras")
    path.write_bytes(zipped(clean_entries(variant), replace(variant, prefix=script)))
    return path


@kind("archive-weights-bomb", "archive", "resources", "on load in Keras before 3.12.3")
def _weights_bomb(folder, variant):
    return write(
        folder, variant, [*clean_entries(variant)[:2], ("model.weights.h5", bomb_of_zeros(variant))]
    )


@kind("archive-pickled-weights", "archive", "code", "where weights are read with allow_pickle")
def _pickled_weights(folder, variant):
    from scan_corpus.numpy_kinds import object_archive

    return write_model(
        folder,
        clean_model(),
        variant,
        stored_weights=object_archive(variant),
        weights_name="model.weights.npz",
    )


@kind("plain-pickle", "archive", "code", "where a loader unpickles", "", ("compression", "reverse"))
def _plain_pickle(folder, variant):
    """A pickle that carries a model's name."""
    suffix = variant.pick((".keras", ".h5", ".npz"), "suffix")
    path = target(folder, variant, suffix)
    path.write_bytes(pickled(variant))
    return path
