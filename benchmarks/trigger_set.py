"""What is left of a trigger set after what a thief does to a model, told by predictions alone.

    python benchmarks/trigger_set.py --data FOLDER     MNIST and SMS
    python benchmarks/trigger_set.py                   digits and made-up texts, smaller

For each family of models and each seed one model is trained without triggers and one with them,
mixed into its training data. Each row treats a copy of the marked model as a thief would, who
trains on all the owner's data. Five models that never saw a key are the empirical null; twenty are
asked about the triggers of a thousand keys each.
"""

import argparse
import sys
import time

import keras
import numpy as np
from watermark_attacks import copy_of
from watermark_families import VOCABULARY
from watermark_grid import LOSS, ROWS, Owner, accuracy, fit
from watermark_table import add_options, cost_of, innocent_models, load, say, table

import keras_secure as ks
from keras_secure.watermark import TriggerSet, embed_triggers, verify_triggers
from keras_secure.watermark.matching_chance import (
    CLAIM_THRESHOLD,
    binomial_matches_probability,
    dealt_matches_probability,
)
from keras_secure.watermark.report import power_of_two

# The thief's weight marks and re-alignment are about weights, which nobody looks at here.
SKIPPED = ("re-aligned", "embedded afterwards", "overwriting")


def trigger_set(family, data, key, count=200, pool=False):
    """The triggers of one key for a family."""
    options = {"vocabulary": VOCABULARY} if data.x.dtype.kind == "i" else {}
    if pool:
        options["pool"] = data.x
    classes = int(data.y.max()) + 1
    return TriggerSet(key, data.x.shape[1:], classes, count, **options)


def halved(data):
    """Keeps half of the test data for the table, and gives the owner the other to validate on."""
    held = data.x_test[::2], data.y_test[::2]
    return type(data)(data.x, data.y, data.x_test[1::2], data.y_test[1::2]), held


def own_rows(held):
    """What is particular to triggers."""

    def overwritten(owner, data, family, seed):
        """A thief embeds triggers of his own."""
        return learned(owner.model, trigger_set(family, data, f"thief {seed}"), data, 0.05)

    def taught(owner, data, family, seed):
        """The owner teaches the triggers to the model that was trained without."""
        return learned(owner.unmarked, owner.mark, data, 0.005)

    def learned(model, triggers, data, max_cost):
        other = copy_of(model)
        try:
            embed_triggers(other, triggers, data.x, data.y, validation_data=held, max_cost=max_cost)
        except ks.errors.InputError as error:  # then the row shows a model without them
            print(error, file=sys.stderr)
        return other

    return {"taught to the finished model": taught, "another trigger set on top": overwritten}


def train(family, data, seed, options, triggers=None):
    """Trains a model, with or without triggers in its data."""
    keras.utils.set_random_seed(seed)
    model = family.build()
    if triggers is not None:
        x, y = triggers.mix(data.x, data.y, share=options.share)
        data = type(data)(x, y, data.x_test, data.y_test)
    return fit(model, data, family, options.epochs)


def rows_of(family, data, held, options, innocent):
    """Yields a line for each row and seed."""
    rows = {
        name: attack
        for name, attack in {**ROWS, **own_rows(held)}.items()
        if any(part in name for part in options.rows) and not any(part in name for part in SKIPPED)
    }
    for seed in range(options.seeds):
        triggers = trigger_set(family, data, f"owner {seed}", options.count, options.pool)
        unmarked = train(family, data, seed, options)
        owner = Owner(triggers, train(family, data, seed, options, triggers), unmarked)
        plain = accuracy(unmarked, data)
        for name, attack in rows.items():
            keras.utils.set_random_seed(1000 + seed)
            suspect = attack(owner, data, family, seed)
            report = verify_triggers(suspect, triggers, innocent=innocent)
            line = {
                "family": family.name,
                "seed": seed,
                "row": name,
                "unmarked": plain,
                "accuracy": accuracy(suspect, data),
                "triggers": report.accuracy,
                "p_value": report.p_value,
                "innocent_p_value": report.innocent_p_value,
                "verdict": report.verdict,
            }
            say(line)
            yield line


