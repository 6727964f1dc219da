"""Whether the exported model answers as the trained one does, and guards its input and output."""

from keras_secure.audit.sections import ServingSection
from keras_secure.audit.wording import number
from keras_secure.findings import Finding

MAX_DIFFERENCE = 1e-5
"""Float32 kernels reorder sums between builds; beyond this the export is a different function."""


def judge_serving(serving: ServingSection) -> list[Finding]:
    """Judges the exported model's predictions and its guards.

    Args:
        serving: What was measured in the fresh process.

    Returns:
        One finding for each thing that was measured.
    """
    findings = []
    if "max_difference" in serving:
        findings.append(_judge_difference(serving))
    for key, what in (
        ("nan_handled", "NaN input"),
        ("out_of_range_handled", "Out-of-range input"),
    ):
        if key in serving:
            handled = bool(serving[key])  # type: ignore[literal-required]
            findings.append(
                Finding(
                    f"serving.{key}",
                    "ok" if handled else "high",
                    f"{what} {'is' if handled else 'is not'} handled as the guard promises.",
                    {key: handled},
                    "" if handled else "Export with an InputGuard as the first layer.",
                )
            )
    if serving.get("guards") == []:
        findings.append(
            Finding(
                "serving.guards",
                "medium",
                "The exported model has no guards: whatever arrives is computed.",
                {},
                "Export with an InputGuard and an OutputGuard.",
            )
        )
    return findings


def _judge_difference(serving: ServingSection) -> Finding:
    difference = serving["max_difference"]
    tolerance = serving.get("tolerance", MAX_DIFFERENCE)
    evidence = {"max_difference": difference, "tolerance": tolerance}
    # Written so that NaN fails: every comparison with it is false.
    if difference <= tolerance:
        statement = (
            f"The exported model answers as the trained one does: predictions differ by at most "
            f"{number(difference)}."
        )
        return Finding("serving.predictions", "ok", statement, evidence)
    return Finding(
        "serving.predictions",
        "high",
        f"The exported model's predictions differ by up to {number(difference)}, more than "
        f"{number(tolerance)}.",
        evidence,
        "Check the preprocessing and the guards that were exported with it.",
    )
