"""From the body of a request that may be asked to the body of its answer."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from keras_secure.errors import InputError
from keras_secure.serving.budgets import QueryBudgets
from keras_secure.serving.dialect import PredictRequest
from keras_secure.serving.exchange import Exchange
from keras_secure.serving.identity import Identity
from keras_secure.serving.json_body import parse_object
from keras_secure.serving.limits import Limits
from keras_secure.serving.metrics import Metrics
from keras_secure.serving.observer import Observer, Query, Verdict
from keras_secure.serving.rates import RateLimiter
from keras_secure.serving.refusal import Refusal
from keras_secure.serving.sealed_inputs import InputSealer

# Beyond it, parsing and writing JSON would keep all others waiting.
_LARGE = 2**16
_MAX_VALUES = 4096


class Inference:
    """Reads, pays, computes, lets an observer look, and writes.

    Args:
        limits: Bounds.
        budgets: Counts what was answered.
        rates: Refuses for a while whom the observer throttles.
        metrics: Counts.
        observer: Watches; None for nobody.
        sealer: Keeps inputs in the audit log, masked and encrypted; None keeps none.
    """

    def __init__(
        self,
        limits: Limits,
        budgets: QueryBudgets,
        rates: RateLimiter,
        metrics: Metrics,
        observer: Observer | None = None,
        sealer: InputSealer | None = None,
    ):
        self._limits, self._budgets, self._rates, self._metrics = limits, budgets, rates, metrics
        self._observer, self._observing = observer, threading.Lock()
        self._sealer = sealer
        self.in_flight = 0

    async def answer(
        self,
        exchange: Exchange,
        identity: Identity,
        version: Any,
        read_body: Callable[[int], Awaitable[bytes]],
    ) -> bytes:
        """Answers one request.

        Args:
            exchange: The request; what is known of it by then is noted in it.
            identity: Who asks, and may.
            version: What is asked.
            read_body: A coroutine function that reads at most so many bytes.

        Returns:
            The JSON.

        Raises:
            Refusal: It is not answered.
        """
        if self.in_flight >= self._limits.concurrency:
            raise Refusal(503, "The server is busy.", "busy", 1.0)
        self.in_flight += 1
        self._metrics.in_flight.set(self.in_flight)
        try:
            data = await read_body(self._limits.request_bytes)
            exchange.num_bytes = len(data)
            body, request = await self._read(exchange, version, data)
            budget = self._limits.budget if identity.budget is None else identity.budget
            self._budgets.spend(identity.id, request.rows, budget)
            try:
                outputs, content = await version.compute(exchange.verb, body, request)
                if self._observer is not None:
                    outputs, content = await self._observe(
                        exchange, identity, version, request, outputs, content
                    )
            except InputError as error:
                self._budgets.refund(identity.id, request.rows)
                message = "The model cannot compute inputs of these sizes or with these values."
                raise Refusal(400, message, "malformed") from error
            except BaseException:
                self._budgets.refund(identity.id, request.rows)
                raise
            return await self._write(exchange, version, body, request, outputs, content)
        finally:
            self.in_flight -= 1
            self._metrics.in_flight.set(self.in_flight)

    async def _read(
        self, exchange: Exchange, version: Any, data: bytes
    ) -> tuple[dict[str, Any], PredictRequest]:
        def read() -> tuple[dict[str, Any], PredictRequest]:
            body = parse_object(data, self._limits.depth)
            has_constants = b"true" in data or b"false" in data
            return body, version.read(exchange.verb, body, has_constants)

        body, request = read() if len(data) < _LARGE else await asyncio.to_thread(read)
        if request.rows > self._limits.rows:
            raise Refusal(
                413,
                f"The request holds {request.rows} examples; at most {self._limits.rows} are "
                "taken.",
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
        self._metrics.verdict(exchange.model, verdict.action)
        if verdict.action == "throttle":
            self._rates.block(exchange.limited, verdict.seconds)
            raise Refusal(429, "Too many requests.", "throttled", verdict.seconds)
        if verdict.action == "coarsen" and verdict.outputs is not None:
            return verdict.outputs, None
        return outputs, content

    def _ask_observer(self, query: Query) -> Verdict | None:
        with self._observing:
            return self._observer.observe(query) if self._observer is not None else None
