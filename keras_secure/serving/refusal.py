"""A request that is not answered, and what its sender is told."""

from keras_secure.errors import SecurityError


class Refusal(SecurityError):
    """A request is refused, with a status of HTTP.

    Args:
        status: The status code.
        message: What the sender reads under `"error"`.
        reason: One word for metrics and the audit log.
        retry_after: Seconds after which the same request may do better; None where it never will.

    Example:

    >>> Refusal(429, "Too many requests.", "rate", retry_after=2.0).status
    429
    """

    def __init__(self, status: int, message: str, reason: str, retry_after: float | None = None):
        super().__init__(message)
        self.status = status
        self.message = message
        self.reason = reason
        self.retry_after = retry_after


def malformed(message: str) -> Refusal:
    """What to raise for a request that cannot be understood."""
    return Refusal(400, message, "malformed")
