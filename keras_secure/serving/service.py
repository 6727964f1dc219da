"""The way of a request: who asks, may they, how much, the answer, and a line about it."""

import asyncio
import json
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from keras_secure.arguments import is_integer
from keras_secure.errors import InputError, SecurityError
from keras_secure.serving import dialect
from keras_secure.serving.audit_log import AuditLog
from keras_secure.serving.authentication import Authenticator
from keras_secure.serving.budgets import QueryBudgets
from keras_secure.serving.exchange import Exchange, Reply
from keras_secure.serving.identity import VERBS, Identity
from keras_secure.serving.inference import Inference
from keras_secure.serving.limits import Limits
from keras_secure.serving.metrics import Metrics
from keras_secure.serving.observer import Observer
from keras_secure.serving.openapi import describe_api
from keras_secure.serving.rates import RateLimiter
from keras_secure.serving.refusal import Refusal
from keras_secure.serving.request_log import RequestLog
from keras_secure.serving.sealed_inputs import InputSealer

_log = logging.getLogger(__name__)

_MAX_VERSION = 2**63 - 1
_MAX_DIGITS = len(str(_MAX_VERSION))


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
        self._authenticator, self._request_log = authenticator, RequestLog(audit_log)
        self._rates = RateLimiter(limits.rate, limits.burst)
        self._budgets = QueryBudgets(None) if budgets is None else budgets
        self.inference = Inference(
            limits, self._budgets, self._rates, self.metrics, observer, sealer
        )
        if workers is not None and not (is_integer(workers) and workers >= 1):
            raise InputError(f"workers is {workers!r}; expected a number of threads, at least 1.")
        self._workers = workers or min(4, os.cpu_count() or 1)

    @property
    def ready(self) -> bool:
        """Whether requests are answered."""
        models = all(model.ready for model in self.models.values())
        return models and not self.draining and not self._request_log.broken

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
                self._request_log.note("model", {**model.describe(), "change": "loaded"})
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
        self._request_log.close()

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

    async def describe_api(self, exchange: Exchange) -> Reply:
        """Gives the OpenAPI document, of the models that whoever asks may ask anything of."""
        return await self._answer(exchange, lambda: self._describe_api(exchange))

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
            self._request_log.note(
                "model", {"model": name, "change": change, "refused": str(error)[:1000]}
            )
            raise
        self.metrics.swap(name, change)
        self.metrics.version(name, told["version"])
        self._request_log.note("model", {**told, "change": change})
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
        if self._request_log.record(exchange, reply, reason, seconds):
            return reply
        # What cannot be written down is not answered.
        return Reply(503, _error("The audit log cannot be written."), 5.0)

    def _identify(self, exchange: Exchange) -> Identity:
        exchange.identity = self._authenticator.identify(exchange.headers)
        return exchange.identity

    def _admit(self, exchange: Exchange) -> Identity:
        """Who asks, if they may; the same answer whether there is such a model or not."""
        identity = self._identify(exchange)
        if not identity.may(exchange.model, exchange.verb):
            raise Refusal(403, f"These credentials do not allow {exchange.verb} here.", "scope")
        # Who runs the server is granted these by name, and needs them when it is pressed.
        if exchange.verb not in ("metrics", "admin"):
            self._rates.take(exchange.limited, identity.rate)
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
            is_short = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
            if not is_short or int(text) > _MAX_VERSION:
                raise Refusal(
                    400, f"Failed to convert version: {text[:40]} to numeric.", "malformed"
                )
            version = int(text)
        return model, model.find(version, exchange.label)

    async def _infer(self, exchange: Exchange, read_body: Any) -> bytes:
        identity = self._admit(exchange)
        _, version = self._find(exchange)
        return await self.inference.answer(exchange, identity, version, read_body)

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

    async def _describe_api(self, exchange: Exchange) -> bytes:
        identity = self._identify(exchange)
        self._rates.take(exchange.limited, identity.rate)
        models = {
            name: model
            for name, model in self.models.items()
            if any(identity.may(name, verb) for verb in VERBS)
        }
        if not models:
            raise Refusal(403, "These credentials do not allow anything here.", "scope")
        return _dump(describe_api(models, self.limits.rows))

    async def _sign_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            self._request_log.tick()


def _dump(content: Any) -> bytes:
    return json.dumps(content).encode()


def _error(message: str) -> bytes:
    return _dump({"error": message})
