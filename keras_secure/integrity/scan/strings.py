"""Strings of a configuration that carry code, or that name a file or an address."""

import base64
import binascii
import re

_BASE64 = re.compile(r"[A-Za-z0-9+/_\-\s=]{24,}\Z")
_START = 4096
_CODE = re.compile(
    r"__import__\s*\(|\bos\s*\.\s*(?:system|popen|exec\w*|spawn\w*)\b|\bsubprocess\b\s*[.\"']|"
    r"\b(?:exec|eval|compile)\s*\(|\bbuiltins\b\s*\.|\bimportlib\b\s*\.|__subclasses__|"
    r"__globals__|__builtins__|\blambda\b[^:\n]{0,80}:"
)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]{1,30}://\S")
_ABSOLUTE = re.compile(r"/(?:[^/\0\s]+/)+[^\0]*\Z|/(?:etc|dev|proc|sys|tmp|var|home|root)\b")
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\[^\\]+\\|//[^/\s]+/")
_FILE_URL = re.compile(r"(?:file|data|javascript|jar|gopher):", re.IGNORECASE)


def code_kind(text: str) -> str | None:
    """What code a string carries.

    Args:
        text: A string out of a configuration.

    Returns:
        `"marshalled code"`, `"pickle"` or `"source"`; None for a string that carries none.

    Example:

    >>> code_kind("relu") is None, code_kind("__import__('os')")
    (True, 'source')
    """
    if _BASE64.match(text[:_START]) and (kind := _encoded_kind(text)):
        return kind
    return "source" if _CODE.search(text) else None


def _encoded_kind(text: str) -> str | None:
    compact = re.sub(r"\s", "", text[:_START]).replace("-", "+").replace("_", "/")
    try:
        start = base64.b64decode(compact[: len(compact) // 4 * 4])
    except (binascii.Error, ValueError):
        return None
    return bytes_kind(start)


def bytes_kind(start: bytes) -> str | None:
    """What code the first bytes of something are; None for none.

    Example:

    >>> import marshal
    >>> bytes_kind(marshal.dumps((lambda x: x + 1).__code__))
    'marshalled code'
    """
    if len(start) > 24 and start[0] & 0x7F == 0x63 and _is_count(start, 1) and _is_count(start, 5):
        return "marshalled code"
    if (
        len(start) > 4
        and start[0] == 0x80
        and start[1] in (2, 3, 4, 5)
        and start[2] in b"\x95}](cjXUK"
    ):
        return "pickle"
    return None


def _is_count(data: bytes, offset: int) -> bool:
    # Counts of arguments stand first in marshalled code: small, little-endian, four bytes.
    return data[offset + 1 : offset + 4] == b"\0\0\0" and data[offset] < 64


def location_kind(text: str) -> str | None:
    """What place outside the model a string names.

    Args:
        text: A string out of a configuration or a graph.

    Returns:
        `"address"`, `"absolute path"` or `"path upwards"`; None for a string that names none.

    Example:

    >>> location_kind("/etc/passwd"), location_kind("gs://bucket/words.txt"), location_kind("a/b")
    ('absolute path', 'address', None)
    """
    if len(text) < 2 or len(text) > 65_536 or not ("/" in text or "\\" in text or ":" in text):
        return None
    if _URL.match(text) or _FILE_URL.match(text):
        return "address"
    if _ABSOLUTE.match(text) or _WINDOWS.match(text) or text.startswith(("~/", "~\\")):
        return "absolute path"
    parts = re.split(r"[\\/]", text)
    return "path upwards" if len(parts) > 1 and ".." in parts else None
