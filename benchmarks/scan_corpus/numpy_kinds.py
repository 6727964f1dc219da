"""NumPy archives that unpickle, claim more than they hold, or hold no numbers."""

import io
import struct
import zipfile

from scan_corpus.keras_archives import clean_model, dumped, entry, metadata, target, zipped
from scan_corpus.kinds import kind
from scan_corpus.payloads import MARKER, Evaluate, Touch, pickled

UNPICKLES = "where it is loaded with allow_pickle=True"


def array(value, allow_pickle=False):
    import numpy as np

    held = io.BytesIO()
    np.lib.format.write_array(held, value, allow_pickle=allow_pickle)
    return held.getvalue()


def header(text, version=(1, 0), length=None):
    """The start of an `.npy` file with this header, which may claim another length."""
    text = text.encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    size = "<H" if version == (1, 0) else "<I"
    return b"\x93NUMPY" + bytes(version) + struct.pack(size, length or len(text)) + text


def clean_entries():
    import numpy as np

    return [("kernel.npy", array(np.ones((3, 2), "float32"))), ("bias.npy", array(np.zeros(2)))]


def write(folder, variant, entries):
    held = zipped(entries, variant)
    if variant.in_archive:
        path = target(folder, variant, ".keras")
        config = dumped(clean_model(), variant)
        outer = [("metadata.json", metadata()), ("config.json", config)]
        path.write_bytes(zipped([*outer, ("model.weights.npz", held)], variant))
        return path
    path = target(folder, variant, ".npz")
    path.write_bytes(held)
    return path


def array_kind(name, harm, effect):
    """Registers a function that returns the bytes of the harmful array."""

    def register(make):
        def build(folder, variant):
            member = (f"{variant.name}.npy", make(variant))
            return write(folder, variant, [*clean_entries(), member])

        kind(name, "npz", harm, effect)(build)
        return make

    return register


def objects(variant):
    import numpy as np

    return array(np.array([variant.pick((Touch, Evaluate), "it")()], dtype=object), True)


array_kind("npz-object-array", "code", UNPICKLES)(objects)


def object_archive(variant):
    return zipped([*clean_entries(), ("state.npy", objects(variant))], variant)


@array_kind("npz-object-field", "code", UNPICKLES)
def _object_field(variant):
    """Objects in a field of a structured dtype, or in one within it."""
    described = variant.pick(
        (
            "[('a', '<f4'), ('b', '|O')]",
            "[('a', [('b', '|O', (2,))])]",
            "[('a', '<f4'), ('b', 'O')]",
            "['O', '<f4']",
        ),
        "dtype",
    )
    text = f"{{'descr': {described}, 'fortran_order': False, 'shape': (1,), }}"
    return header(text) + pickled(variant)


@array_kind("npz-raw-pickle", "code", UNPICKLES)
def _raw_pickle(variant):
    """NumPy takes what lacks its magic bytes for a pickle."""
    return pickled(variant)


@array_kind("npz-header-code", "code", "readers that eval() an array's header")
def _header_code(variant):
    text = variant.pick(
        (
            "{'descr': '<f4', 'fortran_order': False, 'shape': (__import__('os').getpid(),), }",
            "__import__('os').getpid()",
            "{'descr': (lambda: '<f4')(), 'fortran_order': False, 'shape': (1,), }",
        ),
        "text",
    )
    return header(text) + bytes(16)


@array_kind("npz-shape-bomb", "resources", "memory, on load")
def _shape_bomb(variant):
    shape = variant.pick(("(1000000, 1000000)", "(4294967296,)", "(-1,)", "(2, 9999999999)"), "it")
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
    return header(text) + bytes(64)


@array_kind("npz-header-length", "resources", "memory, on load")
def _header_length(variant):
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }"
    return header(text, (2, 0), variant.pick((0xFFFFFFF0, 10**9), "length")) + bytes(12)


@array_kind("npz-nan", "weights", "gives no number")
def _nan(variant):
    import numpy as np

    value = np.ones((200, 20), variant.pick(("float32", "float16", ">f8"), "dtype"))
    value[variant.pick((0, 199, 77), "row"), 3] = variant.pick((np.nan, np.inf, -np.inf), "value")
    return array(np.asfortranarray(value) if variant.pick((0, 1), "order") else value)


@kind("npz-bomb", "npz", "resources", "memory, on load", "", ("compression",))
def _bomb(folder, variant):
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (52428800,), }"
    held = header(text) + bytes(4 * 52_428_800)
    bomb = entry("kernel.npy", held, zipfile.ZIP_DEFLATED)
    return write(folder, variant, [*clean_entries()[1:], bomb])


@kind("npz-traversal", "npz", "archive", "where it is extracted")
def _traversal(folder, variant):
    up = variant.pick(("../../", "/tmp/", "a/../../"), "up")
    return write(folder, variant, [*clean_entries(), (f"{up}{MARKER}.npy", clean_entries()[0][1])])


@kind("npz-duplicate", "npz", "archive", "where two readers disagree")
def _duplicate(folder, variant):
    return write(folder, variant, [*clean_entries(), ("kernel.npy", clean_entries()[1][1])])


@kind("npz-pickle-member", "npz", "code", UNPICKLES)
def _member(folder, variant):
    name = variant.pick(("state.pkl", "kernel", "data.bin"), "name")
    return write(folder, variant, [*clean_entries(), (name, pickled(variant))])
