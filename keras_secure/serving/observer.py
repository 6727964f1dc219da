"""Somebody who watches what is asked and answered, and may object."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from keras_secure.serving.identity import Identity

Action = Literal["allow", "alert", "throttle", "coarsen"]


@dataclass(frozen=True)
class Query:
    """A question and its answer, before it is sent.

    Args:
        identity: Who asks.
        model: Name of the model.
        version: Its version.
        inputs: Array of each input, by name.
        outputs: Array of each output, by name.
    """

    identity: Identity
    model: str
    version: int
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]


@dataclass(frozen=True)
class Verdict:
    """What an observer says to a query.

    Args:
        action: `"allow"`; `"alert"` answers and notes it in the audit log and the metrics;
            `"throttle"` does not answer, and refuses the identity for `seconds`; `"coarsen"`
            answers with `outputs` instead.
        reason: Why, for the audit log.
        outputs: Other outputs of the same names and number of examples, for `"coarsen"`.
        seconds: For how long to throttle.

    Example:

    >>> Verdict("throttle", "too many near duplicates", seconds=30.0).action
    'throttle'
    """

    action: Action
    reason: str = ""
    outputs: dict[str, Any] | None = None
    seconds: float = 60.0


class Observer(Protocol):
    """Watches queries for signs of abuse.

    Example:

    >>> class Counter:
    ...     count = 0
    ...     def observe(self, query):
    ...         self.count += len(query.inputs["x"])
    ...         return Verdict("alert", "many") if self.count > 1000 else None
    >>> observer: Observer = Counter()
    """

    def observe(self, query: Query) -> Verdict | None:
        """Looks at a query, in a worker thread, one at a time.

        Args:
            query: The query; its arrays must not be written to.

        Returns:
            A `Verdict`; None allows it.
        """
