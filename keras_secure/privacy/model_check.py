"""Whether clipping by example means anything for a model, checked before the first step."""

import keras
import numpy as np
from keras import ops, tree

from keras_secure import backend
from keras_secure.errors import PrivacyError

_ROWS = 3
_TOLERANCE = 1e-4
_STATE_TOLERANCE = 1e-6
_REMEDY = "Remove what mixes examples (batch statistics, attention or reductions over axis 0)."


def check_model(model, inputs):
    """Raises unless each example's output depends on that example alone.

    Refuses, in this order: BatchNormalization in training; losses that cannot be told apart by
    example (activity regularizers, `add_loss`); outputs that change when only the batch-mates do;
    state that is learnt from data outside the private mechanism; gradients from one example's
    output to another's input. `make_compatible` mends what can be mended.

    Args:
        model: A built Keras model.
        inputs: Nested arrays with at least three examples along the first axis.

    Raises:
        PrivacyError: with the offending part and the remedy.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization(name="bn")])
    >>> check_model(model, np.zeros((4, 4), "float32"))
    Traceback (most recent call last):
        ...
    keras_secure.errors.PrivacyError: Layer 'bn' is a BatchNormalization, ...
    """
    for layer in model._flatten_layers():
        # A frozen BatchNormalization uses its moving statistics, so it mixes nothing.
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
            raise PrivacyError(
                f"Layer {layer.name!r} is a BatchNormalization, which mixes the examples of a "
                "batch, so no example's influence can be bounded. Replace it by "
                "GroupNormalization, as keras_secure.privacy.make_compatible(model) does, or "
                "freeze it (layer.trainable = False)."
            )
    sample = tree.map_structure(lambda array: ops.convert_to_numpy(array)[:_ROWS], inputs)
    size = len(tree.flatten(sample)[0])
    if size < _ROWS:
        raise PrivacyError(
            f"The data holds {size} example(s); at least 3 are needed to check that the model does "
            "not mix examples."
        )
    _check_losses(model, sample)
    _check_independence(model, sample)
    _check_gradients(model, sample)


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
    """Compares what one example gives, and all state, between different sets of batch-mates.

    The first and the last example take turns, so that mixing in one direction (a cumulative sum
    over the batch) shows too.
    """
    outputs, state = _run(model, sample)
    permuted = tree.map_structure(lambda array: array[[0, 2, 1]], sample)
    runs = [(0, permuted)]
    for kept in (0, _ROWS - 1):
        strange = tree.map_structure(lambda array, kept=kept: _replace_mates(array, kept), sample)
        runs.append((kept, strange))
    for kept, batch in runs:
        other_outputs, other_state = _run(model, batch)
        for expected, got in zip(outputs, other_outputs, strict=True):
            scale = 1.0 + np.max(np.abs(expected[kept]))
            if not np.allclose(expected[kept], got[kept], rtol=0, atol=_TOLERANCE * scale):
                raise PrivacyError(
                    "The model's output for one example changes when the other examples of the "
                    f"batch change, so no example's influence can be bounded. {_REMEDY}"
                )
        for variable, expected, got in zip(
            model.non_trainable_variables, state, other_state, strict=True
        ):
            # Slow averages move little in a step, so no tolerance but that of rounding.
            scale = np.max(np.abs(expected.astype("float64")), initial=0.0)
            if not np.allclose(expected, got, rtol=0, atol=_STATE_TOLERANCE * scale):
                raise PrivacyError(
                    f"Variable {variable.path!r} is learnt from the training data outside the "
                    "private mechanism, so it would leak. Remove or freeze its layer."
                )


def _check_gradients(model, sample):
    """Looks for entries of the Jacobian between examples, where inputs have gradients.

    It sees what a comparison of outputs cannot: influence below its tolerance, and layers that mix
    examples only on the way back.
    """
    leaves = tree.flatten(sample)
    tensors = [ops.convert_to_tensor(leaf) for leaf in leaves]
    for position, leaf in enumerate(leaves):
        if not np.issubdtype(leaf.dtype, np.floating):
            continue
        for kept in (0, _ROWS - 1):

            def response(values, position=position, kept=kept):
                batch = [values if i == position else x for i, x in enumerate(tensors)]
                outputs = _call(model, tree.pack_sequence_as(sample, batch))[0]
                return sum(_random_projection(output[kept]) for output in tree.flatten(outputs))

            try:
                _, gradient = backend.input_gradient(response, leaf)
            except LookupError:  # an operation on the inputs has no gradient; outputs were compared
                return
            sizes = np.abs(ops.convert_to_numpy(ops.cast(gradient, "float32")))
            # Infinite slopes tell nothing here; clipping counts such an example as zero.
            sizes = np.where(np.isfinite(sizes), sizes, 0.0)
            mates = np.delete(sizes, kept, axis=0)
            if mates.max(initial=0.0) > _STATE_TOLERANCE * sizes[kept].max(initial=0.0):
                raise PrivacyError(
                    "The gradient of the model's output for one example reaches the other examples "
                    f"of the batch, so no example's influence can be bounded. {_REMEDY}"
                )


def _random_projection(output):
    """A number that depends on every entry of an output."""
    output = ops.cast(output, "float32")
    weights = np.random.default_rng(0).normal(size=tuple(output.shape)).astype("float32")
    return ops.sum(output * weights)


def _call(model, batch):
    # Stateless calls start from the same seeds, so dropout draws the same masks each time.
    state = model.non_trainable_variables
    with keras.StatelessScope(state_mapping=[(v, v.value) for v in state]) as scope:
        outputs = model(batch, training=True)
    return outputs, [scope.get_current_value(variable) for variable in state]


def _run(model, batch):
    outputs, state = _call(model, batch)
    arrays = [ops.convert_to_numpy(ops.cast(leaf, "float32")) for leaf in tree.flatten(outputs)]
    return arrays, [ops.convert_to_numpy(value) for value in state]


def _replace_mates(array, kept):
    changed = np.array(array)
    mates = np.arange(len(array)) != kept
    # Permuted within the example, so that integer inputs stay in their range.
    changed[mates] = np.flip(changed[mates].reshape(len(array) - 1, -1), axis=1).reshape(
        changed[mates].shape
    )
    if np.issubdtype(changed.dtype, np.floating):
        changed[mates] = 3.0 * changed[mates] + 1.0
    return changed
