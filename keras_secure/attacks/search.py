"""Running an attack over whole arrays: compiled once, restarted on what is left."""

import copy
import math
import random

import keras
import numpy as np

from keras_secure.arguments import is_integer, is_number
from keras_secure.attacks.arrays import check_arrays, check_label_range
from keras_secure.attacks.batches import batches
from keras_secure.attacks.graphs import search_graphs
from keras_secure.attacks.labels import labelled_output
from keras_secure.attacks.result import AttackResult, Candidates
from keras_secure.attacks.settle import distances, settle
from keras_secure.errors import InputError


def search(attack, model, x, y, *, batch_size, epsilon, from_logits, verbose):
    """Does the work of `Attack.run`; see there for arguments, result and errors."""
    epsilon = attack.epsilon if epsilon is None else epsilon
    if epsilon is not None and (not is_number(epsilon) or not 0 <= epsilon < math.inf):
        raise InputError(f"epsilon={epsilon!r} cannot be used: it must be a number >= 0.")
    if not is_integer(batch_size) or batch_size < 1:
        raise InputError(f"batch_size={batch_size!r} cannot be used: give an integer >= 1.")
    output, y = labelled_output(y)
    x, labels = check_arrays(x, y, attack.bounds, type(attack).__name__)
    if not model.built:
        model(x[:1], training=False)  # variables cannot be created inside the graph's loop
    epsilon = math.inf if epsilon is None else float(epsilon)
    return Search(attack, model, x, labels, epsilon, int(batch_size), from_logits, output).run(
        verbose
    )


