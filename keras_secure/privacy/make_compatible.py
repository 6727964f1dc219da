"""A copy of a model without what no clipping by example can make private."""

import math

import keras
import numpy as np
from keras import tree

from keras_secure.errors import InputError, PrivacyError
from keras_secure.privacy.compatibility_report import CompatibilityReport
from keras_secure.privacy.model_check import check_model

# Fewer values leave no statistics worth the name: one value alone would always become zero.
_VALUES_PER_GROUP = 16
# Of a dimension that the model leaves open, when it is tried on made-up inputs.
_TRIAL_SIZE = 8
_MIXERS = tuple(
    getattr(keras.layers, name) for name in ("MixUp", "CutMix") if hasattr(keras.layers, name)
)


def make_compatible(model, groups=32):
    """Returns a copy of a model that can be trained privately, and what was changed in it.

    Every BatchNormalization in training becomes a GroupNormalization of the same name, on the same
    axis and with the same gamma and beta. Moving means and variances are dropped, so the outputs
    differ until the copy is trained. All other weights are copied. A frozen BatchNormalization uses
    its stored statistics, mixes nothing, and stays. Activity regularizers, which average over the
    batch, are removed.

    The number of groups is the largest divisor of the channels up to `groups` that leaves 16 values
    to a group; inputs without positions, as between Dense layers, get one group, which is layer
    normalization.

    Args:
        model: A built Sequential or functional Keras model; models inside it, shared layers and
            wrappers such as TimeDistributed are followed. It is left as it is.
        groups: Int of at least 1, the most groups of a GroupNormalization. Defaults to 32.

    Returns:
        (new model, `CompatibilityReport`). Compile the new model again.

    Raises:
        PrivacyError: where layers to change are inside a subclassed model or layer, whose code only
            its author can change; all of them are named.
        InputError: if `model` is no built Keras model.

    Example:

    >>> import keras
    >>> from keras_secure.privacy import make_compatible
    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 3)), keras.layers.Conv2D(24, 3),
    ...     keras.layers.BatchNormalization(name="bn"), keras.layers.Flatten()])
    >>> private, report = make_compatible(model)
    >>> type(private.get_layer("bn")).__name__, report.replaced, report.is_complete
    ('GroupNormalization', {'bn': 24}, True)

    Reference: Wu and He 2018, Group Normalization (arXiv 1803.08494).
    """
    if not isinstance(model, keras.Model):
        raise InputError(f"make_compatible takes a Keras model, but got {type(model).__name__}.")
    if not model.built:
        raise InputError(
            f"Model {model.name!r} is not built, so the number of its channels is not known. Call "
            "it on a batch or build it first."
        )
    if not groups >= 1:
        raise InputError(f"groups is {groups}; it must be at least 1.")
    _refuse_hidden(model)
    report = CompatibilityReport()
    if not _is_graph(model):
        report.left_for_you.append(
            f"{model.name!r} is a subclassed model without BatchNormalization in training; it is "
            "returned as it is. check_model(model, inputs) tells whether it mixes examples."
        )
        return model, report
    copier = _Copier(int(groups), report)
    copy = copier.copy(model)
    _remove_activity_regularizers(copy, report)
    for layer in copy._flatten_layers():
        _note(layer, report)
    # Tried before the weights are copied: a trial in training mode may change state.
    _try_out(copy, report)
    copier.copy_weights()
    return copy, report


class _Copier:
    """Copies each layer once, wherever it is used."""

    def __init__(self, groups, report):
        self.groups, self.report = groups, report
        self.copies: dict[int, tuple] = {}

    def copy(self, layer):
        if not isinstance(layer, keras.Layer):
            return layer  # an operation such as `a + b`, which has no state
        if id(layer) not in self.copies:
            self.copies[id(layer)] = (layer, self._new(layer))
        return self.copies[id(layer)][1]

    def _new(self, layer):
        if _is_graph(layer):
            options = {} if isinstance(layer, keras.Sequential) else {"call_function": _call}
            return keras.models.clone_model(layer, clone_function=self.copy, **options)
        if _mixes(layer):
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
            if _mixes(old):
                for name in ("gamma", "beta"):
                    if getattr(old, name, None) is not None:
                        getattr(new, name).assign(getattr(old, name))
            elif not _is_graph(old):
                for source, target in _own_weights(old, new):
                    target.assign(source)
        # Freezing a model freezes its parts, which may have been unfrozen since: models come first.
        for old, new in reversed(pairs):
            new.trainable = old.trainable
        for old, new in pairs:
            if not _is_graph(old) and not isinstance(new, keras.layers.GroupNormalization):
                for source, target in _own_weights(old, new):
                    if target.trainable != source.trainable:
                        target.trainable = source.trainable


