"""The graphs of an attack on a model, traced once for all data and radii."""

import copy
import json
import weakref
from functools import partial

import numpy as np
from keras import ops

from keras_secure import backend
from keras_secure.attacks.log_odds import log_odds_against
from keras_secure.attacks.problem import Problem

_GRAPHS: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
_NO_STRUCTURE = ("epsilon", "seed", "restarts")


def search_graphs(attack, model, from_logits, output, batch_size):
    """Returns the graphs of `attack` on `model`, built when they are first asked for.

    They are kept as long as the model lives. Radius, seed and number of restarts are no part of
    them, so a sweep over `epsilon` traces once.

    Args:
        attack: An `Attack`.
        model: A built classifier.
        from_logits: See `classification_logits`.
        output: See `classification_logits`.
        batch_size: Examples per step.

    Returns:
        A `SearchGraphs`.
    """
    config = {name: arg for name, arg in attack.get_config().items() if name not in _NO_STRUCTURE}
    # Compiling the model anew may change what its outputs are taken for, and XLA.
    loss = getattr(model, "loss", None)
    compiled_as = (str(loss), str(getattr(loss, "from_logits", None)), bool(model.jit_compile))
    structure = json.dumps(config, sort_keys=True, default=repr)
    key = (type(attack), structure, from_logits, output, compiled_as, batch_size)
    graphs = _GRAPHS.setdefault(model, {})
    if key not in graphs:
        # A copy, so that changing the user's object cannot make the graph differ from its key.
        graphs[key] = SearchGraphs(copy.copy(attack), model, from_logits, output, batch_size)
    return graphs[key]


