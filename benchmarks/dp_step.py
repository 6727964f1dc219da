"""What a private training step costs: ours, tensorflow-privacy's and Opacus', each against plain.

    benchmarks/peers/build.sh          (once; leave out with --peers none)
    python benchmarks/dp_step.py

Every configuration lives in a process of its own, on the same processors and with the same number
of threads. The processes take turns step by step, so that drift of the machine falls on all alike.
A ratio is the median over the turns of a private step over the plain step of the same library in
the same turn; beside it stands the same of processor time, which says less of the waiting but holds
on a busy machine. A way that is very slow takes fewer turns (their number is printed), and of
several ways that a library offers each has its own line.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from step_models import BATCH

HERE = Path(__file__).resolve().parent
OURS, TFP, OPACUS = "keras_secure", "tensorflow-privacy", "opacus"
WORKERS = {
    OURS: (HERE / "worker_keras_secure.py", ("plain", "dp")),
    TFP: (
        HERE / "peers" / "worker_tensorflow_privacy.py",
        ("plain", "vectorized", "model", "model-xla", "fast"),
    ),
    OPACUS: (HERE / "peers" / "worker_opacus.py", ("plain", "hooks", "ghost")),
}
# The most that the private step may cost against plain Keras.
LIMITS = {"mlp": 1.15, "attention": 1.3, "text": 1.3, "cnn": 1.6, "vgg": 1.6}
MEMORY_BATCH, MEMORY_LIMIT = 1024, 1.3
WARM_UP, FEWEST = 2, 7


class Worker:
    """A process that takes one step for each line it is sent."""

    def __init__(self, library, way, name, batch, python, threads):
        self.library, self.way = library, way
        self.seconds, self.processor = [], []
        count = str(threads)
        pinned = ("OMP", "MKL", "TF_INTRAOP", "TF_INTEROP")
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
        environment |= {f"{part}_NUM_THREADS": count for part in pinned}
        environment |= {"TF_NUM_INTRAOP_THREADS": count, "TF_NUM_INTEROP_THREADS": count}
        processors = set(sorted(os.sched_getaffinity(0))[:threads])
        self._process = subprocess.Popen(
            [python, str(WORKERS[library][0]), way, name, str(batch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            preexec_fn=lambda: os.sched_setaffinity(0, processors),
        )
        self.failure = None

    def wait_until_ready(self):
        """Waits for the first step, in which a worker builds and compiles."""
        first = self._process.stdout.readline().strip()
        if first != "ready":
            self.failure = first or "failed: the process ended"

    def is_done(self, seconds):
        """Whether it failed, or took `seconds` over enough turns or thrice that over fewer."""
        spent = sum(self.seconds)
        late = spent > seconds if len(self.seconds) >= FEWEST else spent > 3 * seconds
        return self.failure is not None or late

    def ask(self, line="step"):
        """Sends a line and returns the numbers of the answer."""
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            self.failure = f"failed: the process ended after {len(self.seconds)} steps"
            return None
        return [float(number) for number in answer.split()]

    def close(self):
        self._process.stdin.close()
        self._process.wait()


def measure(name, pythons, options):
    """Takes turns among all ways to train the model; returns one row for each."""
    workers = [
        Worker(library, way, name, BATCH[name], pythons[library], options.threads)
        for library in pythons
        for way in WORKERS[library][1]
    ]
    for worker in workers:
        worker.wait_until_ready()
    for turn in range(-WARM_UP, options.rounds):
        for worker in workers:
            if not worker.is_done(options.seconds) and (found := worker.ask()) and turn >= 0:
                worker.seconds.append(found[0])
                worker.processor.append(found[1])
    for worker in workers:
        worker.close()
    return [_row(name, worker, workers) for worker in workers]


def _row(name, worker, workers):
    row = {"model": name, "library": worker.library, "way": worker.way, "batch": BATCH[name]}
    if worker.failure is not None or not worker.seconds:
        return {**row, "failure": worker.failure}
    plain = next(w for w in workers if (w.library, w.way) == (worker.library, "plain"))
    ratios = [own / base for own, base in zip(worker.seconds, plain.seconds, strict=False)]
    by_processor = statistics.median(worker.processor) / statistics.median(plain.processor)
    middle = statistics.median(worker.seconds)
    row |= {"turns": len(ratios), "milliseconds": 1e3 * middle, "per_second": BATCH[name] / middle}
    if len(ratios) > 1:
        low, ratio, high = statistics.quantiles(ratios, n=4)
    else:
        low = ratio = high = ratios[0]
    return {**row, "ratio": ratio, "quartiles": [low, high], "processor_ratio": by_processor}


def measure_memory(name, python, options):
    """Peak memory of plain and private training at a large batch, in MiB."""
    found = {}
    for way in ("plain", "dp", "dp-128"):
        worker = Worker(OURS, way, name, MEMORY_BATCH, python, options.threads)
        worker.wait_until_ready()
        for _ in range(3):
            worker.ask()
        found[way] = worker.ask("memory")
        worker.close()
    (before, plain), growth = found["plain"], {w: peak - was for w, (was, peak) in found.items()}
    return {"model": name, "batch": MEMORY_BATCH, "plain_mib": plain, "plain_before": before} | {
        way: {
            "mib": found[way][1],
            "ratio": found[way][1] / plain,
            "ratio_of_growth": growth[way] / growth["plain"],
        }
        for way in ("dp", "dp-128")
    }


def print_rows(rows):
    for row in rows:
        start = f"{row['model']:10} {row['library']:19} {row['way']:11}"
        if "failure" in row:
            print(f"{start} {row['failure']}", flush=True)
            continue
        low, high = row["quartiles"]
        print(
            f"{start} {row['milliseconds']:9.1f} {row['per_second']:10.0f} {row['ratio']:8.2f} "
            f"{f'{low:.2f}-{high:.2f}':>15} {row['processor_ratio']:8.2f} {row['turns']:5}",
            flush=True,
        )


def judge(rows):
    """Compares with the limits and with the best way of each peer; returns what was missed."""
    lines, missed = [], []
    for name in dict.fromkeys(row["model"] for row in rows):
        ran = [row for row in rows if row["model"] == name and "ratio" in row]
        ours = next((r for r in ran if (r["library"], r["way"]) == (OURS, "dp")), None)
        if ours is None:
            missed.append(f"{name}: our own step did not run")
            continue
        line = f"{name}: {ours['ratio']:.2f}x plain, at most {LIMITS[name]}x wanted"
        if ours["ratio"] > LIMITS[name]:
            missed.append(f"{name}: {ours['ratio']:.2f}x plain is more than {LIMITS[name]}x")
        for peer, factor in ((TFP, 10.0), (OPACUS, 1.0)):
            ways = [r for r in ran if r["library"] == peer and r["way"] != "plain"]
            if not ways:
                continue
            best = min(ways, key=lambda row: row["milliseconds"])
            by_ratio = best["ratio"] / ours["ratio"]
            by_rate = ours["per_second"] / best["per_second"]
            line += f"; {peer} ({best['way']}): {by_ratio:.1f}x by ratio, {by_rate:.1f}x by rate"
            if min(by_ratio, by_rate) < factor:
                missed.append(f"{name}: ahead of {peer} by less than {factor:g}x in one of the two")
        lines.append(line)
    print("\nours against plain, and how many times cheaper and faster than the best of a peer:")
    print("\n".join(lines))
    return missed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=BATCH, default=list(BATCH))
    parser.add_argument("--rounds", type=int, default=21, help="turns (default 21)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=20.0,
        help="after which a way stops that took 7 turns; thrice that with fewer (default 20)",
    )
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--peers", default=str(HERE / "peers"), help="folder of build.sh, or none")
    parser.add_argument("--memory", nargs="*", choices=BATCH, help="models (default: as --models)")
    parser.add_argument("--json", help="also write all figures to this file")
    parser.add_argument("--check", action="store_true", help="exit 1 where a limit is missed")
    options = parser.parse_args()
    pythons = {OURS: sys.executable}
    for peer in (TFP, OPACUS):
        python = Path(options.peers, f"env-{peer}", "bin", "python")
        if python.exists():
            pythons[peer] = str(python)
        elif options.peers != "none":
            print(f"{peer} is left out: no {python}; benchmarks/peers/build.sh makes it")
    print(
        f"{'model':10} {'library':19} {'way':11} {'ms':>9} {'examples/s':>10} {'x plain':>8} "
        f"{'quartiles':>15} {'by CPU':>8} {'turns':>5}"
    )
    rows = []
    for name in options.models:
        found = measure(name, pythons, options)
        print_rows(found)
        rows += found
    missed = judge(rows)
    print(f"\npeak memory at batch {MEMORY_BATCH} in MiB, and the ratios of it and of its growth:")
    memory = []
    for name in options.models if options.memory is None else options.memory:
        row = measure_memory(name, sys.executable, options)
        memory.append(row)
        line = f"{name:10} plain {row['plain_mib']:6.0f}"
        for way, label in (("dp", "private"), ("dp-128", "in microbatches of 128")):
            own = row[way]
            line += (
                f"  {label} {own['mib']:.0f}: {own['ratio']:.2f}x, {own['ratio_of_growth']:.2f}x"
            )
        print(line, flush=True)
        least = min(row[way]["ratio"] for way in ("dp", "dp-128"))
        if least > MEMORY_LIMIT:
            missed.append(f"{name}: peak memory {least:.2f}x is more than {MEMORY_LIMIT}x")
    print("\nmissed:" if missed else "\nno limit was missed")
    for line in missed:
        print(f"- {line}")
    if options.json:
        Path(options.json).write_text(json.dumps({"steps": rows, "memory": memory}, indent=2))
    return 1 if missed and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
