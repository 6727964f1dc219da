"""A name under which verified bundles are served, one after the other."""

import asyncio
import logging
import os
from collections.abc import Iterable
from concurrent.futures import Executor
from typing import Any

import numpy as np

from keras_secure.errors import InputError
from keras_secure.serving import dialect
from keras_secure.serving.batching import Batcher
from keras_secure.serving.dialect import DEFAULT_SIGNATURE, PredictRequest
from keras_secure.serving.dialect_examples import (
    read_examples,
    write_classify,
    write_regress,
)
from keras_secure.serving.limits import Limits
from keras_secure.serving.metrics import Metrics
from keras_secure.serving.refusal import Refusal
from keras_secure.serving.release import Release, load_release
from keras_secure.serving.tensors import TensorSpec

_log = logging.getLogger(__name__)


class ServedModel:
    """Serves the bundle at a path, and on `reload` the one that is there by then.

    Args:
        path: The bundle, or a store of them as `keras_secure.integrity.publish` makes it.
        trust: Whom to believe, as for `keras_secure.integrity.verify`.
        min_serial: The lowest serial number that is accepted. After a swap no lower one than that
            of the version in use is, except by `rollback`.
        outputs: Which outputs to answer with; None for all. With one, answers are plain lists, as
            those of a model without guards.
        signatures: Signatures of the bundle to serve besides the default one, such as `"labels"`.
        check_weights: As for `keras_secure.export.Bundle.load`.

    Example:

    >>> model = ServedModel("bundle/", trust="publisher.pem", outputs=["predictions"])
    >>> model.ready
    False
    """

    def __init__(
        self,
        path: str | os.PathLike,
        trust: Any,
        *,
        min_serial: int | None = None,
        outputs: list[str] | None = None,
        signatures: Iterable[str] = (),
        check_weights: float = 0.0,
    ):
        self._signatures = tuple(signatures)
        self._path, self._trust, self._min_serial = path, trust, min_serial
        self._outputs, self._check_weights = outputs, check_weights
        self._current: _Version | None = None
        self._previous: _Version | None = None
        self._swapping = asyncio.Lock()

    @property
    def ready(self) -> bool:
        """Whether there is a version to ask."""
        return self._current is not None

    async def open(
        self, name: str, limits: Limits, executor: Executor, workers: int, metrics: Metrics
    ) -> None:
        """Loads the first version.

        Raises:
            IntegrityError: The bundle is not what a trusted key signed.
            InputError: It cannot be used.
        """
        self.name = name

        def batcher(function: Any, by_example: bool) -> Batcher:
            return Batcher(
                function,
                executor,
                limits.batch,
                limits.batch_delay,
                workers,
                lambda rows: metrics.batch(name, rows),
                by_example,
            )

        self._make = lambda release, number: _Version(number, release, batcher, self._outputs)
        release = await asyncio.to_thread(self._load, self._min_serial)
        self._current = self._make(release, release.serial or 1)

    def find(self, version: int | None = None, label: str | None = None) -> "_Version":
        """The version that a request is for.

        Raises:
            Refusal: With status 404: it is not served; with 400: there are no labels.
        """
        if label is not None:
            raise dialect.unknown_label(label)
        if self._current is None:
            raise Refusal(503, "The model is not loaded yet.", "not_ready", 1.0)
        if version is not None and version != self._current.number:
            raise Refusal(
                404,
                f"Servable not found for request: Specific({self.name}, {version})",
                "unknown_model",
            )
        return self._current

    async def reload(self) -> dict[str, Any]:
        """Puts the bundle into use that is at the path now, if it verifies.

        Requests that were taken before are answered by the version that they were taken for; none
        is dropped.

        Returns:
            What the audit log says of it.

        Raises:
            IntegrityError: It does not verify, or is older than the one in use.
            InputError: It cannot be used in place of the one in use.
        """
        async with self._swapping:
            before = self.find()
            lowest = max(self._min_serial or 0, before.release.serial)
            release = await asyncio.to_thread(self._load, lowest or None)
            if release.input != before.release.input:
                raise InputError(
                    f"The bundle takes {release.input}, and the one in use {before.release.input}. "
                    "Serve it under another name."
                )
            numbers = [version.number for version in (before, self._previous) if version]
            number = release.serial if release.serial > max(numbers) else max(numbers) + 1
            self._use(self._make(release, number))
            return self.describe()

    async def rollback(self) -> dict[str, Any]:
        """Puts the version back into use that was before; calling it again undoes it.

        Raises:
            InputError: There was none.
        """
        async with self._swapping:
            if self._previous is None:
                raise InputError(f"No version of {self.name} was in use before this one.")
            self._use(self._previous)
            return self.describe()

    def describe(self) -> dict[str, Any]:
        """What the audit log says of the version in use."""
        version = self.find()
        return {
            "model": self.name,
            "version": version.number,
            "bundle": version.release.digest,
            "signer": version.release.signer,
            "serial": version.release.serial,
        }

    def states(self) -> dict[int, str]:
        """The state of each version, as TensorFlow Serving names it."""
        found = {}
        if self._previous is not None:
            found[self._previous.number] = "END"
        if self._current is not None:
            found[self._current.number] = "AVAILABLE"
        return found

    async def close(self) -> None:
        """Waits until everything that was asked is answered."""
        for version in (self._current, self._previous):
            if version is not None:
                for batcher in version.batchers.values():
                    await batcher.drain()

    def _use(self, version: "_Version") -> None:
        self._previous, self._current = self._current, version
        _log.info("%s is now served in version %d", self.name, version.number)

    def _load(self, min_serial: int | None) -> Release:
        release = load_release(
            self._path,
            self._trust,
            min_serial=min_serial,
            check_weights=self._check_weights,
            signatures=self._signatures,
        )
        missing = set(self._outputs or ()) - set(release.outputs)
        if missing:
            raise InputError(
                f"The model has no output {sorted(missing)}; it has {sorted(release.outputs)}. "
                "Choose among these."
            )
        return release


