"""The data, the time and the versions behind the figures."""

from keras_secure.audit.chapters.chapter import Chapter, Table, facts_table, present
from keras_secure.audit.wording import seconds


def data_chapter(report) -> Chapter | None:
    """The data set."""
    if not report.data:
        return None
    facts = present(
        report.data,
        (
            ("name", "Data set"),
            ("num_train", "Training examples"),
            ("num_test", "Test examples"),
            ("num_classes", "Classes"),
        ),
    )
    if report.data.get("shape"):
        facts.append(
            ("Example shape", " \N{MULTIPLICATION SIGN} ".join(map(str, report.data["shape"])))
        )
    lead = "What the models were trained and measured on."
    return Chapter("data", "Data", lead, [facts_table(facts)], list(report.data.get("notes", [])))


def timings_chapter(report) -> Chapter | None:
    """Where the time went."""
    if not report.timings:
        return None
    rows = [[name, seconds(value)] for name, value in report.timings.items()]
    rows.append(["Total", seconds(sum(report.timings.values()))])
    lead = "Wall-clock time of every step of this audit."
    return Chapter("timings", "Timings", lead, [Table(["Step", "Time"], rows)])


def environment_chapter(report) -> Chapter | None:
    """Versions."""
    rows = [[name, version] for name, version in report.environment.items()]
    lead = "The versions that produced these figures."
    return Chapter("environment", "Environment", lead, [Table(["Component", "Version"], rows)])
