"""The ASGI application: addresses, and nothing else."""

import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

from keras_secure.errors import InputError
from keras_secure.serving.audit_log import AuditLog
from keras_secure.serving.authentication import Authenticator
from keras_secure.serving.budgets import QueryBudgets
from keras_secure.serving.exchange import Exchange, Reply
from keras_secure.serving.identity import is_model_name
from keras_secure.serving.limits import Limits
from keras_secure.serving.observer import Observer
from keras_secure.serving.refusal import Refusal
from keras_secure.serving.sealed_inputs import InputSealer
from keras_secure.serving.service import Service

_JSON = "application/json"
_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


def create_app(
    models: dict[str, Any],
    authenticator: Authenticator,
    *,
    limits: Limits | None = None,
    audit_log: AuditLog | None = None,
    budgets: QueryBudgets | None = None,
    observer: Observer | None = None,
    input_recipients: Any = (),
    masked: Iterable[str] = (),
    workers: int | None = None,
) -> Any:
    """Makes an ASGI application that serves models in TensorFlow Serving's REST dialect.

    Args:
        models: `ServedModel` or `UpstreamModel`, by the name in the address. They are loaded when
            the application starts up, which fails if a bundle does not verify.
        authenticator: Says who somebody is.
        limits: Bounds; those of `Limits()` by default.
        audit_log: Takes a line about every request, before it is answered; None keeps none.
        budgets: Counts answered examples; by default until the process ends.
        observer: Watches queries and answers.
        input_recipients: Who can read requests and answers in the audit log, as for
            `keras_secure.integrity.encrypt`; by default they are not kept at all.
        masked: Fields that are masked before they are kept, as for `Masking`; besides those that a
            bundle declares under `sensitive_fields` in its metadata.
        workers: Threads that compute; by default one for each CPU, up to 4.

    Returns:
        A FastAPI application; `app.state.service.swap(name, "reload")` swaps a bundle.

    Raises:
        InputError: There is no model, its name does not fit into an address, or the packages of the
            extra `serve` are missing.

    Example:

    >>> import tempfile
    >>> import keras
    >>> from fastapi.testclient import TestClient
    >>> from keras_secure import export, integrity
    >>> from keras_secure.serving import Authenticator, Identity, ServedModel
    >>> private_key, public_key = integrity.generate_key_pair()
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> anyone = Authenticator(anonymous=Identity("anyone", "anonymous", ("*:*",)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = export.export_hardened(model, f"{folder}/bundle", private_key=private_key)
    ...     app = create_app({"line": ServedModel(f"{folder}/bundle", public_key)}, anyone)
    ...     with TestClient(app) as client:
    ...         answer = client.post("/v1/models/line:predict", json={"instances": [[0.0, 0.0]]})
    >>> answer.json()["predictions"][0]["rejected"]
    False
    """
    _check_packages()
    from fastapi import FastAPI
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    if not models:
        raise InputError("No model was given to serve.")
    for name in models:
        if not is_model_name(name):
            raise InputError(
                f"{name!r} cannot be the name of a model in an address; use letters, digits, '_', "
                "'-' and '.'."
            )
    sealer = InputSealer(input_recipients, masked) if input_recipients else None
    service = Service(
        dict(models), authenticator, limits or Limits(), audit_log, budgets, observer, sealer,
        workers,
    )  # fmt: skip

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        await service.open()
        try:
            yield
        finally:
            await service.close()

    def exchange_of(request: Any, verb: str) -> Exchange:
        path = request.path_params
        return Exchange(
            verb,
            path.get("name", ""),
            request.headers,
            request.client.host if request.client else "",
            path.get("version"),
            path.get("label"),
        )

    def respond(reply: Reply, exchange: Exchange, media_type: str = _JSON) -> Any:
        headers = {**_HEADERS, "x-request-id": exchange.id}
        if reply.retry_after is not None:
            headers["retry-after"] = str(max(1, round(reply.retry_after)))
        if reply.status == 401:
            headers["www-authenticate"] = "Bearer"
        return Response(reply.body, reply.status, headers, media_type)

    def inference(verb: str) -> Any:
        async def endpoint(request: Request) -> Response:
            exchange = exchange_of(request, verb)

            async def read_body(limit: int) -> bytes:
                return await _read_body(request, limit)

            return respond(await service.infer(exchange, read_body), exchange)

        return endpoint

    def information(verb: str) -> Any:
        async def endpoint(request: Request) -> Response:
            exchange = exchange_of(request, verb)
            return respond(await service.inform(exchange), exchange)

        return endpoint

    def administration(change: str) -> Any:
        async def endpoint(request: Request) -> Response:
            exchange = exchange_of(request, "admin")
            return respond(await service.change(exchange, change), exchange)

        return endpoint

    async def metrics(request: Request) -> Response:
        exchange = exchange_of(request, "metrics")
        reply = await service.show_metrics(exchange)
        media_type = "text/plain; version=0.0.4" if reply.status == 200 else _JSON
        return respond(reply, exchange, media_type)

    async def openapi(request: Request) -> Response:
        exchange = exchange_of(request, "openapi")
        return respond(await service.describe_api(exchange), exchange)

    async def live(request: Request) -> Response:
        return Response(b'{"status": "live"}', 200, _HEADERS, _JSON)

    async def ready(request: Request) -> Response:
        body = b'{"status": "ready"}' if service.ready else b'{"error": "not ready"}'
        return Response(body, 200 if service.ready else 503, _HEADERS, _JSON)

    async def failed(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        path = request.url.path
        text = str(getattr(error, "detail", "Internal error"))
        if status == 404:
            text = f"Malformed request: {request.method} {path[:200]}"
            status = 400 if path.startswith("/v1/") else 404
        headers = {**_HEADERS, **(getattr(error, "headers", None) or {})}
        return Response(json.dumps({"error": text}), status, headers, _JSON)

    # Plain routes: nothing of a request is read before its sender is known.
    routes = [
        Route("/healthz", live, methods=["GET"]),
        Route("/readyz", ready, methods=["GET"]),
        Route("/openapi.json", openapi, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
        # Where TensorFlow Serving has them.
        Route("/monitoring/prometheus/metrics", metrics, methods=["GET"]),
    ]
    for change in ("reload", "rollback"):
        path = "/v1/models/{name}:" + change
        routes.append(Route(path, administration(change), methods=["POST"]))
    for qualifier in ("", "/versions/{version}", "/labels/{label}"):
        path = "/v1/models/{name}" + qualifier
        for verb in ("predict", "classify", "regress"):
            routes.append(Route(f"{path}:{verb}", inference(verb), methods=["POST"]))
        routes.append(Route(f"{path}/metadata", information("metadata"), methods=["GET"]))
        routes.append(Route(path, information("status"), methods=["GET"]))
    app = FastAPI(
        title="keras_secure",
        lifespan=lifespan,
        routes=list(routes),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={HTTPException: failed, Exception: failed},
    )
    app.state.service = service
    return app


async def _read_body(request: Any, limit: int) -> bytes:
    """Reads at most so many bytes of a body."""
    from starlette.requests import ClientDisconnect

    too_large = Refusal(413, f"The request is larger than {limit} bytes.", "size")
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise Refusal(415, "Compressed requests are not taken.", "encoding")
    if "transfer-encoding" in request.headers and "content-length" in request.headers:
        # What stands before this server may see the end of this request elsewhere.
        raise Refusal(400, "Give one of Content-Length and Transfer-Encoding.", "malformed")
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > limit:
        raise too_large
    received = bytearray()
    try:
        async for chunk in request.stream():
            received += chunk
            if len(received) > limit:
                raise too_large
    except ClientDisconnect as error:
        raise Refusal(499, "The client went away.", "disconnect") from error
    return bytes(received)


def _check_packages() -> None:
    try:
        import fastapi  # noqa: F401
        import jwt  # noqa: F401
        import prometheus_client  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"The package {error.name} is missing: pip install 'keras-secure[serve]'."
        ) from error
