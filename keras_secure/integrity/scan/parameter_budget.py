"""How many parameters a configuration asks Keras to allocate, before a byte of weights is read."""

import math
from typing import Any

_LARGEST = 2**62


def declared_parameters(name: str, config: Any, build_config: Any) -> int:
    """A lower bound of the parameters of one layer.

    Only what follows from the layer's own configuration is counted: sizes that it names, and its
    input's shape where `build_config` gives it.

    Args:
        name: The layer's class.
        config: Its configuration.
        build_config: What it was built with; any other value than a dictionary is ignored.

    Returns:
        The count; 0 for classes without large weights.

    Example:

    >>> declared_parameters("Dense", {"units": 10}, {"input_shape": [None, 5]})
    60
    """
    if not isinstance(config, dict):
        return 0
    channels = _channels(config, build_config)
    if name == "Dense":
        return _product(_size(config, "units"), channels + 1)
    if name in ("Embedding", "ReversibleEmbedding"):
        return _product(_size(config, "input_dim"), _size(config, "output_dim"))
    if name.startswith("Conv") and "filters" in config:
        groups = max(1, _size(config, "groups"))
        kernel = _product(*_sizes(config.get("kernel_size")))
        return _product(_size(config, "filters"), 1 + kernel * max(1, channels // groups))
    if name in _RECURRENT:
        units = _size(config, "units")
        return _product(_RECURRENT[name], units, units + channels + 1)
    if name in ("MultiHeadAttention", "GroupQueryAttention"):
        heads = _size(config, "num_heads") or _size(config, "num_query_heads")
        width = _size(config, "key_dim") or _size(config, "head_dim")
        return _product(heads, width, 3)
    if name == "EinsumDense":
        return _product(*_sizes(config.get("output_shape")))
    if name in ("LayerNormalization", "BatchNormalization", "PReLU"):
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


def _channels(config: dict[str, Any], build_config: Any) -> int:
    if config.get("data_format") == "channels_first" or not isinstance(build_config, dict):
        return 0
    shape = build_config.get("input_shape")
    sizes = _sizes(shape)
    return sizes[-1] if sizes else 0


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
