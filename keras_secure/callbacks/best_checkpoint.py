"""Which checkpoint is the best one, by a metric of the epoch that it was saved after."""

import math
from typing import Any

from keras_secure.errors import InputError

_LARGER = ("acc", "auc", "precision", "recall", "f1", "fbeta", "iou", "score", "r2", "robust")
_SMALLER = ("loss", "error", "mse", "mae", "mape", "msle", "perplexity", "divergence", "epsilon")


class BestCheckpoint:
    """Compares epochs by a monitored metric.

    Args:
        monitor: Name of the metric in the logs of an epoch.
        mode: `"min"` or `"max"`; None tells it from the name.
    """

    def __init__(self, monitor: str, mode: str | None):
        if mode not in (None, "min", "max"):
            raise InputError(f"mode is {mode!r}; give 'min', 'max' or None.")
        self.monitor, self.mode = monitor, mode or _guess(monitor)
        self.value: float | None = None
        self.steps: int | None = None

    def update(self, steps: int, logs: dict[str, Any] | None) -> None:
        """Remembers the steps of an epoch that is better than all before it.

        Raises:
            InputError: The epoch has no such metric.
        """
        if self.monitor not in (logs or {}):
            raise InputError(
                f"The epoch has no metric {self.monitor!r}; it has {', '.join(sorted(logs or {}))}."
                " Compile the model with it, or give fit validation_data for val_... metrics."
            )
        value = float((logs or {})[self.monitor])
        if math.isnan(value):
            return
        sign = 1 if self.mode == "max" else -1
        if self.value is None or sign * value > sign * self.value:
            self.value, self.steps = value, steps

    def to_dict(self) -> dict[str, Any]:
        """The state, as it is saved with each checkpoint."""
        state = {"monitor": self.monitor, "mode": self.mode}
        return {**state, "value": self.value, "steps": self.steps}

    def restore(self, state: dict[str, Any] | None) -> None:
        """Goes on from a saved state, unless it is of another metric."""
        if state and (state["monitor"], state["mode"]) == (self.monitor, self.mode):
            self.value, self.steps = state["value"], state["steps"]


def _guess(monitor: str) -> str:
    name = monitor.lower()
    larger = any(word in name for word in _LARGER)
    smaller = any(word in name for word in _SMALLER)
    if larger == smaller:
        raise InputError(
            f"Whether a larger or a smaller {monitor!r} is better cannot be told from its name. "
            "Give mode='max' or mode='min'."
        )
    return "max" if larger else "min"
