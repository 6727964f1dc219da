"""What all detectors of abuse have in common: memory by identity, and its bound."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from keras_secure.arguments import check_integer
from keras_secure.findings import Finding


class Detector(Protocol):
    """Watches the queries of every identity and says when they look like an attack."""

    def observe(self, identity: str, inputs: np.ndarray, outputs: np.ndarray) -> Finding | None:
        """Takes one answered request.

        Args:
            identity: Who asked.
            inputs: Array of shape (batch, ...).
            outputs: What was answered, shape (batch, classes).

        Returns:
            None, or what was found; the same finding may come again while it lasts.
        """
        ...


class Memory:
    """One state for each of the identities seen last, so that strangers cannot fill the memory.

    Args:
        make: Makes the state of an identity that is new.
        limit: How many identities are remembered; the one idle for longest goes first.

    Raises:
        InputError: `limit` is no positive integer.

    Example:

    >>> memory = Memory(list, limit=2)
    >>> for identity in ("a", "b", "a", "c"):
    ...     memory.of(identity).append(1)
    >>> memory.of("a"), memory.of("b")
    ([1, 1], [])
    """

    def __init__(self, make: Callable[[], Any], limit: int = 10_000):
        self._make, self._limit = make, check_integer("max_identities", limit)
        self._states: OrderedDict[str, Any] = OrderedDict()

    def of(self, identity: str) -> Any:
        """The state of an identity."""
        if identity not in self._states:
            if len(self._states) >= self._limit:
                self._states.popitem(last=False)
            self._states[identity] = self._make()
        self._states.move_to_end(identity)
        return self._states[identity]


def as_rows(inputs: Any) -> np.ndarray:
    """Examples as rows of float32, shape (batch, size); what is not finite counts as 0."""
    rows = np.asarray(inputs)
    rows = rows.reshape(len(rows), -1).astype(np.float32, copy=False)
    return rows if np.isfinite(rows).all() else np.nan_to_num(rows, posinf=0.0, neginf=0.0)


def top_classes(outputs: Any) -> np.ndarray:
    """The predicted class of each row, int64 of shape (batch,); a single output is cut at 0.5."""
    outputs = np.asarray(outputs)
    outputs = outputs.reshape(len(outputs), -1)
    if outputs.shape[1] == 1:
        return (outputs[:, 0] > 0.5).astype(np.int64)
    return outputs.argmax(axis=1)
