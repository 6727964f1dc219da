"""How numbers read in a report: the same in every rendering."""

import math
from datetime import UTC, datetime
from typing import Any


def percent(value: float | None, digits: int = 1) -> str:
    """A share as a percentage.

    >>> percent(0.98765), percent(None)
    ('98.8%', 'n/a')
    """
    if value is None or not math.isfinite(value):
        return "n/a"
    return f"{100.0 * value:.{digits}f}%"


def percent_range(low: float | None, high: float | None) -> str:
    """An interval of shares, empty when there is none.

    >>> percent_range(0.1, 0.25)
    '10.0% to 25.0%'
    """
    return "" if low is None or high is None else f"{percent(low)} to {percent(high)}"


def number(value: Any) -> str:
    """A number with the digits that matter, a flag as yes or no, text as it is.

    >>> number(3.14159), number(5.4e-20), number(1234567), number(True), number(float("nan"))
    ('3.142', '5.4e-20', '1,234,567', 'yes', 'n/a')
    """
    if value is None:
        return "n/a"
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(number(item) for item in value)
    value = float(value)
    if not math.isfinite(value):
        return "n/a" if math.isnan(value) else "unbounded"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    text = f"{value:.4g}" if abs(value) >= 1e-3 else f"{value:.2g}"
    return text.replace("e-0", "e-").replace("e+0", "e+")


def label(value: Any) -> str:
    """A class label, which is a name even where it is a number.

    >>> label(1024), label(None)
    ('1024', 'n/a')
    """
    return "n/a" if value is None else str(value)


def moment(created: str) -> str:
    """A time stamp for people.

    >>> moment("2026-11-21T02:55:11+00:00")
    '2026-11-21 02:55 UTC'
    """
    try:
        return datetime.fromisoformat(created).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return created


def seconds(value: float | None) -> str:
    """A duration.

    >>> seconds(0.25), seconds(75)
    ('0.2 s', '1 min 15 s')
    """
    if value is None or not math.isfinite(value):
        return "n/a"
    if value < 60:
        return f"{value:.1f} s"
    return f"{int(value // 60)} min {int(value % 60)} s"


def joined(names: list[str]) -> str:
    """Names as an English list.

    >>> joined(["a", "b", "c"])
    'a, b and c'
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
