"""What the accountant may assume of how examples come into batches."""

from abc import ABC, abstractmethod
from dataclasses import asdict
from typing import Any, ClassVar

from keras_secure.errors import PrivacyError

_KINDS: dict[str, type["Sampling"]] = {}


class Sampling(ABC):
    """How the batches of a private run are drawn, and what that costs.

    Subclasses are frozen dataclasses of JSON-serializable values, registered by their `kind`, under
    which ledgers name them.

    Example:

    >>> from keras_secure import privacy
    >>> privacy.Sampling.from_config({"kind": "deterministic", "steps_per_epoch": 5})
    DeterministicPasses(steps_per_epoch=5, bands=1)
    """

    kind: ClassVar[str]
    counts_passes: ClassVar[bool] = False
    """Whether steps are accounted by the passes over the data they belong to. Two phases of such a
    kind must never be joined into one, and each must begin with a pass."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        _KINDS[cls.kind] = cls

    @abstractmethod
    def loss_distribution(self, noise_multiplier: float, steps: int) -> Any:
        """Returns dp-accounting's privacy loss distribution of `steps` steps under this sampling.

        Args:
            noise_multiplier: Positive noise standard deviation over the clip.
            steps: Positive number of steps executed.
        """

    @abstractmethod
    def event(self, noise_multiplier: float, steps: int) -> Any:
        """Returns the same steps as a `dp_accounting.DpEvent`, for Renyi accounting.

        Raises:
            PrivacyError: if Renyi accounting does not know this sampling.
        """

    def group_loss_distribution(self, noise_multiplier: float, steps: int, group_size: int) -> Any:
        """Returns the loss distribution for `group_size` examples that change together.

        None, the default, where only the loss of a single example is known.
        """
        return None

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments and the kind as a dictionary."""
        return {"kind": self.kind, **asdict(self)}  # type: ignore[call-overload]

    @staticmethod
    def from_config(config: dict[str, Any]) -> "Sampling":
        """Rebuilds what `get_config` described."""
        values = dict(config)
        kind = values.pop("kind")
        if kind not in _KINDS:
            raise PrivacyError(
                f"Unknown sampling {kind!r}; this version knows {', '.join(sorted(_KINDS))}. Use "
                "the version that wrote it."
            )
        return _KINDS[kind](**values)
