"""The monitor answers each finding as it was told, and only the clients it is about."""

import numpy as np
import pytest

from keras_secure.errors import InputError
from keras_secure.findings import Finding
from keras_secure.serving.abuse import DAWN, AbuseMonitor
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
