"""Points in time as text: UTC, to the second."""

from datetime import UTC, datetime

from keras_secure.errors import InputError


def now() -> datetime:
    """The present, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def format_time(time: datetime) -> str:
    """Writes a point in time.

    Example:

    >>> format_time(datetime(2026, 11, 21, 12, 30, tzinfo=UTC))
    '2026-11-21T12:30:00Z'
    >>> format_time(datetime(1, 1, 1, tzinfo=UTC))
    '0001-01-01T00:00:00Z'
    """
    return time.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def as_time(value: datetime | str, name: str) -> datetime:
    """Reads a point in time.

    Args:
        value: A `datetime` with a time zone, or text in ISO 8601 with one; a date alone is its
            midnight in UTC.
        name: What it is, for messages.

    Returns:
        A `datetime` in UTC, to the second.

    Raises:
        InputError: It is neither, or has no time zone.

    Example:

    >>> format_time(as_time("2026-11-21", "The day"))
    '2026-11-21T00:00:00Z'
    """
    time = value
    if isinstance(time, str):
        try:
            time = datetime.fromisoformat(f"{time}T00:00:00Z" if len(time) == 10 else time)
        except ValueError:
            time = ""
    if not isinstance(time, datetime) or time.tzinfo is None:
        raise InputError(
            f"{name} is {value!r}; expected a point in time with its time zone, for example "
            "'2026-11-21T12:30:00Z'."
        )
    try:
        return time.astimezone(UTC).replace(microsecond=0)
    except OverflowError as error:
        raise InputError(f"{name} is {value!r}, which is no time in UTC.") from error
