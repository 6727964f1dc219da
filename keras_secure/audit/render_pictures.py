"""A row of adversarial images beside their originals, as HTML."""

import html

import numpy as np

from keras_secure.audit.pictures import change_picture, is_picture, png_data_uri
from keras_secure.audit.wording import label

MAX_EXAMPLES = 10
"""Pictures shown; more would not fit a row."""


def picture_table(examples) -> str:
    """Originals, changes and adversarial images in columns, with every model's verdict.

    Args:
        examples: `AdversarialExample`s; those that are no images are skipped.

    Returns:
        An HTML table, or an empty string if there is no image.
    """
    shown = [
        example
        for example in examples
        if is_picture(example["original"])
        and np.shape(example["original"]) == np.shape(example["adversarial"])
    ][:MAX_EXAMPLES]
    if not shown:
        return ""
    names = list(
        dict.fromkeys(
            name for one in shown for key in ("before", "after") for name in one.get(key, {})
        )
    )
    rows = [_cells("True label", [f"<td>{_text(label(one['label']))}</td>" for one in shown])]
    for title, draw in (
        ("Original", lambda one: one["original"]),
        ("Change, amplified", lambda one: change_picture(one["original"], one["adversarial"])),
        ("Adversarial", lambda one: one["adversarial"]),
    ):
        images = [
            f'<td><img alt="{title}, example {index}" src="{png_data_uri(draw(one))}"></td>'
            for index, one in enumerate(shown, start=1)
        ]
        rows.append(_cells(title, images))
    for name in names:
        rows.append(_cells(f"{name} says", [_verdict(one, name) for one in shown]))
    return (
        f'<div class="scroll"><table class="pictures"><tbody>\n{"".join(rows)}</tbody></table>'
        f"</div>\n"
    )


def _cells(title: str, cells: list[str]) -> str:
    return f'<tr><th scope="row">{_text(title)}</th>{"".join(cells)}</tr>\n'


def _verdict(example, name: str) -> str:
    before = example.get("before", {}).get(name)
    after = example.get("after", {}).get(name)
    fooled = "wrong" if after is not None and str(after) != str(example["label"]) else "right"
    if after is None:
        return f"<td>{_text(label(before))}</td>"
    return (
        f'<td class="{fooled}">{_text(label(before))} \N{RIGHTWARDS ARROW} '
        f"<b>{_text(label(after))}</b></td>"
    )


def _text(value) -> str:
    return html.escape(str(value), quote=True)
