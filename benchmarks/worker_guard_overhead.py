"""Times SavedModels in turns, with TensorFlow and without Keras; see `guard_overhead.py`.

The argument is JSON: paths by name, the batch size, and how many rounds. Prints, as JSON, the
median and the tenth part of the seconds of a call for each name.
"""

import json
import os
import random
import sys
import time

WARM_UP = 50


def main():
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    # TensorFlow imports Keras on its own if it is there; here it must do without.
    sys.modules["keras"] = None  # type: ignore[assignment]

    import numpy as np
    import tensorflow as tf

    paths, batch_size, rounds = json.loads(sys.argv[1])
    loaded = {name: tf.saved_model.load(path) for name, path in paths.items()}
    x = tf.constant(np.random.default_rng(0).random((batch_size, 28, 28, 1), dtype="float32"))
    calls = {}
    for name, model in loaded.items():
        signature = model.signatures["serving_default"]
        (key,) = signature.structured_input_signature[1]
        calls[name] = (signature, {key: x})
    times = {name: [] for name in calls}
    order = list(calls)
    generator = random.Random(0)
    for number in range(WARM_UP + rounds):
        generator.shuffle(order)
        for name in order:
            signature, inputs = calls[name]
            start = time.perf_counter()
            signature(**inputs)
            if number >= WARM_UP:
                times[name].append(time.perf_counter() - start)
    quantiles = {name: np.quantile(taken, (0.5, 0.1)).tolist() for name, taken in times.items()}
    print(json.dumps(quantiles))


if __name__ == "__main__":
    main()
