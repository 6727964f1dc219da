"""Seeing the inputs and pre-activations of layers during one forward pass.

Within `Observation.watching()` the `call` of each observed layer is routed through a recorder and
put back afterwards, also when the pass fails. The arithmetic of the layer itself is untouched:
Keras layers with weights apply their `activation` last, so the pre-activation is seen there.
"""

import contextlib

import keras
from keras import ops, tree

from keras_secure import backend

_ABSENT = object()
# Spreads per-example seeds; odd, so that multiplication permutes the 32-bit integers.
_SEED_STRIDE = 2654435761


class UnobservableLayerError(Exception):
    """A layer was used where its pre-activation cannot be seen; one of its parents can be."""

    def __init__(self, layer, reason):
        super().__init__(f"{layer.name}: {reason}")
        self.layer, self.reason = layer, reason


class Observation:
    """Records layer calls with rules, and gives every example its own weights for the others.

    Args:
        ruled: Layers whose calls are recorded.
        unruled: Layers run with one copy of their weights per example, so that the gradients of
            these copies are the per-example gradients. Exact for any layer, dropout included.
        batch_size: Examples in the batch: an int, or an int tensor when it is not static.
    """

    def __init__(self, ruled, unruled, batch_size):
        self.ruled, self.unruled, self.batch_size = ruled, unruled, batch_size
        self.calls: dict[int, list] = {id(layer): [] for layer in ruled}
        self.copies = {}
        self._unobservable = None

    @contextlib.contextmanager
    def watching(self):
        """Routes the observed layers through the recorders."""
        for layer in self.unruled:
            for variable in layer.trainable_variables:
                if id(variable) not in self.copies:
                    shape = (self.batch_size, *variable.shape)
                    copy = ops.broadcast_to(ops.convert_to_tensor(variable)[None], shape)
                    self.copies[id(variable)] = copy
        with contextlib.ExitStack() as stack:
            for layer in self.ruled:
                stack.enter_context(_replaced(layer, "call", self._recorder(layer)))
            for layer in self.unruled:
                stack.enter_context(_replaced(layer, "call", self._copier(layer)))
            yield
        # Raised here and not inside the layer, where Keras would wrap it.
        if self._unobservable is not None:
            raise self._unobservable

    def sources(self):
        """The tensors whose gradients are wanted: recorded outputs, then copies of weights."""
        outputs = [output for calls in self.calls.values() for _, output in calls]
        return outputs + list(self.copies.values())

    def split(self, gradients):
        """Undoes `sources`: per layer id its (inputs, gradient) pairs, per variable id a tensor."""
        remaining = iter(gradients)
        records = {
            key: [(inputs, next(remaining)) for inputs, _ in calls]
            for key, calls in self.calls.items()
        }
        return records, {key: next(remaining) for key in self.copies}

    def _recorder(self, layer):
        call = layer.call

        def recorded(inputs, *args, **kwargs):
            seen = []
            activation = getattr(layer, "activation", None)
            if activation is None:
                result = call(inputs, *args, **kwargs)
                seen.append(result)
            else:

                def see(preactivation):
                    seen.append(preactivation)
                    return activation(preactivation)

                with _replaced(layer, "activation", see):
                    result = call(inputs, *args, **kwargs)
            problem = self._problem(inputs, seen)
            if problem is None:
                self.calls[id(layer)].append((inputs, seen[0]))
            else:
                self._unobservable = UnobservableLayerError(layer, problem)
            return result

        return recorded

    def _problem(self, inputs, seen):
        if len(seen) != 1:
            return "its activation ran other than once"
        if not backend.is_outer_tensor(seen[0]):
            return "it runs inside a loop or branch"
        for tensor in (inputs, seen[0]):
            if isinstance(self.batch_size, int) and tensor.shape[0] not in (None, self.batch_size):
                return f"its leading axis has {tensor.shape[0]}, not {self.batch_size}, entries"
        return None

    def _copier(self, layer):
        call = layer.call
        variables = layer.trainable_variables
        seeds = [v for v in layer.variables if v.name == "seed_generator_state"]

        def copied(*args, **kwargs):
            flat = tree.flatten((args, kwargs))
            batched = [i for i, leaf in enumerate(flat) if self._is_batched(leaf)]
            streams = [self._streams(seed) for seed in seeds]

            def one(elements):
                inputs, weights, states = elements
                leaves = list(flat)
                for position, value in zip(batched, inputs, strict=True):
                    leaves[position] = value[None]
                example_args, example_kwargs = tree.pack_sequence_as((args, kwargs), leaves)
                mapping = [*zip(variables, weights, strict=True), *zip(seeds, states, strict=True)]
                with keras.StatelessScope(state_mapping=mapping) as scope:
                    output = call(*example_args, **example_kwargs)
                advanced = [scope.get_current_value(seed) for seed in seeds]
                return tree.map_structure(lambda leaf: leaf[0], output), advanced

            copies = [self.copies[id(variable)] for variable in variables]
            outputs, advanced = backend.per_example_map(
                one, ([flat[i] for i in batched], copies, streams)
            )
            for seed, state in zip(seeds, advanced, strict=True):
                seed.assign(ops.stack([ops.convert_to_tensor(seed)[0], state[0, 1]]))
            return outputs

        return copied

    def _streams(self, seed):
        """One seed state per example, so that every example draws from a stream of its own."""
        numbers = ops.cast(ops.arange(self.batch_size, dtype="int32"), seed.dtype)
        spread = ops.stack([numbers * _SEED_STRIDE, ops.zeros_like(numbers)], axis=1)
        return ops.convert_to_tensor(seed)[None] + spread

    def _is_batched(self, leaf):
        if not keras.ops.is_tensor(leaf) or len(leaf.shape) == 0:
            return False
        return not isinstance(self.batch_size, int) or leaf.shape[0] in (None, self.batch_size)


@contextlib.contextmanager
def _replaced(layer, name, value):
    # `object.__setattr__` keeps the replacement out of Keras' and TensorFlow's tracking.
    previous = layer.__dict__.get(name, _ABSENT)
    object.__setattr__(layer, name, value)
    try:
        yield
    finally:
        if previous is _ABSENT:
            object.__delattr__(layer, name)
        else:
            object.__setattr__(layer, name, previous)
