"""The logits of a classifier, whatever its last layer and loss are.

An attack on probabilities that have saturated sees a gradient of zero and reports a robustness that
is not there (Carlini & Wagner 2017, arXiv 1608.04644, section IV), so logits are used wherever the
model has them.
"""

import inspect

import keras
from keras import ops

from keras_secure.errors import InputError


def classification_logits(model, x, from_logits=None, output=None):
    """Calls a classifier at inference and returns its logits.

    Whether the outputs are logits is decided by, in this order: `from_logits`; the true logits
    that Keras attaches to the outputs of softmax and sigmoid; the loss the model was compiled
    with; the activation of the last layer of a Sequential or functional model.

    Args:
        model: Classifier with one output, of shape (batch, num_classes), or (batch, 1) for two
            classes.
        x: Batch of inputs.
        from_logits: True if the outputs are logits, taken as they are; False if they are
            probabilities, used through the logits attached to them if there are any; None to find
            out.
        output: Name or number of the output that classifies, if there are several.

    Returns:
        A float32 tensor of shape (batch, num_classes), two columns or more. A single unit z
        becomes [0, z].

    Raises:
        InputError: If there are several outputs, the shape is not that of a classifier, or
            nothing tells whether the outputs are logits.

    Example:

    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Activation("sigmoid")])
    >>> print(ops.convert_to_numpy(classification_logits(model, ops.convert_to_tensor([[50.0]]))))
    [[ 0. 50.]]
    """
    return logits_of(model(x, training=False), model, from_logits, output)


def logits_of(outputs, model, from_logits=None, output=None):
    """Returns the logits behind outputs that `model` has already given.

    Args:
        outputs: What calling `model` returned; the very tensors, since Keras attaches to them.
        model: The classifier.
        from_logits: See `classification_logits`.
        output: See `classification_logits`.

    Returns:
        A float32 tensor of shape (batch, num_classes), two columns or more.

    Raises:
        InputError: As `classification_logits`.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Activation("softmax")])
    >>> outputs = model(ops.convert_to_tensor([[90.0, -90.0]]))
    >>> print(ops.convert_to_numpy(logits_of(outputs, model)))
    [[ 90. -90.]]
    """
    outputs = _chosen(outputs, model, output)
    attached = None if from_logits is True else getattr(outputs, "_keras_logits", None)
    if attached is not None and attached.shape == outputs.shape:
        return _two_or_more(ops.cast(attached, "float32"))
    if from_logits is None:
        from_logits = outputs_are_logits(model, output)
    outputs = ops.cast(outputs, "float32")
    if from_logits:
        return _two_or_more(outputs)
    if outputs.shape[-1] == 1 or len(outputs.shape) == 1:
        # Clipped where float32 still tells one minus the probability from one.
        outputs = ops.clip(outputs, 1e-30, 1.0 - 2.0**-24)
        return _two_or_more(ops.log(outputs) - ops.log1p(-outputs))
    return _two_or_more(ops.log(ops.maximum(outputs, 1e-30)))


def outputs_are_logits(model, output=None):
    """Whether the outputs of `model` are logits, by its compiled loss, then by its last layer.

    Args:
        model: A Keras model.
        output: Name or number of the output meant, if there are several.

    Returns:
        True or False.

    Raises:
        InputError: If neither tells.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> outputs_are_logits(model)
    True
    """
    loss = _of_output(getattr(model, "loss", None), model, output)
    for answer in (_loss_from_logits(loss), _last_layer_is_linear(model, output)):
        if answer is not None:
            return answer
    raise InputError(
        f"Nothing tells whether the outputs of {model.name!r} ({type(model).__name__}) are logits "
        "or probabilities: its compiled loss (if any) has no `from_logits`, and its last layer "
        "cannot be read or has an activation other than linear, softmax and sigmoid. Pass "
        "from_logits=True if it gives logits, from_logits=False if it gives probabilities."
    )


