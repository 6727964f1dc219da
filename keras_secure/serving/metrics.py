"""What a server tells Prometheus."""

from typing import Any

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Counters in a registry of their own; no label comes from a client.

    Example:

    >>> metrics = Metrics()
    >>> metrics.answered("digits", "predict", 200, 0.004, rows=2)
    >>> b'keras_secure_rows_total{model="digits"} 2.0' in metrics.page()
    True
    """

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = CollectorRegistry()

        def made(kind: Any, name: str, text: str, labels: tuple[str, ...] = (), **more: Any) -> Any:
            return kind(f"keras_secure_{name}", text, labels, registry=self.registry, **more)

        self._requests = made(Counter, "requests", "Requests", ("model", "verb", "code"))
        self._refused = made(Counter, "refused", "Requests not answered", ("reason",))
        self._seconds = made(
            Histogram, "request_seconds", "Time to an answer", ("model", "verb"), buckets=_SECONDS
        )
        self._rows = made(Counter, "rows", "Examples answered", ("model",))
        self._batch = made(Histogram, "batch_rows", "Examples by batch", ("model",), buckets=_ROWS)
        self._verdicts = made(Counter, "verdicts", "What observers said", ("model", "action"))
        self._version = made(Gauge, "model_version", "Version in use", ("model",))
        self._swaps = made(Counter, "swaps", "Changes of version", ("model", "result"))
        self.in_flight = made(Gauge, "in_flight", "Requests that are worked on")
        self.ready = made(Gauge, "ready", "Whether requests are answered")

    def answered(
        self, model: str, verb: str, code: int, seconds: float, rows: int = 0, reason: str = ""
    ) -> None:
        """Counts a request; `model` is one that is served, or empty."""
        self._requests.labels(model, verb, str(code)).inc()
        if reason:
            self._refused.labels(reason).inc()
        else:
            self._seconds.labels(model, verb).observe(seconds)
        if rows:
            self._rows.labels(model).inc(rows)

    def batch(self, model: str, rows: int) -> None:
        """Counts a batch."""
        self._batch.labels(model).observe(rows)

    def verdict(self, model: str, action: str) -> None:
        """Counts what an observer said."""
        self._verdicts.labels(model, action).inc()

    def version(self, model: str, version: int) -> None:
        """Tells which version is in use."""
        self._version.labels(model).set(version)

    def swap(self, model: str, result: str) -> None:
        """Counts a change of version, or an attempt."""
        self._swaps.labels(model, result).inc()

    def page(self) -> bytes:
        """The page that Prometheus reads."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)
