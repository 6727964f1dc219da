"""Names of files that mean something else than a file in its folder."""

import re

_DRIVE = re.compile(r"[A-Za-z]:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_RESERVED = re.compile(r"(?i)(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|\Z)")


def name_problem(name: str) -> str | None:
    """What is wrong with a relative path; None when nothing is.

    Args:
        name: Path with `/` between its parts.

    Returns:
        The end of a sentence that begins with "The name".

    Example:

    >>> name_problem("assets/words.txt"), name_problem("assets/../../x")
    (None, 'leads upwards')
    """
    if not name:
        return "is empty"
    parts = re.split(r"[/\\]", name)
    if name[0] in "/\\" or _DRIVE.match(name):
        return "is absolute"
    if ".." in parts:
        return "leads upwards"
    if _CONTROL.search(name):
        return "has characters that cannot be seen"
    if "\\" in name:
        return "has a backslash, which parts folders on some systems"
    if "." in parts or "" in parts[:-1]:
        return "has empty parts"
    if any(_RESERVED.match(part) or part != part.rstrip(". ") for part in parts):
        return "means a device, or another file, on some systems"
    if len(name) > 1024 or any(len(part.encode("utf-8", "replace")) > 255 for part in parts):
        return "is too long"
    return None