def _call(layer, *args, **kwargs):
    if isinstance(layer, keras.layers.GroupNormalization):
        # Recorded for a BatchNormalization, which takes more than the inputs.
        return layer(args[0])
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


def _is_graph(layer):
    """Whether Keras itself calls a model's parts, so that they can be exchanged from outside."""
    is_model = isinstance(layer, keras.Sequential) or hasattr(layer, "operations")
    return is_model and type(layer).call.__module__.startswith("keras.")


def _mixes(layer):
    return isinstance(layer, keras.layers.BatchNormalization) and layer.trainable


def _parts(layer):
    return layer._flatten_layers(include_self=False, recursive=False)


def _refuse_hidden(model):
    """Raises where a layer to replace belongs to a class whose code builds and calls it."""
    hidden = []

    def visit(layer, owner):
        if owner is not None and _mixes(layer):
            attribute = next((k for k, v in vars(owner).items() if v is layer), layer.name)
            hidden.append(f"{layer.name!r} ({type(owner).__name__} {owner.name!r}: {attribute})")
        for part in _parts(layer):
            open_to_us = _is_graph(layer) or isinstance(layer, keras.layers.Wrapper)
            visit(part, owner if open_to_us else layer)

    visit(model, None)
    if hidden:
        raise PrivacyError(
            f"{len(hidden)} BatchNormalization layer(s) are inside subclassed models or layers, "
            f"which only their code can change: {', '.join(hidden)}. Replace them there by "
            "keras.layers.GroupNormalization, or freeze them (layer.trainable = False). If the "
            "model only wraps another one, convert the model inside."
        )


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


def _remove_activity_regularizers(model, report):
    """Removes what is left inside layers that keep no such option in their configuration."""
    for layer in model._flatten_layers():
        if getattr(layer, "activity_regularizer", None) is not None:
            layer.activity_regularizer = None
            if layer.name not in report.removed:
                report.removed.append(layer.name)


def _note(layer, report):
    kind = f"{layer.name!r} ({type(layer).__name__})"
    if isinstance(layer, keras.layers.BatchNormalization):
        report.kept.append(
            f"{kind} is frozen, so it uses stored statistics and mixes nothing. Where these were "
            "learnt must be public."
        )
    elif isinstance(layer, keras.layers.SpectralNormalization):
        report.kept.append(
            f"{kind} rescales its weights in every step by what it reads off the weights alone; "
            "nothing of the data enters."
        )
    elif isinstance(layer, _MIXERS):
        report.left_for_you.append(f"{kind} blends the examples of a batch. Remove it.")
    elif getattr(layer, "stateful", False):
        report.left_for_you.append(
            f"{kind} carries state from one batch into the next. Build it with stateful=False."
        )
    elif hasattr(layer, "adapt") and getattr(layer, "input_mean", None) is None:
        report.left_for_you.append(
            f"{kind} may have been fitted by adapt(), outside any privacy guarantee. Fit it on "
            "public data or give it fixed values."
        )


def _try_out(model, report):
    """Holds the copy to `check_model` on made-up inputs."""
    random = np.random.default_rng(0)

    def made_up(tensor):
        shape = (3, *(_TRIAL_SIZE if size is None else size for size in tensor.shape[1:]))
        if keras.backend.is_float_dtype(tensor.dtype):
            return random.normal(size=shape).astype(tensor.dtype)
        return random.integers(0, 2, shape).astype(tensor.dtype)

    try:
        inputs = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
        check_model(model, tree.map_structure(made_up, inputs))
    except PrivacyError as error:
        report.left_for_you.append(str(error))
    except Exception as error:  # made-up inputs may suit nobody, and then prove nothing
        report.left_for_you.append(
            "the copy could not be tried on made-up inputs "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}). Call "
            "check_model(model, inputs) with yours."
        )
