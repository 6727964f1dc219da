"""The sum of clipped per-example gradients at about the price of an ordinary step.

One forward pass, one backward pass to the pre-activations, and no weight gradient that is thrown
away: each layer's rule gives the per-example norms and then one weighted contraction (book-keeping;
Bu et al. 2022, arXiv 2210.00038).
"""

import warnings

import keras
from keras import ops

from keras_secure import backend
from keras_secure.errors import FallbackWarning, PrivacyError
from keras_secure.privacy.clipped_sum import ClippedSum
from keras_secure.privacy.contributions import Materialized
from keras_secure.privacy.observation import Observation, UnobservableLayerError
from keras_secure.privacy.rules import rule_for

# Clipping aims this much below the bound, so that float32 rounding of norms and sums cannot lift
# the sensitivity over it.
_ROUNDING_MARGIN = 4e-6
# By how much sums in half precision may differ with the order of their terms.
_ROUNDING = {"float16": 1e-2, "bfloat16": 1e-1}
# Layers that run their parts in a loop of their own: handled as one unit.
_UNITS = (keras.layers.RNN, keras.layers.TimeDistributed, keras.layers.Bidirectional)


class PerExampleClipping:
    """Computes clipped sums for one model.

    Which layers have a rule is decided once; the others run with one copy of their weights per
    example, which is exact, slower, and announced by a `FallbackWarning`.

    Args:
        model: A built Keras model.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> from keras_secure.privacy import PerExampleClipping
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    >>> x = np.array([[3.0, 4.0], [0.3, 0.4]], "float32")
    >>> def losses():
    ...     return keras.ops.sum(model(x), axis=-1), None
    >>> total, _, _ = PerExampleClipping(model).clipped_sum(losses, l2_norm_clip=1.0, batch_size=2)
    >>> print(np.round(keras.ops.convert_to_numpy(total.values[0]).ravel(), 4))
    [0.9 1.2]
    """

    def __init__(self, model):
        self.model = model
        self._as_units: set[int] = set()
        self._announced: set[int] = set()

    def clipped_sum(
        self, per_example_losses, *, l2_norm_clip, batch_size, example_mask=None, loss_scale=1.0
    ):
        """Returns the clipped sum of the gradients of per-example losses.

        Args:
            per_example_losses: Function without arguments that runs the model and returns
                (losses of shape (batch,), aux). Each loss may depend on its own example only.
            l2_norm_clip: Positive float, the bound C on each example's gradient norm.
            batch_size: Examples in the batch, an int, or an int tensor if it is not static.
            example_mask: Optional (batch,) bool; false for padding, which counts as nothing.
            loss_scale: Factor on the loss against float16 underflow; undone before the norms.

        Returns:
            (`ClippedSum`, losses, aux). An example with a non-finite gradient counts as zero.
        """
        contributions, losses, aux, _ = self._differentiate(
            per_example_losses, batch_size, example_mask, loss_scale
        )
        squared = sum(c.squared_norms() for c in contributions.values())
        norms = ops.sqrt(squared + ops.zeros_like(losses, dtype="float32"))
        finite = ops.isfinite(norms)
        counts = finite if example_mask is None else ops.logical_and(finite, example_mask)
        limit = l2_norm_clip * (1.0 - _ROUNDING_MARGIN)
        # Where the norm is no number the weight is zero, and must not become one by arithmetic.
        safe = ops.maximum(ops.where(counts, norms, 1.0), 1e-30)
        weights = ops.where(counts, ops.minimum(1.0, limit / safe), 0.0)
        _silence(contributions.values(), finite)
        values = self._weighted_sums(contributions, weights)
        return ClippedSum(values, float(l2_norm_clip), norms), losses, aux

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
            contributions, losses, _, ordinary = self._differentiate(
                per_example_losses, batch_size, with_ordinary=True
            )
            found = self._weighted_sums(contributions, ops.ones_like(losses, dtype="float32"))
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

    def _differentiate(
        self, per_example_losses, batch_size, mask=None, loss_scale=1.0, with_ordinary=False
    ):
        """Returns contributions by variable id, losses, aux, and ordinary gradients if wanted."""
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

    def _weighted_sums(self, contributions, weights):
        return [
            contributions[id(v)].weighted_sum(weights)
            if id(v) in contributions
            else ops.zeros(v.shape, "float32")
            for v in self.model.trainable_variables
        ]

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


def _silence(contributions, finite):
    """Zeroes what belongs to examples that are not finite: zero times infinity would be NaN."""
    factors = [factor for contribution in contributions for factor in contribution.factors]

    def zeroed():
        column = [ops.reshape(finite, (-1,) + (1,) * (len(f.shape) - 1)) for f in factors]
        return [ops.where(keep, f, 0.0) for keep, f in zip(column, factors, strict=True)]

    # Rare, so the usual step must not pay a pass over every factor for it.
    remaining = iter(ops.cond(ops.all(finite), lambda: factors, zeroed))
    for contribution in contributions:
        contribution.factors = [next(remaining) for _ in contribution.factors]


def _largest(tensor):
    return float(ops.max(ops.abs(tensor)))


def _float32(inputs):
    # Token ids stay integers; everything else is summed in float32.
    floating = keras.backend.is_float_dtype(keras.backend.standardize_dtype(inputs.dtype))
    return ops.cast(inputs, "float32") if floating else inputs
