"""What differs between a signed statement and what lies there."""

from keras_secure.findings import Finding
from keras_secure.integrity.comparison import Comparison
from keras_secure.integrity.content_differences import compare_contents
from keras_secure.integrity.model_signing_view import as_model_signing_sees_it
from keras_secure.integrity.paths import printable
from keras_secure.integrity.statement import Statement
from keras_secure.integrity.tree import Tree


def find_differences(statement: Statement, tree: Tree, check_modes: bool = True) -> list[Finding]:
    """Compares what was signed with what is there.

    Args:
        statement: A statement that is believed.
        tree: What lies there.
        check_modes: Whether other permission bits are a difference.

    Returns:
        A finding for each difference; none when there is none. Of files that nobody signed, only
        those are read that may be a signed one under another name.

    Raises:
        InputError: A file cannot be read.
        IntegrityError: A file changes while it is read.
    """
    comparison = Comparison(statement, tree)
    if statement.own:
        _compare_links(comparison)
        _compare_kinds(comparison)
    else:
        as_model_signing_sees_it(comparison)
    compare_contents(comparison)
    if check_modes:
        _compare_modes(comparison)
    return comparison.findings


def _compare_links(comparison: Comparison) -> None:
    signed, there = comparison.statement, comparison.tree
    for path, now in there.links.items():
        then = signed.links.get(path)
        if then == now:
            continue
        kind = f"a link to {then!r}" if then is not None else "nothing"
        kind = "a plain file" if path in signed.files else kind
        kind = "a folder" if path in signed.folders else kind
        comparison.add(
            "symlink",
            path,
            f"is a symbolic link to {now!r}, where {kind} was signed",
            target=printable(now),
            signed_target=then,
        )
    for path, then in signed.links.items():
        if path in there.links:
            continue
        if path in there.files or path in there.folders or path in there.special:
            comparison.add(
                "symlink",
                path,
                f"is no symbolic link, where one to {then!r} was signed",
                signed_target=then,
            )
        else:
            comparison.add("missing", path, "is missing, a symbolic link", signed_target=then)


def _compare_kinds(comparison: Comparison) -> None:
    signed, there = comparison.statement, comparison.tree
    for path in there.special:
        comparison.add("special", path, "is a device, a pipe or a socket, whose bytes nobody knows")
    for path in signed.files:
        if path in there.folders:
            comparison.add("special", path, "is a folder, where a plain file was signed")
    for path in signed.folders:
        if path in there.files:
            comparison.add("special", path, "is a plain file, where a folder was signed")
        elif path not in there.folders and path not in there.links and path not in there.special:
            comparison.add("folder_missing", path, "is missing, a folder")
    for path in there.folders:
        if path not in signed.folders and path not in signed.files and path not in signed.links:
            comparison.add(
                "folder_added",
                path,
                "is a folder that was added",
                "Remove it, unless its publisher vouches for it.",
            )


def _compare_modes(comparison: Comparison) -> None:
    signed, there = comparison.statement, comparison.tree
    pairs = {
        path: (record.mode, there.files[path][1])
        for path, record in signed.files.items()
        if path in there.files
    }
    pairs |= {
        path: (mode, there.folders[path])
        for path, mode in signed.folders.items()
        if path in there.folders
    }
    for path, (then, now) in sorted(pairs.items()):
        if then is not None and now is not None and then != now:
            comparison.add(
                "mode",
                path,
                f"has permissions {now:04o}, and {then:04o} were signed",
                f"Restore them with `chmod {then:o}`; or verify with check_modes=False if the way "
                "that it came does not keep permissions.",
                mode=now,
                signed_mode=then,
            )
