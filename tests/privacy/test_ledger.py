"""The record of private steps."""

import json

import pytest

from keras_secure.errors import PrivacyError
from keras_secure.privacy import Ledger, Phase, PoissonSampling, UnstatedSampling

POISSON = Phase(PoissonSampling(0.1, 100, 24), 1.1, 1.0, 10.0)
UNSTATED = Phase(UnstatedSampling(), 2.0, 1.0, 10.0, reproducible=True)


def test_steps_follow_the_counter():
    ledger = Ledger()
    assert ledger.phases(0) == []
    ledger.begin(POISSON, 0)
    assert [phase.steps for phase in ledger.phases(7)] == [7]
    ledger.begin(UNSTATED, 7)
    assert ledger.phases(7) == [Phase(**{**POISSON.__dict__, "steps": 7})]
    ledger.begin(POISSON, 7)
    assert [phase.steps for phase in ledger.phases(12)] == [7, 5]
    assert ledger.phases(12)[1].sampling == POISSON.sampling


def test_round_trip():
    ledger = Ledger()
    ledger.begin(POISSON, 0)
    ledger.begin(UNSTATED, 5)
    text = ledger.to_json(9)
    loaded = Ledger.from_json(text)
    assert loaded.phases(9) == ledger.phases(9)
    assert loaded.run_id == ledger.run_id != Ledger().run_id
    assert loaded.phases(9)[1].reproducible
    assert json.loads(text)["phases"][0]["sampling"]["physical_batch_size"] == 24


def test_steps_outside_a_phase_are_refused():
    with pytest.raises(PrivacyError, match=r"outside any recorded phase.*SecureModel.fit"):
        Ledger().phases(3)
    with pytest.raises(PrivacyError, match="must not be reset"):
        Ledger([Phase(**{**POISSON.__dict__, "steps": 5})]).phases(4)


def test_unreadable_ledgers_are_refused():
    good = Ledger([Phase(**{**POISSON.__dict__, "steps": 5})]).to_json(5)
    broken = [
        "",
        "{}",
        good[:-5],
        good.replace('"format": 1', '"format": 2'),
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