class Search:
    """One run of an attack over arrays; what `Attack.seek` is given.

    Attributes:
        attack: The `Attack`.
        model: The classifier.
        x: Array of shape (num_examples, ...): the inputs, in the user's dtype.
        origin: The inputs in the dtype that the graphs work in, float32 or float64.
        labels: Int32 array of shape (num_examples,).
        epsilon: Radius, infinite for no limit.
        batch_size: Examples per step.
    """

    def __init__(self, attack, model, x, labels, epsilon, batch_size, from_logits, output):
        self.attack, self.model = attack, model
        self.x, self.labels, self.epsilon = x, labels, epsilon
        # Half precision cannot hold a small ball.
        self.origin = x if x.dtype == "float64" else x.astype("float32")
        self.batch_size = batch_size
        self._from_logits, self._output = from_logits, output
        # Without a seed, keras.utils.set_random_seed decides, as it does for perturb.
        seed = random.getrandbits(64) if attack.seed is None else attack.seed
        self._key = np.random.SeedSequence(seed).generate_state(2, "uint32")
        self._graphs = search_graphs(attack, model, from_logits, output, batch_size)
        self._report = None

    def run(self, verbose):
        """Attacks all examples; returns an `AttackResult`."""
        attack, x = self.attack, self.x
        best = x.copy()
        success, loss = self.judge(x, np.arange(len(x)))
        clean_wrong = success.copy()
        queries = np.ones(len(x), "int64")
        first_success_step = np.where(success, 0, -1)
        distance = np.where(success, 0.0, math.inf)

        # At radius zero the input itself is the only candidate, and it has been judged.
        restarts = attack.restarts if self.epsilon > 0 else 0
        # Without a limit a later start may find something nearer.
        improving = attack.minimal_distance and math.isinf(self.epsilon)
        total = len(x) * max(restarts, 1)
        progress = keras.utils.Progbar(
            total,
            verbose=1 if verbose == "auto" else verbose,
            unit_name="search",
            stateful_metrics=["fooled"],
        )
        steps_before = 0
        for restart in range(restarts):
            rows = np.flatnonzero(~clean_wrong if improving else ~success)
            if not len(rows):
                break
            self._report = lambda share, restart=restart: progress.update(
                int(len(x) * (restart + share)), [("fooled", success.mean())], finalize=False
            )
            found = attack.seek(self, rows, restart)
            held = settle(found.x_adv, x[rows], self.epsilon, attack.norm, attack.bounds)
            # Holding the ball may have moved it by an ulp: what is returned is what is judged.
            fooled, raised = self.judge(held, rows)
            length = distances(held, x[rows], attack.norm)
            nearer = fooled & (length < distance[rows])
            better = nearer | (~fooled & ~success[rows] & (raised > loss[rows]))
            best[rows[better]] = held[better]
            loss[rows[better]] = raised[better]
            distance[rows[nearer]] = length[nearer]
            first = fooled & ~success[rows]
            first_success_step[rows[first]] = found.steps[first] + steps_before
            success[rows] |= fooled
            queries[rows] += found.evaluations + 1
            steps_before += int(found.longest)
            progress.update(
                int(len(x) * (restart + 1)), [("fooled", success.mean())], finalize=False
            )
        progress.update(total, [("fooled", success.mean())], finalize=True)
        return AttackResult(
            x_adv=best,
            success=success,
            distance=distances(best, x, attack.norm),
            first_success_step=first_success_step,
            queries=queries,
        )

    def of(self, attack):
        """Returns this search for another attack on the same examples, for attacks made of several.

        Args:
            attack: An `Attack` of the same norm and bounds.
        """
        other = copy.copy(self)
        other.attack = attack
        other._graphs = search_graphs(
            attack, self.model, self._from_logits, self._output, self.batch_size
        )
        return other

    def judge(self, x_adv, rows):
        """Asks the model once about candidates.

        Args:
            x_adv: Array of shape (len(rows), ...).
            rows: Integer array, the numbers of the examples.

        Returns:
            (fooled, loss): arrays of shape (len(rows),).
        """
        fooled, loss = np.zeros(len(rows), bool), np.zeros(len(rows), "float32")
        for start in range(0, len(rows), self.batch_size):
            part = slice(start, start + self.batch_size)
            labels = self.labels[rows[part]]
            fooled[part], loss[part], num_classes = self._graphs.judge(
                x_adv[part].astype(self.origin.dtype), labels
            )
            check_label_range(labels, num_classes)
        return fooled, loss

    def iterate(self, rows, restart):
        """Runs the loop of an `IterativeAttack` on examples, in stages, dropping what is found.

        Args:
            rows: Integer array, the numbers of the examples.
            restart: How often they were attacked before.

        Returns:
            `Candidates`.
        """
        attack, graphs = self.attack, self._graphs
        # Small batches pay only where many steps follow.
        staged = attack.steps > attack.stage
        streams = np.stack([np.full(len(rows), restart), rows], axis=1).astype("uint32")
        data = (self.origin[rows], self.labels[rows], streams)
        shared = (
            np.asarray(self.epsilon, self.origin.dtype),
            np.asarray(restart, "int32"),
            self._key,
        )
        states: dict[str, np.ndarray] = {}
        for part, size in batches(np.arange(len(rows)), self.batch_size, staged):
            _scatter(states, part, graphs.begin([a[part] for a in data], shared, size), len(rows))
        steps, evaluations = np.zeros(len(rows), "int64"), np.zeros(len(rows), "int64")
        for start in range(0, attack.steps, attack.stage):
            left = np.flatnonzero(~states["found"])
            if not len(left):
                break
            stop = min(start + attack.stage, attack.steps)
            for part, size in batches(left, self.batch_size, staged):
                state = {name: value[part] for name, value in states.items()}
                batch = [array[part] for array in data]
                state, taken, evaluated = graphs.advance(state, batch, shared, start, stop, size)
                _scatter(states, part, state, len(rows))
                steps[part] += taken
                evaluations[part] += evaluated
            if self._report is not None:
                self._report(stop / attack.steps)
        return Candidates(states["x_adv"], steps, evaluations * attack.passes, attack.steps)


def _scatter(states, part, state, count):
    for name, value in state.items():
        if name not in states:
            states[name] = np.zeros((count, *value.shape[1:]), value.dtype)
        states[name][part] = value
