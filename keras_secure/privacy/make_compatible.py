"""A copy of a model without what no clipping by example can make private."""

import keras
import numpy as np
from keras import tree

from keras_secure.errors import InputError, PrivacyError
from keras_secure.privacy.compatibility_report import CompatibilityReport
from keras_secure.privacy.compatible_copy import CompatibleCopy, is_graph, mixes
from keras_secure.privacy.model_check import check_model

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
    if not is_graph(model):
        report.left_for_you.append(
            f"{model.name!r} is a subclassed model without BatchNormalization in training; it is "
            "returned as it is. check_model(model, inputs) tells whether it mixes examples."
        )
        return model, report
    copier = CompatibleCopy(int(groups), report)
    copy = copier.copy(model)
    _remove_activity_regularizers(copy, report)
    for layer in copy._flatten_layers():
        _note(layer, report)
    # Tried before the weights are copied: a trial in training mode may change state.
    _try_out(copy, report)
    copier.copy_weights()
    return copy, report


def _parts(layer):
    return layer._flatten_layers(include_self=False, recursive=False)


def _refuse_hidden(model):
    """Raises where a layer to replace belongs to a class whose code builds and calls it."""
    hidden = []

    def visit(layer, owner):
        if owner is not None and mixes(layer):
            attribute = next((k for k, v in vars(owner).items() if v is layer), layer.name)
            hidden.append(f"{layer.name!r} ({type(owner).__name__} {owner.name!r}: {attribute})")
        for part in _parts(layer):
            open_to_us = is_graph(layer) or isinstance(layer, keras.layers.Wrapper)
            visit(part, owner if open_to_us else layer)

    visit(model, None)
    if hidden:
        raise PrivacyError(
            f"{len(hidden)} BatchNormalization layer(s) are inside subclassed models or layers, "
            f"which only their code can change: {', '.join(hidden)}. Replace them there by "
            "keras.layers.GroupNormalization, or freeze them (layer.trainable = False). If the "
            "model only wraps another one, convert the model inside."
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
