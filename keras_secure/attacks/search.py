"""Running an attack over whole arrays: compiled once, restarted on what is left."""

import math
import random

import keras
import numpy as np

from keras_secure.arguments import is_integer, is_number
from keras_secure.attacks.arrays import check_arrays, check_label_range
from keras_secure.attacks.graphs import search_graphs
from keras_secure.attacks.result import AttackResult
from keras_secure.attacks.settle import distances, settle
from keras_secure.errors import InputError


def search(attack, model, x, y, *, batch_size, epsilon, from_logits, verbose):
    """Does the work of `Attack.run`; see there for arguments, result and errors."""
    name = type(attack).__name__
    epsilon = attack.epsilon if epsilon is None else epsilon
    if not is_number(epsilon) or not 0 <= epsilon < math.inf:
        raise InputError(f"epsilon={epsilon!r} cannot be used: it must be a number >= 0.")
    if not is_integer(batch_size) or batch_size < 1:
        raise InputError(f"batch_size={batch_size!r} cannot be used: give an integer >= 1.")
    x, labels = check_arrays(x, y, attack.bounds, name)
    if not model.built:
        model(x[:1], training=False)  # variables cannot be created inside the graph's loop
    graphs = search_graphs(attack, model, from_logits, int(batch_size))

    # The graph works in float32 at least: half precision cannot hold a small ball.
    origin = x if x.dtype == "float64" else x.astype("float32")
    best = x.copy()
    success = np.zeros(len(x), bool)
    loss = np.zeros(len(x), "float32")
    for rows in _chunks(np.arange(len(x)), batch_size):
        success[rows], loss[rows], num_classes = graphs.judge(origin[rows], labels[rows])
        check_label_range(labels[rows], num_classes)
    queries = np.ones(len(x), "int64")
    first_success_step = np.where(success, 0, -1)

    # At radius zero the input itself is the only candidate, and it has been judged.
    restarts = attack.restarts if epsilon > 0 else 0
    # Without a seed, keras.utils.set_random_seed decides, as it does for perturb.
    seed = random.getrandbits(64) if attack.seed is None else attack.seed
    entropy = np.random.SeedSequence(seed).generate_state(2, "uint64")
    progress = keras.utils.Progbar(
        len(x) * max(restarts, 1),
        verbose=1 if verbose == "auto" else verbose,
        unit_name="search",
        stateful_metrics=["fooled"],
    )
    for restart in range(restarts):
        for rows in _chunks(np.flatnonzero(~success), batch_size):
            uniforms = _uniforms(attack, x, rows, restart, entropy)
            last, step = graphs.ascend(origin[rows], labels[rows], uniforms, epsilon)
            held = settle(last, x[rows], epsilon, attack.norm, attack.bounds)
            # Holding the ball may have moved it by an ulp: what is returned is what is judged.
            fooled, raised, _ = graphs.judge(held.astype(origin.dtype), labels[rows])
            better = fooled | (raised > loss[rows])
            best[rows[better]] = held[better]
            loss[rows[better]] = raised[better]
            success[rows] = fooled
            first_success_step[rows[fooled]] = step[fooled] + restart * attack.steps
            queries[rows] += step + 1 + (step < attack.steps)
            tried = restart * (~success).sum() + (~success[: rows[-1] + 1]).sum()
            progress.update(
                int(restarts * success.sum() + tried),
                [("fooled", success.mean())],
                finalize=False,
            )
    progress.update(len(x) * max(restarts, 1), [("fooled", success.mean())], finalize=True)
    return AttackResult(
        x_adv=best,
        success=success,
        distance=distances(best, x, attack.norm),
        first_success_step=first_success_step,
        queries=queries,
    )


def _uniforms(attack, x, rows, restart, entropy):
    """Uniform numbers for random starts, a function of seed, restart and example alone."""
    if not attack.random_start:
        return np.zeros((len(rows), 0), "float32")
    size = math.prod(x.shape[1:])
    return np.stack(
        [
            np.random.Generator(np.random.Philox(key=entropy, counter=[0, restart, row, 0])).random(
                1 + size, dtype="float32"
            )
            for row in rows
        ]
    )


def _chunks(rows, batch_size):
    return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
