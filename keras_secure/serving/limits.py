"""How much one request, one identity and everybody together may ask for."""

import math
from dataclasses import dataclass, fields

from keras_secure.arguments import is_integer, is_number
from keras_secure.errors import InputError


@dataclass(frozen=True)
class Limits:
    """Bounds of a server; what is beyond them is refused before it costs much.

    Args:
        request_bytes: Bytes of a request's body (413 beyond it).
        depth: Levels of nesting of its JSON (400).
        rows: Examples in one request (413).
        seconds: Time from the head of a request to its answer (504), and to the head of one, after
            which a connection is closed.
        concurrency: Requests with an identity that are worked on at once (503).
        connections: Open connections (503).
        rate: Requests a second of one identity; None for no limit (429).
        burst: Requests it may make at once before the rate counts.
        budget: Examples that one identity may have answered in all, across restarts; None for no
            limit (429).
        batch: Examples that are computed together at most.
        batch_delay: Seconds that an example waits for others to be computed with. At 0 they are
            joined only while all workers are busy, which costs no request any time.

    Example:

    >>> Limits(rows=16).rows
    16
    """

    request_bytes: int = 16 * 2**20
    depth: int = 16
    rows: int = 1024
    seconds: float = 30.0
    concurrency: int = 64
    connections: int = 1024
    rate: float | None = None
    burst: int = 32
    budget: int | None = None
    batch: int = 256
    batch_delay: float = 0.0

    def __post_init__(self):
        optional = ("rate", "budget")
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.name in optional:
                continue
            whole = "int" in str(field.type)
            fits = is_integer(value) if whole else is_number(value) and math.isfinite(value)
            lowest = 0 if field.name in ("batch_delay", "budget") else 1 if whole else 1e-9
            if not fits or value < lowest:
                expected = "a whole number" if whole else "a number"
                raise InputError(
                    f"The limit {field.name} is {value!r}; expected {expected} of at least "
                    f"{lowest}."
                )
