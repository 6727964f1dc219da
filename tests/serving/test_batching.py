"""Joined requests get their own answers, whatever their sizes and whoever fails."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_secure.serving.batching import Batcher


def double(x):
    return {"y": 2 * x, "first": x[:, 0]}


def run(work, workers=2):
    async def outer():
        with ThreadPoolExecutor(workers) as executor:
            return await work(executor)

    return asyncio.run(outer())


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 3)), min_size=1, max_size=40),
    st.integers(1, 16),
    st.sampled_from([0.0, 0.001]),
)
@settings(deadline=None, max_examples=30)
def test_every_request_gets_its_own_rows(requests, max_rows, delay):
    sizes = []

    async def work(executor):
        batcher = Batcher(double, executor, max_rows, delay, 2, sizes.append)
        arrays = [
            np.random.default_rng(number).normal(size=(rows, width))
            for number, (rows, width) in enumerate(requests)
        ]
        return arrays, await asyncio.gather(*(batcher.submit(array) for array in arrays))

    arrays, answers = run(work)
    for array, answer in zip(arrays, answers, strict=True):
        np.testing.assert_array_equal(answer["y"], 2 * array)
        np.testing.assert_array_equal(answer["first"], array[:, 0])
    assert sum(sizes) == sum(rows for rows, _ in requests)
    assert max(sizes) <= max(max_rows, *(rows for rows, _ in requests))


def test_those_that_wait_are_joined():
    gate, sizes = threading.Event(), []

    def slow(x):
        sizes.append(len(x))
        assert gate.wait(10)
        return {"y": x}

    async def work(executor):
        batcher = Batcher(slow, executor, max_rows=8, workers=1)
        asked = [asyncio.ensure_future(batcher.submit(np.full((1, 1), n))) for n in range(10)]
        await asyncio.sleep(0.05)
        gate.set()
        answers = await asyncio.gather(*asked)
        return [answer["y"].item() for answer in answers]

    assert run(work) == list(range(10))
    assert sizes == [1, 8, 1]


def test_a_delay_waits_for_others_and_not_longer():
    sizes = []

    async def work(executor):
        batcher = Batcher(double, executor, 8, delay=0.2, workers=2, on_batch=sizes.append)
        began = time.monotonic()
        await asyncio.gather(*(batcher.submit(np.zeros((1, 1))) for _ in range(3)))
        waited = time.monotonic() - began
        patient = Batcher(double, executor, 8, delay=600.0, workers=2, on_batch=sizes.append)
        full = asyncio.gather(*(patient.submit(np.zeros((4, 1))) for _ in range(2)))
        await asyncio.wait_for(full, 60.0)
        return waited

    assert run(work) >= 0.19
    assert sizes == [3, 8]


def test_nobody_fails_for_another():
    gate = threading.Event()

    def touchy(x):
        gate.wait(10)
        if (x < 0).any():
            raise ValueError("negative")
        return {"y": x}

    async def work(executor):
        batcher = Batcher(touchy, executor, max_rows=8, workers=1)
        asked = [asyncio.ensure_future(batcher.submit(np.full((1, 1), n))) for n in (0, 1, -1, 2)]
        await asyncio.sleep(0.05)
        gate.set()
        return await asyncio.gather(*asked, return_exceptions=True)

    answers = run(work)
    assert [answer["y"].item() for answer in (answers[0], answers[1], answers[3])] == [0, 1, 2]
    assert isinstance(answers[2], ValueError)


def test_who_gave_up_is_not_computed_and_shifts_nobody():
    gate, seen = threading.Event(), []

    def slow(x):
        gate.wait(10)
        seen.extend(x[:, 0].tolist())
        return {"y": x}

    async def work(executor):
        batcher = Batcher(slow, executor, max_rows=8, workers=1)
        asked = [asyncio.ensure_future(batcher.submit(np.full((1, 1), n))) for n in range(5)]
        await asyncio.sleep(0.05)
        asked[0].cancel()
        asked[2].cancel()
        await asyncio.sleep(0)
        gate.set()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        await batcher.drain()
        return [a["y"].item() if isinstance(a, dict) else None for a in answers]

    assert run(work) == [None, 1, None, 3, 4]
    assert seen == [0, 1, 3, 4]


@pytest.mark.parametrize("output", [np.float32(1.0), np.zeros(3)])
def test_outputs_that_are_not_by_example_are_refused(output):
    async def work(executor):
        await Batcher(lambda x: {"y": output}, executor, 8).submit(np.zeros((2, 1)))

    with pytest.raises(ValueError, match="for 2 examples"):
        run(work)


def test_draining_answers_everything():
    async def work(executor):
        batcher = Batcher(double, executor, 4, delay=600.0, workers=1)
        asked = [asyncio.ensure_future(batcher.submit(np.full((1, 1), n))) for n in range(3)]
        await asyncio.sleep(0.01)
        await asyncio.wait_for(batcher.drain(), 60.0)
        return [(await future)["y"].item() for future in asked]

    assert run(work) == [0, 2, 4]
