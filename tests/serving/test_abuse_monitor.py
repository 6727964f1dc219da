"""The monitor answers each finding as it was told, and only the clients it is about."""

import numpy as np
import pytest

from keras_secure.errors import InputError
from keras_secure.findings import Finding
from keras_secure.serving.abuse import DAWN, AbuseMonitor, standard_monitor
from keras_secure.serving.identity import Identity
from keras_secure.serving.observer import Query

PREDICTIONS = np.array([[0.2, 0.5, 0.3], [0.0, 0.0, 0.0]], "float32")


class Suspicious:
    """Finds something in the queries of one client while told to."""

    def __init__(self, id, who):
        self.id, self.who, self.on = id, who, True

    def observe(self, identity, inputs, outputs):
        found = self.on and identity == self.who
        return Finding(self.id, "high", f"{identity} is up to something.") if found else None


def query(who, outputs=None, inputs=None):
    outputs = {"predictions": PREDICTIONS, "rejected": np.array([False, True])} | (outputs or {})
    inputs = {"x": np.linspace(0, 1, 8, dtype="float32").reshape(2, 4)} | (inputs or {})
    return Query(Identity(who, "jwt", ("*:*",)), "m", 1, inputs, outputs)


def test_an_alert_answers_as_ever():
    monitor = AbuseMonitor([Suspicious("abuse.coverage", "eve")])
    assert monitor.observe(query("bob")) is None
    verdict = monitor.observe(query("eve"))
    assert (verdict.action, verdict.outputs) == ("alert", None)
    assert verdict.reason == "eve is up to something."


def test_a_throttle_outranks_the_rest():
    first = Suspicious("abuse.near_duplicates", "eve")
    second = Suspicious("abuse.coverage", "eve")
    monitor = AbuseMonitor([second, first], {"abuse.coverage": "labels"}, seconds=7)
    verdict = monitor.observe(query("eve"))
    assert (verdict.action, verdict.seconds) == ("throttle", 7.0)
    assert verdict.reason.count("up to something") == 2


def test_labels_last_for_that_client():
    detector = Suspicious("abuse.near_duplicates", "eve")
    monitor = AbuseMonitor([detector], {"abuse.near_duplicates": "labels"})
    monitor.observe(query("eve"))
    detector.on = False
    verdict = monitor.observe(query("eve"))
    assert verdict.action == "coarsen"
    assert set(verdict.outputs) == {"predictions", "rejected"}
    np.testing.assert_array_equal(verdict.outputs["predictions"], [[0, 1, 0], [0, 0, 0]])
    assert monitor.observe(query("bob")) is None


def test_marks_are_those_of_dawn():
    dawn = DAWN(b"sixteen secret b", share=1.0)
    detector = Suspicious("abuse.distance_distribution", "eve")
    monitor = AbuseMonitor([detector], {"abuse.distance_distribution": "mark"}, dawn)
    given = monitor.observe(query("eve")).outputs["predictions"]
    again = DAWN(b"sixteen secret b", share=1.0)
    np.testing.assert_array_equal(given, again.mark("x", query("eve").inputs["x"], PREDICTIONS))
    np.testing.assert_array_equal(PREDICTIONS[0], np.array([0.2, 0.5, 0.3], "float32"))


def test_queries_that_cannot_be_judged_are_allowed():
    monitor = AbuseMonitor([Suspicious("abuse.coverage", "eve")])
    assert monitor.observe(query("eve", inputs={"second": np.zeros((2, 1))})) is None
    assert monitor.observe(query("eve", outputs={"predictions": np.zeros((2, 3, 3))})) is None


@pytest.mark.parametrize("shapes", [((1,), (5,)), ((4, 4, 1), (2,))])
def test_a_client_may_ask_models_of_different_sizes(shapes):
    """Or one model with texts of any length: that is no error, and hides no client."""
    rng = np.random.default_rng(0)
    data, answers = rng.uniform(size=(200, 4)).astype("float32"), rng.dirichlet([1, 1, 1], 200)
    monitor = standard_monitor(data, answers)
    alarms = 0
    for turn in range(600):
        kind = turn % 3
        size = shapes[kind] if kind < 2 else (4,)
        told = {"predictions": np.eye(2 + kind % 2, dtype="float32")[[turn % 2] * 2]}
        asked = {"x": rng.uniform(size=(2, *size)).astype("float32")}
        verdict = monitor.observe(query("ann", told, asked))
        alarms += verdict is not None and "extracted" in verdict.reason
    assert alarms == 0
    # Inputs that are made from each other are noticed among them.
    seed = rng.normal(size=(20, 50)).astype("float32")
    monitor = standard_monitor()
    found = set()
    for turn in range(400):
        made = seed[[turn % 20]] if turn < 20 else seed[[rng.integers(20)]]
        step = 0.1 * np.sign(rng.normal(size=(1, 50))).astype("float32") * (turn >= 20)
        for inputs in (made + step, rng.normal(size=(1, 3)).astype("float32")):
            told = {"predictions": np.array([[0.9, 0.1]], "float32")}
            verdict = monitor.observe(query("eve", told, {"x": inputs}))
            found |= {verdict.action} if verdict and "extracted" in verdict.reason else set()
    assert found


@pytest.mark.parametrize(
    "answers",
    [
        {"abuse.unknown": "alert"},
        {"abuse.coverage": "shout"},
        {"abuse.drift": "throttle"},
        {"abuse.coverage": "mark"},
    ],
)
def test_answers_are_checked(answers):
    with pytest.raises(InputError):
        AbuseMonitor([], answers)
