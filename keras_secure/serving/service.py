"""The way of a request: who asks, may they, how much, the answer, and a line about it."""

import asyncio
import json
import logging
import os
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from keras_secure.errors import InputError, SecurityError
from keras_secure.serving import dialect
from keras_secure.serving.audit_log import AuditLog
from keras_secure.serving.authentication import Authenticator
from keras_secure.serving.budgets import QueryBudgets
from keras_secure.serving.dialect import PredictRequest
from keras_secure.serving.identity import Identity
from keras_secure.serving.json_body import parse_object
from keras_secure.serving.limits import Limits
from keras_secure.serving.metrics import Metrics
from keras_secure.serving.observer import Observer, Query, Verdict
from keras_secure.serving.rates import RateLimiter
from keras_secure.serving.refusal import Refusal
from keras_secure.serving.sealed_inputs import InputSealer

_log = logging.getLogger(__name__)

# Beyond it, parsing and writing JSON would keep all others waiting.
_LARGE = 2**16
_MAX_VALUES = 4096
# Lines a second about requests that no identity answers for; the others are counted.
_STRANGERS = 20
_MAX_VERSION = 2**63 - 1


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


class Service:
    """Answers requests for models; knows nothing of HTTP but status codes.

    Args:
        models: What is served, by name: `ServedModel` or `UpstreamModel`.
        authenticator: Says who somebody is.
        limits: Bounds.
        audit_log: Takes a line about every request; None keeps none.
        budgets: Counts what was answered.
        observer: Watches; None for nobody.
        sealer: Keeps inputs in the audit log, masked and encrypted; None keeps none.
        workers: Threads that compute.
    """

    def __init__(
        self,
        models: dict[str, Any],
        authenticator: Authenticator,
        limits: Limits,
        audit_log: AuditLog | None = None,
        budgets: QueryBudgets | None = None,
        observer: Observer | None = None,
        sealer: InputSealer | None = None,
        workers: int | None = None,
    ):
        self.models, self.limits, self.metrics = models, limits, Metrics()
        self.draining, self._opened = False, False
        self._authenticator, self._audit_log = authenticator, audit_log
        self._rates = RateLimiter(limits.rate, limits.burst)
        self._budgets = QueryBudgets(None) if budgets is None else budgets
        self._observer, self._observing = observer, threading.Lock()
        self._sealer = sealer
        self._workers = workers or min(4, os.cpu_count() or 1)
        self._in_flight, self._broken = 0, False
        self._strangers, self._suppressed, self._second = 0, 0, 0

    @property
    def ready(self) -> bool:
        """Whether requests are answered."""
        models = all(model.ready for model in self.models.values())
        return models and not self.draining and not self._broken

    async def open(self) -> None:
        """Loads the models, the first time that it is called.

        Raises:
            SecurityError: One cannot be served; everything is closed then.
        """
        if self._opened:
            return
        self._opened = True
        try:
            await self._open()
        except BaseException:
            await self.close()
            raise

    async def _open(self) -> None:
        self._executor = ThreadPoolExecutor(self._workers, "model")
        self._signing = asyncio.create_task(self._sign_now_and_then())
        for name, model in self.models.items():
            await model.open(name, self.limits, self._executor, self._workers, self.metrics)
            if model.ready:
                self._note("model", {**model.describe(), "change": "loaded"})
                self.metrics.version(name, model.describe()["version"])
        self.metrics.ready.set_function(lambda: float(self.ready))

    async def close(self) -> None:
        """Answers what was taken, and closes files."""
        self.draining = True
        self._signing.cancel()
        for model in self.models.values():
            await model.close()
        self._executor.shutdown(wait=True)
        self._budgets.close()
        if self._audit_log is not None:
            self._audit_log.close()

    async def infer(self, exchange: Exchange, read_body: Any) -> Reply:
        """Answers `predict`, `classify` and `regress`.

        Args:
            exchange: The request.
            read_body: A coroutine function that reads at most so many bytes.

        Returns:
            The `Reply`, whatever happens.
        """
        return await self._answer(exchange, lambda: self._infer(exchange, read_body))

    async def inform(self, exchange: Exchange) -> Reply:
        """Answers `status` and `metadata`."""
        return await self._answer(exchange, lambda: self._inform(exchange))

    async def change(self, exchange: Exchange, change: str) -> Reply:
        """Does `reload` or `rollback`, for those who have the scope `admin`."""
        return await self._answer(exchange, lambda: self._change(exchange, change))

    async def show_metrics(self, exchange: Exchange) -> Reply:
        """Gives the page for Prometheus to those who have the scope `metrics`."""
        return await self._answer(exchange, lambda: self._page(exchange))

    async def swap(self, name: str, change: str) -> dict[str, Any]:
        """Changes the version of a model, and notes it.

        Raises:
            SecurityError: It cannot be; the version in use stays.
        """
        model = self.models[name]
        try:
            told = await (model.reload() if change == "reload" else model.rollback())
        except SecurityError as error:
            self.metrics.swap(name, "refused")
            self._note("model", {"model": name, "change": change, "refused": str(error)[:1000]})
            raise
        self.metrics.swap(name, change)
        self.metrics.version(name, told["version"])
        self._note("model", {**told, "change": change})
        return told

    async def _answer(self, exchange: Exchange, work: Any) -> Reply:
        reason, content = "", b""
        try:
            async with asyncio.timeout(self.limits.seconds):
                content = await work()
            reply = Reply(200, content)
        except Refusal as refusal:
            reason = refusal.reason
            reply = Reply(refusal.status, _error(refusal.message), refusal.retry_after)
        except TimeoutError:
            reason, reply = "time", Reply(504, _error("The time for this request is up."))
        except Exception:
            _log.exception("request %s failed", exchange.id)
            reason, reply = "failure", Reply(500, _error(f"Internal error; request {exchange.id}."))
        return self._finish(exchange, reply, reason)

    def _finish(self, exchange: Exchange, reply: Reply, reason: str) -> Reply:
        seconds = time.perf_counter() - exchange.began
        served = exchange.model if exchange.model in self.models else ""
        rows = exchange.rows if reply.status == 200 else 0
        self.metrics.answered(served, exchange.verb, reply.status, seconds, rows, reason)
        if self._record(exchange, reply, reason, seconds):
            return reply
        # What cannot be written down is not answered.
        return Reply(503, _error("The audit log cannot be written."), 5.0)

    def _record(self, exchange: Exchange, reply: Reply, reason: str, seconds: float) -> bool:
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
        if self._note("request", fields):
            self._suppressed = 0
            return True
        return False

    def _note(self, kind: str, fields: dict[str, Any]) -> bool:
        if self._audit_log is None:
            return True
        try:
            self._audit_log.append(kind, fields)
            self._broken = False
        except OSError as error:
            _log.critical("the audit log cannot be written: %s", error)
            self._broken = True
        return not self._broken

    def _is_flood(self) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._strangers = second, 0
        self._strangers += 1
        if self._strangers <= _STRANGERS:
            return False
        self._suppressed += 1
        return True

    def _admit(self, exchange: Exchange) -> Identity:
        """Who asks, if they may; the same answer whether there is such a model or not."""
        identity = self._authenticator.identify(exchange.headers)
        exchange.identity = identity
        if not identity.may(exchange.model, exchange.verb):
            raise Refusal(403, f"These credentials do not allow {exchange.verb} here.", "scope")
        # Who runs the server is granted these by name, and needs them when it is pressed.
        if exchange.verb not in ("metrics", "admin"):
            self._rates.take(_limited(identity, exchange), identity.rate)
        return identity

    def _model(self, exchange: Exchange) -> Any:
        model = self.models.get(exchange.model)
        if model is None:
            raise Refusal(
                404,
                f"Servable not found for request: Latest({exchange.model[:128]})",
                "unknown_model",
            )
        return model

    def _find(self, exchange: Exchange) -> tuple[Any, Any]:
        model = self._model(exchange)
        version = None
        if exchange.version is not None:
            text = exchange.version
            if not (text.isascii() and text.isdigit()) or int(text[:20]) > _MAX_VERSION:
                raise Refusal(
                    400, f"Failed to convert version: {text[:40]} to numeric.", "malformed"
                )
            version = int(text)
        return model, model.find(version, exchange.label)

    async def _infer(self, exchange: Exchange, read_body: Any) -> bytes:
        identity = self._admit(exchange)
        _, version = self._find(exchange)
        if self._in_flight >= self.limits.concurrency:
            raise Refusal(503, "The server is busy.", "busy", 1.0)
        self._in_flight += 1
        self.metrics.in_flight.set(self._in_flight)
        try:
            data = await read_body(self.limits.request_bytes)
            exchange.num_bytes = len(data)
            body, request = await self._read(exchange, version, data)
            budget = self.limits.budget if identity.budget is None else identity.budget
            self._budgets.spend(identity.id, request.rows, budget)
            try:
                outputs, content = await version.compute(exchange.verb, body, request)
                if self._observer is not None:
                    outputs, content = await self._observe(
                        exchange, identity, version, request, outputs, content
                    )
            except BaseException:
                self._budgets.refund(identity.id, request.rows)
                raise
            return await self._write(exchange, version, body, request, outputs, content)
        finally:
            self._in_flight -= 1
            self.metrics.in_flight.set(self._in_flight)

    async def _read(
        self, exchange: Exchange, version: Any, data: bytes
    ) -> tuple[dict[str, Any], PredictRequest]:
        def read() -> tuple[dict[str, Any], PredictRequest]:
            body = parse_object(data, self.limits.depth)
            has_constants = b"true" in data or b"false" in data
            return body, version.read(exchange.verb, body, has_constants)

        body, request = read() if len(data) < _LARGE else await asyncio.to_thread(read)
        if request.rows > self.limits.rows:
            raise Refusal(
                413,
                f"The request holds {request.rows} examples; at most {self.limits.rows} are taken.",
                "rows",
            )
        exchange.rows = request.rows
        return body, request

    async def _write(
        self,
        exchange: Exchange,
        version: Any,
        body: dict[str, Any],
        request: PredictRequest,
        outputs: dict[str, Any],
        content: dict[str, Any] | None,
    ) -> bytes:
        def write() -> bytes:
            answer = content
            if answer is None:
                answer = version.write(exchange.verb, request, outputs)
            if self._sealer is not None:
                exchange.more["sealed"] = self._sealer.seal(body, answer, version.sensitive)
            return json.dumps(answer).encode()

        values = sum(array.size for array in outputs.values())
        small = values <= _MAX_VALUES and self._sealer is None
        return write() if small else await asyncio.to_thread(write)

    async def _observe(
        self,
        exchange: Exchange,
        identity: Identity,
        version: Any,
        request: PredictRequest,
        outputs: dict[str, Any],
        content: dict[str, Any] | None,
    ) -> tuple[dict[str, Any], dict[str, Any] | None]:
        query = Query(identity, exchange.model, version.number, request.inputs, outputs)
        verdict = await asyncio.to_thread(self._ask_observer, query)
        if verdict is None or verdict.action == "allow":
            return outputs, content
        exchange.more["verdict"] = {"action": verdict.action, "reason": verdict.reason}
        self.metrics.verdict(exchange.model, verdict.action)
        if verdict.action == "throttle":
            self._rates.block(_limited(identity, exchange), verdict.seconds)
            raise Refusal(429, "Too many requests.", "throttled", verdict.seconds)
        if verdict.action == "coarsen" and verdict.outputs is not None:
            return verdict.outputs, None
        return outputs, content

    def _ask_observer(self, query: Query) -> Verdict | None:
        with self._observing:
            return self._observer.observe(query) if self._observer is not None else None

    async def _inform(self, exchange: Exchange) -> bytes:
        self._admit(exchange)
        model, version = self._find(exchange)
        if hasattr(version, "describe"):  # another server knows
            suffix = "/metadata" if exchange.verb == "metadata" else ""
            return _dump(await version.describe(suffix))
        if exchange.verb == "metadata":
            return _dump(version.metadata(exchange.model))
        states = model.states()
        if exchange.version is not None:
            states = {version.number: states[version.number]}
        return _dump(dialect.write_status(states))

    async def _change(self, exchange: Exchange, change: str) -> bytes:
        self._admit(exchange)
        self._model(exchange)
        try:
            # A swap that was begun is finished, also when its client has lost patience.
            told = await asyncio.shield(asyncio.ensure_future(self.swap(exchange.model, change)))
        except InputError as error:
            raise Refusal(409, str(error), "swap") from error
        except Refusal:
            raise
        except SecurityError as error:
            raise Refusal(409, "The bundle does not verify; see the audit log.", "swap") from error
        return _dump(told)

    async def _page(self, exchange: Exchange) -> bytes:
        self._admit(exchange)
        return self.metrics.page()

    async def _sign_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            if self._audit_log is None:
                continue
            try:
                self._audit_log.tick()
            except OSError as error:
                _log.critical("the audit log cannot be written: %s", error)
                self._broken = True


def _limited(identity: Identity, exchange: Exchange) -> str:
    """Whom a rate limit is about: those without credentials are told apart by address."""
    return f"{identity.id}@{exchange.client}" if identity.kind == "anonymous" else identity.id


def _dump(content: Any) -> bytes:
    return json.dumps(content).encode()


def _error(message: str) -> bytes:
    return _dump({"error": message})
