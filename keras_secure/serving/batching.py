"""Requests computed together, and each given its own answer."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

Function = Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclass
class _Entry:
    rows: np.ndarray
    answer: "asyncio.Future[dict[str, np.ndarray]]"
    since: float

    def joins(self, other: "_Entry") -> bool:
        return self.rows.shape[1:] == other.rows.shape[1:] and self.rows.dtype == other.rows.dtype


class Batcher:
    """Joins requests that wait for the same function.

    Requests are taken in their order. As long as a worker is free a request is computed at once,
    unless `delay` makes it wait for others; while all are busy, those that wait are joined. If a
    batch fails, each of its requests is computed alone, so that nobody fails for another.

    Args:
        function: From an array of examples to named arrays with as many rows; called in threads.
        executor: Where it is called.
        max_rows: Examples in one batch; a request with more is a batch of its own.
        delay: Seconds that a request may wait for others.
        workers: Calls at once.
        on_batch: Is told the number of rows of each batch.
        by_example: Whether every output has a row for each example; if not, no requests are joined.

    Example:

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> async def example():
    ...     with ThreadPoolExecutor(1) as executor:
    ...         batcher = Batcher(lambda x: {"y": 2 * x}, executor, max_rows=8)
    ...         asked = [batcher.submit(np.full((1, 2), n)) for n in range(4)]
    ...         return [answer["y"][0, 0].item() for answer in await asyncio.gather(*asked)]
    >>> asyncio.run(example())
    [0, 2, 4, 6]
    """

    def __init__(
        self,
        function: Function,
        executor: Executor,
        max_rows: int,
        delay: float = 0.0,
        workers: int = 1,
        on_batch: Callable[[int], Any] = lambda rows: None,
        by_example: bool = True,
    ):
        self._by_example = by_example
        self._function, self._executor = function, executor
        self._max_rows = max_rows if by_example else 1
        self._delay, self._workers = delay, workers
        self._on_batch = on_batch
        self._waiting: deque[_Entry] = deque()
        self._running: set[asyncio.Future] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def submit(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Computes examples, together with others or alone.

        Args:
            rows: The examples, shape (n, ...).

        Returns:
            Their outputs by name, with n rows each.

        Raises:
            Exception: What the function raised for these examples.
        """
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append(_Entry(rows, answer, time.monotonic()))
        self._dispatch()
        return await answer

    async def drain(self) -> None:
        """Waits until everything that was submitted is answered."""
        while self._waiting or self._running:
            self._delay = 0.0
            self._dispatch()
            if self._running:
                await asyncio.wait(self._running)
            await asyncio.sleep(0)

    def _dispatch(self) -> None:
        while self._waiting and len(self._running) < self._workers:
            if self._waiting[0].answer.done():  # its client was told that time is up
                self._waiting.popleft()
                continue
            if self._wait_for_more():
                return
            entries = self._take()
            loop = asyncio.get_running_loop()
            call = loop.run_in_executor(self._executor, self._compute, [e.rows for e in entries])
            self._running.add(call)
            call.add_done_callback(partial(self._finish, entries))

    def _wait_for_more(self) -> bool:
        if self._delay <= 0 or sum(len(e.rows) for e in self._waiting) >= self._max_rows:
            return False
        left = self._waiting[0].since + self._delay - time.monotonic()
        if left <= 0:
            return False
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(left, self._time_is_up)
        return True

    def _time_is_up(self) -> None:
        self._timer = None
        self._dispatch()

    def _take(self) -> list[_Entry]:
        taken = [self._waiting.popleft()]
        size = len(taken[0].rows)
        while self._waiting:
            entry = self._waiting[0]
            if entry.answer.done():
                self._waiting.popleft()
                continue
            if size + len(entry.rows) > self._max_rows or not entry.joins(taken[0]):
                break
            taken.append(self._waiting.popleft())
            size += len(entry.rows)
        return taken

    def _compute(self, parts: list[np.ndarray]) -> list[Any]:
        """Runs in a worker; returns an answer or an exception for each part."""
        try:
            return self._together(parts)
        except Exception as error:
            if len(parts) == 1:
                return [error]
            return [answer for part in parts for answer in self._compute([part])]

    def _together(self, parts: list[np.ndarray]) -> list[dict[str, np.ndarray]]:
        rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
        self._on_batch(len(rows))
        outputs = self._function(rows)
        if not self._by_example:
            return [outputs]
        for name, array in outputs.items():
            if np.ndim(array) == 0 or len(array) != len(rows):
                raise ValueError(
                    f"Output {name!r} has shape {np.shape(array)} for {len(rows)} examples."
                )
        ends = np.cumsum([len(part) for part in parts])
        return [
            {name: array[end - len(part) : end] for name, array in outputs.items()}
            for part, end in zip(parts, ends, strict=True)
        ]

    def _finish(self, entries: list[_Entry], call: asyncio.Future) -> None:
        self._running.discard(call)
        failure = call.exception()
        answers = [failure] * len(entries) if failure is not None else call.result()
        for entry, answer in zip(entries, answers, strict=True):
            if entry.answer.done():
                continue
            if isinstance(answer, BaseException):
                entry.answer.set_exception(answer)
            else:
                entry.answer.set_result(answer)
        self._dispatch()
