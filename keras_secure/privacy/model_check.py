"""Whether clipping by example means anything for a model, checked before the first step."""

import keras
import numpy as np
from keras import ops, tree

from keras_secure.errors import PrivacyError

_TOLERANCE = 1e-4


def check_model(model, inputs):
    """Raises unless each example's output depends on that example alone.

    Refuses, in this order: BatchNormalization in training; losses that cannot be told apart by
    example (activity regularizers, `add_loss`); outputs that change when only the batch-mates do;
    state that is learnt from data outside the private mechanism.

    Args:
        model: A built Keras model.
        inputs: Nested arrays with at least three examples along the first axis.

    Raises:
        PrivacyError: with the offending part and the remedy.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization()])
    >>> check_model(model, np.zeros((4, 4), "float32"))
    Traceback (most recent call last):
        ...
    keras_secure.errors.PrivacyError: Layer 'batch_normalization' ...
    """
    for layer in model._flatten_layers():
        # A frozen BatchNormalization uses its moving statistics, so it mixes nothing.
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
            raise PrivacyError(
                f"Layer {layer.name!r} is a BatchNormalization, which mixes the examples of a "
                "batch, so no example's influence can be bounded. Replace it by "
                "GroupNormalization or LayerNormalization, or freeze it (layer.trainable = False)."
            )
    sample = tree.map_structure(lambda array: ops.convert_to_numpy(array)[:3], inputs)
    size = len(tree.flatten(sample)[0])
    if size < 3:
        raise PrivacyError(
            f"The data holds {size} example(s); at least 3 are needed to check that the model does "
            "not mix examples."
        )
    _check_losses(model, sample)
    _check_independence(model, sample)


def _check_losses(model, sample):
    model(sample, training=True)
    regularized = sum(v.regularizer is not None for v in model.trainable_variables)
    if len(model.losses) > regularized:
        raise PrivacyError(
            "The model adds losses of its own (an activity regularizer or add_loss). They are "
            "averaged over the batch, so they cannot be clipped by example. Move them into the "
            "compiled loss, which is computed per example; weight regularizers may stay."
        )


def _check_independence(model, sample):
    """Compares the first example's output, and all state, between two sets of batch-mates."""
    others = tree.map_structure(lambda array: array[[0, 2, 1]], sample)
    strange = tree.map_structure(_replace_mates, sample)
    runs = [_run(model, batch) for batch in (sample, others, strange)]
    for outputs, state in runs[1:]:
        for expected, got in zip(runs[0][0], outputs, strict=True):
            scale = 1.0 + np.max(np.abs(expected))
            if not np.allclose(expected, got, rtol=0, atol=_TOLERANCE * scale):
                raise PrivacyError(
                    "The model's output for one example changes when the other examples of the "
                    "batch change, so no example's influence can be bounded. Remove what mixes "
                    "examples (batch statistics, attention or reductions over axis 0)."
                )
        for variable, expected, got in zip(
            model.non_trainable_variables, runs[0][1], state, strict=True
        ):
            if not np.allclose(expected, got, rtol=_TOLERANCE, atol=_TOLERANCE):
                raise PrivacyError(
                    f"Variable {variable.path!r} is learnt from the training data outside the "
                    "private mechanism, so it would leak. Remove or freeze its layer."
                )


def _run(model, batch):
    # Stateless calls start from the same seeds, so dropout draws the same masks each time.
    state = model.non_trainable_variables
    with keras.StatelessScope(state_mapping=[(v, v.value) for v in state]) as scope:
        outputs = model(batch, training=True)
    state = [scope.get_current_value(variable) for variable in state]
    first = [ops.convert_to_numpy(ops.cast(leaf, "float32"))[0] for leaf in tree.flatten(outputs)]
    return first, [ops.convert_to_numpy(value) for value in state]


def _replace_mates(array):
    changed = np.array(array)
    # Permuted within the example, so that integer inputs stay in their range.
    changed[1:] = np.flip(changed[1:].reshape(2, -1), axis=1).reshape(changed[1:].shape)
    if np.issubdtype(changed.dtype, np.floating):
        changed[1:] = 3.0 * changed[1:] + 1.0
    return changed
