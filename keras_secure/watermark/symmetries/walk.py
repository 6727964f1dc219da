"""Following units through a model, from layer to layer."""

import math
from typing import Any

import keras
from keras import layers

from keras_secure.errors import InputError
from keras_secure.watermark.symmetries import (
    attention,
    normalization,
    products,
    recurrent,
    shapes,
)
from keras_secure.watermark.symmetries.graph import graph_of, ordered_calls, traced
from keras_secure.watermark.symmetries.probe import probe
from keras_secure.watermark.symmetries.structure import Structure, weight
from keras_secure.watermark.symmetries.units import pin, restrict

# A rule takes the walk, the layer, and the layouts of each input's axes.
_RULES: dict[type, Any] = {
    layers.Dense: products.dense,
    layers.EinsumDense: products.einsum_dense,
    layers.Conv1D: products.convolution,
    layers.Conv2D: products.convolution,
    layers.Conv3D: products.convolution,
    layers.Conv1DTranspose: products.convolution,
    layers.Conv2DTranspose: products.convolution,
    layers.Conv3DTranspose: products.convolution,
    layers.DepthwiseConv1D: products.depthwise,
    layers.DepthwiseConv2D: products.depthwise,
    layers.SeparableConv1D: products.separable,
    layers.SeparableConv2D: products.separable,
    layers.Embedding: products.embedding,
    layers.BatchNormalization: normalization.batch_normalization,
    layers.LayerNormalization: normalization.layer_normalization,
    layers.GroupNormalization: normalization.group_normalization,
    layers.PReLU: normalization.prelu,
    layers.SimpleRNN: recurrent.recurrent,
    layers.LSTM: recurrent.recurrent,
    layers.GRU: recurrent.recurrent,
    layers.Bidirectional: recurrent.bidirectional,
    layers.MultiHeadAttention: attention.multi_head_attention,
}
if hasattr(layers, "RMSNormalization"):
    _RULES[layers.RMSNormalization] = normalization.layer_normalization

_SUMS = ("Add", "Subtract", "Average")
_EXTREMES = ("Maximum", "Minimum")


def structure_of(model):
    """Finds what is coupled in a model.

    Args:
        model: A built Keras model, Sequential, functional, or one whose `call` runs on symbolic
            inputs; a wrapper that holds it as `.model`, such as `SecureModel`, is looked through.

    Returns:
        A `Structure`.

    Raises:
        InputError: The model has no graph that could be followed.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), layers.Dense(8, "relu"), layers.Dense(3)])
    >>> hidden, logits = structure_of(model).units()
    >>> (hidden.size, hidden.pinned), (logits.size, logits.pinned)
    ((8, False), (3, True))
    """
    inner = getattr(model, "model", None)
    if isinstance(inner, keras.Model):
        model = inner
    if not isinstance(model, keras.Model):
        raise InputError(f"A {type(model).__name__} cannot be compared; a keras.Model can.")
    inputs, outputs = graph_of(model) if model.built else (None, None)
    if not inputs:
        raise InputError(
            f"Model {model.name!r} cannot be followed from layer to layer: it is not built, or "
            "its `call` does not run on symbolic inputs. Build it, or give a functional model."
        )
    walk = Walk(model)
    starts = [(None,) * len(tensor.shape) for tensor in inputs]
    for value in walk.through(inputs, outputs, starts):
        pin(*value)
    return walk.structure


