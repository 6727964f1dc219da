"""A folder as OpenSSF model-signing sees it, for signatures that it made."""

import os
from dataclasses import replace

from keras_secure.findings import Finding
from keras_secure.integrity.comparison import Comparison
from keras_secure.integrity.paths import printable

_SHOWN = 3


def as_model_signing_sees_it(comparison: Comparison) -> None:
    """Takes out of a comparison what a statement of model-signing does not speak of.

    That is what git keeps beside the files, paths that the signer chose to ignore, empty files in
    shards, and folders. Links stand for the files that they lead to, if the signer allowed that.

    Args:
        comparison: What was signed and what is there; its tree is replaced, and what is left out
            is entered as a finding of low severity.
    """
    signed, there = comparison.statement, comparison.tree
    left_out = [path for path in [*there.files, *there.links] if signed.is_ignored(path)]
    files = {path: state for path, state in there.files.items() if not signed.is_ignored(path)}
    if signed.shard_size is not None:
        # Without bytes there is no shard, so nothing is said of an empty file.
        empty = [path for path, (size, _) in files.items() if not size and path not in signed.files]
        left_out += empty
        files = {path: state for path, state in files.items() if path not in empty}
    for path in there.links:
        if not signed.is_ignored(path):
            files |= _follow(comparison, path)
    for path in there.special:
        if not signed.is_ignored(path):
            comparison.add("special", path, "is a device, a pipe or a socket")
    if left_out:
        comparison.findings.append(_uncovered(left_out))
    comparison.tree = replace(there, files=files, folders={}, links={}, special=())


def _follow(comparison: Comparison, path: str) -> dict[str, tuple[int, int | None]]:
    root, target = comparison.tree.root, printable(comparison.tree.links[path])
    place = root / path
    if not comparison.statement.follows_links:
        comparison.add("symlink", path, f"is a symbolic link to {target!r}, and none was signed")
    elif not os.path.realpath(place).startswith(os.path.join(os.path.realpath(root), "")):
        comparison.add("symlink", path, f"leads out of the folder, to {target!r}")
    elif place.is_file():
        return {path: (place.stat().st_size, None)}
    return {}


def _uncovered(paths: list[str]) -> Finding:
    names = sorted(printable(path) for path in paths)
    shown = ", ".join(repr(name) for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return Finding(
        "integrity.uncovered",
        "low",
        f"the signature was made by model-signing and does not cover {shown}{more}",
        {"paths": names},
        "Do not rely on these files, or sign with `keras-secure sign`, which covers them.",
    )
