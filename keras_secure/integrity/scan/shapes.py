"""The shapes that tensors have on their way through a model, as far as its configuration tells.

A configuration says with each layer what the layer was built for, but Keras believes what the
layers before it give. So shapes are followed from the inputs on; where that cannot be done with
certainty, a shape is None.
"""

import math
from collections.abc import Iterator
from typing import Any

Shape = tuple[int | None, ...] | None
"""Sizes beginning with the batch's; None for a size that is open, or for a shape not known."""

_LARGEST = 2**62
_UNCHANGED = frozenset(
    [
        *("Activation", "ActivityRegularization", "AlphaDropout", "BatchNormalization", "Dropout"),
        *("ELU", "GaussianDropout", "GaussianNoise", "GroupNormalization", "Identity"),
        *("LayerNormalization", "LeakyReLU", "Masking", "Normalization", "PReLU"),
        *("RMSNormalization", "ReLU", "Rescaling", "Softmax", "SpatialDropout1D"),
        *("SpatialDropout2D", "SpatialDropout3D", "UnitNormalization"),
        *("Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract"),
    ]
)
_RECURRENT = frozenset({"GRU", "LSTM", "SimpleRNN"})
_WRAPPERS = frozenset({"Bidirectional", "SpectralNormalization", "TimeDistributed", "Wrapper"})


def layer_inputs(model: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Shape]]:
    """Follows the shapes through a Sequential or Functional model.

    Args:
        model: Its serialized form, with `"config"` and in that `"layers"`.

    Yields:
        Each layer, those within wrappers too, with the shape of its (first) input.

    Example:

    >>> inputs = {"class_name": "InputLayer", "config": {"name": "a", "batch_shape": [None, 5]}}
    >>> dense = {"class_name": "Dense", "config": {"name": "b", "units": 3}}
    >>> [shape for _, shape in layer_inputs({"config": {"layers": [inputs, dense, dense]}})]
    [(None, 5), (None, 5), (None, 3)]
    """
    config = model.get("config")
    layers = config.get("layers") if isinstance(config, dict) else None
    if not isinstance(layers, list):
        return
    before = _whole(model.get("build_config"), "input_shape")
    outputs: dict[str, Shape] = {}
    for layer in layers:
        if not isinstance(layer, dict) or not isinstance(layer.get("config"), dict):
            before = None
            continue
        calls = layer.get("inbound_nodes")
        shape = before if not isinstance(calls, list) else outputs.get(_source(calls))
        shape = _said(layer) or shape
        yield layer, shape
        inner, depth = layer, 0
        while str(inner.get("class_name")) in _WRAPPERS and depth < 8:
            inner, depth = inner["config"].get("layer"), depth + 1
            if not isinstance(inner, dict) or not isinstance(inner.get("config"), dict):
                break
            # What stands before the last size is the wrapper's affair.
            yield inner, (None, shape[-1]) if shape else None
        before = _output(str(layer.get("class_name")), layer["config"], shape)
        outputs[str(layer.get("name", layer["config"].get("name")))] = before


def _said(layer: dict[str, Any]) -> Shape:
    """The shape that a layer itself gives for its input, as the first of a model may."""
    config = layer["config"]
    for key in ("batch_shape", "batch_input_shape"):
        if whole := _whole(config, key):
            return whole
    for key in ("shape", "input_shape"):
        if isinstance(config.get(key), list):
            return _whole({key: [None, *config[key]]}, key)
    if layer.get("class_name") != "Embedding" and type(config.get("input_dim")) is int:
        return _whole({"dim": [None, config["input_dim"]]}, "dim")
    return None


def _whole(config: Any, key: str) -> Shape:
    """A shape out of a configuration; None where it is not one of a batch."""
    sizes = config.get(key) if isinstance(config, dict) else None
    if not isinstance(sizes, list) or len(sizes) < 2:
        return None
    return tuple(_count(size) for size in sizes)


def _source(calls: list[Any]) -> str:
    """The layer that the first tensor of the first call comes from."""
    stack: list[Any] = calls[:1]
    for _ in range(1000):
        if not stack:
            break
        value = stack.pop()
        if isinstance(value, dict):
            config = value.get("config")
            if value.get("class_name") == "__keras_tensor__" and isinstance(config, dict):
                history = config.get("keras_history")
                return str(history[0]) if isinstance(history, list) and history else ""
            stack += reversed(list(value.values()))
        elif isinstance(value, list):
            # Keras 2 writes [name, node, tensor, {}].
            if value and isinstance(value[0], str) and len(value) in (3, 4):
                return value[0]
            stack += reversed(value)
    return ""


def _output(name: str, config: dict[str, Any], shape: Shape) -> Shape:
    """The shape that a layer gives; None where it takes more than a line to tell."""
    if name == "InputLayer" or shape is None or config.get("data_format") == "channels_first":
        return shape if name == "InputLayer" else None
    if name in _UNCHANGED:
        return shape
    if name == "Dense":
        return (*shape[:-1], _count(config.get("units")))
    if name == "Embedding":
        return (*shape, _count(config.get("output_dim")))
    if name == "Flatten":
        return (shape[0], _product(shape[1:]))
    if name == "RepeatVector":
        return (shape[0], _count(config.get("n")), *shape[1:])
    if name in _RECURRENT:
        steps = shape[1:2] if config.get("return_sequences") else ()
        return (shape[0], *steps, _count(config.get("units")))
    if name.startswith("Global") and not config.get("keepdims"):
        return (shape[0], shape[-1])
    if name.startswith("UpSampling"):
        return _spatial(shape, config.get("size"), lambda size, by: size * by)
    if name.startswith("ZeroPadding"):
        return _spatial(shape, config.get("padding"), lambda size, by: size + by)
    if name == "Reshape":
        return _reshaped(shape, config.get("target_shape"))
    return None


def _spatial(shape: tuple[int | None, ...], amounts: Any, change: Any) -> Shape:
    """The sizes between the batch's and the channels', each changed by its amount."""
    sizes = shape[1:-1]
    amounts = amounts if isinstance(amounts, list) else [amounts] * len(sizes)
    if len(sizes) == 1 and len(amounts) == 2:
        amounts = [amounts]
    if len(amounts) != len(sizes):
        return None
    # Padding may differ between the two sides.
    sums = [
        sum(part or 0 for part in map(_count, by)) if isinstance(by, list) else _count(by)
        for by in amounts
    ]
    return (
        shape[0],
        *(
            min(change(size, by), _LARGEST) if size and by else size
            for size, by in zip(sizes, sums, strict=True)
        ),
        shape[-1],
    )


def _reshaped(shape: tuple[int | None, ...], target: Any) -> Shape:
    if not isinstance(target, list) or not all(type(size) is int for size in target):
        return None
    whole, known = _product(shape[1:]), math.prod(size for size in target if size > 0)
    rest = whole // known if whole and known else None
    return (shape[0], *(size if size > 0 else rest for size in target))


def _count(value: Any) -> int | None:
    if isinstance(value, float) and math.isfinite(value):
        value = int(value)
    return min(value, _LARGEST) if type(value) is int and value > 0 else None


def _product(sizes: tuple[int | None, ...]) -> int | None:
    product = 1
    for size in sizes:
        if size is None:
            return None
        product = min(product * size, _LARGEST)
    return product
