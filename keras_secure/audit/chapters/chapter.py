"""What a chapter is made of, before it becomes Markdown or HTML."""

from dataclasses import dataclass, field

from keras_secure.audit.wording import number, percent, percent_range


@dataclass(frozen=True)
class Table:
    """Text cells under column names.

    Args:
        columns: Column names; the first column is text, the others are figures.
        rows: One list of cells per row, as long as `columns`.
    """

    columns: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Chapter:
    """One part of the report.

    Args:
        key: Stable name, also the anchor.
        title: Heading.
        lead: What the reader is looking at, and how it was measured.
        tables: Tables in order.
        notes: Short remarks below the tables.
    """

    key: str
    title: str
    lead: str
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def facts_table(pairs) -> Table:
    """A table of names and values."""
    return Table(["Measure", "Value"], [[name, number(value)] for name, value in pairs])


def present(section, names) -> list[tuple[str, object]]:
    """The values that a section has, under the labels they are shown with."""
    return [(label, section[key]) for key, label in names if section.get(key) is not None]


def with_interval(point) -> str:
    """An accuracy with its interval, if it has one."""
    if not point:
        return "n/a"
    interval = percent_range(point.get("low"), point.get("high"))
    return percent(point["accuracy"]) + (f" ({interval})" if interval else "")


def model_names(report) -> list[str]:
    """Every model that any section measured, in the order of first mention."""
    curves = report.robustness["curves"] if report.robustness else {}
    measured = (*report.membership, *report.lira, *report.one_run)
    return list(dict.fromkeys([*report.models, *curves, *measured]))
