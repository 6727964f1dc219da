"""Charts of an audit as inline SVG that follows the page's colours.

Drawn on `matplotlib.figure.Figure` objects of their own, so no pyplot state is touched. Text, axes
and grid are drawn in a marker colour that becomes `currentColor`, so one chart reads well on light
and on dark paper.
"""

import html
import io
import re

from keras_secure.audit.wording import number

PALETTE = ("#3b7fc4", "#d9701e", "#2a9d74", "#9c62c9", "#c44e63", "#8a8d2a")
"""Mid tones, told apart by the colour-blind, with enough contrast on white and on near black."""

MARKERS = ("o", "s", "^", "D", "v", "P")
_INK = "#010203"


def robustness_svg(curves, names, epsilon=None) -> str:
    """Accuracy over attack size, one line and confidence band per model.

    Args:
        curves: Model name to list of `RobustnessPoint`.
        names: All model names of the report, which fix each model's colour.
        epsilon: Attack size to mark, or None.

    Returns:
        An `<svg>` element.
    """
    figure, axes = _figure(3.5)
    for name, curve in curves.items():
        colour, marker = style(names, name)
        points = sorted(curve, key=lambda point: point["epsilon"])
        sizes = [point["epsilon"] for point in points]
        low, high = ([100 * point[key] for point in points] for key in ("low", "high"))
        axes.fill_between(sizes, low, high, color=colour, alpha=0.18, linewidth=0)
        accuracy = [100 * point["accuracy"] for point in points]
        axes.plot(sizes, accuracy, color=colour, marker=marker, markersize=5, linewidth=2)
    if epsilon is not None:
        axes.axvline(epsilon, color=_INK, linewidth=1, linestyle=(0, (2, 3)), alpha=0.6)
    axes.set_ylim(0, 102)
    axes.set_yticks(range(0, 101, 20), [f"{tick}%" for tick in range(0, 101, 20)])
    axes.set_xlim(left=0)
    axes.set_xlabel("Attack size \N{GREEK SMALL LETTER EPSILON}")
    axes.set_ylabel("Accuracy under attack")
    return _svg(figure, "robustness", "Accuracy under attack over attack size")


def burn_down_svg(burn_down, target_epsilon=None, colour=PALETTE[0]) -> str:
    """Privacy spent over optimizer steps, with the budget as a line.

    Args:
        burn_down: List of `BurnDownPoint`.
        target_epsilon: The budget, or None.
        colour: The private model's colour.

    Returns:
        An `<svg>` element.
    """
    figure, axes = _figure(3.1)
    points = sorted(burn_down, key=lambda point: point["step"])
    steps, spent = [p["step"] for p in points], [p["epsilon"] for p in points]
    axes.fill_between(steps, spent, color=colour, alpha=0.14, linewidth=0)
    axes.plot(steps, spent, color=colour, linewidth=2)
    axes.plot(steps[-1:], spent[-1:], color=colour, marker="o", markersize=6)
    top = max([*spent, target_epsilon or 0.0])
    if target_epsilon is not None:
        axes.axhline(target_epsilon, color=PALETTE[4], linewidth=1.6, linestyle=(0, (5, 3)))
        axes.annotate(
            f"budget {number(target_epsilon)}",
            (0.01, target_epsilon),
            xycoords=("axes fraction", "data"),
            xytext=(0, 4),
            textcoords="offset points",
            color=_INK,
        )
    axes.set_ylim(0, 1.15 * top if top else 1)
    axes.set_xlim(min([0, *steps]), max([1, *steps]) * 1.02)
    axes.set_xlabel("Optimizer step")
    axes.set_ylabel("\N{GREEK SMALL LETTER EPSILON} spent")
    return _svg(figure, "privacy", "Privacy spent over optimizer steps")


def membership_svg(measurements, names) -> str:
    """The AUC with its interval, one row per model and attack, against guessing.

    Args:
        measurements: Pairs of a model's name and a `MembershipReport`.
        names: All model names of the report, which fix each model's colour.

    Returns:
        An `<svg>` element.
    """
    figure, axes = _figure(0.9 + 0.42 * len(measurements))
    for row, (name, measured) in enumerate(measurements):
        colour, marker = style(names, name)
        axes.plot(measured.auc_interval, (row, row), color=colour, linewidth=3, alpha=0.45)
        axes.plot([measured.auc], [row], color=colour, marker=marker, markersize=8)
    lows = [measured.auc_interval[0] for _, measured in measurements]
    highs = [measured.auc_interval[1] for _, measured in measurements]
    axes.axvline(0.5, color=_INK, linewidth=1.2, linestyle=(0, (2, 3)), alpha=0.7)
    axes.set_xlim(max(0.0, min([0.45, *lows]) - 0.02), min(1.0, max([0.6, *highs]) + 0.02))
    axes.set_ylim(len(measurements) - 0.5, -0.5)
    labels = [
        name if measured.attack == "threshold" else f"{name}, {measured.attack}"
        for name, measured in measurements
    ]
    axes.set_yticks(range(len(measurements)), labels)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("Membership AUC (0.5 is guessing)")
    return _svg(figure, "membership", "Membership AUC per model with its interval")


def style(names, name) -> tuple[str, str]:
    """The colour and marker of one model, the same in every chart.

    >>> style(["plain", "robust"], "robust")
    ('#d9701e', 's')
    """
    index = list(names).index(name)
    return PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]


def _figure(height: float):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, height), layout="constrained")
    figure.patch.set_visible(False)
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_INK)
        spine.set_alpha(0.5)
    axes.grid(color=_INK, alpha=0.14, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=6)
    return figure, axes


def _svg(figure, key: str, description: str) -> str:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_color(_INK)
        # A model may be called "$x$"; it is a name, not a formula.
        text.set_parse_math(False)
    canvas, buffer = FigureCanvasSVG(figure), io.StringIO()
    # Text stays text: smaller, selectable, in the page's own typeface. The salt fixes the ids.
    with matplotlib.rc_context({"svg.hashsalt": key, "svg.fonttype": "none"}):
        canvas.print_svg(buffer, metadata={"Date": None})
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
    drawing = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", drawing)
    # Several charts share one page, so their ids must not meet.
    drawing = re.sub(r'\bid="', f'id="{key}-', drawing)
    drawing = drawing.replace("url(#", f"url(#{key}-").replace('href="#', f'href="#{key}-')
    drawing = drawing.replace(_INK, "currentColor")
    label = html.escape(description, quote=True)
    return drawing.replace("<svg", f'<svg role="img" aria-label="{label}"', 1).strip()
