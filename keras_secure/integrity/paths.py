"""Names of files inside a folder: which of them mean the same on every system."""

import re
from pathlib import Path

_UNSAFE = re.compile(r'[\\\x00-\x1f\x7f\ud800-\udfff<>:"|?*]')
_RESERVED = frozenset(
    ["CON", "PRN", "AUX", "NUL"] + [f"{kind}{n}" for kind in ("COM", "LPT") for n in range(1, 10)]
)
_MAX_LENGTH = 4096


def path_problem(path: str) -> str:
    """Says why a relative path must not stand in a manifest or statement.

    Args:
        path: The path, with `/` between its parts.

    Returns:
        The reason; empty when the path may stand there.

    Example:

    >>> path_problem("variables/variables.index"), path_problem("../elsewhere")
    ('', "it is empty, absolute, or has an empty, '.' or '..' part")
    """
    if problem := traversal_problem(path):
        return problem
    if _UNSAFE.search(path):
        return 'it has a backslash, one of < > : " | ? *, or a control or undecodable character'
    for part in path.split("/"):
        if part.endswith((".", " ")):
            return f"{part!r} ends with a dot or a space, which Windows drops"
        if part.split(".")[0].rstrip(" ").upper() in _RESERVED:
            return f"{part!r} is the name of a device on Windows"
    return ""


def traversal_problem(path: str) -> str:
    """Says why a path could lead out of its folder; empty when it cannot.

    Example:

    >>> traversal_problem("a/b"), traversal_problem("C:/windows")
    ('', 'it has a drive letter')
    """
    if any(part in ("", ".", "..") for part in path.split("/")):
        return "it is empty, absolute, or has an empty, '.' or '..' part"
    if re.search(r"[\\\x00\ud800-\udfff]", path):
        return "it has a backslash, or a control or undecodable character"
    if re.match(r"[A-Za-z]:", path):
        return "it has a drive letter"
    if len(path) > _MAX_LENGTH:
        return f"it is longer than {_MAX_LENGTH} characters"
    return ""


def printable(path: str) -> str:
    """A name as text that any terminal and any JSON file can hold.

    Example:

    >>> printable("a\\udcff")
    'a\\\\udcff'
    """
    return path.encode("utf-8", "backslashreplace").decode()


def inside(path: Path, folder: Path) -> str | None:
    """The name of `path` relative to `folder`, or None where it lies elsewhere.

    Both are taken as they are written, with links in the folders above them resolved.

    Example:

    >>> inside(Path("/a/b/c"), Path("/a")), inside(Path("/x"), Path("/a"))
    ('b/c', None)
    """
    absolute = path.parent.resolve() / path.name
    resolved = folder.resolve()
    return absolute.relative_to(resolved).as_posix() if absolute.is_relative_to(resolved) else None
