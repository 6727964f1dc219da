"""A server process: an address, TLS, and what signals mean."""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from typing import Any

from keras_secure.errors import InputError, SecurityError
from keras_secure.serving.connection import http_protocol

_log = logging.getLogger(__name__)


def serve(
    app: Any,
    *,
    host: str = "127.0.0.1",
    port: int = 8501,
    certificate: str | None = None,
    key: str | None = None,
    key_password: str | None = None,
    client_authorities: str | None = None,
    drain_seconds: float = 30.0,
    announce: Any = None,
) -> int:
    """Serves an application until SIGTERM or SIGINT.

    The first such signal ends it gracefully: `/readyz` says so, no connection is accepted any more,
    requests that were taken are answered for up to `drain_seconds`, and files are closed. SIGHUP
    reloads every bundle.

    Args:
        app: What `create_app` made.
        host: Address to listen on.
        port: Port; 0 takes any that is free. 8501 is TensorFlow Serving's.
        certificate: PEM file with the certificates for TLS (1.2 or newer); None for plain HTTP.
        key: PEM file with its private key, if that is another file.
        key_password: Its passphrase.
        client_authorities: PEM file with authorities; then clients must show a certificate by one.
        drain_seconds: How long to wait for answers in the end.
        announce: Is called with the address when it is listened on.

    Returns:
        0, or 1 if the application did not start up.

    Raises:
        IntegrityError: A bundle is not what a trusted key signed.
        InputError: The address is taken, or the files for TLS or a bundle cannot be used.

    Example:

    >>> import inspect
    >>> inspect.signature(serve).parameters["port"].default
    8501
    """
    if certificate is None and (key is not None or client_authorities is not None):
        # uvicorn would leave the authorities aside, and serve anybody in plain text.
        raise InputError(
            "Clients cannot be asked for certificates, nor a key be used, without TLS. Give the "
            "server's certificate too."
        )
    try:
        import uvicorn
    except ImportError as error:
        raise InputError(
            "Serving needs the package uvicorn: pip install 'keras-secure[serve]'."
        ) from error
    import ssl

    service = app.state.service

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: Any) -> None:
            # Not kept, so that a drained process ends well and not by the signal.
            self.force_exit = self.should_exit and sig == signal.SIGINT
            service.draining = self.should_exit = True

    try:
        config = uvicorn.Config(
            app,
            http=http_protocol(service.limits.seconds),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=service.limits.connections,
            timeout_graceful_shutdown=max(1, round(drain_seconds)),
            ssl_certfile=certificate,
            ssl_keyfile=key,
            ssl_keyfile_password=key_password,
            ssl_ca_certs=client_authorities,
            ssl_cert_reqs=ssl.CERT_REQUIRED if client_authorities else ssl.CERT_NONE,
        )
        config.load()
        listener = _listen(host, port)
    except (OSError, OverflowError, ssl.SSLError, ValueError) as error:
        raise InputError(f"Nothing can be served at {host}:{port}: {error}.") from error
    server = Server(config)

    async def run() -> None:
        await service.open()
        # Parsing makes many lists, and looking for garbage among them should not look through the
        # frameworks each time: a third of a request's CPU time went there.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)
        with _reloading(service):
            serving = asyncio.ensure_future(server.serve([listener]))
            while not (server.started or serving.done()):
                await asyncio.sleep(0.01)
            if server.started and announce is not None:
                scheme = "https" if certificate else "http"
                announce(f"{scheme}://{host}:{listener.getsockname()[1]}")
            await serving

    try:
        asyncio.run(run())
    except SystemExit:  # uvicorn's way to say that the application did not start up
        return 1
    finally:
        listener.close()
    return 0 if server.started else 1


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, since asyncio turns Nagle's delay off only where it sees that this is TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


@contextlib.contextmanager
def _reloading(service: Any) -> Any:
    """Lets SIGHUP reload every bundle, on systems that have it."""
    if not hasattr(signal, "SIGHUP"):
        yield
        return
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task] = set()

    def reload() -> None:
        task = loop.create_task(_reload(service))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


async def _reload(service: Any) -> None:
    for name in service.models:
        try:
            told = await service.swap(name, "reload")
            _log.warning("%s is now served in version %s", name, told["version"])
        except SecurityError as error:
            _log.error("%s stays as it was: %s", name, error)
