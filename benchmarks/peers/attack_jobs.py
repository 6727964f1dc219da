"""The worker's side of a comparison of attacks: one JSON job in, one JSON result out.

A job is one line on standard input:

    {"library": "foolbox", "attack": "LinfPGD", "parameters": {"steps": 40}, "epsilon": 0.3,
     "norm": "linf", "model": "model.npz", "data": "data.npz", "batch_size": 128, "repeats": 1,
     "seed": 0, "warm_up": true, "save": "x_adv.npz"}

`attack` and `parameters` are the library's own names; `epsilon` is null for attacks that look for
the smallest distance. `model` was written by `attack_models.exported`, `data` holds `x` (channels
last) and `y`. With `warm_up` the attack runs once before it is timed; with `save` the inputs that
were found are written, too. The result is

    {"accuracy": 0.12, "success": [...], "distances": [...], "seconds": [...]}

accuracy: share of the examples that are answered correctly after the attack; what lies farther than
`epsilon` (but for rounding) counts as not found. distances: of what was found, in `norm`, else
null. seconds: of each repeat, by the clock, without building model or attack. An attack that
cannot be run answers {"failed": "why"}.
"""

import json
import os
import random
import sys
import time
import traceback

import numpy as np

ORDERS = {"linf": np.inf, "l2": 2, "l1": 1}


def serve(prepare):
    """Answers jobs until standard input ends.

    Args:
        prepare: Function of (job, x, y) that returns `attack`, a function without arguments that
            returns perturbed inputs like `x`, and `answers`, a function from inputs to classes.
    """
    # What the frameworks print must not mix with the answers.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        try:
            result = run(json.loads(line), prepare)
        except Exception as error:  # A peer that cannot run an attack is a result, too.
            traceback.print_exc()
            result = {"failed": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(result), file=out, flush=True)


def run(job, prepare):
    """Runs one job; see the head of this file."""
    with np.load(job["data"]) as data:
        x, y = data["x"], data["y"]
    seconds, best = [], None
    for repeat in range(job.get("repeats", 1)):
        random.seed(job.get("seed", 0) + repeat)
        np.random.seed(job.get("seed", 0) + repeat)
        attack, answers = prepare({**job, "seed": job.get("seed", 0) + repeat}, x, y)
        if job.get("warm_up"):
            attack()
        start = time.perf_counter()
        x_adv = attack()
        seconds.append(time.perf_counter() - start)
        best = x_adv if best is None else best
    success, distances = judged(job, answers, best, x, y)
    if job.get("save"):
        np.savez(job["save"], x_adv=best, success=success)
    return {
        "accuracy": float(np.mean(~success)),
        "success": success.tolist(),
        "distances": [d if s else None for d, s in zip(distances, success.tolist(), strict=True)],
        "seconds": seconds,
    }


def judged(job, answers, x_adv, x, y):
    """Returns (success, distances) of what an attack gave back."""
    x_adv = np.asarray(x_adv, "float32")
    delta = (x_adv.astype("float64") - x.astype("float64")).reshape(len(x), -1)
    distances = np.linalg.norm(np.nan_to_num(delta), ord=ORDERS[job["norm"]], axis=1)
    success = (answers(x_adv) != y) & np.isfinite(delta).all(axis=1)
    success &= (x_adv >= -1e-6).all(axis=tuple(range(1, x.ndim)))
    success &= (x_adv <= 1 + 1e-6).all(axis=tuple(range(1, x.ndim)))
    if job.get("epsilon") is not None:
        # Libraries compute in float32: an ulp of the input in every value is let pass.
        rounding = 1.2e-7 * {"linf": 1, "l2": x[0].size ** 0.5, "l1": x[0].size}[job["norm"]]
        success &= distances <= job["epsilon"] + rounding
    # Wrong untouched, whatever the library did to it.
    wrong = answers(x) != y
    return success | wrong, np.where(wrong, 0.0, distances).tolist()
