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
