import struct
import zipfile

import pytest


def add(name, data=b"x", **fields):
    def change(archive):
        info = zipfile.ZipInfo(name)
        for field, value in fields.items():
            setattr(info, field, value)
        archive.writestr(info, data)

    return change


HARMFUL = {
    "upwards": (add("assets/../../x"), "scan.archive.traversal"),
    "absolute": (add("/etc/cron.d/x"), "scan.archive.traversal"),
    "drive": (add("C:/x"), "scan.archive.traversal"),
    "hidden direction": (add("assets/\u202etxt.exe"), "scan.archive.traversal"),
    "link": (add("assets/x", b"/etc/passwd", external_attr=0o120777 << 16), "scan.archive.symlink"),
    "device": (add("assets/x", external_attr=0o020666 << 16), "scan.archive.symlink"),
    "other case": (add("CONFIG.json", b"{}"), "scan.archive.duplicate"),
    "other form": (add("\uff43onfig.json", b"{}"), "scan.archive.duplicate"),
    "unexpected": (add("run.txt"), "scan.archive.unexpected"),
    "program": (add("assets/x", b"\x7fELF" + bytes(100)), "scan.file.executable"),
    "pickle": (add("assets/x", b"\x80\x04\x95" + bytes(100)), "scan.file.pickle"),
    "script": (add("assets/x", b"#!/bin/sh\nid\n"), "scan.file.script"),
    "archive in an archive": (add("assets/x", b"PK\x03\x04" + bytes(100)), "scan.archive.nested"),
    "bomb": (
        add("assets/x", bytes(8 * 2**20), compress_type=zipfile.ZIP_DEFLATED),
        "scan.archive.bomb",
    ),
    "other compression": (
        add("assets/x", b"x" * 100, compress_type=zipfile.ZIP_BZIP2),
        "scan.archive.compression",
    ),
    "comment": (lambda archive: setattr(archive, "comment", b"a" * 30), "scan.archive.hidden"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", HARMFUL)
def test_what_is_harmful_is_named(case, keras_file, failing):
    change, expected = HARMFUL[case]
    assert expected in failing(keras_file(change=change), unfolded_freely=2**20)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_configurations_are_one_too_many(keras_file, failing):
    path = keras_file(change=lambda archive: archive.writestr("config.json", "{}"))
    assert "scan.archive.duplicate" in failing(path)


def test_vocabularies_and_folders_are_expected(keras_file, failing):
    def change(archive):
        archive.writestr("assets/", "")
        archive.writestr("assets/layers/text/vocabulary.txt", "the\nimport\n\u00e9t\u00e9\n")

    assert failing(keras_file(change=change)) == set()
    assert failing(keras_file(compression=zipfile.ZIP_DEFLATED)) == set()


def test_zeros_may_fold_well_but_not_add_up(keras_file, failing):
    def change(archive):
        for number in range(5):
            add(f"assets/{number}", bytes(2**20), compress_type=zipfile.ZIP_DEFLATED)(archive)

    path = keras_file(change=change)
    assert failing(path) == set()
    assert failing(path, unfolded_freely=4 * 2**20) == {"scan.archive.bomb"}


def test_an_entry_unfolds_into_no_more_than_it_declares(keras_file, failing):
    def shrink(data):
        struct.pack_into("<L", data, directory_header(data, b"assets/x") + 24, 10)
        struct.pack_into("<L", data, local_header(data, b"assets/x") + 22, 10)

    change = add("assets/x", bytes(2**21), compress_type=zipfile.ZIP_DEFLATED)
    assert failing(edited(keras_file(change=change), shrink)) == {"scan.archive.mismatch"}


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_whatever_the_compression_the_contents_are_seen(method, keras_file, sequential, failing):
    lam = {"module": "keras.layers", "class_name": "Lambda", "config": {}}
    found = failing(keras_file(sequential(lam), compression=method))
    unusual = set() if method == zipfile.ZIP_DEFLATED else {"scan.archive.compression"}
    assert found == {"scan.keras.lambda"} | unusual


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_streams_are_malformed(method, keras_file, failing):
    def damage(data):
        start = data.index(b"config.json") + len("config.json")
        data[start + 12 : start + 30] = bytes(18)

    found = failing(edited(keras_file(compression=method), damage))
    assert found & {"scan.archive.malformed", "scan.archive.mismatch"}


def test_large_archives_and_streams_are_read(tmp_path, keras_file, failing):
    plain = zipfile.ZipFile(keras_file())
    path = tmp_path / "streamed.keras"
    with path.open("wb") as raw:
        # Without seeking, sizes stand behind the data; they may be of 64 bits.
        raw.seekable = lambda: False
        with zipfile.ZipFile(raw, "w") as archive:
            for name in plain.namelist():
                with archive.open(name, "w", force_zip64=True) as entry:
                    entry.write(plain.read(name))
    assert failing(path) == set()


def edited(path, edit):
    data = bytearray(path.read_bytes())
    data = edit(data) or data
    path.write_bytes(data)
    return path


def local_header(data, name):
    return data.index(name) - 30


def directory_header(data, name):
    return data.rindex(name) - 46


def test_two_descriptions_must_agree(keras_file, failing):
    def rename(data):
        at = local_header(data, b"metadata.json") + 30
        data[at : at + 4] = b"META"

    assert "scan.archive.mismatch" in failing(edited(keras_file(), rename))

    def resize(data):
        at = directory_header(data, b"config.json")
        struct.pack_into("<L", data, at + 24, 10)

    assert "scan.archive.mismatch" in failing(edited(keras_file(), resize))

    def corrupt(data):
        data[data.index(b"keras_version")] ^= 1

    assert "scan.archive.mismatch" in failing(edited(keras_file(), corrupt))


def test_encryption_is_named(keras_file, failing):
    def encrypt(data):
        for at, offset in ((local_header(data, b"config.json"), 6),):
            data[at + offset] |= 1
        data[directory_header(data, b"config.json") + 8] |= 1

    assert "scan.archive.encrypted" in failing(edited(keras_file(), encrypt))


def test_entries_share_no_bytes(keras_file, failing):
    def overlap(data):
        first = struct.unpack_from("<L", data, directory_header(data, b"metadata.json") + 42)[0]
        struct.pack_into("<L", data, directory_header(data, b"config.json") + 42, first)

    assert "scan.archive.overlap" in failing(edited(keras_file(), overlap))


@pytest.mark.parametrize("edit", [lambda data: b"#!/bin/sh\n" + data, lambda data: data + b"tail"])
def test_nothing_stands_outside_the_entries(edit, keras_file, failing):
    found = failing(edited(keras_file(), edit))
    assert found & {"scan.archive.hidden", "scan.archive.malformed"}


def test_gaps_are_named(keras_file, failing):
    def gap(data):
        start = struct.unpack_from("<L", data, len(data) - 6)[0]
        end = bytearray(data[start:])
        struct.pack_into("<L", end, len(end) - 6, start + 100)
        return data[:start] + b"h" * 100 + end

    assert "scan.archive.hidden" in failing(edited(keras_file(), gap))


def test_what_is_cut_off_is_malformed(keras_file, failing):
    path = keras_file()
    for size in (10, 200, path.stat().st_size - 1):
        assert failing(edited(path, lambda data, size=size: data[:size]))


def test_a_missing_part_is_named(keras_file, failing):
    path = keras_file(replaced={"metadata.json": None})
    assert "scan.archive.incomplete" in failing(path)


def test_weights_must_be_hdf5(keras_file, failing):
    path = keras_file(replaced={"model.weights.h5": b"\x80\x04\x95" + bytes(60)})
    assert {"scan.hdf5.malformed", "scan.file.pickle"} <= failing(path)


def test_too_many_entries_are_not_read(keras_file, failing):
    assert "scan.limits.files" in failing(keras_file(), files=2)


def with_wide_end(data, *, pointed=0, narrow=(), **changed):
    """The archive with a 64-bit end record too, in which numbers may be changed."""
    end = data.rindex(b"PK\x05\x06")
    _, count, size, offset = struct.unpack_from("<2H2L", data, end + 8)
    told = {"here": count, "count": count, "size": size, "offset": offset} | changed
    wide = b"PK\x06\x06" + struct.pack("<QHHLL4Q", 44, 45, 45, 0, 0, *told.values())
    locator = b"PK\x06\x07" + struct.pack("<LQL", 0, end + pointed, 1)
    tail = struct.pack("<4H2LH", 0, 0, *(narrow or (count, count, size, offset)), 0)
    return data[:end] + wide + locator + b"PK\x05\x06" + tail


UNSET = (0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)


@pytest.mark.parametrize("narrow", [(), UNSET])
def test_end_records_that_agree_pass(narrow, keras_file, failing):
    path = keras_file()
    path.write_bytes(with_wide_end(path.read_bytes(), narrow=narrow))
    assert zipfile.ZipFile(path).testzip() is None
    assert failing(path) == set()


@pytest.mark.parametrize(
    "changes",
    [
        {"pointed": -9},
        {"here": 2, "count": 2},
        {"narrow": (3, 3, 0xFFFFFFFF, 1)},
        {"narrow": (2, 2, 0xFFFFFFFF, 0xFFFFFFFF)},
    ],
)
def test_end_records_that_differ_are_refused(changes, keras_file, failing):
    path = keras_file()
    path.write_bytes(with_wide_end(path.read_bytes(), **changes))
    assert "scan.archive.mismatch" in failing(path)


def test_what_was_streamed_into_an_archive_passes(keras_file, failing):
    """Its sizes stand behind each entry; nothing else may stand there."""
    import io

    class Pipe(io.BytesIO):
        def tell(self):
            raise OSError("no position in a pipe")

    held = Pipe()
    with zipfile.ZipFile(keras_file()) as source, zipfile.ZipFile(held, "w") as archive:
        for name in source.namelist():
            archive.writestr(name, source.read(name))
    data = held.getvalue()
    path = keras_file()
    path.write_bytes(data)
    assert data.count(b"PK\x07\x08") >= 3
    assert failing(path) == set()
    at = data.rindex(b"PK\x07\x08")
    path.write_bytes(data[: at + 4] + bytes(8) + data[at + 12 :])
    assert failing(path) == {"scan.archive.hidden"}


def test_a_second_name_is_refused(keras_file, failing):
    info = zipfile.ZipInfo("assets/words.txt")
    body = b"\x01" + struct.pack("<L", 0) + b"config.json"
    info.extra = struct.pack("<HH", 0x7075, len(body)) + body
    path = keras_file(change=lambda archive: archive.writestr(info, "x"))
    assert failing(path) == {"scan.archive.mismatch"}
