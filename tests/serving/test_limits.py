"""Rates by a clock of our own, budgets across restarts and crashes, and limits that are none."""

import json

import pytest

from keras_secure.errors import InputError, IntegrityError
from keras_secure.serving import Limits, QueryBudgets
from keras_secure.serving.rates import RateLimiter
from keras_secure.serving.refusal import Refusal


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def wait_of(call, *arguments):
    with pytest.raises(Refusal) as caught:
        call(*arguments)
    assert caught.value.status == 429
    return caught.value.retry_after


def test_a_rate_holds_in_the_long_run_and_lets_bursts_through():
    clock = Clock()
    limiter = RateLimiter(10.0, 5, clock)
    taken = 0
    for step in range(10_000):
        clock.now = step / 100
        try:
            limiter.take("alice")
        except Refusal:
            continue
        taken += 1
    assert 5 + 10 * 100 - 2 <= taken <= 5 + 10 * 100
    assert wait_of(limiter.take, "alice") == pytest.approx(0.1, abs=0.1)
    limiter.take("bob")
    clock.now += 1e6
    for _ in range(5):
        limiter.take("alice")
    wait_of(limiter.take, "alice")


def test_an_identitys_own_rate_and_a_block():
    clock = Clock()
    limiter = RateLimiter(None, 1, clock)
    for _ in range(100):
        limiter.take("alice")
    limiter.take("bob", 0.5)
    assert wait_of(limiter.take, "bob", 0.5) == pytest.approx(2.0)
    limiter.block("alice", 30.0)
    assert wait_of(limiter.take, "alice") == pytest.approx(30.0)
    clock.now = 31.0
    limiter.take("alice")


def test_a_budget_outlives_the_process(tmp_path):
    path = tmp_path / "budgets.json"
    budgets = QueryBudgets(path, block=10)
    budgets.spend("alice", 3, 20)
    budgets.spend("bob", 1, None)
    budgets.close()
    again = QueryBudgets(path)
    assert (again.spent("alice"), again.spent("bob"), again.spent("eve")) == (3, 1, 0)
    again.spend("alice", 17, 20)
    assert wait_of(again.spend, "alice", 1, 20) is None
    again.refund("alice", 2)
    again.spend("alice", 2, 20)


def test_a_crash_never_gives_back_what_was_spent(tmp_path):
    path = tmp_path / "budgets.json"
    spent = 0
    for _ in range(6):
        budgets = QueryBudgets(path, block=10)
        assert budgets.spent("alice") >= spent
        for _ in range(7):
            try:
                budgets.spend("alice", 1, 100)
            except Refusal:
                break
            spent += 1
        on_disk = json.loads(path.read_text())["spent"]["alice"]
        assert spent <= on_disk <= 100
        # Here it is killed: nothing is closed.
    assert spent <= 100


def test_a_spoiled_file_of_budgets_is_refused(tmp_path):
    path = tmp_path / "budgets.json"
    for content in ["", "{}", '{"format": "keras_secure.query_budgets", "version": 1, "spent": 1}']:
        path.write_text(content)
        with pytest.raises((InputError, IntegrityError)):
            QueryBudgets(path)


def test_budgets_that_cannot_be_written_are_not_spent(tmp_path):
    budgets = QueryBudgets(tmp_path / "nowhere" / "budgets.json")
    with pytest.raises(Refusal) as caught:
        budgets.spend("alice", 1, 10)
    assert caught.value.status == 503
    assert budgets.spent("alice") == 0


@pytest.mark.parametrize(
    "limits",
    [
        {"rows": 0},
        {"rows": 1.5},
        {"rows": True},
        {"seconds": 0},
        {"seconds": float("nan")},
        {"depth": "8"},
        {"batch_delay": -1},
        {"rate": 0},
        {"budget": -1},
    ],
)
def test_limits_that_are_none(limits):
    with pytest.raises(InputError, match=next(iter(limits))):
        Limits(**limits)


def test_limits_that_may_be_left_out():
    assert Limits(rate=None, budget=0, batch_delay=0).budget == 0
