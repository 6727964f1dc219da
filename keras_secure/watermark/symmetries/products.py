"""Rules for layers that multiply by a kernel: dense, convolutional, embedding."""

from keras import layers

from keras_secure.watermark.symmetries.structure import weight
from keras_secure.watermark.symmetries.units import new_layout, pin, rescaled


def dense(walk, layer, value):
    """`Dense`: rows read the input's units, columns make new ones."""
    made = new_layout(layer.kernel.shape[-1], layer.name)
    _add(walk, layer, layer.kernel, (0, value[-1], "in"), (-1, made, "out"))
    return walk.activated(layer.activation, (*value[:-1], made))


def convolution(walk, layer, value):
    """`Conv1D`, `Conv2D`, `Conv3D` and their transposes; grouped ones are not followed."""
    if getattr(layer, "groups", 1) != 1 or layer.data_format != "channels_last":
        return walk.opaque(layer, [value])
    kinds = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
    out, incoming = (-2, -1) if isinstance(layer, kinds) else (-1, -2)
    made = new_layout(layer.kernel.shape[out], layer.name)
    _add(walk, layer, layer.kernel, (incoming, value[-1], "in"), (out, made, "out"))
    return walk.activated(layer.activation, (*value[:-1], made))


def depthwise(walk, layer, value):
    """`DepthwiseConv1D`, `DepthwiseConv2D`: units keep their places, and get a new scale."""
    if layer.data_format != "channels_last":
        return walk.opaque(layer, [value])
    middle, view = _depthwise_layout(value[-1], layer.kernel)
    walk.structure.add(
        layer,
        [
            weight("kernel", layer.kernel, *_depthwise_roles(value[-1], middle), view=view),
            weight("bias", layer.bias, (0, middle, "out")),
        ],
    )
    return walk.activated(layer.activation, (*value[:-1], middle))


def separable(walk, layer, value):
    """`SeparableConv1D`, `SeparableConv2D`: a depthwise kernel and a pointwise one behind it."""
    if layer.data_format != "channels_last":
        return walk.opaque(layer, [value])
    first, second = layer.depthwise_kernel, layer.pointwise_kernel
    middle, view = _depthwise_layout(value[-1], first)
    made = new_layout(second.shape[-1], layer.name)
    walk.structure.add(
        layer,
        [
            weight("depthwise", first, *_depthwise_roles(value[-1], middle), view=view),
            weight("kernel", second, (-2, middle, "in"), (-1, made, "out")),
            weight("bias", layer.bias, (0, made, "out")),
        ],
    )
    return walk.activated(layer.activation, (*value[:-1], made))


def einsum_dense(walk, layer, value):
    """`EinsumDense`: letters of the kernel that the input has read, the others make units."""
    left, output = layer.equation.replace(" ", "").split("->")
    source, kernel = left.split(",")
    if "." in source:
        missing = len(value) - len(source.replace("...", ""))
        filler = "".join(chr(945 + place) for place in range(missing))
        source, output = source.replace("...", filler), output.replace("...", filler)
    roles, made = [], {}
    if any(letter in source and letter in output for letter in kernel):
        return walk.opaque(layer, [value])
    for axis, letter in enumerate(kernel):
        if letter in source:
            roles.append((axis, value[source.index(letter)], "in"))
        else:
            # Scales on two axes at once would be told apart by nothing.
            freedoms = ("magnitude", "sign") if letter == output[-1] else ()
            made[letter] = new_layout(layer.kernel.shape[axis], layer.name, freedoms)
            roles.append((axis, made[letter], "out"))
    biased = []
    if layer.bias is not None:
        letters = output[len(output) - len(layer.bias.shape) :]
        for axis, letter in enumerate(letters):
            if letter in made and layer.bias.shape[axis] == made[letter][0].units.size:
                biased.append((axis, made[letter], "out"))
            else:
                pin(made.get(letter))
    walk.structure.add(
        layer,
        [weight("kernel", layer.kernel, *roles), weight("bias", layer.bias, *biased)],
    )
    result = tuple(
        made[letter] if letter in made else value[source.index(letter)] for letter in output
    )
    return walk.activated(layer.activation, result)


def embedding(walk, layer, value):
    """`Embedding`: rows are tokens, columns make units."""
    made = new_layout(layer.embeddings.shape[-1], layer.name)
    walk.structure.add(layer, [weight("kernel", layer.embeddings, (1, made, "out"))])
    return (*value, made)


def multiplied(walk, variable, owner, value):
    """A tensor times a variable of shape (in, out), as a layer's own `call` may do it."""
    made = new_layout(variable.shape[-1], owner)
    walk.add_variable(variable, (0, value[-1], "in"), (1, made, "out"))
    return (*value[:-1], made)


def _add(walk, layer, kernel, reads, makes):
    walk.structure.add(
        layer,
        [
            weight("kernel", kernel, reads, makes),
            weight("bias", layer.bias, (0, makes[1], "out")),
        ],
    )


def _depthwise_layout(layout, kernel):
    """The units behind a depthwise kernel, and its shape with channels and multiples as one."""
    *window, channels, multiple = kernel.shape
    view = (*window, channels * multiple)
    if layout is None or multiple > 1:
        pin(layout)
        return new_layout(channels * multiple, "", pinned=True), view
    return rescaled(layout), view


def _depthwise_roles(layout, middle):
    if layout is None or middle[0].units.root() is not layout[0].units.root():
        return [(-1, middle, "out")]
    return [(-1, middle, "out"), (-1, layout, "in")]
