"""How fast each identity may ask."""

import time
from collections import OrderedDict
from collections.abc import Callable

from keras_secure.serving.refusal import Refusal

_MAX_KNOWN = 100_000


class RateLimiter:
    """A bucket of tokens for each identity, which fills at its rate.

    Args:
        rate: Requests a second; None for no limit.
        burst: What a bucket holds.
        clock: Gives the time in seconds.

    Example:

    >>> limiter = RateLimiter(rate=1.0, burst=1, clock=lambda: 0.0)
    >>> limiter.take("alice")
    >>> limiter.take("alice")
    Traceback (most recent call last):
        ...
    keras_secure.serving.refusal.Refusal: Too many requests; at most 1 a second are answered.
    """

    def __init__(self, rate: float | None, burst: int, clock: Callable[[], float] = time.monotonic):
        self._rate, self._burst, self._clock = rate, burst, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._blocked: dict[str, float] = {}

    def take(self, identity: str, rate: float | None = None) -> None:
        """Counts one request.

        Args:
            identity: Whose.
            rate: Its own rate; None for that of all.

        Raises:
            Refusal: With status 429 and the time to wait, if it came too early.
        """
        now = self._clock()
        until = self._blocked.get(identity, 0.0)
        if until > now:
            raise Refusal(429, "Too many requests.", "throttled", until - now)
        rate = self._rate if rate is None else rate
        if rate is None:
            return
        level, since = self._buckets.pop(identity, (float(self._burst), now))
        level = min(self._burst, level + (now - since) * rate)
        allowed = level >= 1.0
        self._buckets[identity] = (level - 1.0 if allowed else level, now)
        if len(self._buckets) > _MAX_KNOWN:
            self._buckets.popitem(last=False)
        if not allowed:
            raise Refusal(
                429,
                f"Too many requests; at most {rate:g} a second are answered.",
                "rate",
                (1.0 - level) / rate,
            )

    def block(self, identity: str, seconds: float) -> None:
        """Refuses all requests of an identity for a while."""
        now = self._clock()
        self._blocked = {name: until for name, until in self._blocked.items() if until > now}
        self._blocked[identity] = now + seconds
