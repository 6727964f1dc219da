"""Folders of several files, one of which is not harmless: unzipped archives and bundles."""

from scan_corpus.archive_kinds import harmful_config
from scan_corpus.config_kinds import UNSAFE_ONLY
from scan_corpus.hdf5_kinds import PATHS
from scan_corpus.keras_archives import clean_model, dumped, metadata, weights, zipped
from scan_corpus.kinds import kind


def write(path, files):
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def clean_files(variant):
    return {
        "metadata.json": metadata(),
        "config.json": dumped(clean_model(), variant),
        "model.weights.h5": weights(),
    }


@kind("folder-model-link", "folder", "files", "reads another file as weights", "", ("container",))
def _link(folder, variant):
    path = write(folder / "model", clean_files(variant))
    (path / "model.weights.h5").unlink()
    (path / "model.weights.h5").symlink_to(variant.pick(("/etc/passwd", "../../w.h5"), "target"))
    return path


@kind("folder-model-external", "folder", "files", "reads another file as weights", "CVE-2026-1669")
def _external(folder, variant):
    import h5py

    def add(file):
        where = variant.pick(PATHS, "path")
        if variant.pick((True, False), "storage"):
            file.create_dataset("kernel", (8, 4), "float32", external=[(where, 0, 128)])
        else:
            file["kernel"] = h5py.ExternalLink(where, "/")

    return write(folder / "model", clean_files(variant) | {"model.weights.h5": weights(add)})


@kind("bundle-model", "folder", "code", UNSAFE_ONLY, "CVE-2024-3660", ("container",))
def _bundle(folder, variant):
    """A hardened bundle in all but the model that comes with it."""
    entries = [
        ("metadata.json", metadata()),
        ("config.json", harmful_config(variant)),
        ("model.weights.h5", weights()),
    ]
    name = variant.pick(("model.keras", "models/latest.keras", "saved_model/x.keras"), "name")
    return write(
        folder / "bundle",
        {"model_card.json": b"{}", "manifest.json": b"{}", name: zipped(entries, variant)},
    )


@kind("folder-padded-config", "folder", "code", UNSAFE_ONLY, "CVE-2024-3660")
def _padded(folder, variant):
    """More space than a scanner may want to read stands before the harm."""
    text = harmful_config(variant)
    size = variant.pick((65, 80), "size") * 2**20
    files = clean_files(variant) | {"config.json": b"{" + b" " * size + text[1:]}
    return write(folder / "model", files)


@kind("folder-among-variables", "folder", "code", UNSAFE_ONLY, "CVE-2024-3660", ("container",))
def _among_variables(folder, variant):
    """A model under a name that a scanner may take for a SavedModel's values."""
    entries = [
        ("metadata.json", metadata()),
        ("config.json", harmful_config(variant)),
        ("model.weights.h5", weights()),
    ]
    name = variant.pick(("variables.keras", "variables.data.keras", "variables.index.keras"), "it")
    files = clean_files(variant) | {f"variables/{name}": zipped(entries, variant)}
    return write(folder / "model", files)


@kind("folder-inner-config", "folder", "code", "where a program builds what the document holds")
def _inner(folder, variant):
    """The config stands somewhere in a document that is not a config itself."""
    import json

    held = json.loads(json.dumps({"models": [{"name": "best", "architecture": None}]}))
    held["models"][0]["architecture"] = json.loads(harmful_config(variant))
    return write(
        folder / "model", {"models.json": json.dumps(held).encode(), "w.weights.h5": weights()}
    )


@kind("folder-odd-pickle", "folder", "code", "where a loader unpickles")
def _odd_pickle(folder, variant):
    """A pickle that begins as few pickles do."""
    call = b"cos\nsystem\n(S'true'\ntR."
    start = variant.pick(
        (
            b"\x80\x02I1\n0",
            b"K\x000",
            b"X\x01\x00\x00\x00a0",
            b"\x80\x04\x80\x04",
            b"G" + bytes(8) + b"0",
        ),
        "start",
    )
    return write(folder / "model", clean_files(variant) | {"assets/words.txt": start + call})
