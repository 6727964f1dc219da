"""Where symbolic links lead, from names alone: never out of the folder, never in a ring."""

from collections.abc import Collection, Mapping

_MAX_STEPS = 40


def link_problem(
    path: str, links: Mapping[str, str], files: Collection[str], folders: Collection[str]
) -> str:
    """Says why a link must not be signed; empty when it may.

    Args:
        path: The link.
        links: Target of every link of the tree.
        files: The plain files of the tree.
        folders: The folders of the tree.

    Returns:
        The reason; empty for a link to a file or folder of the same tree.

    Example:

    >>> link_problem("a/b", {"a/b": "../../etc"}, [], ["a"])
    'it leads out of the folder'
    """
    end = path
    for _ in range(_MAX_STEPS):
        target = links[end]
        if not target or target.startswith("/") or "\\" in target or "\0" in target:
            return "its target is absolute, empty, or has a backslash or a NUL"
        parts = end.split("/")[:-1]
        for part in target.split("/"):
            if part == ".." and not parts:
                return "it leads out of the folder"
            # What `..` means behind another link depends on where that leads.
            if part == ".." and "/".join(parts) in links:
                return "it passes through another link"
            if part == "..":
                parts.pop()
            elif part not in ("", "."):
                parts.append(part)
        end = "/".join(parts)
        if any("/".join(parts[:length]) in links for length in range(1, len(parts))):
            return "it passes through another link"
        if not end or end in files or end in folders:
            return ""
        if end not in links:
            return "it leads to nothing that is signed"
    return "it leads back to itself"


def linked_file(path: str, links: Mapping[str, str], files: Collection[str]) -> str | None:
    """The plain file that a link of no problem leads to, or None for a folder.

    Example:

    >>> linked_file("a/b", {"a/b": "../c"}, ["c"])
    'c'
    """
    end = path
    while end in links:
        parts = end.split("/")[:-1]
        for part in links[end].split("/"):
            if part == "..":
                parts.pop()
            elif part not in ("", "."):
                parts.append(part)
        end = "/".join(parts)
    return end if end in files else None
