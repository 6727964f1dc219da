"""What watching weights in memory costs, as a share of the inference that they are watched in.

Run as `python benchmarks/weight_integrity.py`. For each model and batch size, the compiled forward
pass and the check of 1% of the bytes are timed in turns, and the medians compared. A pass that does
little beside reading its weights once (one example through wide dense layers) is where the share is
largest. `--threshold SHARE` makes a larger median over the rows exit with 1.
"""

import argparse
import os
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from keras_secure import backend
from keras_secure.integrity.weights import WeightDigests

BLOCK = 20


def dense():
    """3.7 million weights, wide layers."""
    wide = [keras.layers.Dense(1500, activation="relu") for _ in range(2)]
    return keras.Sequential([keras.Input((784,)), *wide, keras.layers.Dense(10)])


def convolutional():
    """1.1 million weights, as a small image classifier has."""
    layers = [keras.Input((32, 32, 3))]
    for filters in (64, 128, 256):
        for _ in range(2):
            layers.append(keras.layers.Conv2D(filters, 3, padding="same", activation="relu"))
        layers.append(keras.layers.MaxPooling2D())
    return keras.Sequential(
        [*layers, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10)]
    )


def attention():
    """A small text model: an embedding and two attention blocks."""
    tokens = keras.Input((64,), dtype="int32")
    x = keras.layers.Embedding(20_000, 128)(tokens)
    for _ in range(2):
        x = keras.layers.LayerNormalization()(x + keras.layers.MultiHeadAttention(4, 32)(x, x))
        x = keras.layers.LayerNormalization()(
            x + keras.layers.Dense(128)(keras.layers.Dense(512, activation="relu")(x))
        )
    return keras.Model(tokens, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling1D()(x)))


def measure(model, batch_size, share, repeats):
    """Median seconds of a forward pass and of a check, taken in turns."""
    (spec,) = model.inputs
    generator = np.random.default_rng(0)
    x = generator.integers(0, 100, (batch_size, *spec.shape[1:])).astype(spec.dtype)
    digests = WeightDigests({v.path: lambda v=v: backend.host_array(v) for v in model.weights})
    passes, checks = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        model.predict_on_batch(x)
        middle = time.perf_counter()
        assert digests.check_part(share) == ()
        passes.append(middle - start)
        checks.append(time.perf_counter() - middle)
    # Shares are saved up and looked at together, so means over some calls count; of these the
    # median, as in some of them the machine did something else.
    blocks = [checks[start : start + BLOCK] for start in range(0, repeats, BLOCK)]
    return statistics.median(passes), statistics.median(map(statistics.mean, blocks))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=0.01, help="of the bytes (default 0.01)")
    parser.add_argument("--repeats", type=int, default=400, help="passes of each row (default 400)")
    parser.add_argument("--threshold", type=float, help="share of an inference not to be exceeded")
    options = parser.parse_args()
    shares = []
    print(f"{'model':16}{'weights':>10}{'batch':>7}{'pass ms':>10}{'check ms':>10}{'share':>8}")
    for build in (dense, convolutional, attention):
        model = build()
        for batch_size in (1, 32):
            seconds, check = measure(model, batch_size, options.share, options.repeats)
            shares.append(check / seconds)
            print(
                f"{build.__name__:16}{model.count_params():10,}{batch_size:7}"
                f"{seconds * 1e3:10.2f}{check * 1e3:10.3f}{check / seconds:8.1%}",
                flush=True,
            )
    print(f"median share of an inference: {statistics.median(shares):.1%}")
    return int(options.threshold is not None and statistics.median(shares) > options.threshold)


if __name__ == "__main__":
    sys.exit(main())
