"""The graphs of an attack on a model, traced once for all data and radii."""

import copy
import json
import weakref
from functools import partial

import numpy as np
from keras import ops

from keras_secure import backend
from keras_secure.attacks.input_gradient import input_gradient_of_sum
from keras_secure.attacks.log_odds import predicts
from keras_secure.logits import classification_logits

_GRAPHS: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
_NO_STRUCTURE = ("epsilon", "seed", "restarts")


def search_graphs(attack, model, from_logits, batch_size):
    """Returns the graphs of `attack` on `model`, built when they are first asked for.

    They are kept as long as the model lives. Radius, seed and number of restarts are no part of
    them, so a sweep over `epsilon` traces once.

    Args:
        attack: An `Attack`.
        model: A built classifier.
        from_logits: See `classification_logits`.
        batch_size: Examples per step.

    Returns:
        A `SearchGraphs`.
    """
    config = {name: arg for name, arg in attack.get_config().items() if name not in _NO_STRUCTURE}
    # Compiling the model anew may change what its outputs are taken for, and XLA.
    loss = getattr(model, "loss", None)
    compiled_as = (str(loss), str(getattr(loss, "from_logits", None)), bool(model.jit_compile))
    structure = json.dumps(config, sort_keys=True, default=repr)
    key = (type(attack), structure, from_logits, compiled_as, batch_size)
    graphs = _GRAPHS.setdefault(model, {})
    if key not in graphs:
        # A copy, so that changing the user's object cannot make the graph differ from its key.
        graphs[key] = SearchGraphs(copy.copy(attack), model, from_logits, batch_size)
    return graphs[key]


class SearchGraphs:
    """Judges and attacks NumPy batches of up to `batch_size` examples, padded to that size.

    Args:
        attack: An `Attack` that nobody changes.
        model: A built classifier; referred to weakly.
        from_logits: See `classification_logits`.
        batch_size: Examples per step.
    """

    def __init__(self, attack, model, from_logits, batch_size):
        self._attack = attack
        # The cache holds the model weakly; a graph that held it strongly would keep it alive.
        self._model = weakref.ref(model)
        self._from_logits = from_logits
        self._batch_size = batch_size
        # A compiled model has settled whether XLA pays on this device.
        jit_compile = bool(model.jit_compile)
        # TensorFlow counts traces by code object and would take the next model for a retrace; a
        # partial has none of its own.
        self._judge = backend.compiled(partial(self._traced_judge), jit_compile=jit_compile)
        self._ascend = backend.compiled(partial(self._traced_ascend), jit_compile=jit_compile)

    def judge(self, x, labels):
        """Asks the model once.

        Args:
            x: Array of shape (size, ...).
            labels: Int32 array of shape (size,).

        Returns:
            (fooled, loss, num_classes): arrays of shape (size,), and an integer.
        """
        fooled, loss, classes = self._judge(self._padded(x), self._padded(labels))
        size = len(x)
        return (
            ops.convert_to_numpy(fooled)[:size],
            ops.convert_to_numpy(loss)[:size],
            int(classes),
        )

    def ascend(self, x, labels, uniforms, epsilon):
        """Takes the steps of one start, each example until it is fooled.

        Args:
            x: Array of shape (size, ...).
            labels: Int32 array of shape (size,).
            uniforms: Float32 array of shape (size, 1 + values) for a random start; unused
                otherwise.
            epsilon: Radius.

        Returns:
            (x_adv, steps): the fooling iterate or the last one, and the gradient steps that led
            there.
        """
        x_adv, steps = self._ascend(
            self._padded(x),
            self._padded(labels),
            self._padded(uniforms),
            ops.convert_to_tensor(epsilon, str(x.dtype)),
            ops.convert_to_tensor(np.arange(self._batch_size) < len(x)),
        )
        return ops.convert_to_numpy(x_adv)[: len(x)], ops.convert_to_numpy(steps)[: len(x)]

    def _padded(self, rows):
        # Copies of the first row, so that every batch has one shape.
        filling = np.repeat(rows[:1], self._batch_size - len(rows), axis=0)
        return ops.convert_to_tensor(np.concatenate([rows, filling]))

    def _measure(self, x_adv, labels):
        logits = classification_logits(self._model(), x_adv, self._from_logits)
        fooled = predicts(logits, labels)
        if not self._attack.targeted:
            fooled = ops.logical_not(fooled)
        return self._attack.objective(logits, labels), (fooled, logits.shape[1])

    def _traced_judge(self, x_adv, labels):
        loss, (fooled, num_classes) = self._measure(x_adv, labels)
        return fooled, loss, ops.convert_to_tensor(num_classes, "int32")

    def _traced_ascend(self, x, labels, uniforms, epsilon, pending):
        attack = self._attack

        def searching(x_adv, pending, taken):
            return ops.any(pending)

        def step(x_adv, pending, taken):
            (_, (fooled, _)), gradient = input_gradient_of_sum(
                lambda inputs: self._measure(inputs, labels), x_adv
            )
            pending = ops.logical_and(pending, ops.logical_not(fooled))
            mask = ops.reshape(pending, (-1,) + (1,) * (len(x.shape) - 1))
            moved = attack.advance(x_adv, gradient, x, epsilon)
            return ops.where(mask, moved, x_adv), pending, taken + ops.cast(pending, "int32")

        start = attack.start(x, uniforms, epsilon) if attack.random_start else x
        x_adv, _, taken = ops.while_loop(
            searching,
            step,
            (start, pending, ops.zeros_like(labels)),
            maximum_iterations=attack.steps,
        )
        return x_adv, taken