class _Version:
    """A release with a number, and how it is asked."""

    def __init__(self, number: int, release: Release, batcher: Any, outputs: list[str] | None):
        self.number, self.release = number, release
        self.inputs = {release.input.name: release.input}
        self.signatures = release.signatures
        self.signatures[DEFAULT_SIGNATURE] = {
            name: spec for name, spec in release.outputs.items() if not outputs or name in outputs
        }
        self.batchers = {
            name: batcher(release.functions[name], _by_example(release.signatures[name]))
            for name in release.functions
        }

    @property
    def verbs(self) -> tuple[str, ...]:
        """What it can be asked."""
        shape = (self.release.input.shape or ())[1:]
        answer = self.release.outputs.get("predictions")
        if None in shape or answer is None or answer.shape is None:
            return ("predict",)
        if len(answer.shape) == 2 and (answer.shape[1] or 0) > 1:
            return ("predict", "classify") if len(self.release.labels) > 1 else ("predict",)
        is_number = answer.shape in ((None,), (None, 1)) and answer.dtype.startswith("float")
        return ("predict", "regress") if is_number else ("predict",)

    @property
    def sensitive(self) -> tuple[str, ...]:
        return self.release.sensitive

    def read(self, verb: str, body: dict[str, Any], has_constants: bool) -> PredictRequest:
        signature = dialect.signature_of(body)
        if verb != "predict" and signature in (DEFAULT_SIGNATURE, f"tensorflow/serving/{verb}"):
            return read_examples(body, self.release.input, verb)  # type: ignore[arg-type]
        if signature not in self.signatures:
            raise dialect.unknown_signature(signature)
        return dialect.read_predict(body, self.inputs, has_constants)

    async def compute(
        self, verb: str, body: dict[str, Any], request: PredictRequest
    ) -> tuple[dict[str, np.ndarray], None]:
        batcher = self.batchers[request.signature]
        outputs = await batcher.submit(request.inputs[self.release.input.name])
        return outputs, None

    def write(
        self, verb: str, request: PredictRequest, outputs: dict[str, np.ndarray]
    ) -> dict[str, Any]:
        if verb == "classify":
            return write_classify(
                outputs["predictions"], outputs.get("rejected"), self.release.labels
            )
        if verb == "regress":
            return write_regress(outputs["predictions"], outputs.get("rejected"))
        given = self.signatures[request.signature]
        chosen = {name: array for name, array in outputs.items() if name in given}
        return dialect.write_predict(chosen, request.row_format)

    def metadata(self, name: str) -> dict[str, Any]:
        return dialect.write_metadata(name, self.number, self.inputs, self.signatures)


def _by_example(outputs: dict[str, TensorSpec]) -> bool:
    return all(spec.shape is not None and spec.shape[:1] == (None,) for spec in outputs.values())
