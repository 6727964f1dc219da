"""Interval bound propagation: what a network can answer anywhere in a box of inputs."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_secure.certification.interval import Arithmetic, Interval
from keras_secure.certification.interval_rules import check_computation, layer_bounds
from keras_secure.certification.interval_sums import multiplied
from keras_secure.errors import InputError

_LAST_ACTIVATIONS = ("linear", "sigmoid", "softmax")


def interval_bounds(model, lower, upper):
    """Bounds the logits of a model over a box of inputs, rounding included.

    For every input between `lower` and `upper`, what `model(inputs, training=False)` computes
    before a last softmax or sigmoid lies within the bounds: not only in exact arithmetic, but as it
    is computed in float32 on a processor. See `Arithmetic` for the margins that are added.

    Args:
        model: A Sequential or functional model with one input and one output, of layers that are
            covered; others are refused by name.
        lower: Array of shape (batch, ...): the least inputs.
        upper: Array of that shape: the largest.

    Returns:
        (lower, upper) float64 NumPy arrays of shape (batch, units).

    Raises:
        InputError: If the model, or a layer of it, is not covered.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, activation="relu"),
    ...                           keras.layers.Dense(2, activation="softmax")])
    >>> lower, upper = interval_bounds(model, np.zeros((5, 3)), np.ones((5, 3)))
    >>> lower.shape, bool((lower <= upper).all())
    ((5, 2), True)

    Reference: Gowal et al. 2018 (arXiv 1810.12715), section 3; Mirman et al. 2018, ICML.
    """
    lower, upper = np.asarray(lower), np.asarray(upper)
    if lower.shape != upper.shape or not (lower <= upper).all():
        raise InputError(
            f"lower has the shape {lower.shape} and upper {upper.shape}; both must be the same, "
            "and lower nowhere above upper."
        )
    arithmetic = Arithmetic()
    box = input_box(lower, upper, arithmetic)
    found, dense = before_last_linear(model, box, arithmetic)
    if dense is not None:
        found = multiplied(dense, found, arithmetic)
    return ops.convert_to_numpy(found.lower), ops.convert_to_numpy(found.upper)


def input_box(lower, upper, arithmetic):
    """Returns the box of inputs, a little larger than the two ends: a model may cast its input.

    Args:
        lower: Array or tensor of shape (batch, ...).
        upper: Array or tensor of that shape.
        arithmetic: The `Arithmetic`.
    """
    box = Interval(
        arithmetic.cast(ops.convert_to_tensor(lower)), arithmetic.cast(ops.convert_to_tensor(upper))
    )
    return arithmetic.rounded(box, box.magnitude, 1, "float32")


def before_last_linear(model, interval, arithmetic):
    """Bounds everything up to the last `Dense` layer, whose outputs are the logits.

    Args:
        model: A Sequential or functional model.
        interval: The `Interval` of its inputs.
        arithmetic: The `Arithmetic`.

    Returns:
        (interval, dense): the bounds of what `dense` receives; or (bounds of the logits, None) if
        the last layer is another.

    Raises:
        InputError: If the model, or a layer of it, is not covered.
    """
    if isinstance(model, keras.Sequential):
        layers = _built_layers(model)
        while layers and _is_last_activation(layers[-1]):
            layers.pop()
        for layer in layers[:-1]:
            interval = _through(layer, interval, arithmetic)
        return _last(layers[-1], interval, arithmetic) if layers else (interval, None)
    graph = IntervalGraph(model, interval, arithmetic)
    tensor = graph.output
    while _is_last_activation(graph.operation(tensor)):
        (tensor,) = graph.inputs(tensor)
    inputs = graph.inputs(tensor)
    if len(inputs) != 1:
        return graph.bounds(tensor), None
    return _last(graph.operation(tensor), graph.bounds(inputs[0]), arithmetic)


def _last(layer, interval, arithmetic):
    if isinstance(layer, keras.Model):
        return before_last_linear(layer, interval, arithmetic)
    is_dense = isinstance(layer, keras.layers.Dense) and type(layer).call is keras.layers.Dense.call
    if is_dense and _is_last(layer.activation) and len(interval.lower.shape) == 2:
        # Its kernel is read without a rule, and must be what it multiplies by.
        check_computation(layer, arithmetic)
        return interval, layer
    return layer_bounds(layer, interval, arithmetic), None


def _through(layer, interval, arithmetic):
    """Bounds the outputs of a layer, or of a model in its place."""
    if not isinstance(layer, keras.Model):
        return layer_bounds(layer, interval, arithmetic)
    if isinstance(layer, keras.Sequential):
        for inner in _built_layers(layer):
            interval = _through(inner, interval, arithmetic)
        return interval
    graph = IntervalGraph(layer, interval, arithmetic)
    return graph.bounds(graph.output)


class IntervalGraph:
    """The bounds at every tensor of a functional model.

    Args:
        model: The functional model, with one input and one output.
        interval: The `Interval` of its input.
        arithmetic: The `Arithmetic`.

    Raises:
        InputError: If the model is of another kind.
    """

    def __init__(self, model, interval, arithmetic):
        functional: list[Any] = [
            kind for kind in type(model).__mro__ if kind.__name__ == "Functional"
        ]
        if not functional or type(model).call is not functional[0].call:
            raise InputError(
                f"{model.name!r} ({type(model).__name__}) has a `call` of its own, which bounds "
                "cannot follow. Give a Sequential or functional model, such as the one inside, and "
                "one that was trained compressed after `compression.strip`."
            )
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise InputError(
                f"{model.name!r} has {len(model.inputs)} inputs and {len(model.outputs)} outputs; "
                "bounds are found for one of each. Build a keras.Model that ends at one output."
            )
        self.output = model.outputs[0]
        self._arithmetic = arithmetic
        self._known = {_place(model.inputs[0]): interval}

    def operation(self, tensor):
        """The layer or operator that a symbolic tensor comes from."""
        return tensor._keras_history.operation

    def inputs(self, tensor):
        """The symbolic tensors that its operation was called on; none for the model's input."""
        if _place(tensor) in self._known:
            return []
        history = tensor._keras_history
        return history.operation._inbound_nodes[history.node_index].input_tensors

    def bounds(self, tensor):
        """The `Interval` of a symbolic tensor."""
        place = _place(tensor)
        if place not in self._known:
            operation, given = self.operation(tensor), self._given(tensor)
            self._known[place] = _through(operation, given, self._arithmetic)
        return self._known[place]

    def _given(self, tensor):
        history = tensor._keras_history
        operation = history.operation
        arguments = operation._inbound_nodes[history.node_index].arguments
        inputs = self.inputs(tensor)
        nested = len(arguments.args) == 1 and isinstance(arguments.args[0], (list, tuple))
        listed = arguments.args[0] if nested else arguments.args
        given = arguments.kwargs.items()
        options = [name for name, value in given if value is not None and value is not False]
        if len(listed) != len(inputs) or options or not inputs:
            raise InputError(
                f"{operation.name!r} ({type(operation).__name__}) is called with more than the "
                f"outputs of other layers{': ' if options else ''}{', '.join(options)}. Bounds "
                "follow plain calls only; use layers, such as Rescaling for constants."
            )
        bounds = [self.bounds(item) for item in inputs]
        return bounds if nested or len(bounds) > 1 else bounds[0]


def _place(tensor):
    history = tensor._keras_history
    return id(history.operation), history.node_index, history.tensor_index


def _built_layers(model):
    if not model.built:
        raise InputError(
            f"{model.name!r} has no weights yet. Give it a keras.Input, or call it once."
        )
    return list(model.layers)


def _is_last(activation):
    known = (getattr(keras.activations, name) for name in _LAST_ACTIVATIONS)
    return activation is None or any(activation is function for function in known)


def _is_last_activation(layer):
    """Whether a layer only turns logits into probabilities, or does nothing at inference."""
    if isinstance(layer, keras.layers.Activation):
        return _is_last(layer.activation)
    return isinstance(layer, (keras.layers.Softmax, keras.layers.Dropout, keras.layers.Identity))
