"""What can be done to a model to be rid of its watermark, without data and without training.

`disguise` changes no answer of the model: neurons are put in another order, rescaled, split, and
joined by silent ones. The others cost accuracy. Used by the robustness table and by the tests.
"""

import keras
import numpy as np
from keras import layers

from keras_secure.watermark import embed
from keras_secure.watermark.symmetries import MAGNITUDE, SIGN, structure_of

# By which option of its layer a number of units is set.
_WIDTHS = {
    layers.Dense: "units",
    layers.Conv1D: "filters",
    layers.Conv2D: "filters",
    layers.Conv3D: "filters",
    layers.SeparableConv1D: "filters",
    layers.SeparableConv2D: "filters",
    layers.Embedding: "output_dim",
    layers.LSTM: "units",
    layers.GRU: "units",
    layers.SimpleRNN: "units",
}


def disguise(model, seed=0, *, order=True, scales=True, silent=0.2, split=0.2):
    """Makes a model that computes the same with other weights, and other widths where it can.

    Args:
        model: A built Sequential or functional model.
        seed: Of everything that is drawn.
        order: Whether units change places.
        scales: Whether they are rescaled, by up to 4, and flipped where that is undone.
        silent: Share of units put in that no one listens to.
        split: Share of units that become two.

    Returns:
        A new model.
    """
    generator = np.random.default_rng(seed)
    structure = structure_of(model)
    plans = _plans(structure, generator, order, silent, split)
    result = _rebuilt(model, structure, plans)
    new = structure_of(result)
    factors = {}
    for own, other in zip(structure.steps, new.steps, strict=True):
        for kind, old_weight in own.weights.items():
            values = old_weight.array()
            for axis in range(values.ndim):
                roles = [
                    (one, two)
                    for one, two in zip(old_weight.roles, other.weights[kind].roles, strict=True)
                    if one.axis == axis
                ]
                size = other.weights[kind].view[axis]
                values = _moved(
                    values, axis, size, roles, plans, factors, old_weight, generator, scales
                )
            tensor = other.weights[kind].tensor
            tensor.assign(values.reshape(tensor.shape))
    return result


def prune(model, share):
    """Sets the smallest weights of every kernel to zero.

    Args:
        model: A built model.
        share: Which part of each kernel, 0 to 1.
    """
    result = copy_of(model)
    for kernel in _kernels(result):
        values = keras.ops.convert_to_numpy(kernel)
        limit = np.quantile(np.abs(values), share)
        kernel.assign(np.where(np.abs(values) <= limit, 0.0, values))
    return result


def quantize(model, bits):
    """Rounds every kernel to signed integers of `bits` bits, with one step for each output."""
    result = copy_of(model)
    most = 2 ** (bits - 1) - 1
    for kernel in _kernels(result):
        values = keras.ops.convert_to_numpy(kernel)
        step = np.abs(values).max(axis=tuple(range(values.ndim - 1)), keepdims=True) / most
        step = np.where(step > 0, step, 1.0)
        kernel.assign(np.clip(np.round(values / step), -most, most) * step)
    return result


def overwrite(model, marks):
    """Embeds other marks of the same kind, one after the other, in all kernels they fit."""
    result = copy_of(model)
    for mark in marks:
        embed(result, mark)
    return result


def copy_of(model):
    """Returns a model of its own with the same weights."""
    result = keras.models.clone_model(model)
    result.set_weights(model.get_weights())
    return result


def _kernels(model):
    return [variable for variable in model.trainable_variables if len(variable.shape) > 1]


class _Plan:
    """The units that a group of units becomes: where each comes from, -1 for silent ones."""

    def __init__(self, origin, parts):
        self.origin = origin
        self.parts = parts


def _plans(structure, generator, order, silent, split):
    plans, heads = {}, {}
    growing = _growing(structure)
    for units in structure.units():
        origin, parts = np.arange(units.size), np.ones(units.size)
        if not units.pinned and units in growing:
            twice = generator.permutation(units.size)[: int(split * units.size)]
            share = generator.uniform(0.2, 0.8, len(twice))
            parts[twice] = share
            origin = np.concatenate([origin, twice, np.full(int(silent * units.size), -1)])
            parts = np.concatenate(
                [parts, 1 - share, np.ones(len(origin) - units.size - len(twice))]
            )
        if order and not units.pinned:
            if units.blocks:
                blocks = origin.reshape(units.blocks, -1)
                chosen = heads.setdefault(units.family.root(), generator.permutation(units.blocks))
                moved = np.concatenate([generator.permutation(blocks[one]) for one in chosen])
            else:
                moved = generator.permutation(len(origin))
            origin, parts = origin[moved], parts[moved]
        plans[units] = _Plan(origin, parts)
    return plans


