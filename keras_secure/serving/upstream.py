"""A TensorFlow Serving behind this server, which sees only what was checked here."""

import asyncio
import json
import logging
import re
from concurrent.futures import Executor
from typing import Any
from urllib.parse import quote

import numpy as np

from keras_secure.errors import InputError
from keras_secure.serving import dialect
from keras_secure.serving.dialect import DEFAULT_SIGNATURE, PredictRequest
from keras_secure.serving.limits import Limits
from keras_secure.serving.metrics import Metrics
from keras_secure.serving.refusal import Refusal
from keras_secure.serving.tensors import DATA_TYPES, TensorSpec

_log = logging.getLogger(__name__)
_MAX_ANSWER = 64 * 2**20
_DTYPES = {serving: dtype for dtype, serving in DATA_TYPES.items()}


class UpstreamModel:
    """Asks a model of another server that speaks TensorFlow Serving's REST dialect.

    A request is parsed, held against the signatures that the other server states, and written anew:
    what is forwarded is what was checked, whatever the other server's parser would have made of the
    original. Credentials and other headers stay here.

    Args:
        url: Address of the other server, for example `"http://127.0.0.1:8501"`.
        model: Its name there; by default the name that it is served by here.
        bounds: Lowest and highest number in numeric inputs; others, and NaN, are refused with
            status 400. None accepts all.
        sensitive: Names of sensitive fields, as for `Masking`.

    Example:

    >>> UpstreamModel("http://127.0.0.1:8501", bounds=(0.0, 1.0)).ready
    False
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        *,
        bounds: tuple[float, float] | None = None,
        sensitive: tuple[str, ...] = (),
        transport: Any = None,
    ):
        if not url.startswith(("http://", "https://")):
            raise InputError(f"{url!r} is no address; expected for example http://127.0.0.1:8501.")
        self._url, self._model, self._bounds = url.rstrip("/"), model, bounds
        self.sensitive = sensitive
        self._transport = transport
        self._client: Any = None
        self._signatures: dict[str, Any] = {}
        self._number = 0
        self._asking: asyncio.Task | None = None

    @property
    def ready(self) -> bool:
        """Whether the other server told what its model takes."""
        return bool(self._signatures)

    async def open(
        self, name: str, limits: Limits, executor: Executor, workers: int, metrics: Metrics
    ) -> None:
        """Asks the other server what its model takes; it may be down, and is asked again then."""
        import httpx

        self.name = name
        # Neither proxies nor passwords from the environment: it is the server that was named.
        self._client = httpx.AsyncClient(
            timeout=limits.seconds, transport=self._transport, trust_env=False
        )
        try:
            await self.reload()
        except (InputError, Refusal) as error:
            _log.warning("%s", error)
            self._asking = asyncio.create_task(self._ask_again())

    def find(self, version: int | None = None, label: str | None = None) -> "_Remote":
        """The version that a request is for; whether there is one, the other server says.

        Raises:
            Refusal: With status 503, while the other server did not tell about its model; with 400:
                the label would lead elsewhere there.
        """
        if label is not None and not re.fullmatch(dialect.LABEL, label):
            raise dialect.unknown_label(label)
        if not self.ready:
            raise Refusal(503, "The upstream server does not answer.", "upstream", 1.0)
        return _Remote(self, version, label)

    async def reload(self) -> dict[str, Any]:
        """Asks again what the model takes.

        Raises:
            InputError: The other server did not say.
        """
        status, content = await self.ask("GET", "/metadata")
        try:
            if status != 200:
                raise ValueError(f"status {status}")
            entries = content["metadata"]["signature_def"]["signature_def"]
            signatures = {key: _specs(entry) for key, entry in entries.items()}
            self._number = int(content["model_spec"]["version"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"The upstream server at {self._url} does not describe its model: {error}. "
                "Check the address and the name of the model."
            ) from error
        self._signatures = {key: specs for key, specs in signatures.items() if specs}
        return self.describe()

    async def rollback(self) -> dict[str, Any]:
        """Not here.

        Raises:
            InputError: Always.
        """
        raise InputError("Versions of an upstream model are changed at the upstream server.")

    def describe(self) -> dict[str, Any]:
        """What the audit log says of it."""
        return {"model": self.name, "version": self._number, "upstream": self._url}

    def states(self) -> dict[int, str]:
        """Nothing: the other server is asked."""
        return {}

    async def close(self) -> None:
        """Closes the connections."""
        if self._asking is not None:
            self._asking.cancel()
        if self._client is not None:
            await self._client.aclose()

    def specs(self, signature: str) -> dict[str, TensorSpec]:
        """What a signature takes."""
        if signature not in self._signatures:
            raise dialect.unknown_signature(signature)
        return self._signatures[signature]

    def check_bounds(self, array: np.ndarray) -> None:
        """Refuses numbers beyond the bounds."""
        if self._bounds is None or array.dtype.kind not in "iuf":
            return
        low, high = self._bounds
        if not np.all((array >= low) & (array <= high)):
            raise Refusal(400, f"Inputs must be from {low:g} to {high:g}.", "bounds")

    async def ask(self, method: str, suffix: str, body: Any = None) -> tuple[int, Any]:
        """Sends a request for the model to the other server.

        Returns:
            Status and parsed answer.

        Raises:
            Refusal: With status 502, 503 or 504: it gave none that can be used.
        """
        import httpx

        name = quote(self._model or self.name, safe="")
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        try:
            async with self._client.stream(
                method, f"{self._url}/v1/models/{name}{suffix}", content=data, headers=headers
            ) as response:
                received = bytearray()
                async for chunk in response.aiter_bytes():
                    received += chunk
                    if len(received) > _MAX_ANSWER:
                        raise Refusal(502, "The upstream server's answer is too large.", "upstream")
        except httpx.TimeoutException as error:
            raise Refusal(504, "The upstream server took too long.", "upstream", 1.0) from error
        except httpx.HTTPError as error:
            raise Refusal(503, "The upstream server does not answer.", "upstream", 1.0) from error
        try:
            content = json.loads(received)
        except (ValueError, RecursionError) as error:
            raise Refusal(502, "The upstream server did not answer in JSON.", "upstream") from error
        return response.status_code, content

    async def _ask_again(self) -> None:
        while not self.ready:
            await asyncio.sleep(1.0)
            try:
                await self.reload()
            except (InputError, Refusal) as error:
                _log.debug("%s", error)


class _Remote:
    """A version of the model, named as the client named it."""

    def __init__(self, model: UpstreamModel, version: int | None, label: str | None):
        self._model = model
        self.number = model._number if version is None else version
        self._path = ""
        if version is not None:
            self._path = f"/versions/{version}"
        elif label is not None:
            self._path = f"/labels/{label}"
        self.inputs = model.specs(DEFAULT_SIGNATURE) if model.ready else {}
        self.sensitive = model.sensitive
        self.verbs = ("predict", "classify", "regress")

    def read(self, verb: str, body: dict[str, Any], has_constants: bool) -> PredictRequest:
        if verb != "predict":
            examples = body.get("examples")
            if not isinstance(examples, list) or not examples:
                raise Refusal(
                    400, f"When method is {verb}, key 'examples' must be a list.", "malformed"
                )
            return PredictRequest({"examples": np.zeros(len(examples))}, True)
        specs = self._model.specs(dialect.signature_of(body))
        request = dialect.read_predict(body, specs, has_constants)
        for array in request.inputs.values():
            self._model.check_bounds(array)
        return request

    async def compute(
        self, verb: str, body: dict[str, Any], request: PredictRequest
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        known = ("signature_name", "instances", "inputs", "examples", "context")
        forwarded = {key: value for key, value in body.items() if key in known}
        status, content = await self._model.ask("POST", f"{self._path}:{verb}", forwarded)
        _check(status, content)
        return _arrays(content), content

    def write(
        self, verb: str, request: PredictRequest, outputs: dict[str, np.ndarray]
    ) -> dict[str, Any]:
        return dialect.write_predict(outputs, request.row_format)

    async def describe(self, subresource: str) -> dict[str, Any]:
        status, content = await self._model.ask("GET", f"{self._path}{subresource}")
        _check(status, content)
        return content


def _check(status: int, content: Any) -> None:
    if status == 200 and isinstance(content, dict):
        return
    message = content.get("error") if isinstance(content, dict) else None
    if not isinstance(message, str) or not 400 <= status < 600:
        raise Refusal(502, "The upstream server gave no usable answer.", "upstream")
    raise Refusal(status, message[:1000], "upstream", 1.0 if status in (429, 503) else None)


def _arrays(content: dict[str, Any]) -> dict[str, np.ndarray]:
    """The outputs of an answer, as far as they are numbers."""
    values: dict[str, Any] = {}
    if isinstance(content.get("outputs"), dict):
        values = content["outputs"]
    elif "outputs" in content:
        values = {"outputs": content["outputs"]}
    elif isinstance(content.get("predictions"), list) and content["predictions"]:
        rows = content["predictions"]
        if all(isinstance(row, dict) for row in rows):
            names = set.intersection(*(set(row) for row in rows))
            values = {name: [row[name] for row in rows] for name in sorted(names)}
        else:
            values = {"predictions": rows}
    found = {}
    for name, value in values.items():
        try:
            array = np.array(value)
        except ValueError:
            continue
        if array.dtype.kind in "biuf":
            found[name] = array
    return found


def _specs(entry: dict[str, Any]) -> dict[str, TensorSpec]:
    """The inputs of a signature; none where one is of a type that JSON cannot hold."""
    specs = {}
    for name, info in entry["inputs"].items():
        dtype = _DTYPES.get(info["dtype"])
        if dtype is None:
            return {}
        shape = info["tensor_shape"]
        sizes = tuple(
            None if int(dim["size"]) < 0 else int(dim["size"]) for dim in shape.get("dim", [])
        )
        specs[name] = TensorSpec(name, dtype, None if shape.get("unknown_rank") else sizes)
    return specs
