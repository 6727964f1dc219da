"""The watermark, the signed bundle, and the model that is served from it."""

from keras_secure.audit.chapters.chapter import Chapter, facts_table, present
from keras_secure.audit.wording import percent


def watermark_chapter(report) -> Chapter | None:
    """Whether the bits were read back."""
    if not report.watermark:
        return None
    mark = report.watermark
    facts = present(mark, (("model", "Model"), ("method", "Method"), ("layer", "Layer")))
    facts += [("Bits", mark["bits"]), ("Bit error rate", percent(mark["ber"]))]
    facts += [("p-value", mark["p_value"])]
    lead = "The owner's key reads a hidden message from the weights; the p-value is its chance in "
    return Chapter("watermark", "Watermark", f"{lead}an unmarked model.", [facts_table(facts)])


def integrity_chapter(report) -> Chapter | None:
    """The signature and the tamper test."""
    if not report.integrity:
        return None
    bundle = report.integrity
    facts = [("Signature verifies", bundle["verified"])]
    if "files" in bundle:
        facts.append(("Signed files", len(bundle["files"])))
    facts += present(bundle, (("key_fingerprint", "Key fingerprint"),))
    if "tamper" in bundle:
        tamper = bundle["tamper"]
        facts += [
            ("Byte flipped in", tamper["file"]),
            ("Change refused", tamper["detected"]),
            ("File named", tamper.get("named") or "none"),
        ]
    notes = [f"Signed: {', '.join(bundle['files'])}"] if bundle.get("files") else []
    lead = "The exported bundle is signed; a copy with one flipped byte must be refused."
    return Chapter("integrity", "Integrity", lead, [facts_table(facts)], notes)


def serving_chapter(report) -> Chapter | None:
    """The exported model and its guards."""
    if not report.serving:
        return None
    facts = present(
        report.serving,
        (
            ("num_examples", "Examples compared"),
            ("max_difference", "Largest difference of predictions"),
            ("tolerance", "Difference allowed"),
            ("nan_handled", "NaN input handled"),
            ("out_of_range_handled", "Out-of-range input handled"),
        ),
    )
    if "guards" in report.serving:
        facts.append(("Guards in the graph", report.serving["guards"] or "none"))
    lead = "The exported model, run in a process of its own, against the trained one."
    return Chapter("serving", "Serving", lead, [facts_table(facts)])
