import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from harness_audit import canary_bound, curve, full_report, leakage, shadow_leakage

from keras_secure.audit import AuditReport, summary_table
from keras_secure.audit.render_html import render_html
from keras_secure.audit.render_markdown import render_markdown
from keras_secure.findings import Finding

EVIL = "<script>alert(1)</script>\"'&|`$\\frac$\n# x"
VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that the elements nest."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def page():
    return render_html(full_report())


def test_page_is_well_formed_with_every_section(page):
    parsed = Page(page)
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings == [
        *("Models at a glance", "Findings", "Robustness", "Adversarial examples", "Privacy"),
        *("Membership leakage", "Audit in one run", "Watermark", "Integrity", "Serving", "Data"),
        *("Timings", "Environment"),
    ]
    assert parsed.tags.count("svg") == 3
    assert parsed.tags.count("img") == 3 * 3


def test_page_needs_nothing_from_outside_and_runs_nothing(page):
    parsed = Page(page)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(parsed.tags)
    assert "http:" not in page
    assert "https:" not in page
    assert "@import" not in page
    for name, value in parsed.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "xlink:href"):
            assert value.startswith(("data:image/png;base64,", "#")), value
    for target in re.findall(r"url\(([^)]*)\)", page):
        assert target.startswith("#")
    assert "default-src 'none'" in page


def test_ids_are_unique_and_every_reference_has_its_target(page):
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    targets = re.findall(r'href="#([^"]*)"', page) + re.findall(r"url\(#([^)]*)\)", page)
    assert set(targets) <= set(ids)


def test_same_measurements_same_bytes(page):
    assert render_html(full_report()) == page
    assert render_markdown(full_report()) == render_markdown(full_report())


def evil_report():
    return AuditReport(
        title=EVIL,
        data={"name": EVIL, "notes": [EVIL]},
        models={EVIL: {"accuracy": 0.9, "description": EVIL}, "plain": {"accuracy": 0.95}},
        robustness={"attack": EVIL, "norm": EVIL, "curves": {EVIL: curve(0.9, 0.1)}},
        membership={EVIL: leakage(0.0), "_hidden": leakage(0.1)},
        lira={EVIL: shadow_leakage(0.3)},
        one_run={EVIL: canary_bound(0.5)},
        privacy={
            **{"epsilon": 1.0, "target_delta": 1e-5, "model": EVIL, "sampling": EVIL},
            **{"exact_metrics": [EVIL], "reasons_not_private": [EVIL]},
            "burn_down": [{"step": 1, "epsilon": 1.0}],
        },
        watermark={"bits": 8, "ber": 0.5, "p_value": 1.0, "layer": EVIL, "method": EVIL},
        integrity={
            **{"verified": True, "files": [EVIL], "key_fingerprint": EVIL},
            "tamper": {"file": EVIL, "detected": True, "named": EVIL},
        },
        serving={"guards": [EVIL]},
        adversarial_examples=[
            {
                **{"original": np.zeros((4, 4)), "adversarial": np.ones((4, 4)), "label": EVIL},
                **{"before": {EVIL: EVIL}, "after": {EVIL: EVIL}},
            }
        ],
        timings={EVIL: 1.0},
        created=EVIL,
        environment={EVIL: EVIL},
        other_findings=[Finding(EVIL, "high", EVIL, remedy=EVIL)],
    )


def test_names_from_outside_never_become_markup():
    page = render_html(evil_report())
    parsed = Page(page)
    assert "script" not in parsed.tags
    assert "<script" not in page
    # They are still readable as text, in the charts too.
    assert parsed.text.count("<script>alert(1)</script>") > 20
    axis = re.search(r'<svg role="img" aria-label="Membership.*?</svg>', page, re.DOTALL)
    assert "&lt;script&gt;" in axis.group()


def test_names_from_outside_never_break_the_markdown():
    text = render_markdown(evil_report())
    assert "<script" not in text
    for line in text.splitlines():
        assert not line.startswith("# x")
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        bars = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(bars) == 1, block


def test_markdown_has_the_figures():
    text = render_markdown(full_report())
    assert "| plain | 98.0% (96.0% to 99.0%) |" in text
    assert "| 0.1 | 10.0%" in text
    assert "falls from 98.0% to 10.0%" in text
    assert "| p-value | 5.4e-20 |" in text
    assert "Found at 0.1% false alarms" in text
    assert "| plain | lira offline |" in text
    assert "n/a | 600 / 300 |" in text
    bound = full_report().one_run["private"]
    assert f"| private | {bound.epsilon_lower:.3f} | 0.0001 | 95.0% |" in text
    assert "not private" in text


def test_every_section_alone_can_be_rendered():
    report = full_report()
    for name in (
        *("data", "models", "robustness", "privacy", "membership", "lira", "one_run"),
        *("watermark", "integrity", "serving", "adversarial_examples", "timings"),
    ):
        alone = AuditReport(**{name: getattr(report, name)})
        Page(render_html(alone))
        assert render_markdown(alone).count("## ") >= 2
    Page(render_html(AuditReport()))


def test_a_measurement_without_a_value_is_not_a_failure():
    nothing = {"epsilon": 0.1, "accuracy": math.nan, "low": math.nan, "high": math.nan}
    report = AuditReport(
        models={"plain": {"accuracy": math.nan}, "robust": {"accuracy": 0.5}},
        robustness={"curves": {"plain": [nothing], "robust": []}},
        adversarial_examples=[{"original": [[0.0]], "adversarial": [[1.0]], "label": None}],
        timings={"training": math.nan},
    )
    for text in (render_html(report), render_markdown(report), summary_table(report)):
        assert "n/a" in text
        assert "nan%" not in text
        assert "nan " not in text


@pytest.mark.parametrize("spent", [math.inf, math.nan])
def test_a_run_without_privacy_can_be_reported(spent):
    privacy = {"epsilon": spent, "target_delta": 1e-5, "target_epsilon": 3.0}
    report = AuditReport(privacy={**privacy, "burn_down": [{"step": 1, "epsilon": spent}]})
    page = render_html(report)
    assert "The run is not private" in page
    assert "<svg" not in page
    assert "The run is not private" in render_markdown(report)


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1), (5, 6, 3)])
def test_pictures_of_every_image_shape(shape):
    example = {"original": np.zeros(shape), "adversarial": np.ones(shape), "label": 1}
    assert Page(render_html(AuditReport(adversarial_examples=[example]))).tags.count("img") == 3


@pytest.mark.parametrize("shape", [(30,), (5, 6, 2), (0, 4), (2, 3, 4, 3)])
def test_what_is_no_picture_becomes_a_table(shape):
    example = {
        **{"original": np.zeros(shape), "adversarial": np.ones(shape), "label": 1},
        **{"before": {"plain": 1}, "after": {"plain": 7}},
    }
    page = render_html(AuditReport(adversarial_examples=[example]))
    assert "<img" not in page
    assert "1 \N{RIGHTWARDS ARROW} 7" in page
