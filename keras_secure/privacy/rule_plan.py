"""Which layers of a model are served by rules, and which variables take the fallback."""

import warnings

import keras

from keras_secure.errors import FallbackWarning
from keras_secure.privacy.rules import rule_for


class RulePlan:
    """Decides, variable by variable, how per-example gradients of a model are formed.

    A layer with a rule is observed. Every other variable gets a copy for each example, for which
    the layer that holds it runs example by example; layers with rules inside keep them. What turns
    out while running changes the plan by `hand_over` and `copy`.

    Args:
        model: A built Keras model.
    """

    def __init__(self, model):
        self.model = model
        self._copied: set[int] = set()
        self._by_example: set[int] = set()
        self._announced: set[int] = set()

    def layers(self):
        """Returns the layers with a rule, and pairs (layer run by example, variables copied)."""
        while True:
            ruled, mapped = self._assigned()
            copied = {id(variable) for _, variables in mapped for variable in variables}
            # A variable with copies has one gradient, so whoever else uses it gives up its rule.
            tied = [layer for layer in ruled if copied & _ids(layer.trainable_variables)]
            if not tied:
                break
            self._copied.update(*(_ids(layer.trainable_variables) for layer in tied))
        self._announce(mapped)
        return ruled, mapped

    def _assigned(self):
        ruled: dict = {}
        mapped: dict = {}
        visited = set()

        def visit(layer, around):
            if (id(layer), around) in visited or not layer.trainable_variables:
                return
            visited.add((id(layer), around))
            own, rule = own_variables(layer), rule_for(layer)
            # A layer may also use weights of its inner layers itself.
            used = _ids(layer.trainable_variables)
            if id(layer) in self._by_example or self._copied & used:
                rule = None
            # Recurrent layers without a rule run their cells in a loop, where nothing can be seen,
            # and rules would take the weights of inner layers for what these compute with.
            closed = rule is None and (
                isinstance(layer, keras.layers.RNN)
                or getattr(layer, "computes_inner_weights", False)
            )
            lacking = layer.trainable_variables if closed else own if rule is None else []
            if rule is not None:
                ruled[id(layer)] = layer
            if around is None and (lacking or id(layer) in self._by_example):
                around = id(layer)
                mapped[around] = (layer, [])
            if lacking:
                known = _ids(mapped[around][1])
                mapped[around][1].extend(v for v in lacking if id(v) not in known)
            if not closed and not (rule is not None and rule.parts):
                for part in _parts(layer):
                    visit(part, around)

        visit(self.model, None)
        return list(ruled.values()), list(mapped.values())

    def hand_over(self, layer):
        """Has the layer around `layer` run by example, since `layer` cannot be observed in it."""
        if not self._climb(layer):
            if _ids(layer.trainable_variables) <= self._copied:
                raise RuntimeError(f"No layer around {layer.name!r} can be observed.")
            self.copy(layer.trainable_variables)

    def copy(self, variables):
        """Has these variables take the fallback."""
        self._copied |= _ids(variables)

    def capture(self, variable):
        """Has every use of `variable` in more and more of the model go through its copies.

        Returns:
            False if that holds for the whole model already.
        """
        self.copy([variable])
        owners = [x for x in _all_layers(self.model) if id(variable) in _ids(own_variables(x))]
        return any([self._climb(owner) for owner in owners])

    def _climb(self, layer):
        """Has the next layer around run by example; false if all of them do."""
        around = list(self._path_to(layer))
        for parent in reversed(around):
            if id(parent) not in self._by_example:
                self._by_example.add(id(parent))
                return True
        return False

    def _path_to(self, layer):
        """The layers around `layer`, from the model inwards."""

        def search(node):
            for part in _parts(node):
                if part is layer:
                    return [node]
                if (found := search(part)) is not None:
                    return [node, *found]
            return None

        return search(self.model) or []

    def _announce(self, mapped):
        fresh = []
        for layer, variables in mapped:
            names = [v.path for v in variables if id(v) not in self._announced]
            self._announced |= _ids(variables)
            if names:
                fresh.append(f"{', '.join(names)} (in {layer.name}, {type(layer).__name__})")
        if fresh:
            warnings.warn(
                f"No per-example gradient rule covers {'; '.join(fresh)}. Clipping stays exact, "
                "but runs these layers with one copy of their weights per example, which is "
                "slower. Register a rule with keras_secure.privacy.register_rule to make it fast.",
                FallbackWarning,
                stacklevel=4,
            )


def own_variables(layer):
    """The trainable variables of a layer that are in none of its inner layers."""
    inherited = {id(v) for part in _parts(layer) for v in part.trainable_variables}
    return [v for v in layer.trainable_variables if id(v) not in inherited]


def _parts(layer):
    return list(layer._flatten_layers(include_self=False, recursive=False))


def _all_layers(layer):
    return [layer, *(found for part in _parts(layer) for found in _all_layers(part))]


def _ids(variables):
    return {id(variable) for variable in variables}
