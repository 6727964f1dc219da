"""Where in a model something stands: the file, and the way down inside it."""

from dataclasses import dataclass, replace

LONGEST = 300
"""Characters of a name or a value that a report quotes."""


@dataclass(frozen=True)
class Place:
    """A place that a finding points to.

    Args:
        file: Path relative to what is scanned, with `/` between its parts; `"."` for the whole.
        inner: The way inside the file, outermost first, parted by `" > "`.

    Example:

    >>> str(Place("model.keras").inside("config.json").inside("/config/layers/2"))
    'model.keras > config.json > /config/layers/2'
    """

    file: str
    inner: str = ""

    def inside(self, name: str) -> "Place":
        """The place called `name` within this one."""
        name = quoted(name)
        return replace(self, inner=f"{self.inner} > {name}" if self.inner else name)

    def __str__(self) -> str:
        return f"{self.file} > {self.inner}" if self.inner else self.file


def quoted(text: object, longest: int = LONGEST) -> str:
    """A name out of a hostile file, in a form that every terminal and report can take.

    Args:
        text: A string, bytes, or anything that has a representation.
        longest: Characters to keep.

    Returns:
        Printable text: other characters are escaped, and what is cut off is counted.

    Example:

    >>> quoted("weights\\x1b[2J"), quoted("x" * 12, longest=4)
    ('weights\\\\x1b[2J', 'xxxx... (8 more)')
    """
    if isinstance(text, str) and len(text) <= longest and text.isprintable():
        return text
    if isinstance(text, bytes):
        text = text[: 4 * longest + 4].decode("utf-8", "backslashreplace")
    if not isinstance(text, str):
        text = repr(text) if isinstance(text, (int, float, bool, type(None))) else str(text)
    kept = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text[:longest]
    )
    return kept if len(text) <= longest else f"{kept}... ({len(text) - longest} more)"
