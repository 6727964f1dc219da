"""Whether ownership can be shown from the weights."""

from keras_secure.audit.sections import WatermarkSection
from keras_secure.audit.wording import number, percent
from keras_secure.findings import Finding

PROOF_BELOW = 1e-6
"""Chance of one in a million that an unmarked model shows as many bits; a claim against someone
else needs more than the usual one in twenty."""

EVIDENCE_BELOW = 1e-2
"""Between this and `PROOF_BELOW` the bits are more than chance, but no basis for a claim."""


def judge_watermark(watermark: WatermarkSection) -> list[Finding]:
    """Judges the p-value of the bits that were read back.

    Args:
        watermark: Bits, bit error rate and p-value.

    Returns:
        One finding.
    """
    p_value = watermark["p_value"]
    read = (
        f"{percent(1.0 - watermark['ber'])} of {number(watermark['bits'])} watermark bits were "
        f"read back (p = {number(p_value)})"
    )
    evidence = {key: watermark[key] for key in ("bits", "ber", "p_value")}
    if p_value <= PROOF_BELOW:
        return [Finding("watermark.ownership", "ok", f"{read}: ownership can be shown.", evidence)]
    remedy = "Embed with a larger strength, for longer, or in a layer with more weights."
    if p_value <= EVIDENCE_BELOW:
        statement = f"{read}: more than chance, but too little to prove ownership."
        return [Finding("watermark.ownership", "low", statement, evidence, remedy)]
    statement = f"{read}: this is what an unmarked model would show."
    return [Finding("watermark.ownership", "high", statement, evidence, remedy)]
