"""How one malicious file may be told apart from another of its kind by who only looks for names."""

import random
import zipfile
from dataclasses import dataclass, field, replace

NESTINGS = (
    "TimeDistributed",
    "Bidirectional",
    "Sequential",
    "Functional",
    "SpectralNormalization",
    "Wrapper",
)
COMPRESSIONS = (
    *(zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED),
    *(zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA),
)
JSON_STYLES = ("plain", "indented", "escaped", "sorted", "utf-16", "utf-32", "utf-8-sig")
SPELLINGS = ("public", "source", "bare", "package", "tensorflow")
BASE64_STYLES = ("lines", "one line", "padded")
NAMES = ("dense_7", "flatten", "Layer", "preprocess/scale", "naïve", "a.b", "x" * 60, "0")


@dataclass(frozen=True)
class Variant:
    """The choices that leave a kind what it is. The defaults are the kind at its plainest.

    Args:
        seed: Draws what only some kinds have a choice of; see `pick`.
        name: The harmful layer's.
        nesting: What the harmful layer stands in, from the outside to the inside.
        spelling: How a class's module is written.
        outer: `"Sequential"` or `"Functional"`: the whole model.
        json_style: One of `JSON_STYLES`, all of which Keras reads.
        base64_style: One of `BASE64_STYLES`, all of which Keras reads.
        compression: Of entries in archives.
        reverse: Whether an archive's entries come in the opposite order.
        comment: Whether the archive ends with a comment.
        prefix: Bytes in front of the file, which zip readers, and HDF5's at 512, skip.
        suffix: Replaces the file name's own.
        container: Of a model's config: `"keras"`, `"h5"` or `"folder"` (an unzipped archive).
        group: Where in an HDF5 file the harmful object lies.
        latest: Whether HDF5 is written in its latest version.
        in_archive: Whether a weights file lies in a `.keras` archive.
        depth: Functions that a SavedModel's operation lies in, beyond the first.
        branch: Whether it lies in a branch of a condition.
        as_text: Whether a SavedModel is written as `saved_model.pbtxt`.
        second_graph: Whether it lies in a second MetaGraph.
        done: What was changed, in words.
    """

    seed: int = 0
    name: str = "layer"
    nesting: tuple[str, ...] = ()
    spelling: str = "public"
    outer: str = "Sequential"
    json_style: str = "plain"
    base64_style: str = "lines"
    compression: int = zipfile.ZIP_STORED
    reverse: bool = False
    comment: bool = False
    prefix: bytes = b""
    suffix: str | None = None
    container: str = "keras"
    group: str = "layers/dense/vars"
    latest: bool = False
    in_archive: bool = False
    depth: int = 0
    branch: bool = False
    as_text: bool = False
    second_graph: bool = False
    done: tuple[str, ...] = field(default=(), compare=False)

    def pick(self, choices, what):
        """One of `choices`, the first of them without a seed; `what` keeps two picks apart."""
        if not self.seed:
            return choices[0]
        return random.Random(f"{self.seed}/{what}").choice(choices)


def config_changes(rng):
    nesting = tuple(rng.sample(NESTINGS, rng.choice((1, 1, 2, 3))))
    return [
        {"nesting": nesting},
        {"name": rng.choice(NAMES)},
        {"spelling": rng.choice(SPELLINGS[1:])},
        {"outer": "Functional"},
        {"json_style": rng.choice(JSON_STYLES[1:])},
        {"base64_style": rng.choice(BASE64_STYLES[1:])},
        {"container": rng.choice(("h5", "folder"))},
    ]


def archive_changes(rng):
    return [
        {"compression": rng.choice(COMPRESSIONS[1:])},
        {"reverse": True},
        {"comment": True},
        {"suffix": rng.choice((".zip", ".bin", ".KERAS", ".h5", ""))},
    ]


def hdf5_changes(rng):
    return [
        {"group": rng.choice(("a/b/c/d", "optimizer/vars", "_layer_checkpoint_dependencies/x"))},
        {"latest": True},
        {"in_archive": True},
        {"suffix": rng.choice((".hdf5", ".bin", ".weights", ".H5"))},
        {"name": rng.choice(NAMES[:3])},
    ]


def saved_model_changes(rng):
    return [
        {"depth": rng.choice((1, 2, 3))},
        {"branch": True},
        {"as_text": True},
        {"second_graph": True},
        {"name": rng.choice(("while_body", "Identity", "serve"))},
    ]


def numpy_changes(rng):
    return [
        {"compression": rng.choice(COMPRESSIONS[1:])},
        {"reverse": True},
        {"in_archive": True},
        {"suffix": rng.choice((".zip", ".bin", ".NPZ"))},
        {"name": rng.choice(("arr_0", "layers/dense/kernel", "ø"))},
    ]


CHANGES = {
    "config": (config_changes, archive_changes),
    "archive": (archive_changes,),
    "hdf5": (hdf5_changes,),
    "saved_model": (saved_model_changes,),
    "npz": (numpy_changes,),
    "folder": (config_changes,),
}
PREFIXES = (b"#!/bin/sh\nexit 0\n", b"\x7fELF" + bytes(60), b"GIF89a", b"MZ" + bytes(510))


def drawn(family, seed):
    """A variant that differs in one to three ways from the plainest of a family of kinds."""
    rng = random.Random(f"variant {family} {seed}")
    # The groups in turn, so that none crowds out the others.
    pool = [change for group in CHANGES[family] for change in group(rng)]
    chosen = rng.sample(pool, min(rng.choice((1, 1, 2, 3)), len(pool)))
    changes = {key: value for change in chosen for key, value in change.items()}
    if family in ("config", "archive", "npz") and rng.random() < 0.08:
        changes["prefix"] = rng.choice(PREFIXES)
    if changes.get("container") in ("h5", "folder"):
        # What only an archive has.
        for key in ("compression", "reverse", "comment", "suffix", "prefix"):
            changes.pop(key, None)
    done = tuple(f"{key}={value!r}" for key, value in sorted(changes.items()))
    return replace(Variant(seed=seed, **changes), done=done)
