"""What noise costs: the default generator, ChaCha20, and banded noise, beside one another.

    python benchmarks/noise.py --size 1000000

Prints milliseconds of one draw for a model of that many weights, the ratio to the default, and by
how much bands lower the error of the weights.
"""

import argparse
import statistics
import time

import numpy as np

from keras_secure import backend
from keras_secure.privacy import banded_coefficients, prefix_error
from keras_secure.privacy.banded_noise import BandedNoise
from keras_secure.privacy.noise import NoiseSource


def milliseconds(sources, size, repeats):
    """Median time of one draw of each source, the sources taking turns."""
    draws = {}
    for name, source in sources.items():
        source.build(size)
        draws[name] = backend.compiled(lambda step, source=source: source.draw(size, 1.0, step))
    times = {name: [] for name in sources}
    for turn in range(repeats + 1):
        for name, draw in draws.items():
            start = time.perf_counter()
            np.asarray(draw(np.int64(turn)))
            times[name].append(time.perf_counter() - start)
    # The first turn traces.
    return {name: 1e3 * statistics.median(found[1:]) for name, found in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1_000_000)
    parser.add_argument("--bands", type=int, default=8)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    sources = {
        "default": NoiseSource(),
        "secure": NoiseSource(secure=True),
        f"{arguments.bands} bands": BandedNoise(arguments.bands),
        f"{arguments.bands} bands, secure": BandedNoise(arguments.bands, secure=True),
    }
    found = milliseconds(sources, arguments.size, arguments.repeats)
    for name, value in found.items():
        print(f"{name:>16} {value:9.2f} ms  {value / found['default']:6.2f} x default")
    independent = prefix_error([1.0], arguments.steps)
    for bands in (2, 4, 8, 16, 32):
        share = prefix_error(banded_coefficients(bands, arguments.steps), arguments.steps)
        ratio = share / independent
        print(f"{bands:>3} bands, {arguments.steps} steps: {ratio:.4f} of the squared error")


if __name__ == "__main__":
    main()
