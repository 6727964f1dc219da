"""Copying a model layer by layer, with another kind of normalization on the way."""

import math

import keras

# Fewer values leave no statistics worth the name: one value alone would always become zero.
_VALUES_PER_GROUP = 16


def is_graph(layer):
    """Whether Keras itself calls a model's parts, so that they can be exchanged from outside."""
    is_model = isinstance(layer, keras.Sequential) or hasattr(layer, "operations")
    return is_model and type(layer).call.__module__.startswith("keras.")


def mixes(layer):
    """Whether a layer normalizes by the statistics of the batch."""
    return isinstance(layer, keras.layers.BatchNormalization) and layer.trainable


class CompatibleCopy:
    """Copies each layer once, wherever it is used.

    Args:
        groups: The most groups of a GroupNormalization.
        report: The `CompatibilityReport` that learns what was replaced and removed.
    """

    def __init__(self, groups, report):
        self.groups, self.report = groups, report
        self.copies: dict[int, tuple] = {}

    def copy(self, layer):
        """Returns the copy of a layer or model, without its weights."""
        if not isinstance(layer, keras.Layer):
            return layer  # an operation such as `a + b`, which has no state
        if id(layer) not in self.copies:
            self.copies[id(layer)] = (layer, self._new(layer))
        return self.copies[id(layer)][1]

    def _new(self, layer):
        if is_graph(layer):
            options = {} if isinstance(layer, keras.Sequential) else {"call_function": _call}
            return keras.models.clone_model(layer, clone_function=self.copy, **options)
        if mixes(layer):
            group_normalization = _group_normalization(layer, self.groups)
            self.report.replaced[layer.name] = group_normalization.groups
            return group_normalization
        if isinstance(layer, keras.layers.ActivityRegularization):
            self.report.removed.append(layer.name)
            return keras.layers.Activation("linear", name=layer.name, dtype=layer.dtype_policy)
        if isinstance(layer, keras.layers.Lambda):
            return layer  # has no weights, and its function may not survive a configuration
        config = layer.get_config()
        if config.get("activity_regularizer") is not None:
            config["activity_regularizer"] = None
            self.report.removed.append(layer.name)
        if isinstance(layer, keras.layers.Wrapper):
            del config["layer"]
            return type(layer)(self.copy(layer.layer), **config)
        return type(layer).from_config(config)

    def copy_weights(self):
        """Copies weights and what is frozen, once everything is built."""
        pairs = list(self.copies.values())
        for old, new in pairs:
            if mixes(old):
                for name in ("gamma", "beta"):
                    if getattr(old, name, None) is not None:
                        getattr(new, name).assign(getattr(old, name))
            elif not is_graph(old):
                for source, target in _own_weights(old, new):
                    target.assign(source)
        # Freezing a model freezes its parts, which may have been unfrozen since: models come first.
        for old, new in reversed(pairs):
            new.trainable = old.trainable
        for old, new in pairs:
            if not is_graph(old) and not isinstance(new, keras.layers.GroupNormalization):
                for source, target in _own_weights(old, new):
                    if target.trainable != source.trainable:
                        target.trainable = source.trainable


def _call(layer, *args, **kwargs):
    if isinstance(layer, keras.layers.GroupNormalization):
        # Recorded for a BatchNormalization, which takes more than the inputs.
        return layer(args[0] if args else kwargs["inputs"])
    return layer(*args, **kwargs)


def _own_weights(old, new):
    """Pairs of weights, without those of a wrapped layer, which has its own copy."""
    inner = [
        {id(v) for v in layer.layer.weights} if isinstance(layer, keras.layers.Wrapper) else set()
        for layer in (old, new)
    ]
    own = [
        [v for v in layer.weights if id(v) not in known]
        for layer, known in zip((old, new), inner, strict=True)
    ]
    return zip(*own, strict=True)


def _group_normalization(layer, limit):
    shape = layer.get_build_config()["input_shape"]
    axis = layer.axis % len(shape)
    channels, positions = shape[axis], shape[1:axis] + shape[axis + 1 :]
    if not positions:
        limit = 1
    values = channels * (math.inf if None in positions else math.prod(positions))
    groups = max(
        divisor
        for divisor in range(1, min(limit, channels) + 1)
        if channels % divisor == 0 and (divisor == 1 or values / divisor >= _VALUES_PER_GROUP)
    )
    names = [
        f"{weight}_{kind}"
        for weight in ("beta", "gamma")
        for kind in ("initializer", "regularizer", "constraint")
    ]
    return keras.layers.GroupNormalization(
        groups=groups,
        axis=-1 if axis == len(shape) - 1 else axis,
        epsilon=layer.epsilon,
        center=layer.center,
        scale=layer.scale,
        name=layer.name,
        dtype=layer.dtype_policy,
        **{name: getattr(layer, name) for name in names},
    )