def _chosen(outputs, model, output):
    if not isinstance(outputs, (dict, list, tuple)):
        return outputs
    if output is not None:
        chosen = _of_output(outputs, model, output)
        if chosen is None:
            known = list(outputs) if isinstance(outputs, dict) else model.output_names
            raise InputError(f"The model has no output {output!r}; its outputs are {known}.")
        return chosen
    outputs = list(outputs.values()) if isinstance(outputs, dict) else list(outputs)
    if len(outputs) != 1:
        raise InputError(
            f"The model has {len(outputs)} outputs, and which one classifies was not said. Give "
            "the labels by output, y={'name': labels}; or build a model that ends there, "
            "keras.Model(model.inputs, model.outputs[i]); or give `perturb` the `loss` to raise."
        )
    return outputs[0]


def _of_output(values, model, output):
    """What belongs to one output in a dictionary or list of all; anything else as it is."""
    if output is None or not isinstance(values, (dict, list, tuple)):
        return values
    names = list(getattr(model, "output_names", None) or ())
    if isinstance(values, dict):
        name = names[output] if isinstance(output, int) and output < len(names) else output
        return values.get(name)
    number = names.index(output) if output in names else output
    return values[number] if isinstance(number, int) and number < len(values) else None


def _two_or_more(logits):
    if len(logits.shape) == 1:
        logits = ops.expand_dims(logits, 1)
    if len(logits.shape) != 2:
        raise InputError(
            f"The model's output has shape {tuple(logits.shape)}. Expected a classifier's "
            "(batch, num_classes), or (batch, 1) for two classes; pool or reshape the other axes."
        )
    if logits.shape[1] == 1:
        return ops.concatenate([ops.zeros_like(logits), logits], axis=1)
    return logits


def _loss_from_logits(loss):
    if isinstance(loss, dict):
        loss = list(loss.values())
    if isinstance(loss, (list, tuple)):
        loss = loss[0] if len(loss) == 1 else None
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    if loss is None or hasattr(loss, "from_logits"):
        return None if loss is None else bool(loss.from_logits)
    if isinstance(loss, keras.losses.Loss):
        answer = loss.get_config().get("from_logits")
        return None if answer is None else bool(answer)
    try:
        parameter = inspect.signature(loss).parameters.get("from_logits")
    except (TypeError, ValueError):
        return None
    return None if parameter is None else bool(parameter.default)


def gives_several_answers(model):
    """Whether the last layer is several sigmoids, each of which answers a question of its own.

    Args:
        model: A Keras model with one output.

    Returns:
        True where that can be read from it.

    Example:

    >>> tags = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="sigmoid")])
    >>> gives_several_answers(tags)
    True
    """
    shape = getattr(model, "output_shape", None)
    several = isinstance(shape, tuple) and len(shape) > 1 and shape[-1] != 1
    activation = getattr(_last_layer(model), "activation", None)
    return several and activation is keras.activations.sigmoid


def _last_layer(model, output=None):
    # A subclassed model may do anything after the layer it happens to list last.
    layer = model
    while isinstance(layer, keras.Model):
        if isinstance(layer, keras.Sequential):
            layer = layer.layers[-1] if layer.layers else None
            continue
        outputs = getattr(layer, "outputs", None) or []
        if layer is model and len(outputs) > 1 and output is not None:
            outputs = [_of_output(outputs, model, output)]
        history = getattr(outputs[0], "_keras_history", None) if len(outputs) == 1 else None
        layer = history.operation if history is not None else None
    return layer


def _last_layer_is_linear(model, output=None):
    layer = _last_layer(model, output)
    if isinstance(layer, keras.layers.Softmax):
        return False
    activation = getattr(layer, "activation", None)
    if activation is keras.activations.linear:
        return True
    if activation in (keras.activations.softmax, keras.activations.sigmoid):
        return False
    return None
