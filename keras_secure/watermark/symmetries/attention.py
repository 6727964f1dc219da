"""The rule for multi-head attention: heads, and the dimensions within them."""

from keras_secure.watermark.symmetries.structure import weight
from keras_secure.watermark.symmetries.units import Units, new_layout


def multi_head_attention(walk, layer, query, value, key=None):
    """`MultiHeadAttention`: heads change places as wholes, dimensions within a head.

    A dimension's scale in queries is taken back in keys, a value's in the output. Any invertible
    matrix between queries and keys, or values and outputs, would be taken back too: such rotations
    are not followed.

    Args:
        walk: The `Walk`.
        layer: The layer.
        query: Layouts of its first input.
        value: Of the second.
        key: Of the third; the second's when not given.
    """
    key = value if key is None else key
    parts = [layer.query_dense, layer.key_dense, layer.value_dense, layer.output_dense]
    known = sum(len(part.weights) for part in parts)
    if len(layer.weights) != known or len(layer.output_dense.kernel.shape) != 3:
        return walk.opaque(layer, [query, value, key])
    kernels = [part.kernel for part in parts]
    _, heads, depth = kernels[0].shape
    channels, width = kernels[2].shape[-1], kernels[3].shape[-1]
    family = Units(heads)
    inner = new_layout(
        heads * depth, f"{layer.name} keys", blocks=heads, family=family, resizable=False
    )
    held = new_layout(
        heads * channels, f"{layer.name} values", blocks=heads, family=family, resizable=False
    )
    made = new_layout(width, layer.name)
    sources = [query[-1], key[-1], value[-1]]
    weights = []
    for name, part, source, layout, power in zip(
        ("query", "key", "value"),
        parts[:3],
        sources,
        (inner, inner, held),
        ("out", "in", "out"),
        strict=True,
    ):
        view = (part.kernel.shape[0], heads * part.kernel.shape[-1])
        weights.append(weight(name, part.kernel, (0, source, "in"), (1, layout, power), view=view))
        weights.append(weight(f"{name} bias", part.bias, (0, layout, power), view=view[1:]))
    view = (heads * channels, width)
    weights.append(weight("output", kernels[3], (0, held, "in"), (1, made, "out"), view=view))
    weights.append(weight("output bias", parts[3].bias, (0, made, "out")))
    walk.structure.add(layer, weights)
    return (*query[:-1], made)
