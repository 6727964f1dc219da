"""What a clipping mode decides: which gradients share a bound, and how they are scaled to it."""

from abc import ABC
from dataclasses import asdict
from typing import Any, ClassVar

from keras import ops

from keras_secure.errors import PrivacyError

_KINDS: dict[str, type["ClippingMode"]] = {}


class ClippingMode(ABC):
    """How each example's gradient is scaled so that its L2 norm is at most `l2_norm_clip`.

    Subclasses are frozen dataclasses of JSON-serializable values, registered by their `kind`, which
    is their name in `DPOptimizer(clipping=...)`.

    Example:

    >>> ClippingMode.get("automatic").gamma
    0.01
    """

    kind: ClassVar[str]

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        _KINDS[cls.kind] = cls

    def groups(self, model):
        """Returns the groups of variables that are scaled together.

        Args:
            model: A built Keras model.

        Returns:
            A list of (variables, share): the gradient of the group is bounded by `share` times the
            clip. Every trainable variable is in one group, and the squares of the shares add up to
            one, so that the whole gradient is bounded by the clip.
        """
        return [(list(model.trainable_variables), 1.0)]

    def factors(self, norms, limit):
        """Returns what each gradient is multiplied with, so that `factors * norms <= limit`.

        Args:
            norms: Positive float32 tensor of shape (batch,), the norms within one group.
            limit: Positive scalar.
        """
        return ops.minimum(1.0, limit / norms)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments and the kind as a dictionary."""
        return {"kind": self.kind, **asdict(self)}  # type: ignore[call-overload]

    @staticmethod
    def get(identifier: Any) -> "ClippingMode":
        """Returns the mode that a name, a configuration or a mode stands for.

        Raises:
            PrivacyError: if there is none.
        """
        if isinstance(identifier, ClippingMode):
            return identifier
        values = dict(identifier) if isinstance(identifier, dict) else {"kind": identifier}
        kind = values.pop("kind", None)
        if kind not in _KINDS:
            raise PrivacyError(
                f"Unknown clipping {identifier!r}; use one of "
                f"{', '.join(repr(name) for name in sorted(_KINDS))}, or a "
                "keras_secure.privacy.ClippingMode."
            )
        return _KINDS[kind](**values)
