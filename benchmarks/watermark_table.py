"""The frame of tables about watermarks: options, data, a row for each thing that a thief does."""

import json
import sys

import keras
import numpy as np
from watermark_families import FAMILIES


def add_options(parser, epochs):
    """Declares which families, rows and seeds, and how many innocent models and keys."""
    add = parser.add_argument
    add("--data", help="folder with mnist.npz and text/sms_spam.csv")
    add("--families", nargs="+", default=list(FAMILIES), choices=FAMILIES)
    add("--rows", nargs="+", default=[""], help="parts of the names of rows")
    add("--seeds", type=int, default=3)
    add("--epochs", type=int, default=epochs, help="of the owner's training")
    add("--limit", type=int, help="training examples")
    add("--innocents", type=int, default=20)
    add("--innocent-epochs", type=int, default=5)
    add("--keys", type=int, default=1000)


def load(options):
    """Yields each family with its data."""
    for name in options.families:
        limit = {"limit": options.limit} if options.limit else {}
        yield FAMILIES[name], FAMILIES[name].load(options.data, **limit)


def say(line):
    """Tells of a line as soon as it is known."""
    print(json.dumps(line), file=sys.stderr, flush=True)


def innocent_models(family, data, fit, options):
    """Trains models of the same task that never saw a key."""
    models = []
    for number in range(options.innocents):
        keras.utils.set_random_seed(5000 + number)
        models.append(fit(family.build(), data, family, options.innocent_epochs))
    return models


def table(head, lines, cells, cost):
    """Makes the table: what `cells` tells of all seeds of a row, and the cost by family."""
    out = [f"| {head} |", "|" + " --- |" * (head.count("|") + 1)]
    for family in dict.fromkeys(line["family"] for line in lines):
        own = [line for line in lines if line["family"] == family]
        for name in dict.fromkeys(line["row"] for line in own):
            told = cells([line for line in own if line["row"] == name])
            out.append(f"| {family} | {name} | {' | '.join(told)} |")
        out += cost(family, own)
    return out


def cost_of(family, lines, marked, what):
    """Says what marking cost: `lines` by seed hold the accuracies `unmarked` and `marked`."""
    seeds = {line["seed"]: line for line in lines}.values()
    if not seeds:
        return []
    plain = np.mean([line["unmarked"] for line in seeds])
    costs = [line["unmarked"] - line[marked] for line in seeds]
    each = ", ".join(f"{cost:+.2f}" for cost in costs)
    return [
        f"\n{family}: unmarked {plain:.2f}; the {what} {np.mean(costs):+.2f} points ({each}).\n"
    ]
