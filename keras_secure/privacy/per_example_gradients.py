"""Per-example gradients in factored form, from one forward and one backward pass.

No weight gradient is formed that is thrown away: the backward pass goes to the pre-activations, and
each layer's rule turns them into contributions (book-keeping; Bu et al. 2022, arXiv 2210.00038).
"""

import warnings

import keras
from keras import ops

from keras_secure import backend
from keras_secure.errors import FallbackWarning, PrivacyError
from keras_secure.privacy.contributions import Materialized
from keras_secure.privacy.observation import Observation, UnobservableLayerError
from keras_secure.privacy.rules import rule_for

# By how much sums in half precision may differ with the order of their terms.
_ROUNDING = {"float16": 1e-2, "bfloat16": 1e-1}
# Layers that run their parts in a loop of their own: handled as one unit.
_UNITS = (keras.layers.RNN, keras.layers.TimeDistributed, keras.layers.Bidirectional)


class PerExampleGradients:
    """Forms per-example gradients of one model.

    Which layers have a rule is decided once; the others run with one copy of their weights per
    example, which is exact, slower, and announced by a `FallbackWarning`.

    Args:
        model: A built Keras model.
    """

    def __init__(self, model):
        self.model = model
        self._as_units: set[int] = set()
        self._announced: set[int] = set()

    def differentiate(
        self, per_example_losses, batch_size, mask=None, loss_scale=1.0, with_ordinary=False
    ):
        """Runs the model once forward and once backward.

        Args:
            per_example_losses: Function without arguments that runs the model and returns
                (losses of shape (batch,), aux). Each loss may depend on its own example only.
            batch_size: Examples in the batch, an int, or an int tensor if it is not static.
            mask: Optional (batch,) bool; false for padding, which counts as nothing.
            loss_scale: Factor on the loss against float16 underflow; undone here.
            with_ordinary: Whether the ordinary gradients of the summed loss are wanted too.

        Returns:
            (dict from variable id to `Contribution`, losses, aux, ordinary gradients).
        """
        variables = self.model.trainable_variables
        while True:
            ruled, unruled = self.layers()
            observation = Observation(ruled, unruled, batch_size)

            def objective(observation=observation):
                with observation.watching():
                    losses, aux = per_example_losses()
                counted = ops.where(mask, losses, 0.0) if mask is not None else losses
                return ops.sum(ops.cast(counted, "float32")) * loss_scale, (losses, aux)

            def sources(observation=observation):
                return [*observation.sources(), *(variables if with_ordinary else [])]

            try:
                _, (losses, aux), found = backend.gradients(objective, sources, dense=True)
                break
            except UnobservableLayerError as error:
                self._as_units.add(id(self._parent_of(error.layer)))
        found = [None if g is None else ops.cast(g, "float32") / loss_scale for g in found]
        observed = len(observation.sources())
        records, copies = observation.split(found[:observed])
        contributions = {}
        for layer in ruled:
            calls = [(_float32(x), dz) for x, dz in records[id(layer)] if dz is not None]
            if calls:
                rule = rule_for(layer)
                contributions.update({id(v): c for v, c in rule(layer, calls)})
        for key, gradient in copies.items():
            if gradient is not None:
                contributions[key] = Materialized(gradient)
        ordinary = [
            ops.zeros(v.shape, "float32") if g is None else g
            for v, g in zip(variables, found[observed:], strict=False)
        ]
        return contributions, losses, aux, ordinary

    def weighted_sums(self, contributions, weights):
        """Returns, for each trainable variable, the sum of its gradients times (batch,) weights."""
        return [
            contributions[id(v)].weighted_sum(weights)
            if id(v) in contributions
            else ops.zeros(v.shape, "float32")
            for v in self.model.trainable_variables
        ]

    def verify(self, per_example_losses, *, batch_size, tolerance=None):
        """Checks on one batch that the rules account for every use of every weight.

        A weight used behind its layer's back, as in `ops.matmul(x, layer.kernel)`, is seen by no
        rule. Where the unclipped per-example gradients do not add up to the ordinary gradient, the
        layer around takes the exact fallback. The default tolerance follows the precision of the
        model's arithmetic.

        Raises:
            PrivacyError: if even the fallback for the whole model does not add up.
        """
        if tolerance is None:
            dtypes = {layer.compute_dtype for layer in self.model._flatten_layers()}
            tolerance = max(_ROUNDING.get(dtype, 1e-3) for dtype in dtypes)
        while True:
            contributions, losses, _, ordinary = self.differentiate(
                per_example_losses, batch_size, with_ordinary=True
            )
            found = self.weighted_sums(contributions, ops.ones_like(losses, dtype="float32"))
            scale = max(_largest(gradient) for gradient in ordinary) + 1e-12
            wrong = [
                variable
                for variable, got, expected in zip(
                    self.model.trainable_variables, found, ordinary, strict=True
                )
                if not _largest(got - expected) <= tolerance * scale
            ]
            if not wrong:
                return
            if id(self.model) in self._as_units:
                raise PrivacyError(
                    f"The per-example gradients of {wrong[0].path!r} do not add up to its "
                    "gradient, so clipping would not bound it. Express its use through Keras "
                    "layers, or freeze it."
                )
            ruled, unruled = self.layers()
            keys = {id(variable) for variable in wrong}
            for layer in ruled + unruled:
                if keys & {id(variable) for variable in layer.trainable_variables}:
                    self._as_units.add(id(self._parent_of(layer)))

    def layers(self):
        """Returns the layers with a rule and the layers that take the fallback."""
        ruled, unruled, seen = [], [], set()

        def visit(layer):
            if id(layer) in seen or not layer.trainable_variables:
                return
            seen.add(id(layer))
            parts = _parts(layer)
            inherited = {id(v) for part in parts for v in part.trainable_variables}
            own = [v for v in layer.trainable_variables if id(v) not in inherited]
            forced = id(layer) in self._as_units or isinstance(layer, _UNITS)
            if not forced and rule_for(layer) is not None and not inherited:
                ruled.append(layer)
            elif forced or own or not parts:
                unruled.append(layer)
            else:
                for part in parts:
                    visit(part)

        visit(self.model)
        # A variable used by two layers needs one gradient: both give up their rules.
        owners: dict[int, int] = {}
        for layer in ruled + unruled:
            for variable in layer.trainable_variables:
                owners[id(variable)] = owners.get(id(variable), 0) + 1
        tied = [x for x in ruled if any(owners[id(v)] > 1 for v in x.trainable_variables)]
        ruled = [layer for layer in ruled if layer not in tied]
        unruled += tied
        self._announce(unruled)
        return ruled, unruled

    def _announce(self, layers):
        fresh = [layer for layer in layers if id(layer) not in self._announced]
        self._announced.update(id(layer) for layer in fresh)
        if fresh:
            named = ", ".join(f"{layer.name} ({type(layer).__name__})" for layer in fresh)
            warnings.warn(
                f"No per-example gradient rule covers {named}. Clipping stays exact, but runs "
                "these layers with one copy of their weights per example, which is slower. "
                "Register a rule with keras_secure.privacy.register_rule to make it fast.",
                FallbackWarning,
                stacklevel=3,
            )

    def _parent_of(self, layer):
        def search(node):
            for part in _parts(node):
                if part is layer:
                    return node
                if (found := search(part)) is not None:
                    return found
            return None

        if id(layer) in self._as_units or layer is self.model:
            raise RuntimeError(f"No layer around {layer.name!r} can be observed.")
        return search(self.model) or self.model


def _parts(layer):
    return list(layer._flatten_layers(include_self=False, recursive=False))


def _largest(tensor):
    return float(ops.max(ops.abs(tensor)))


def _float32(inputs):
    # Token ids stay integers; everything else is summed in float32.
    floating = keras.backend.is_float_dtype(keras.backend.standardize_dtype(inputs.dtype))
    return ops.cast(inputs, "float32") if floating else inputs
