import io
import zipfile

import numpy as np
import pytest


def npy(header, data=b"", version=(1, 0)):
    text = header.encode("latin-1")
    return b"\x93NUMPY" + bytes(version) + len(text).to_bytes(2, "little") + text + data


def literal(descr="'<f4'", shape="(2,)", rest="'fortran_order': False, "):
    return f"{{'descr': {descr}, {rest}'shape': {shape}, }}\n"


FLOATS = np.ones(2, "f4").tobytes()
HARMFUL = {
    "objects": (npy(literal("'|O'"), b"\x80\x04."), "scan.numpy.pickle"),
    "an object among fields": (npy(literal("[('a', '<f4'), ('b', '|O')]")), "scan.numpy.pickle"),
    "a deep object": (npy(literal("[('a', [('b', 'O')])]")), "scan.numpy.pickle"),
    "too large a shape": (
        npy(literal(shape="(1000000000000,)"), FLOATS),
        "scan.numpy.declared_size",
    ),
    "bytes behind": (npy(literal(), FLOATS + b"more"), "scan.numpy.declared_size"),
    "a call": (npy(literal(shape="__import__('os')"), FLOATS), "scan.numpy.header"),
    "an arithmetic shape": (npy(literal(shape="(2**40,)"), FLOATS), "scan.numpy.header"),
    "a negative shape": (npy(literal(shape="(-2,)"), FLOATS), "scan.numpy.header"),
    "a deep literal": (npy("(" * 900 + ")" * 900), "scan.numpy.header"),
    "a missing key": (npy("{'descr': '<f4', 'shape': (2,)}", FLOATS), "scan.numpy.header"),
    "another key": (npy(literal(rest="'fortran_order': False, 'x': 1, ")), "scan.numpy.header"),
    "an unknown type": (npy(literal("'<q9'"), FLOATS), "scan.numpy.header"),
    "an unknown version": (npy(literal(), FLOATS, (9, 9)), "scan.numpy.header"),
    "a header beyond the file": (npy(literal(), FLOATS)[:20], "scan.numpy.header"),
    "not a number": (
        npy(literal(), np.array([1, np.nan], "f4").tobytes()),
        "scan.weights.nonfinite",
    ),
}


@pytest.mark.parametrize("case", HARMFUL)
def test_what_is_harmful_is_named(case, tmp_path, failing):
    data, expected = HARMFUL[case]
    (tmp_path / "x.npy").write_bytes(data)
    assert expected in failing(tmp_path / "x.npy")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", data)
    assert expected in failing(tmp_path / "x.npz")


@pytest.mark.parametrize(
    "array",
    [
        np.ones((2, 3), "f4"),
        np.float64(3),
        np.asfortranarray(np.ones((2, 3))),
        np.arange(4, dtype=">i8"),
        np.zeros((0, 4), "f2"),
        np.array(["a", "bc"]),
        np.array([b"a", b"bc"]),
        np.zeros(3, [("a", "f4"), ("b", "i8", (2,))]),
        np.array([True]),
        np.ones(2, "c16"),
        np.array(["2026-01-01"], "M8[D]"),
    ],
    ids=str,
)
def test_what_numpy_writes_passes(array, tmp_path, failing):
    np.save(tmp_path / "x.npy", array)
    np.savez(tmp_path / "x.npz", a=array, b=np.ones(2))
    np.savez_compressed(tmp_path / "y.npz", a=array)
    for name in ("x.npy", "x.npz", "y.npz"):
        assert failing(tmp_path / name) == set()


def test_what_numpy_pickles_is_named(tmp_path, failing):
    np.savez(tmp_path / "x.npz", a=np.array([{}, 1], dtype=object))
    assert failing(tmp_path / "x.npz") == {"scan.numpy.pickle"}


def test_a_pickle_may_call_itself_an_array(tmp_path, failing):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", b"\x80\x04\x95" + bytes(40))
    assert {"scan.numpy.header", "scan.file.pickle"} <= failing(tmp_path / "x.npz")


def test_large_arrays_are_read_in_blocks(tmp_path, failing):
    values = np.ones(3 * 2**20, "f4")
    values[-1] = np.inf
    buffer = io.BytesIO()
    np.save(buffer, values)
    (tmp_path / "x.npy").write_bytes(buffer.getvalue())
    assert failing(tmp_path / "x.npy") == {"scan.weights.nonfinite"}