class Walk:
    """The layouts of every tensor of a model.

    Args:
        model: The model.
    """

    def __init__(self, model):
        self.structure = Structure(model)
        self._variables = list(model.variables)
        self._owners: list[Any] = [model]

    def through(self, inputs, outputs, starts):
        """Follows a graph.

        Args:
            inputs: Its KerasTensors.
            outputs: Those to reach.
            starts: The layouts of the inputs' axes, a tuple for each.

        Returns:
            The layouts of the outputs' axes, a tuple for each.
        """
        known = {id(tensor): start for tensor, start in zip(inputs, starts, strict=True)}
        for call in ordered_calls(outputs, inputs):
            values = [known.get(id(tensor), (None,) * len(tensor.shape)) for tensor in call.inputs]
            results = self._call(call, values)
            if not isinstance(results, list):
                results = [results]
            for place, tensor in enumerate(call.outputs):
                layouts = results[place] if place < len(results) else ()
                if len(layouts) != len(tensor.shape):
                    pin(*layouts)
                    layouts = (None,) * len(tensor.shape)
                known[id(tensor)] = layouts
        return [known.get(id(tensor), ()) for tensor in outputs]

    def opaque(self, operation, values):
        """Gives up on a layer: what it reads is pinned, what it makes has no units."""
        for value in values:
            pin(*value)
        self.structure.opaque(operation)
        return ()

    def freedoms(self, activation):
        """What of a scale an activation hands on, and whether it looks at each unit alone."""
        found = probe(activation, (None, 4))
        return (frozenset(), False) if found is None else found

    def activated(self, activation, value):
        """The layouts behind a layer's activation."""
        if activation is None or activation is keras.activations.linear:
            return value
        return self._probed(activation, (None,) * (len(value) - 1) + (4,), value)

    def add_variable(self, variable, *roles):
        """Notes a variable that a layer's own `call` uses, as a step of its own."""
        for step in self.structure.steps:
            if any(held.tensor is variable for held in step.weights.values()):
                pin(*(layout for _, layout, _ in roles))  # two uses that are not compared
                return
        self.structure.add(_Holder(variable), [weight("kernel", variable, *roles)])

    def _call(self, call, values):
        operation = call.operation
        rule = _rule(operation)
        if rule is not None:
            count = 3 if rule is attention.multi_head_attention else 1
            return rule(self, operation, *values[:count])
        if isinstance(operation, layers.TimeDistributed):
            return self._time_distributed(operation, call, values[0])
        name = type(operation).__name__
        if not getattr(operation, "weights", ()):
            if len(values) == 1:
                return self._single(call, name, values[0])
            return self._several(call, name, values)
        return self._inside(call, values)

    def _single(self, call, name, value):
        (tensor,), output = call.inputs, call.outputs[0]
        constants = [
            one
            for one in (*call.args, *call.kwargs.values())
            if one is not tensor and len(getattr(one, "shape", ())) > 0
        ]
        if constants:
            return self._with_constant(call, name, value, constants)
        if all(layout is None for layout in value):
            return (None,) * len(output.shape)
        if name in ("Flatten", "Reshape"):
            if getattr(call.operation, "data_format", "channels_last") != "channels_last":
                return self.opaque(call.operation, [value])
            return shapes.reshaped(value, tuple(tensor.shape), tuple(output.shape))
        if name == "Permute":
            return shapes.permuted(value, (0, *call.operation.dims))
        if name == "RepeatVector":
            return (None, None, value[-1])
        if any(layout is not None for layout in value[:-1]) or len(call.outputs) > 1:
            return self.opaque(call.operation, [value])
        rank = len(output.shape)

        def function(x):
            args = [x if one is tensor else one for one in call.args]
            options = {
                name: x if one is tensor else one
                for name, one in call.kwargs.items()
                if not isinstance(one, keras.KerasTensor) or one is tensor
            }
            return call.operation(*args, **options)

        return self._probed(function, tuple(tensor.shape), value, rank)

    def _probed(self, function, shape, value, rank=None):
        found = probe(function, shape)
        rank = len(value) if rank is None else rank
        if found is None:
            pin(*value)
            return (None,) * rank
        freedoms, alone = found
        restrict(value[-1], freedoms)
        if not alone:
            for segment in value[-1] or ():
                segment.units.root().resizable = False
        return (None,) * (rank - 1) + (value[-1],)

    def _several(self, call, name, values):
        if name in _SUMS:
            return shapes.added(values)
        if name in _EXTREMES:
            return shapes.extreme(values)
        if name == "Multiply" and len(values) == 2:
            return shapes.product(values)
        if name == "Concatenate":
            tensors = [tuple(tensor.shape) for tensor in call.inputs]
            return shapes.behind_each_other(values, tensors, call.operation.axis)
        return self.opaque(call.operation, values)

    def _with_constant(self, call, name, value, constants):
        """A tensor together with an array: often a weight, such as a table of positions."""
        (constant,) = constants[:1]
        variable = self._variable(constant)
        if variable is None or len(constants) > 1:
            return self.opaque(call.operation, [value])
        if name == "Matmul" and len(variable.shape) == 2 and call.args[-1] is constant:
            return products.multiplied(self, variable, name, value)
        fits = variable.shape[-1] == call.outputs[0].shape[-1]
        if name in ("Add", "Subtract") and fits and value[-1] is not None:
            self.add_variable(variable, (len(variable.shape) - 1, value[-1], "out"))
            return (None,) * (len(value) - 1) + (value[-1],)
        return self.opaque(call.operation, [value])

    def _variable(self, constant):
        if isinstance(constant, keras.Variable):
            return constant
        values = keras.ops.convert_to_numpy(constant)
        for variable in self._variables:
            shape = tuple(variable.shape)
            if not shape or shape[-1] != values.shape[-1] or math.prod(shape) < values.size:
                continue
            rows = keras.ops.convert_to_numpy(variable).reshape(-1, shape[-1])
            flat = values.reshape(-1, shape[-1])
            if (rows[: len(flat)] == flat).all():
                return variable
        return None

    def _time_distributed(self, operation, call, value):
        inner = operation.layer
        rule = _rule(inner)
        if rule is None or len(value) < 3:
            return self._inside(call, [value])
        made = rule(self, inner, (value[0], *value[2:]))
        return (None, None, *made[1:]) if isinstance(made, tuple) and made else made

    def _inside(self, call, values):
        """Follows a layer that is made of layers: a model, or the user's own."""
        operation = call.operation
        if self.structure.step_of(operation) is None and getattr(operation, "_layers", None):
            if isinstance(operation, keras.Model) and len(call.inputs) == 1:
                inputs, outputs = graph_of(operation)
            else:
                inputs, outputs = traced(operation, call.inputs)
            if inputs and len(inputs) == len(values):
                return self.through(inputs, outputs, values)
        return self.opaque(operation, values)


class _Holder:
    """Stands for a layer where a variable is used without one."""

    def __init__(self, variable):
        self.name = variable.path


def _rule(operation):
    for kind in type(operation).__mro__:
        if kind in _RULES:
            own = type(operation).call is getattr(kind, "call", None)
            return _RULES[kind] if own else None
    return None
