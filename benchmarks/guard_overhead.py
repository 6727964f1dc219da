"""What guards cost: the latency of hardened SavedModels beside that of the plain `model.export`.

    python benchmarks/guard_overhead.py --threshold 1.05

Exports one convolutional network for MNIST in several ways and serves all of them in one further
process that has TensorFlow and no Keras. There the SavedModels answer in turns, in a new order each
round, so that whatever else the machine does hits all of them alike. Printed are median latencies
in milliseconds, the ratio of the medians to the plain export's, and that of the fastest tenths,
which other load moves less.

- `guarded`: InputGuard that clips, OutputGuard, weights as constants, as by default.
- `strict`: InputGuard that rejects; OutputGuard with top 3, two places, abstaining below 0.3.
- `variables`: as `guarded`, with weights as variables, as the plain export has them.
- `constants`: no guards, weights as constants: what constants save, and the guards then cost.

`--threshold` makes a larger ratio of medians of `guarded` exit with 1.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

WORKER = Path(__file__).with_name("worker_guard_overhead.py")
BATCH_SIZES = (1, 128)


def export(folder):
    """Writes the SavedModels; returns their paths by name, the plain one first."""
    from runtime_agreement import cnn

    from keras_secure.export import export_hardened
    from keras_secure.layers import InputGuard, OutputGuard

    model = cnn()
    plain = Path(folder, "plain")
    model.export(plain, verbose=False)
    clipping = {"input_guard": InputGuard(), "output_guard": OutputGuard()}
    strict = {
        "input_guard": InputGuard(on_violation="reject"),
        "output_guard": OutputGuard(top_k=3, round_to=2, min_confidence=0.3),
    }
    ways = {
        "guarded": clipping,
        "strict": strict,
        "variables": {**clipping, "constant_weights": False},
        "constants": {},
    }
    made = {
        name: export_hardened(model, Path(folder, name), **options).saved_model
        for name, options in ways.items()
    }
    return {"plain": plain, **made}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3000, help="at batch 1 (default 3000)")
    parser.add_argument("--threshold", type=float, help="ratio not to be exceeded by `guarded`")
    options = parser.parse_args()
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: str(path) for name, path in export(folder).items()}
        print(f"{'batch':>5}  {'export':10}{'median ms':>10}{'ratio':>8}{'fastest tenth':>15}")
        for batch_size in BATCH_SIZES:
            rounds = options.rounds if batch_size == 1 else max(100, options.rounds // 10)
            arguments = json.dumps([paths, batch_size, rounds])
            run = subprocess.run(
                [sys.executable, str(WORKER), arguments],
                check=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            found = json.loads(run.stdout)
            for name, (median, tenth) in found.items():
                ratio, fast = median / found["plain"][0], tenth / found["plain"][1]
                print(f"{batch_size:5}  {name:10}{median * 1e3:10.3f}{ratio:8.3f}{fast:15.3f}")
                worst = max(worst, ratio if name == "guarded" else 0.0)
    return int(options.threshold is not None and worst > options.threshold)


if __name__ == "__main__":
    sys.exit(main())
