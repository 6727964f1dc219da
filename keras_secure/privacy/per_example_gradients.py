"""Per-example gradients in factored form, from one forward and one backward pass.

No weight gradient is formed that is thrown away: the backward pass goes to the pre-activations, and
each layer's rule turns them into contributions (book-keeping; Bu et al. 2022, arXiv 2210.00038).
"""

from keras import backend as keras_backend
from keras import ops, tree

from keras_secure import backend
from keras_secure.errors import PrivacyError
from keras_secure.privacy.contributions import Materialized
from keras_secure.privacy.observation import NewProbesError, Observation, UnobservableLayerError
from keras_secure.privacy.rule_plan import RulePlan
from keras_secure.privacy.rules import rule_for
from keras_secure.privacy.tied import joined

# By how much sums in half precision may differ with the order of their terms.
_ROUNDING = {"float16": 1e-2, "bfloat16": 1e-1}
_OWN_RULES = "keras_secure.privacy.rules."


class PerExampleGradients:
    """Forms per-example gradients of one model.

    Which layers have a rule is decided once. Variables that no rule covers have one copy for each
    example, which is exact, slower, and announced by a `FallbackWarning`. The gradients of a
    variable that several layers use are joined with exact cross terms.

    Args:
        model: A built Keras model.
    """

    def __init__(self, model):
        self.model = model
        self._plan = RulePlan(model)
        self._shapes: dict = {}

    def layers(self):
        """Returns the layers with a rule, and the layers that run by example with copies."""
        ruled, mapped = self._plan.layers()
        return ruled, [layer for layer, variables in mapped if variables]

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
            ruled, mapped = self._plan.layers()
            observation = Observation(ruled, mapped, batch_size, self._shapes)
            probes = [probe for own in observation.probes.values() for probe in own]

            def objective(observation=observation):
                with observation.watching():
                    losses, aux = per_example_losses()
                counted = ops.where(mask, losses, 0.0) if mask is not None else losses
                return ops.sum(ops.cast(counted, "float32")) * loss_scale, (losses, aux)

            def sources(observation=observation):
                return [*observation.sources(), *(variables if with_ordinary else [])]

            try:
                _, (losses, aux), found = backend.gradients(
                    objective, sources, dense=True, constants=probes
                )
                break
            except UnobservableLayerError as error:
                if error.is_by_example:
                    self._plan.copy(error.layer.trainable_variables)
                else:
                    self._plan.hand_over(error.layer)
            except NewProbesError:
                continue
        found = [None if g is None else ops.cast(g, "float32") / loss_scale for g in found]
        observed = len(observation.sources())
        records, copies = observation.split(found[:observed])
        ordinary = [
            ops.zeros(v.shape, "float32") if g is None else g
            for v, g in zip(variables, found[observed:], strict=False)
        ]
        contributions = _contributions(ruled, records, copies, {id(v) for v in variables})
        return contributions, losses, aux, ordinary

    def weighted_sums(self, contributions, weights):
        """Returns, for each trainable variable, the sum of its gradients times their weights.

        Args:
            contributions: Dict from variable id to `Contribution`.
            weights: Dict from variable id to weights of shape (batch,).
        """
        return [
            contributions[id(v)].weighted_sum(weights[id(v)])
            if id(v) in contributions
            else ops.zeros(v.shape, "float32")
            for v in self.model.trainable_variables
        ]

    def verify(self, per_example_losses, *, batch_size, tolerance=None):
        """Checks on one batch that the rules account for every use of every weight.

        A weight used behind its layer's back, as in `ops.matmul(x, layer.kernel)`, is seen by no
        rule. Where the unclipped per-example gradients do not add up to the ordinary gradient, that
        weight takes the exact fallback in the layer around. The default tolerance follows the
        precision of the model's arithmetic.

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
            ones = ops.ones_like(losses, dtype="float32")
            found = self.weighted_sums(contributions, dict.fromkeys(contributions, ones))
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
            for variable in wrong:
                if not self._plan.capture(variable):
                    raise PrivacyError(
                        f"The per-example gradients of {variable.path!r} do not add up to its "
                        "gradient, so clipping would not bound it. Express its use through Keras "
                        "layers, or freeze it."
                    )


def _contributions(ruled, records, copies, trained):
    """From ids of trained variables to what layers and copies contribute, joined where it is more.

    Args:
        ruled: The layers with rules.
        records: From layer ids to pairs (inputs, gradient).
        copies: From variable ids to the gradients of their copies.
        trained: Ids of the trainable variables.
    """
    found: dict[int, list] = {}
    for layer in ruled:
        if calls := records[id(layer)]:
            calls = [(tree.map_structure(_float32, inputs), dz) for inputs, dz in calls]
            for variable, contribution in rule_for(layer)(layer, calls):
                if id(variable) in trained:
                    found.setdefault(id(variable), []).append((layer, contribution))
    contributions = {
        key: joined([part for _, part in parts], _are_alike([layer for layer, _ in parts]))
        for key, parts in found.items()
    }
    for key, gradient in copies.items():
        if gradient is not None:
            contributions[key] = Materialized(gradient)
    return contributions


def _are_alike(layers):
    """Whether the gradients of a common variable are laid out alike: by one rule, one equation."""
    kinds = {(rule_for(layer).function, getattr(layer, "equation", None)) for layer in layers}
    ((function, _),) = kinds if len(kinds) == 1 else ((None, None),)
    # Rules of the user's own may lay out as they like.
    return function is not None and function.__module__.startswith(_OWN_RULES)


def _largest(tensor):
    return float(ops.max(ops.abs(tensor)))


def _float32(inputs):
    # Token ids stay integers; everything else is summed in float32.
    floating = keras_backend.is_float_dtype(keras_backend.standardize_dtype(inputs.dtype))
    return ops.cast(inputs, "float32") if floating else inputs
