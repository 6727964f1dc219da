"""How many parameters a configuration asks Keras to allocate, before a byte of weights is read."""

import math
from typing import Any

from keras_secure.integrity.scan.shapes import Shape

_LARGEST = 2**62


def declared_parameters(name: str, config: Any, build_config: Any, shape: Shape = None) -> int:
    """A lower bound of the parameters of one layer.

    Args:
        name: The layer's class.
        config: Its configuration, with the sizes that it names.
        build_config: What it was built with; any other value than a dictionary is ignored.
        shape: The shape of its input, where the layers before it tell.

    Returns:
        The count; 0 for classes without large weights.

    Example:

    >>> declared_parameters("Dense", {"units": 10}, {"input_shape": [None, 5]})
    60
    """
    if not isinstance(config, dict):
        return 0
    channels = _channels(config, build_config, shape)
    units, rank = _size(config, "units"), _size(config, "lora_rank")
    if name == "Dense":
        return _product(units, channels + 1) + _product(rank, units + channels)
    if name in ("Embedding", "ReversibleEmbedding"):
        rows, columns = _size(config, "input_dim"), _size(config, "output_dim")
        return _product(rows, columns) + _product(rank, rows + columns)
    if "Conv" in name:
        return _convolution(name, config, channels)
    if name in _RECURRENT:
        batch = shape[0] if shape and config.get("stateful") else None
        weights = _product(_RECURRENT[name], units, units + channels + 1)
        return weights + _product(batch or 0, units)
    if name in ("MultiHeadAttention", "GroupQueryAttention"):
        heads = _size(config, "num_heads") or _size(config, "num_query_heads")
        width = _size(config, "key_dim") or _size(config, "head_dim")
        return _product(heads, width, max(3, channels))
    if name == "EinsumDense":
        return _einsum(config, build_config, shape)
    if name == "STFTSpectrogram":
        return _product(_size(config, "frame_length"), _size(config, "fft_length") // 2 + 1)
    if name in ("LayerNormalization", "BatchNormalization", "PReLU", "GroupNormalization"):
        return channels
    return 0


_RECURRENT = {
    "SimpleRNN": 1,
    "SimpleRNNCell": 1,
    "GRU": 3,
    "GRUCell": 3,
    "LSTM": 4,
    "LSTMCell": 4,
    "CuDNNGRU": 3,
    "CuDNNLSTM": 4,
}


def _convolution(name: str, config: dict[str, Any], channels: int) -> int:
    filters, kernel = _size(config, "filters"), _product(*_sizes(config.get("kernel_size")))
    channels = max(1, channels)
    if name.startswith("Depthwise"):
        return _product(kernel, channels, max(1, _size(config, "depth_multiplier")))
    if name.startswith("Separable"):
        wide = _product(channels, max(1, _size(config, "depth_multiplier")))
        return _product(kernel, wide) + _product(wide, filters)
    if "LSTM" in name:
        return _product(4, filters, _product(kernel, channels + filters) + 1)
    groups = max(1, _size(config, "groups"))
    return _product(filters, 1 + _product(kernel, max(1, channels // groups)))


def _einsum(config: dict[str, Any], build_config: Any, shape: Shape) -> int:
    """The kernel's letters stand for sizes of the input or of the output."""
    equation, outputs = config.get("equation"), _output_sizes(config.get("output_shape"))
    if not isinstance(equation, str):
        return _product(*(size for size in outputs if size))
    left, _, result = equation.replace("...", "").replace(" ", "").partition("->")
    operand, _, kernel = left.partition(",")
    inputs = list(shape) if shape else _built_shape(build_config)
    known = dict(zip(reversed(operand), reversed(inputs), strict=False))
    known |= dict(zip(reversed(result), reversed(outputs), strict=False))
    return _product(*(known.get(letter) or 1 for letter in kernel))


def _output_sizes(value: Any) -> list[int | None]:
    items = value if isinstance(value, list) else [value]
    return [size if type(size) is int and size > 0 else None for size in items]


def _built_shape(build_config: Any) -> list[int | None]:
    shape = build_config.get("input_shape") if isinstance(build_config, dict) else None
    return _output_sizes(shape) if isinstance(shape, list) else []


def _channels(config: dict[str, Any], build_config: Any, shape: Shape) -> int:
    if config.get("data_format") == "channels_first":
        return 0
    sizes = _sizes(build_config.get("input_shape")) if isinstance(build_config, dict) else []
    # Keras believes the layers before this one, and a file may say two things.
    return max(sizes[-1] if sizes else 0, (shape[-1] or 0) if shape else 0)


def _size(config: dict[str, Any], key: str) -> int:
    value = config.get(key)
    if isinstance(value, float) and math.isfinite(value):
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _sizes(value: Any) -> list[int]:
    items = value if isinstance(value, list) else [value]
    return [i for i in items if isinstance(i, int) and not isinstance(i, bool) and i > 0]


def _product(*sizes: int) -> int:
    product = 1
    for size in sizes:
        product = min(product * min(size, _LARGEST), _LARGEST)
    return product
