"""From what detectors find to what a client is answered."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from keras_secure.errors import InputError
from keras_secure.serving.abuse.coverage import Coverage
from keras_secure.serving.abuse.dawn import DAWN
from keras_secure.serving.abuse.detector import Detector, Memory
from keras_secure.serving.abuse.distance_distribution import DistanceDistribution
from keras_secure.serving.abuse.drift import Drift
from keras_secure.serving.abuse.near_duplicates import NearDuplicates
from keras_secure.serving.observer import Query, Verdict

Answer = Literal["alert", "throttle", "labels", "mark"]

ANSWERS: dict[str, Answer] = {
    "abuse.coverage": "alert",
    "abuse.distance_distribution": "alert",
    "abuse.drift": "alert",
    "abuse.near_duplicates": "throttle",
    "abuse.unnatural_inputs": "alert",
}
"""What is answered to each finding unless told otherwise: the clients of a detector that was seen
to be wrong about honest ones are not punished."""

_ABOUT_ALL = ("abuse.drift",)


class AbuseMonitor:
    """An `Observer` that asks detectors about every query and answers by what they find.

    `"alert"` puts the finding into the audit log and the metrics and answers as ever; `"throttle"`
    refuses the client for a while; `"labels"` gives it the predicted class alone from then on;
    `"mark"` gives it DAWN's marked answers from then on. The last two last as long as the server
    remembers the client.

    Args:
        detectors: What looks at the queries, such as `NearDuplicates()`.
        answers: What to do by the id of a finding; what is not named stays as in `ANSWERS`.
        dawn: A `DAWN`, for `"mark"`.
        seconds: For how long `"throttle"` refuses. Defaults to 60.
        max_identities: Clients that are remembered. Defaults to 10,000.

    Raises:
        InputError: A finding or an answer is not known, or `"mark"` stands without `dawn`.

    Example:

    >>> from keras_secure.serving.abuse import NearDuplicates
    >>> from keras_secure.serving.identity import Identity
    >>> monitor = AbuseMonitor([NearDuplicates(repeats=3)], {"abuse.near_duplicates": "labels"})
    >>> x, answer = np.full((1, 50), 0.5), np.array([[0.6, 0.4]])
    >>> for step in range(5):
    ...     query = Query(Identity("client", "jwt", ("*:*",)), "m", 1, {"x": x + step * 1e-6},
    ...                   {"predictions": answer})
    ...     verdict = monitor.observe(query)
    >>> verdict.action, verdict.outputs["predictions"].tolist()
    ('coarsen', [[1.0, 0.0]])
    """

    def __init__(
        self,
        detectors: Sequence[Detector],
        answers: Mapping[str, Answer] | None = None,
        dawn: DAWN | None = None,
        seconds: float = 60.0,
        max_identities: int = 10_000,
    ):
        answers = {} if answers is None else dict(answers)
        for id, answer in answers.items():
            if id not in ANSWERS or answer not in ("alert", "throttle", "labels", "mark"):
                raise InputError(
                    f"answers has {id!r}: {answer!r}; one of {', '.join(map(repr, ANSWERS))} with "
                    "'alert', 'throttle', 'labels' or 'mark' was expected."
                )
            if id in _ABOUT_ALL and answer != "alert":
                raise InputError(
                    f"answers has {id!r}: {answer!r}, but it is about all clients together; only "
                    "'alert' makes sense."
                )
            if answer == "mark" and dawn is None:
                raise InputError("answers has 'mark', which needs dawn=DAWN(key).")
        self.detectors, self.dawn, self.seconds = tuple(detectors), dawn, float(seconds)
        self.answers: dict[str, Answer] = {**ANSWERS, **answers}
        self._lasting = Memory(set, max_identities)

    def observe(self, query: Query) -> Verdict | None:
        """What to answer to a query; see `Observer`."""
        identity = query.identity.id
        inputs, outputs = _one(query.inputs), _predictions(query.outputs)
        if inputs is None or outputs is None:
            return None
        lasting: set[str] = self._lasting.of(identity)
        found = [detector.observe(identity, inputs, outputs) for detector in self.detectors]
        findings = [finding for finding in found if finding is not None]
        reason = " ".join(finding.statement for finding in findings)
        now = {self.answers[finding.id] for finding in findings}
        lasting |= now & {"labels", "mark"}
        if "throttle" in now:
            return Verdict("throttle", reason, seconds=self.seconds)
        if lasting:
            if "mark" in lasting and self.dawn is not None and outputs.shape[1] > 1:
                outputs = self.dawn.mark(identity, inputs, outputs)
            if "labels" in lasting:
                outputs = _labels_alone(outputs)
            given = {**query.outputs, "predictions": outputs}
            return Verdict("coarsen", reason or "found earlier", given)
        return Verdict("alert", reason) if findings else None


def standard_monitor(
    data: Any = None, predictions: Any = None, bounds: tuple[float, float] = (0.0, 1.0)
) -> AbuseMonitor:
    """A monitor with every detector that what is given allows, and the answers of `ANSWERS`.

    Args:
        data: The owner's inputs, shape (n, ...), for `Coverage`; None leaves it out.
        predictions: The served model's answers to them, shape (n, classes), for `Drift`; None
            leaves it out.
        bounds: Range of the inputs. Defaults to (0, 1).

    Returns:
        An `AbuseMonitor`.

    Raises:
        InputError: There is too little data.

    Example:

    >>> [type(detector).__name__ for detector in standard_monitor().detectors]
    ['NearDuplicates', 'DistanceDistribution']
    """
    detectors: list[Detector] = [NearDuplicates(bounds), DistanceDistribution()]
    if data is not None:
        detectors.append(Coverage(data, cells=min(100, max(2, len(data) // 20))))
    if predictions is not None:
        detectors.append(Drift(predictions))
    return AbuseMonitor(detectors)


def _one(inputs: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """The only input, if there is only one."""
    return next(iter(inputs.values())) if len(inputs) == 1 else None


def _predictions(outputs: Mapping[str, Any]) -> np.ndarray | None:
    """The predictions, shape (batch, classes), if there are such."""
    predictions = outputs.get("predictions")
    return predictions if predictions is not None and np.ndim(predictions) == 2 else None


def _labels_alone(outputs: np.ndarray) -> np.ndarray:
    """One for the predicted class of each row, zero elsewhere; rejected rows stay all zeros."""
    if outputs.shape[1] == 1:
        return (outputs > 0.5).astype(outputs.dtype)
    hot = np.zeros_like(outputs)
    hot[np.arange(len(outputs)), outputs.argmax(axis=1)] = 1.0
    return np.where(np.any(outputs != 0, axis=1, keepdims=True), hot, 0.0).astype(outputs.dtype)
