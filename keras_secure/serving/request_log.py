"""A line about every request, or about as many as matter."""

import logging
import time
from collections.abc import Callable
from typing import Any

from keras_secure.serving.audit_log import AuditLog
from keras_secure.serving.exchange import Exchange, Reply

_log = logging.getLogger(__name__)

# Lines a second about requests that no identity answers for; the others are counted.
_STRANGERS = 20


class RequestLog:
    """Tells the audit log of requests and of changes of models.

    Args:
        audit_log: Takes the lines; None keeps none.
    """

    def __init__(self, audit_log: AuditLog | None):
        self._audit_log = audit_log
        self._broken = False
        self._strangers, self._suppressed, self._second = 0, 0, 0

    @property
    def broken(self) -> bool:
        """Whether the last line could not be written."""
        return self._broken

    def record(self, exchange: Exchange, reply: Reply, reason: str, seconds: float) -> bool:
        """Writes the line about a request.

        Args:
            exchange: The request.
            reply: What it is answered.
            reason: Why it is refused, in one word; empty where it is not.
            seconds: How long it took.

        Returns:
            Whether it may be answered: all that had to be written is.
        """
        if self._audit_log is None:
            return True
        identity = exchange.identity
        if identity is None and self._is_flood():
            return True
        fields: dict[str, Any] = {
            "request": exchange.id,
            "identity": None if identity is None else identity.id,
            "via": None if identity is None else identity.kind,
            "client": exchange.client,
            "model": exchange.model[:128],
            "verb": exchange.verb,
            "version": exchange.version and exchange.version[:20],
            "status": reply.status,
            "rows": exchange.rows,
            "bytes": exchange.num_bytes,
            "milliseconds": round(1000 * seconds, 3),
            **exchange.more,
        }
        if reason:
            fields["reason"] = reason
        if self._suppressed:
            fields["suppressed"] = self._suppressed
        if self.note("request", fields):
            self._suppressed = 0
            return True
        return False

    def note(self, kind: str, fields: dict[str, Any]) -> bool:
        """Writes a line; returns whether it is written, or need not be."""
        written = self._attempt(lambda log: log.append(kind, fields))
        if written:
            self._broken = False
        return written

    def tick(self) -> None:
        """Signs what was written, if the last time is a while ago."""
        self._attempt(lambda log: log.tick())

    def close(self) -> None:
        """Closes the audit log; that its end cannot be written keeps nothing else from closing."""
        self._attempt(lambda log: log.close())

    def _attempt(self, action: Callable[[AuditLog], Any]) -> bool:
        """Does something with the audit log, if there is one; returns whether that went well."""
        if self._audit_log is None:
            return True
        try:
            action(self._audit_log)
        except OSError as error:
            _log.critical("the audit log cannot be written: %s", error)
            self._broken = True
            return False
        return True

    def _is_flood(self) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._strangers = second, 0
        self._strangers += 1
        if self._strangers <= _STRANGERS:
            return False
        self._suppressed += 1
        return True