def innocents(family, data, options, models):
    """Asks models that were made without a key about many keys' triggers."""
    most, lowest, false, p_values = 0, 1.0, 0, []
    for first in range(0, options.keys, 10):
        sets = [trigger_set(family, data, f"stranger {first + n}") for n in range(10)]
        inputs = np.concatenate([one.inputs() for one in sets])
        for model in models:
            answers = model.predict_on_batch(inputs).argmax(1).reshape(10, -1)
            for one, given in zip(sets, answers, strict=True):
                labels = one.labels()
                matches = int(np.sum(given == labels))
                chance = dealt_matches_probability(given.tolist(), labels.tolist(), matches)
                most, lowest = max(most, matches), min(lowest, float(chance))
                false += chance < CLAIM_THRESHOLD
                p_values.append(float(chance))
    result = {
        "family": family.name,
        "models": len(models),
        "keys": options.keys,
        "false_positives": false,
        "most_matches": most,
        "of": sets[0].count,
        "lowest_p_value": lowest,
        "binomial_p_value": float(
            binomial_matches_probability(most, sets[0].count, sets[0].num_classes)
        ),
        "share_below_0.01": float(np.mean(np.array(p_values) <= 0.01)),
    }
    say(result)
    return result


def private(data, family, options):
    """Trains with differential privacy, less and less noise, with triggers in the data."""
    triggers = trigger_set(family, data, "owner private")
    x, y = triggers.mix(data.x, data.y, share=options.share)
    for noise in options.noise:
        keras.utils.set_random_seed(0)
        model = family.build()
        secure = ks.SecureModel(model)
        optimizer = ks.optimizers.DPOptimizer(
            keras.optimizers.Adam(2e-3), l2_norm_clip=1.0, noise_multiplier=noise
        )
        secure.compile(optimizer, LOSS)
        secure.fit(x, y, batch_size=256, epochs=options.epochs, verbose=0)
        report = verify_triggers(model, triggers)
        line = {
            "family": family.name,
            "noise_multiplier": noise,
            "epsilon": optimizer.epsilon(1e-5),
            "accuracy": accuracy(model, data),
            "triggers": report.accuracy,
            "p_value": report.p_value,
            "verdict": report.verdict,
        }
        say(line)
        print(
            f"| {line['family']} | {noise:g} | {line['epsilon']:.1f} | {line['accuracy']:.2f} "
            f"| {100 * report.accuracy:.0f}% | {power_of_two(report.p_value)} | {report.verdict} |",
            flush=True,
        )


def summarize(lines, innocent):
    """The table: mean accuracies, the worst p-value of all seeds."""
    head = "family | row | accuracy | triggers | p-value (worst) | beyond innocents | proved"

    def cells(lines):
        known = [100 * line["triggers"] for line in lines]
        return (
            f"{np.mean([line['accuracy'] for line in lines]):.2f}",
            f"{min(known):.0f}% to {max(known):.0f}%",
            power_of_two(max(line["p_value"] for line in lines)),
            beyond(lines),
            f"{sum(line['verdict'] == 'proved' for line in lines)} of {len(lines)}",
        )

    def cost(family, lines):
        marked = [line for line in lines if line["row"] == "marked itself"]
        return cost_of(family, marked, "accuracy", "triggers cost")

    out = table(head, lines, cells, cost)
    for one in innocent:
        out.append(
            f"{one['family']}: {one['false_positives']} false positives over {one['models']} "
            f"innocent models x {one['keys']} keys; at most {one['most_matches']} of {one['of']} "
            f"matched (p {one['binomial_p_value']:.1e} by the binomial), lowest exact p "
            f"{one['lowest_p_value']:.1e}, {100 * one['share_below_0.01']:.2f}% of them at most "
            "0.01."
        )
    return "\n".join(out)


def beyond(cells):
    """The worst p-value where what innocent models answer too does not count."""
    p_values = [cell["innocent_p_value"] for cell in cells]
    return "" if None in p_values else power_of_two(max(p_values))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, epochs=10)
    parser.add_argument("--pool", action="store_true", help="triggers from the training data")
    parser.add_argument("--count", type=int, default=200, help="triggers")
    parser.add_argument("--share", type=float, default=0.3, help="triggers per training example")
    parser.add_argument("--private", action="store_true", help="private training instead of rows")
    parser.add_argument("--noise", type=float, nargs="+", default=[0.3, 0.5, 1.0, 2.0])
    options = parser.parse_args(argv)
    start = time.perf_counter()

    lines, innocent = [], []
    for family, data in load(options):
        if options.private:
            private(data, family, options)
            continue
        data, held = halved(data)
        models = innocent_models(family, data, fit, options)
        # A few of them are what an owner has at hand as empirical null.
        lines += rows_of(family, data, held, options, models[:5])
        if models:
            innocent.append(innocents(family, data, options, models))
    print(summarize(lines, innocent))
    print(f"\n{time.perf_counter() - start:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
