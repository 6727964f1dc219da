"""A request on its way through the server, and what goes back."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keras_secure.serving.identity import Identity


@dataclass
class Exchange:
    """One request on its way.

    Args:
        verb: What it wants.
        model: The name in its address.
        headers: Its headers, by names in lower case.
        client: Where it comes from.
        version: The version in its address, as text.
        label: The label in its address.
    """

    verb: str
    model: str
    headers: Mapping[str, str]
    client: str = ""
    version: str | None = None
    label: str | None = None
    id: str = field(default_factory=lambda: os.urandom(8).hex())
    began: float = field(default_factory=time.perf_counter)
    identity: Identity | None = None
    rows: int = 0
    num_bytes: int = 0
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def limited(self) -> str:
        """Whom a rate limit is about: those without credentials are told apart by address."""
        if self.identity is None:
            return self.client
        anonymous = self.identity.kind == "anonymous"
        return f"{self.identity.id}@{self.client}" if anonymous else self.identity.id


@dataclass(frozen=True)
class Reply:
    """What goes back.

    Args:
        status: The status code.
        body: The JSON.
        retry_after: As for `Refusal`.
    """

    status: int
    body: bytes
    retry_after: float | None = None
