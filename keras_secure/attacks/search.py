"""Running an attack over whole arrays: compiled once, restarted on what is left."""

import copy
import math
import random

import keras
import numpy as np

from keras_secure.arguments import is_integer, is_number
from keras_secure.attacks.arrays import check_arrays, check_label_range, check_model
from keras_secure.attacks.batches import batches
from keras_secure.attacks.graphs import search_graphs
from keras_secure.attacks.labels import labelled_output
from keras_secure.attacks.result import AttackResult, Candidates
from keras_secure.attacks.settle import ORDERS, distances, settle
from keras_secure.errors import InputError


def search(attack, model, x, y, *, batch_size, epsilon, from_logits, verbose):
    """Does the work of `Attack.run`; see there for arguments, result and errors."""
    epsilon = attack.epsilon if epsilon is None else epsilon
    if epsilon is not None and (not is_number(epsilon) or not 0 <= epsilon < math.inf):
        raise InputError(f"epsilon={epsilon!r} cannot be used: it must be a number >= 0.")
    if not is_integer(batch_size) or batch_size < 1:
        raise InputError(f"batch_size={batch_size!r} cannot be used: give an integer >= 1.")
    output, y = labelled_output(y)
    check_model(model, type(attack).__name__)
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
        num_classes: How many classes the model tells apart, known once it was asked.
    """

    def __init__(self, attack, model, x, labels, epsilon, batch_size, from_logits, output):
        self.attack, self.model = attack, model
        self.x, self.labels, self.epsilon = x, labels, epsilon
        # Half precision cannot hold a small ball.
        self.origin = x if x.dtype == "float64" else x.astype("float32")
        self.batch_size = batch_size
        self.num_classes = None
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
        distance = np.where(success, 0.0, math.inf)  # of the nearest that fools
        moved = np.zeros(len(x))  # of what is returned, where no norm measures it
        steps_before = np.zeros((), "int64")
        restarts_before = np.zeros((), "int64")
        progressing = {
            "best": best,
            "success": success,
            "loss": loss,
            "queries": queries,
            "first_success_step": first_success_step,
            "distance": distance,
            "steps_before": steps_before,
            "restarts_before": restarts_before,
        }
        if attack.journal is not None:
            for name, value in attack.journal.resume().items():
                progressing[name][...] = value

        # At radius zero the input itself is the only candidate, and it has been judged.
        restarts = attack.starts(self.num_classes) if self.epsilon > 0 else 0
        # Without a limit a later start may find something nearer.
        improving = attack.minimal_distance and math.isinf(self.epsilon)
        total = len(x) * max(restarts, 1)
        progress = keras.utils.Progbar(
            total,
            verbose=1 if verbose == "auto" else verbose,
            unit_name="search",
            stateful_metrics=["fooled"],
        )
        for restart in range(int(restarts_before), restarts):
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
            length = distances(held, x[rows], attack.norm) if found.size is None else found.size
            nearer = fooled & (length < distance[rows])
            better = nearer | (~fooled & ~success[rows] & (raised > loss[rows]))
            best[rows[better]] = held[better]
            loss[rows[better]] = raised[better]
            distance[rows[nearer]] = length[nearer]
            moved[rows[better]] = length[better]
            first = fooled & ~success[rows]
            first_success_step[rows[first]] = found.steps[first] + steps_before
            success[rows] |= fooled
            queries[rows] += found.evaluations + 1
            steps_before += int(found.longest)
            restarts_before += 1
            progress.update(
                int(len(x) * (restart + 1)), [("fooled", success.mean())], finalize=False
            )
            if attack.journal is not None:
                attack.journal.write(progressing)
        progress.update(total, [("fooled", success.mean())], finalize=True)
        return AttackResult(
            x_adv=best,
            success=success,
            distance=distances(best, x, attack.norm) if attack.norm in ORDERS else moved,
            first_success_step=first_success_step,
            queries=queries,
        )

    def of(self, attack, number=0):
        """Returns this search for another attack on the same examples, for attacks made of several.

        Args:
            attack: An `Attack` of the same norm and bounds.
            number: Attacks of different numbers draw different random numbers.
        """
        other = copy.copy(self)
        other.attack = attack
        if number:
            entropy = [int(word) for word in self._key] + [number]
            other._key = np.random.SeedSequence(entropy).generate_state(2, "uint32")
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
            fooled[part], loss[part], self.num_classes = self._graphs.judge(
                x_adv[part].astype(self.origin.dtype), labels
            )
            check_label_range(labels, self.num_classes)
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
        evaluations = states.get("evaluations", evaluations * attack.passes)
        return Candidates(
            states["x_adv"], steps, evaluations, attack.steps, size=states.get("size")
        )


def _scatter(states, part, state, count):
    for name, value in state.items():
        if name not in states:
            states[name] = np.zeros((count, *value.shape[1:]), value.dtype)
        states[name][part] = value
