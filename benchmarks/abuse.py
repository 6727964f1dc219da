"""What each detector of abuse was seen to do and not to do, and what really slows a thief.

Honest clients ask natural test images. Thieves extract the model by made-up inputs (Jacobian
augmentation, Papernot et al. 2017), by other natural images, by noise, or by the owner's own kind
of data. Probers search for adversarial inputs by answers alone. Then copies are trained from
answers of several kinds and numbers, and DAWN's marks are looked for in them.

    python benchmarks/abuse.py --data FOLDER
"""

import argparse
import gzip
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from watermark_families import Data, Images

import keras_secure as ks
from keras_secure.serving.abuse import DAWN, Coverage, DistanceDistribution, Drift, NearDuplicates

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def train(x, y, epochs, family):
    """A network trained on labels or on probabilities."""
    model = family.build()
    loss = LOSS if np.ndim(y) == 1 else keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    model.fit(x, y, batch_size=min(128, max(16, len(x) // 20)), epochs=epochs, verbose=0)
    return model


def answers(model, x):
    """Probabilities, as a served model gives them."""
    return np.asarray(keras.ops.softmax(model.predict(x, batch_size=1000, verbose=0)))


@keras.saving.register_keras_serializable("benchmarks")
class Recorder(keras.layers.Layer):
    """Keeps every input that comes by."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seen = []

    def call(self, inputs):
        if not isinstance(inputs, keras.KerasTensor):
            self.seen.append(np.asarray(inputs))
        return inputs


def asked_by(attack, model, x, y):
    """The inputs that an attack asks about, in order, without the copies that fill its batches."""
    recorder = Recorder()
    watched = keras.Sequential([keras.Input(model.input_shape[1:]), recorder, model])
    recorder.seen.clear()
    tf.config.run_functions_eagerly(True)
    try:
        attack.run(watched, x, y, from_logits=True, verbose=0)
    finally:
        tf.config.run_functions_eagerly(False)
    rows = np.concatenate(recorder.seen)
    _, first = np.unique(rows.reshape(len(rows), -1), axis=0, return_index=True)
    return rows[np.sort(first)]


def jacobian_augmentation(model, x, size, family, step=0.1):
    """Inputs made from each other along the sign of a copy's gradient, as many as `size`."""
    x, labels = np.array(x), answers(model, x).argmax(1)
    while len(x) < size:
        copy = train(x, labels, 10, family)
        inputs = tf.convert_to_tensor(x)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            logits = tf.gather(copy(inputs), labels, axis=1, batch_dims=1)
        new = np.clip(x + step * np.sign(tape.gradient(logits, inputs)), 0, 1).astype("float32")
        x = np.concatenate([x, new])[:size]
        labels = answers(model, x).argmax(1)
    return x


def first_alarm(detector, stream, outputs, batch=10):
    """After how many queries a detector speaks, or None; a whole world seen is no alarm."""
    for start in range(0, len(stream), batch):
        part = slice(start, start + batch)
        found = detector.observe("x", stream[part], outputs[part])
        if found is not None and found.id != "abuse.coverage":
            return min(start + batch, len(stream))
    return None


def streams(model, data, family, options, rng):
    """The queries of every kind of client, by name."""
    x, y = data.x_test, data.y_test
    size = options.queries

    def natural(source):
        return [source[rng.permutation(len(source))[:size]] for _ in range(options.clients)]

    half = len(x) // 2
    found = {"honest: natural images": natural(x[half:])}
    found["thief: natural images"] = natural(data.x)[: options.thieves]
    found["thief: Jacobian augmentation"] = [
        jacobian_augmentation(model, x[half + 100 * i :][:100], size, family)
        for i in range(options.thieves)
    ]
    found["thief: uniform noise"] = [
        rng.uniform(size=(size, *x.shape[1:])).astype("float32") for _ in range(options.thieves)
    ]
    if options.other is not None:
        found["thief: images of another kind"] = natural(options.other)[: options.thieves]
    attacks = {
        "prober: HopSkipJump": lambda s: ks.attacks.HopSkipJump(steps=10, seed=s),
        "prober: Square": lambda s: ks.attacks.Square(options.epsilon, queries=size, seed=s),
    }
    for name, attack in attacks.items():
        found[name] = [
            asked_by(attack(i), model, x[half + i :][:1], y[half + i :][:1])[: 2 * size]
            for i in range(options.thieves)
        ]
    return found


def detection(model, data, family, options, rng):
    """Prints, for each kind of client, how many are noticed by whom and after how many queries."""
    x, half = data.x_test, len(data.x_test) // 2
    clients = streams(model, data, family, options, rng)
    calm = [x[:half][rng.permutation(half)[: options.queries]] for _ in range(20)]
    calibrated = DistanceDistribution.calibrated(((s, answers(model, s)) for s in calm), 0.05)
    makers = {
        "near duplicates": NearDuplicates,
        "distances (W < 0.9)": DistanceDistribution,
        f"distances (W < {calibrated.threshold:.3f})": lambda: DistanceDistribution(
            calibrated.threshold
        ),
        "unnatural inputs": lambda: Coverage(x[:half], share=1.0),
        "drift": lambda: Drift(answers(model, x[:half])),
    }
    print(f"{'clients':32}" + "".join(f"{name:>24}" for name in makers))
    for name, found in clients.items():
        row = []
        for make in makers.values():
            after = [first_alarm(make(), s, answers(model, s)) for s in found]
            caught = sorted(a for a in after if a is not None)
            middle = f" after {caught[len(caught) // 2]}" if caught else ""
            row.append(f"{len(caught)} of {len(found)}{middle}")
        print(f"{name:32}" + "".join(f"{cell:>24}" for cell in row), flush=True)
    for name, make in makers.items():
        detector, stream = make(), clients["honest: natural images"][0]
        outputs = answers(model, stream)
        begun = time.perf_counter()
        first_alarm(detector, stream, outputs, batch=1)
        cost = (time.perf_counter() - begun) / len(stream)
        print(f"{name} costs {1e3 * cost:.2f} ms a query")


def coarse(kind, probabilities):
    """Answers of one kind."""
    if kind == "labels":
        return probabilities.argmax(1)
    if kind == "rounded to 1 decimal":
        return probabilities.round(1)
    return probabilities


def extraction(model, data, family, options, rng):
    """Prints how well copies agree with the model, by kind and number of answers."""
    x, truth = data.x_test, answers(model, data.x_test).argmax(1)
    print(f"\n{'copies from':24}" + "".join(f"{n:>10}" for n in options.budgets) + "  queries")
    for kind in ("probabilities", "rounded to 1 decimal", "labels"):
        row = []
        for budget in options.budgets:
            asked = data.x[rng.permutation(len(data.x))[:budget]]
            learned = train(asked, coarse(kind, answers(model, asked)), options.epochs, family)
            row.append(float((answers(learned, x).argmax(1) == truth).mean()))
        print(f"{kind:24}" + "".join(f"{value:10.1%}" for value in row), flush=True)


def marks(model, data, family, options):
    """Prints what DAWN costs and what it shows."""
    truth, x = data.y_test, data.x_test
    plain = float((answers(model, x).argmax(1) == truth).mean())
    for share in options.shares:
        dawn = DAWN(b"a benchmark's key, no secret", share=share)
        outputs = dawn.mark("thief", data.x, answers(model, data.x))
        thief = train(data.x, outputs.argmax(1), options.learning, family)
        innocent = train(data.x, data.y, options.learning, family)
        reports = [dawn.verify(lambda a, m=m: answers(m, a)) for m in (thief, innocent)]
        shown = DAWN(b"a benchmark's key, no secret", share=share).mark("x", x, answers(model, x))
        cost = plain - float((shown.argmax(1) == truth).mean())
        print(
            f"DAWN, share {share}: costs {100 * cost:.2f} points, {reports[0].marks} marks; thief "
            f"{reports[0].matches} matches (p {reports[0].p_value:.1e}), innocent "
            f"{reports[1].matches} (p {reports[1].p_value:.2f})",
            flush=True,
        )


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with mnist.npz; digits without")
    parser.add_argument("--clients", type=int, default=20, help="honest ones")
    parser.add_argument("--thieves", type=int, default=5, help="of each kind")
    parser.add_argument("--queries", type=int, default=1000, help="of each client")
    parser.add_argument("--budgets", type=int, nargs="+", default=[100, 300, 1000, 3000, 10_000])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.005, 0.02])
    parser.add_argument("--epochs", type=int, default=10, help="of every training")
    parser.add_argument("--learning", type=int, default=60, help="epochs to learn marks in")
    parser.add_argument("--epsilon", type=float, default=0.1, help="of Square")
    options = parser.parse_args(argv)
    rng, family = np.random.default_rng(0), Images()
    keras.utils.set_random_seed(0)
    data = family.load(options.data)
    options.other = None
    other = Path(options.data or ".") / "keras/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz"
    if options.data is not None and other.exists():
        pixels = np.frombuffer(gzip.decompress(other.read_bytes()), np.uint8, offset=16)
        options.other = pixels.reshape(-1, 28, 28, 1) / np.float32(255)
    # MNIST's test set is in two halves of different kinds of writers, which is drift indeed.
    order = rng.permutation(len(data.x_test))
    data = Data(data.x, data.y, data.x_test[order], data.y_test[order])
    model = train(data.x, data.y, options.epochs, family)
    print(f"accuracy {(answers(model, data.x_test).argmax(1) == data.y_test).mean():.1%}")
    detection(model, data, family, options, rng)
    extraction(model, data, family, options, rng)
    marks(model, data, family, options)


if __name__ == "__main__":
    main()
