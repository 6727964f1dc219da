"""Small classifiers as one file that every library can rebuild: layers as JSON, weights as arrays.

Imports nothing heavy: `exported` takes the Keras model, `rebuilt_keras` the Keras and
`rebuilt_torch` the PyTorch to build with.
"""

import json

import numpy as np


def exported(model, path):
    """Writes a Keras Sequential of Dense, Conv2D, MaxPooling2D and Flatten to `path` (.npz)."""
    layers = []
    for layer in model.layers:
        kind, config = type(layer).__name__, layer.get_config()
        kept = {
            "Dense": ("units", "activation"),
            "Conv2D": ("filters", "kernel_size", "strides", "padding", "activation"),
            "MaxPooling2D": ("pool_size",),
            "Flatten": (),
        }
        if kind not in kept:
            raise ValueError(f"{kind} cannot be exported")
        layers.append([kind, {name: config[name] for name in kept[kind]}])
    description = {"input_shape": list(model.input_shape[1:]), "layers": layers}
    weights = {f"weight_{i}": weight for i, weight in enumerate(model.get_weights())}
    np.savez(path, description=json.dumps(description), **weights)


def read(path):
    """Returns (description, weights) of an exported model."""
    with np.load(path) as archive:
        description = json.loads(str(archive["description"]))
        weights = [archive[f"weight_{i}"] for i in range(len(archive.files) - 1)]
    return description, weights


def rebuilt_keras(keras, path):
    """Returns the exported model, built with the Keras given."""
    description, weights = read(path)
    layers = [keras.layers.Input(description["input_shape"])]
    layers += [getattr(keras.layers, kind)(**config) for kind, config in description["layers"]]
    model = keras.Sequential(layers)
    model.set_weights(weights)
    return model


def rebuilt_torch(torch, path):
    """Returns the exported model as a PyTorch module, which takes images channels first."""
    description, weights = read(path)
    weights = [torch.from_numpy(weight) for weight in weights]
    nn, shape, layers = torch.nn, description["input_shape"], []
    channels, height = shape[-1], shape[0]
    for kind, config in description["layers"]:
        if kind == "Flatten":
            layers.append(_FlattenAsKeras(torch))
            continue
        if kind == "MaxPooling2D":
            layers.append(nn.MaxPool2d(tuple(config["pool_size"])))
            height //= config["pool_size"][0]
            continue
        kernel, bias = weights[:2]
        weights = weights[2:]
        if kind == "Dense":
            layer = nn.Linear(*kernel.shape)
            layer.weight.data = kernel.T.contiguous()
        else:
            size, strides = tuple(config["kernel_size"]), tuple(config["strides"])
            padding = _padding(config["padding"], height, size[0], strides[0])
            layer = nn.Conv2d(channels, config["filters"], size, strides, padding)
            height = (height + 2 * padding - size[0]) // strides[0] + 1
            layer.weight.data = kernel.permute(3, 2, 0, 1).contiguous()
            channels = config["filters"]
        layer.bias.data = bias
        layers.append(layer)
        if config["activation"] != "linear":
            layers.append({"relu": nn.ReLU, "tanh": nn.Tanh}[config["activation"]]())
    return nn.Sequential(*layers).eval()


def _padding(name, height, size, stride):
    """Rows of zeros on either side; Keras may put one more behind, which PyTorch cannot."""
    if name == "valid":
        return 0
    total = max((-(-height // stride) - 1) * stride + size - height, 0)
    if total % 2:
        raise ValueError("padding 'same' is not alike on both sides, as PyTorch needs it")
    return total // 2


def _FlattenAsKeras(torch):
    class Flatten(torch.nn.Module):
        """Flattens with the channels last, whatever order they came in."""

        def forward(self, x):
            return x.permute(0, 2, 3, 1).flatten(1) if x.ndim == 4 else x.flatten(1)

    return Flatten()
