"""Seeing the inputs and pre-activations of layers during one forward pass.

Within `Observation.watching()` the `call` of each observed layer is routed through a recorder and
put back afterwards, also when the pass fails. The arithmetic of the layer itself is untouched:
Keras layers with weights apply their `activation` last, so the pre-activation is seen there.
"""

import contextlib

import keras
from keras import ops, tree

from keras_secure import backend
from keras_secure.privacy.per_example_run import Frame, run_by_example
from keras_secure.privacy.products_by_example import safe_call
from keras_secure.privacy.rules import rule_for
from keras_secure.replacement import replaced

# Rules that take a further axis for more positions.
_POINTWISE = (keras.layers.Dense, keras.layers.Embedding)


class UnobservableLayerError(Exception):
    """A layer was used where its pre-activation cannot be seen.

    Attributes:
        layer: The layer.
        is_by_example: Whether the layer around it ran example by example, where batch axes play no
            part any more.
    """

    def __init__(self, layer, reason, is_by_example=False):
        super().__init__(f"{layer.name}: {reason}")
        self.layer, self.is_by_example = layer, is_by_example


class NewProbesError(Exception):
    """The shapes of what is watched example by example are known now: run once more."""


class Observation:
    """Records layer calls with rules, and gives every example its own weights for the others.

    Args:
        ruled: Layers whose calls are recorded.
        mapped: Pairs (layer, variables): layers that run example by example, with one copy of these
            variables for each, so that the gradients of the copies are the per-example gradients.
            Exact for any layer, dropout included. Layers with rules in it are recorded there.
        batch_size: Examples in the batch: an int, or an int tensor when it is not static.
        shapes: Dict that keeps the shapes of what is watched inside mapped layers from one
            observation to the next.

    Attributes:
        probes: Zeros that are added to what is watched inside mapped layers.
    """

    def __init__(self, ruled, mapped, batch_size, shapes):
        self.ruled, self.mapped, self.batch_size = ruled, mapped, batch_size
        self.calls: dict[int, list] = {id(layer): [] for layer in ruled}
        self.copies = {}
        self.probes = {
            key: [ops.zeros((batch_size, *shape), "float32") for shape in sizes]
            for key, sizes in shapes.items()
        }
        self._shapes, self._numbers = shapes, {}
        self._frame: Frame | None = None
        self._failure: Exception | None = None

    @contextlib.contextmanager
    def watching(self):
        """Routes the observed layers through the recorders."""
        for variable in (v for _, variables in self.mapped for v in variables):
            if id(variable) not in self.copies:
                shape = (self.batch_size, *variable.shape)
                copy = ops.broadcast_to(ops.convert_to_tensor(variable)[None], shape)
                self.copies[id(variable)] = copy
        with contextlib.ExitStack() as stack:
            for layer in self.ruled:
                stack.enter_context(replaced(layer, "call", self._recorder(layer)))
            for layer, safe in self._others_by_example():
                call = self._choice(layer.call, safe)
                stack.enter_context(replaced(layer, "call", call))
            for layer, variables in self.mapped:
                stack.enter_context(replaced(layer, "call", self._mapper(layer, variables)))
            for layer in (*self.ruled, *(layer for layer, _ in self.mapped)):
                if hasattr(layer, "use_cudnn"):
                    # On a GPU, Bidirectional would run both directions past their layers' `call`.
                    stack.enter_context(replaced(layer, "use_cudnn", False))
            yield
        # Raised here and not inside the layer, where Keras would wrap it.
        if self._failure is not None:
            raise self._failure

    def sources(self):
        """The tensors whose gradients are wanted: what was watched, then copies of weights."""
        watched = [watched for calls in self.calls.values() for _, watched, _ in calls]
        return watched + list(self.copies.values())

    def split(self, gradients):
        """Undoes `sources`: per layer id its (inputs, gradient) pairs, per variable id a tensor."""
        remaining = iter(gradients)
        records = {
            key: [
                pair
                for inputs, _, axes in calls
                if (gradient := next(remaining)) is not None
                for pair in _without_inner_axis(inputs, gradient, axes)
            ]
            for key, calls in self.calls.items()
        }
        return records, {key: next(remaining) for key in self.copies}

    def _others_by_example(self):
        """Pairs (layer, call by example) of what mapped layers hold without its being observed."""
        taken = {id(layer) for layer in (*self.ruled, *(layer for layer, _ in self.mapped))}
        inside = [part for layer, _ in self.mapped for part in layer._flatten_layers()]
        others = {id(part): part for part in inside if id(part) not in taken}.values()
        return [(part, safe) for part in others if (safe := safe_call(part, part.call))]

    def _choice(self, usual, safe):
        def chosen(*args, **kwargs):
            return (usual if self._frame is None else safe)(*args, **kwargs)

        return chosen

    def _recorder(self, layer):
        observe, usual = rule_for(layer).observe or see_preactivation, layer.call
        safe = safe_call(layer, usual) or usual
        variables = {id(variable) for variable in layer.trainable_variables}

        def recorded(*args, **kwargs):
            frame, watched = self._frame, []
            call = usual if frame is None else safe
            if frame is not None and variables & frame.copied:
                return call(*args, **kwargs)

            def watch(tensor):
                tensor = tensor if frame is None else frame.probed(tensor)
                watched.append(tensor)
                return tensor

            outputs, inputs = observe(layer, call, watch, *args, **kwargs)
            reason = self._reason_against(inputs, watched)
            if reason is not None:
                error = UnobservableLayerError(layer, reason, is_by_example=frame is not None)
                self._failure = self._failure or error
            elif frame is not None:
                frame.seen += [(layer, entry) for entry in inputs]
            else:
                pairs = zip(inputs, watched, strict=True)
                self.calls[id(layer)] += [(entry, tensor, None) for entry, tensor in pairs]
            return outputs

        return recorded

    def _reason_against(self, inputs, watched):
        if len(inputs) != len(watched):
            return "its activation ran other than once"
        for entry, tensor in zip(inputs, watched, strict=True):
            if not backend.is_outer_tensor(tensor):
                return "it runs inside a loop or branch"
            if self._frame is not None and None in tensor.shape:
                return "its shape is not static"
            wanted = self.batch_size if self._frame is None else tensor.shape[0]
            for leaf in tree.flatten((entry, tensor)):
                if isinstance(wanted, int) and leaf.shape[0] not in (None, wanted):
                    return f"its leading axis has {leaf.shape[0]}, not {wanted}, entries"
        return None

    def _mapper(self, layer, variables):
        call = safe_call(layer, layer.call) or layer.call

        def mapped(*args, **kwargs):
            if self._frame is not None:
                # The layer around runs by example already, and holds copies for this one.
                return call(*args, **kwargs)
            key = (id(layer), self._numbers.setdefault(id(layer), 0))
            self._numbers[id(layer)] += 1
            shapes, probes = self._shapes.get(key, []), self.probes.get(key, [])
            flat = [leaf for leaf in tree.flatten((args, kwargs)) if ops.is_tensor(leaf)]
            batch = flat[0].shape[0] if flat and len(flat[0].shape) else 0
            if isinstance(self.batch_size, int) and batch not in (None, self.batch_size):
                reason = f"its leading axis has {batch}, not {self.batch_size}, entries"
                self._failure = self._failure or UnobservableLayerError(layer, reason)
                return call(*args, **kwargs)
            copies = [self.copies[id(variable)] for variable in variables]
            outputs, frame = run_by_example(
                self, layer, call, args, kwargs, variables, copies, probes
            )
            if self._failure is None:
                if frame.shapes != shapes:
                    self._shapes[key] = frame.shapes
                    self._failure = NewProbesError()
                else:
                    for (inner, entry), probe, shape in zip(
                        frame.seen, probes, shapes, strict=True
                    ):
                        self.calls[id(inner)].append((entry, probe, (inner, shape[0])))
            return outputs

        return mapped

    @contextlib.contextmanager
    def by_example(self, frame):
        """Records into `frame` what runs for one example alone."""
        self._frame = frame
        try:
            yield
        finally:
            self._frame = None


def see_preactivation(layer, call, watch, *args, **kwargs):
    """The usual observer: what the layer's `activation` is given, or else its output."""
    inputs = args[0] if args else next(iter(kwargs.values()))
    activation = getattr(layer, "activation", None)
    if activation is None:
        return watch(call(*args, **kwargs)), [inputs]
    with replaced(layer, "activation", lambda preactivation: activation(watch(preactivation))):
        return call(*args, **kwargs), [inputs]


def _without_inner_axis(inputs, gradient, axes):
    """Pairs without the axis that led inside a mapped layer, where the batch was one example."""
    if axes is None:
        return [(inputs, gradient)]
    layer, size = axes
    if size > 1 and isinstance(layer, _POINTWISE):
        return [(inputs, gradient)]
    # Other entries of that axis are further calls for the same example.
    return [
        tree.map_structure(lambda leaf, i=i: leaf[:, i], (inputs, gradient)) for i in range(size)
    ]