class SearchGraphs:
    """Judges and attacks NumPy batches, padded to one of a few sizes.

    Args:
        attack: An `Attack` that nobody changes.
        model: A built classifier; referred to weakly.
        from_logits: See `classification_logits`.
        output: See `classification_logits`.
        batch_size: Most examples per step.
    """

    def __init__(self, attack, model, from_logits, output, batch_size):
        self._attack = attack
        # The cache holds the model weakly; a graph that held it strongly would keep it alive.
        self._model = weakref.ref(model)
        self._options = {
            "from_logits": from_logits,
            "output": output,
            "targeted": attack.targeted,
            "searching": True,
        }
        self.batch_size = batch_size
        # Whoever fools one draw of a randomized model by chance may not fool the next.
        self._takes_all_steps = bool(getattr(model, "randomized", False))
        # A compiled model has settled whether XLA pays on this device.
        jit_compile = bool(model.jit_compile)
        # TensorFlow counts traces by code object and would take the next model for a retrace; a
        # partial has none of its own.
        self._judge = backend.compiled(partial(self._traced_judge), jit_compile=jit_compile)
        self._begin = backend.compiled(partial(self._traced_begin), jit_compile=jit_compile)
        self._advance = backend.compiled(partial(self._traced_advance), jit_compile=jit_compile)

    def judge(self, x, labels):
        """Asks the model once.

        Args:
            x: Array of shape (size, ...), size at most `batch_size`.
            labels: Int32 array of shape (size,).

        Returns:
            (fooled, loss, num_classes): arrays of shape (size,), and an integer.
        """
        fooled, loss, classes = self._judge(*_padded((x, labels), self.batch_size))
        size = len(x)
        return (
            ops.convert_to_numpy(fooled)[:size],
            ops.convert_to_numpy(loss)[:size],
            int(classes),
        )

    def begin(self, batch, shared, size):
        """Returns the states before the first step.

        Args:
            batch: (x, labels, streams): arrays of at most `size` rows.
            shared: (epsilon, restart, key): scalars of the whole search, and two words.
            size: Rows to pad to.

        Returns:
            A dictionary of arrays, one row for each of the batch.
        """
        state = self._begin(*_padded(batch, size), *map(ops.convert_to_tensor, shared))
        return _rows(state, len(batch[0]))

    def advance(self, state, batch, shared, start, stop, size):
        """Takes the steps from `start` to `stop`, each row until it is found.

        Args:
            state: Dictionary of arrays, as many rows as the batch.
            batch: See `begin`.
            shared: See `begin`.
            start: Number of the first step.
            stop: Number after the last step.
            size: Rows to pad to.

        Returns:
            (state, steps, evaluations): the new state; how many steps led to each row's candidate;
            how many steps asked the model about it.
        """
        names = sorted(state)
        pending = np.arange(size) < len(batch[0])
        state, taken, evaluated = self._advance(
            dict(zip(names, _padded([state[name] for name in names], size), strict=True)),
            ops.convert_to_tensor(pending),
            *_padded(batch, size),
            *map(ops.convert_to_tensor, shared),
            ops.convert_to_tensor(start, "int32"),
            ops.convert_to_tensor(stop, "int32"),
        )
        count = len(batch[0])
        return (
            _rows(state, count),
            ops.convert_to_numpy(taken)[:count],
            ops.convert_to_numpy(evaluated)[:count],
        )

    def _problem(self, x, labels, streams, epsilon, restart, key):
        def draw(batch, counter, count):
            return backend.uniform(key, streams, counter, count)

        return Problem(
            self._model(), x, labels, epsilon, restart=restart, draw=draw, **self._options
        )

    def _traced_judge(self, x_adv, labels):
        problem = Problem(self._model(), x_adv, labels, 0.0, **self._options)
        logits = problem.logits(x_adv)
        against = log_odds_against(logits, labels)
        loss = -against if self._attack.targeted else against
        return problem.fooled(logits), loss, ops.convert_to_tensor(logits.shape[1], "int32")

    def _traced_begin(self, *arguments):
        return self._attack.begin(self._problem(*arguments))

    def _traced_advance(self, state, pending, *arguments):
        *of_problem, start, stop = arguments
        attack, problem = self._attack, self._problem(*of_problem)
        names = sorted(state)

        def searching(index, pending, taken, evaluated, values):
            return ops.logical_and(index < stop, ops.any(pending))

        def step(index, pending, taken, evaluated, values):
            before = dict(zip(names, values, strict=True))
            after = attack.step(problem, dict(before), index)
            if self._takes_all_steps:
                after["found"] = ops.zeros_like(pending)
            found = ops.logical_and(pending, after["found"])
            left = ops.logical_and(pending, ops.logical_not(after["found"]))
            # The candidate that fools is the one that was judged.
            moved = left if attack.looks_first else pending
            after["x_adv"] = backend.fused(_chosen)(moved, after["x_adv"], before["x_adv"])
            after["found"] = ops.logical_or(before["found"], found)
            return (
                index + 1,
                left,
                taken + ops.cast(moved, "int32"),
                evaluated + ops.cast(pending, "int32"),
                tuple(after[name] for name in names),
            )

        zeros = ops.zeros_like(problem.labels)
        pending = ops.logical_and(pending, ops.logical_not(state["found"]))
        _, _, taken, evaluated, values = ops.while_loop(
            searching,
            step,
            (start, pending, zeros, zeros, tuple(state[name] for name in names)),
        )
        return dict(zip(names, values, strict=True)), taken, evaluated


def _chosen(moved, after, before):
    return ops.where(ops.reshape(moved, (-1,) + (1,) * (len(before.shape) - 1)), after, before)


def _padded(arrays, size):
    # Copies of the first row, so that every batch has one of a few shapes.
    filling = size - len(arrays[0])
    if not filling:
        return [ops.convert_to_tensor(rows) for rows in arrays]
    return [
        ops.convert_to_tensor(np.concatenate([rows, np.repeat(rows[:1], filling, axis=0)]))
        for rows in arrays
    ]


def _rows(state, count):
    return {name: ops.convert_to_numpy(value)[:count] for name, value in state.items()}