def _growing(structure):
    """Units whose number an option of a layer sets, and on which nothing else depends."""
    growing, fixed = set(), set()
    for step in structure.steps:
        option = _option(step, structure.model)
        for weight in step.weights.values():
            for role in weight.roles:
                for segment in role.layout:
                    units = segment.units.root()
                    if option and role.power == "out" and weight.kind == "kernel":
                        growing.add(units)
                    elif role.power == "out" and type(step.layer) not in _FOLLOWING:
                        fixed |= {units} - growing if option else {units}
    return {
        units
        for units in growing - fixed
        if units.resizable and not units.pinned and not units.blocks
    }


def _unbuilt(config):
    """Takes the shapes out of a configuration that its inner layers were built for."""
    if not isinstance(config, dict):
        return config
    return {name: _unbuilt(part) for name, part in config.items() if name != "build_config"}


def _option(step, model):
    """By which option the layer's width is set, if it can be cloned with another."""
    reached = any(step.layer is layer for layer in _layers(model))
    return _WIDTHS.get(type(step.layer)) if reached else None


def _layers(model):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
        else:
            yield layer


_FOLLOWING = (
    layers.BatchNormalization,
    layers.PReLU,
    layers.DepthwiseConv1D,
    layers.DepthwiseConv2D,
)


def _rebuilt(model, structure, plans):
    widths = {}
    for step in structure.steps:
        option = _option(step, model)
        if option:
            (made,) = {
                segment.units.root()
                for role in step.weights["kernel"].roles
                if role.power == "out"
                for segment in role.layout
            }
            widths[id(step.layer)] = option, len(plans[made].origin)

    def clone(layer):
        config = _unbuilt(layer.get_config())
        if id(layer) in widths:
            option, width = widths[id(layer)]
            config[option] = width
        return type(layer).from_config(config)

    return keras.models.clone_model(model, clone_function=clone)


def _moved(values, axis, size, roles, plans, factors, weight, generator, scales):
    if not roles:
        return values
    values = np.moveaxis(values, axis, 0)
    spread = max(float(values.std()), 1e-3)
    result = np.zeros((size, *values.shape[1:]))
    shape = (-1,) + (1,) * (values.ndim - 1)
    for place, (own, other) in enumerate(roles):
        for old, new in zip(own.layout, other.layout, strict=True):
            plan = plans[old.units.root()]
            factor = _factor(old, plan, factors, generator, scales)
            factor = np.tile(factor, len(new.grid)).reshape(shape)
            target = new.grid.ravel()
            if place == 0:
                taken = values[old.grid[:, np.maximum(plan.origin, 0)].ravel()]
                silent = np.tile(plan.origin < 0, len(new.grid))
                if own.power == "in":
                    taken[silent] = 0
                elif own.power != "variance":
                    taken[silent] = spread * generator.normal(size=taken[silent].shape)
            else:
                taken = result[target]
            parts = np.tile(plan.parts, len(new.grid)).reshape(shape)
            if own.power == "out":
                taken = taken * factor
            elif own.power == "in":
                taken = taken / factor * (parts if len(roles) == 1 else 1)
            elif own.power == "variance":
                taken = (taken + weight.epsilon) * factor**2 - weight.epsilon
            elif own.power == "sign":
                taken = taken * np.sign(factor)
            result[target] = taken
    return np.moveaxis(result, 0, axis)


def _factor(segment, plan, factors, generator, scales):
    scale = segment.scale.root()
    if scale not in factors:
        factor = np.ones(len(plan.origin))
        if scales and MAGNITUDE in scale.freedoms:
            factor = np.exp(generator.uniform(-np.log(4), np.log(4), len(factor)))
        if scales and SIGN in scale.freedoms:
            factor = factor * generator.choice([-1.0, 1.0], len(factor))
        factors[scale] = factor
    return factors[scale]
