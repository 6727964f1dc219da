"""What a step of adversarial training costs, against plain Keras and against ART's trainer.

    benchmarks/peers/build_attacks.sh        (once; leave out with --peers none)
    python benchmarks/adversarial_training.py

Every configuration lives in a process of its own, on the same processors and with the same number
of threads. The processes take turns of a few steps, so that drift of the machine falls on all
alike. A ratio is the median over the turns of the time over that of plain Keras in the same turn;
beside it stand its quartiles, the same of processor time, which holds better on a busy machine, and
the most that is allowed: 2.3 plain steps for FGSM with a random start, 1.15 (k + 1) for PGD-k.

ART's `AdversarialTrainer` trains the same network on batches of the same size: as it is given to
the user, and with a compiled step of ours in its classifier. Ours has to be 5 times as fast as
either.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
BATCH = {"mnist": 128, "cnn": 256, "mlp": 256, "vgg": 128}
OURS, ART = "keras_secure", "ART"
SCRIPTS = {
    OURS: HERE / "worker_adversarial_training.py",
    ART: HERE / "peers" / "worker_art_training.py",
}
WAYS = ("plain", "fgsm-rs", "pgd-7")
ART_WAYS = ("pgd-7", "pgd-7 own step")
WARM_UP, FEWEST, FASTER = 2, 5, 5.0


def limit(way):
    """The most that a step may cost in plain steps."""
    return 2.3 if way == "fgsm-rs" else 1.15 * (int(way.split("-")[1]) + 1)


class Worker:
    """A process that takes a few steps for each line it is sent."""

    def __init__(self, library, way, name, python, threads):
        self.library, self.way, self.failure = library, way, None
        self.seconds, self.processor = [], []
        pinned = ("OMP", "MKL", "TF_NUM_INTRAOP", "TF_NUM_INTEROP")
        counts = {f"{part}_NUM_THREADS": str(threads) for part in pinned[:2]}
        counts |= {f"{part}_THREADS": str(threads) for part in pinned[2:]}
        processors = set(sorted(os.sched_getaffinity(0))[:threads])
        self._process = subprocess.Popen(
            [python, str(SCRIPTS[library]), way, name, str(BATCH[name])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={
                **os.environ,
                **counts,
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "CUDA_VISIBLE_DEVICES": "-1",
            },
            preexec_fn=lambda: os.sched_setaffinity(0, processors),
        )

    def wait_until_ready(self):
        first = self._process.stdout.readline().strip()
        if first != "ready":
            self.failure = first or "failed: the process ended"

    def take_turn(self, counts, most):
        """Takes a turn, unless it failed or has spent `most` seconds on enough of them."""
        if self.failure or (len(self.seconds) >= FEWEST and sum(self.seconds) > most):
            return
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            self.failure = "failed: the process ended"
        elif counts:
            seconds, processor = map(float, answer.split())
            self.seconds.append(seconds)
            self.processor.append(processor)

    def close(self):
        self._process.stdin.close()
        self._process.wait()


def measure(name, options):
    """Takes turns among all ways to train one model; returns one row for each."""
    pythons = [(OURS, way, sys.executable) for way in options.ways]
    if options.peers != "none" and name == options.models[0]:
        peer = Path(options.peers) / "env-attacks-tensorflow" / "bin" / "python"
        pythons += [(ART, way, str(peer)) for way in ART_WAYS]
    workers = [
        Worker(library, way, name, python, options.threads) for library, way, python in pythons
    ]
    for worker in workers:
        worker.wait_until_ready()
    for turn in range(-WARM_UP, options.rounds):
        for worker in workers:
            worker.take_turn(turn >= 0, options.seconds)
    for worker in workers:
        worker.close()
    return [row(name, worker, workers[0]) for worker in workers]


def row(name, worker, plain):
    found = {"model": name, "library": worker.library, "way": worker.way}
    if worker.failure or not worker.seconds:
        return {**found, "failure": worker.failure}
    ratios = [own / base for own, base in zip(worker.seconds, plain.seconds, strict=False)]
    low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    base = statistics.median(plain.processor)
    return {
        **found,
        "turns": len(ratios),
        "milliseconds": 1e3 * statistics.median(worker.seconds) / 4,
        "ratio": middle,
        "quartiles": [low, high],
        "processor_ratio": statistics.median(worker.processor) / base,
    }


def show(found):
    start = f"{found['model']:6} {found['library']:13} {found['way']:15}"
    if "failure" in found:
        print(f"{start} {found['failure']}", flush=True)
        return
    low, high = found["quartiles"]
    text = f"{start} {found['milliseconds']:9.1f} {found['ratio']:8.2f} {low:7.2f}-{high:<7.2f}"
    text += f" {found['processor_ratio']:9.2f}"
    if found["library"] == OURS and found["way"] != "plain":
        allowed = limit(found["way"])
        text += f" {allowed:7.2f}  {'met' if found['ratio'] <= allowed else 'MISSED'}"
    print(text, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=BATCH, default=["mnist", "cnn", "mlp"])
    parser.add_argument("--ways", nargs="+", default=list(WAYS), help="plain first")
    parser.add_argument("--rounds", type=int, default=25, help="turns of four steps")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60, help="a slow way stops after so long")
    parser.add_argument("--peers", default=str(HERE / "peers"), help="folder, or none")
    parser.add_argument("--json", help="also write the figures to this file")
    options = parser.parse_args()
    print(
        f"{'model':6} {'library':13} {'way':15} {'ms/step':>9} {'ratio':>8} {'quartiles':>15} "
        f"{'processor':>9} {'allowed':>7}"
    )
    rows = []
    for name in options.models:
        found = measure(name, options)
        for each in found:
            show(each)
        times = {(r["library"], r["way"]): r.get("milliseconds") for r in found}
        for way in ART_WAYS:
            theirs, own = times.get((ART, way)), times.get((OURS, way.split(" ")[0]))
            if theirs and own:
                verdict = "met" if theirs / own >= FASTER else "MISSED"
                print(f"{name:6} ART {way}: {theirs / own:.1f} times as long as ours  {verdict}")
        rows += found
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
