"""The record of private steps."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_secure.errors import PrivacyError
from keras_secure.privacy import Ledger, LedgerKey, Phase, PoissonSampling, UnstatedSampling
from keras_secure.privacy.ledger import begins_with, merged

POISSON = Phase(PoissonSampling(0.1, 100, 24), 1.1, 1.0, 10.0)
UNSTATED = Phase(UnstatedSampling(), 2.0, 1.0, 10.0, reproducible=True)
KEY, OTHER_KEY = LedgerKey(b"a" * 32), LedgerKey(b"b" * 32)


def two_phases():
    return Ledger([POISSON.with_steps(5), UNSTATED.with_steps(4)])


def test_steps_follow_the_counter():
    ledger = Ledger()
    assert ledger.phases(0) == []
    ledger.begin(POISSON, 0)
    assert [phase.steps for phase in ledger.phases(7)] == [7]
    ledger.begin(UNSTATED, 7)
    assert ledger.phases(7) == [POISSON.with_steps(7)]
    ledger.begin(POISSON, 7)
    assert [phase.steps for phase in ledger.phases(12)] == [7, 5]
    assert ledger.phases(12)[1].sampling == POISSON.sampling


@pytest.mark.parametrize("key", [None, KEY])
def test_round_trip(key):
    ledger = Ledger(is_open=True)
    ledger.begin(POISSON, 0)
    ledger.begin(UNSTATED, 5)
    text = ledger.to_json(9, key)
    loaded = Ledger.from_json(text, key)
    assert loaded.phases(9) == ledger.phases(9)
    assert loaded.run_id == ledger.run_id != Ledger().run_id
    assert loaded.phases(9)[1].reproducible
    assert loaded.is_open
    assert json.loads(text)["phases"][0]["sampling"]["physical_batch_size"] == 24
    assert Ledger.from_json(Ledger().to_json(0, key), key).phases(0) == []


def test_steps_outside_a_phase_are_refused():
    with pytest.raises(PrivacyError, match=r"outside any recorded phase.*SecureModel.fit"):
        Ledger().phases(3)
    with pytest.raises(PrivacyError, match="must not be reset"):
        Ledger([POISSON.with_steps(5)]).phases(4)


def test_unreadable_ledgers_are_refused():
    good = Ledger([POISSON.with_steps(5)]).to_json(5)
    broken = [
        "",
        "{}",
        good[:-5],
        good.replace('"format": 2', '"format": 1'),
        good.replace('"poisson"', '"lucky"'),
        good.replace('"steps": 5', '"stops": 5'),
        good.replace('"steps": 5', '"steps": -5'),
        good.replace('"steps": 5', '"steps": 5.5'),
        good.replace('"noise_multiplier": 1.1', '"noise_multiplier": "much"'),
        good.replace('"noise_multiplier": 1.1', '"noise_multiplier": NaN'),
        good.replace('"sampling_probability": 0.1', '"sampling_probability": 0.0'),
        "[1]",
    ]
    for text in broken:
        assert text != good
        with pytest.raises(PrivacyError, match="cannot be read"):
            Ledger.from_json(text)


def changes(values):
    """Every single change of a ledger to other valid values."""
    for position, phase in enumerate(values["phases"]):
        for name, value in {
            "steps": phase["steps"] - 1,
            "noise_multiplier": 3.0,
            "l2_norm_clip": 0.5,
            "reproducible": not phase["reproducible"],
        }.items():
            changed = json.loads(json.dumps(values))
            changed["phases"][position][name] = value
            yield changed
    yield {**values, "phases": values["phases"][::-1]}
    yield {**values, "phases": values["phases"][:1]}
    yield {**values, "phases": values["phases"][1:]}
    yield {**values, "phases": []}
    yield {**values, "run_id": "0" * 32}
    yield {**values, "is_open": not values["is_open"]}


def test_no_part_can_be_changed_by_itself():
    values = json.loads(two_phases().to_json(9))
    tried = list(changes(values))
    assert len(tried) == 14
    for changed in tried:
        with pytest.raises(PrivacyError, match="altered"):
            Ledger.from_json(json.dumps(changed))


def test_a_seal_keeps_others_from_rewriting_the_whole():
    text = two_phases().to_json(9, KEY)
    forged = Ledger([POISSON.with_steps(1)], Ledger.from_json(text).run_id).to_json(1, OTHER_KEY)
    for attempt in (
        two_phases().to_json(9),
        two_phases().to_json(9, OTHER_KEY),
        forged,
        json.dumps({**json.loads(forged), "seal": json.loads(text)["seal"]}),
        json.dumps({**json.loads(text), "seal": 5}),
    ):
        Ledger.from_json(attempt)  # well formed: without the key nothing is noticed
        with pytest.raises(PrivacyError, match="not sealed by the given key"):
            Ledger.from_json(attempt, KEY)


def test_merging_joins_neighbours_of_one_kind():
    phases = [POISSON.with_steps(n) for n in (3, 0, 4)] + [UNSTATED.with_steps(1)]
    assert merged(phases) == [POISSON.with_steps(7), UNSTATED.with_steps(1)]
    assert merged([]) == []


@given(st.lists(st.tuples(st.sampled_from([POISSON, UNSTATED]), st.integers(0, 3)), max_size=6))
@settings(max_examples=50, deadline=None)
def test_beginning_is_that_of_the_steps_one_by_one(parts):
    phases = [phase.with_steps(steps) for phase, steps in parts]
    flat = [phase.with_steps(1) for phase, steps in parts for _ in range(steps)]
    for length in range(len(flat) + 1):
        assert begins_with(phases, flat[:length])
        assert begins_with(phases, merged(flat[:length]))
    assert not begins_with(phases, [*flat, POISSON.with_steps(1)])
    for position, phase in enumerate(flat):
        other = (UNSTATED if phase == POISSON.with_steps(1) else POISSON).with_steps(1)
        assert not begins_with(phases, [*flat[:position], other])
