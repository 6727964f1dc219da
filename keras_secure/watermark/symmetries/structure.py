"""Which axes of which weights of a model are coupled, and by what."""

from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np

from keras_secure.watermark.symmetries.units import Layout, Units, join


@dataclass(frozen=True)
class Role:
    """What one axis of a weight has to do with units.

    Args:
        axis: The axis of the weight's view.
        layout: Where the units stand on it.
        power: How an entry answers when its unit's activation is multiplied by s: "out" is
            multiplied by s, "in" divided by it, "variance" multiplied by its square, "sign" by
            its sign; "none" only changes places.
    """

    axis: int
    layout: Layout
    power: str


@dataclass(frozen=True)
class Weight:
    """One weight of a step.

    Args:
        kind: What the step has it for, such as "kernel" or "bias".
        path: The variable's path.
        tensor: The variable.
        view: The shape in which its roles see it; heads and their dimensions are one axis there.
        roles: A tuple of `Role`; axes without one are alike in all models that compare.
        epsilon: What a normalization adds to a variance.
    """

    kind: str
    path: str
    tensor: Any
    view: tuple[int, ...]
    roles: tuple[Role, ...]
    epsilon: float = 0.0

    def array(self):
        """Returns the values in their view, float64, with 0 for what is no number."""
        values = keras.ops.convert_to_numpy(keras.ops.cast(self.tensor, "float32"))
        values = np.nan_to_num(values.astype("float64"), nan=0.0, posinf=0.0, neginf=0.0)
        return values.reshape(self.view)


@dataclass
class Step:
    """One layer that has weights.

    Args:
        name: The layer's name.
        layer: The layer.
        weights: Its weights by kind.
        followed: Whether a rule knows the layer; else its weights are compared as they stand.
    """

    name: str
    layer: Any
    weights: dict[str, Weight] = field(default_factory=dict)
    followed: bool = True


@dataclass
class Structure:
    """A model as its symmetries see it.

    Args:
        model: The model.
        steps: Its layers with weights, in the order of `ordered_calls`.
        unfollowed: Names of the layers that no rule follows; units at their ends are pinned.
    """

    model: Any
    steps: list[Step] = field(default_factory=list)
    unfollowed: list[str] = field(default_factory=list)
    _by_layer: dict[int, Step] = field(default_factory=dict)

    def step(self, layer):
        """Returns the step of a layer; None if the layer was met before and is shared."""
        if id(layer) in self._by_layer:
            return None
        self._by_layer[id(layer)] = Step(layer.name, layer)
        self.steps.append(self._by_layer[id(layer)])
        return self._by_layer[id(layer)]

    def add(self, layer, weights):
        """Notes the weights of a layer with their roles.

        Where a layer is called again, its units are those of the first call.

        Args:
            layer: The layer.
            weights: A list of `Weight`; None entries are left out.
        """
        step = self.step(layer)
        present = [weight for weight in weights if weight is not None]
        if step is not None:
            step.weights.update({weight.kind: self._named(weight) for weight in present})
            return
        for weight in present:
            first = self._by_layer[id(layer)].weights[weight.kind]
            before = {(role.axis, role.power): role.layout for role in first.roles}
            again = {(role.axis, role.power): role.layout for role in weight.roles}
            for place in before.keys() | again.keys():
                # Where one use has no units, joining fixes those of the other.
                join(before.get(place), again.get(place))

    def opaque(self, layer):
        """Notes a layer that no rule follows, with its weights as they stand."""
        self.unfollowed.append(layer.name)
        variables = getattr(layer, "variables", [])
        if not variables:
            return
        step = self.step(layer)
        if step is None:
            return
        step.followed = False
        for place, variable in enumerate(variables):
            if np.issubdtype(np.dtype(keras.backend.standardize_dtype(variable.dtype)), np.integer):
                continue
            step.weights[f"weight {place}"] = self._named(weight(f"weight {place}", variable))

    def step_of(self, layer):
        """Returns the step of a layer that was met before, else None."""
        return self._by_layer.get(id(layer))

    def _named(self, weight):
        """Gives the second of two weights of one path, which Keras allows, another."""
        taken = {one.path for step in self.steps for one in step.weights.values()}
        path = weight.path
        while path in taken:
            path += "'"
        return replace(weight, path=path)

    def units(self):
        """Returns every group of units that some weight knows, in the order they are met."""
        found: dict[int, Units] = {}
        for step in self.steps:
            for one in step.weights.values():
                for role in one.roles:
                    for segment in role.layout:
                        root = segment.units.root()
                        found.setdefault(id(root), root)
        return list(found.values())


def weight(kind, tensor, *roles, view=None, epsilon=0.0):
    """Makes a `Weight`; roles whose layout is None are left out, a None tensor gives None.

    Args:
        kind: See `Weight`.
        tensor: A variable or None.
        *roles: Tuples (axis, layout, power); a negative axis counts from the end.
        view: See `Weight`; the tensor's own shape when not given.
        epsilon: See `Weight`.
    """
    if tensor is None:
        return None
    shape = tuple(tensor.shape) if view is None else tuple(view)
    return Weight(
        kind,
        getattr(tensor, "path", kind),
        tensor,
        shape,
        tuple(
            Role(axis % len(shape), layout, power)
            for axis, layout, power in roles
            if layout is not None
        ),
        epsilon,
    )
