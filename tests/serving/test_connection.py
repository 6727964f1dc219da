"""Connections that bring no request are closed; those that do are answered in any time."""

import asyncio
import contextlib
import socket
import threading
import time

import pytest
import uvicorn

from keras_secure.serving.connection import http_protocol

SECONDS = 0.3
ASK = b"GET %s HTTP/1.1\r\nhost: a\r\n\r\n"


LARGE = 2**25  # more than systems keep for a connection


async def app(scope, receive, send):
    if scope["path"] == "/slow":
        await asyncio.sleep(3 * SECONDS)
    body = bytes(LARGE) if scope["path"] == "/large" else b"ok"
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def port():
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, http=http_protocol(SECONDS), lifespan="off", log_config=None, ws="none"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join(20)


@pytest.fixture
def connection(port):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        yield connection


def received(connection):
    """What comes until the other side closes the connection."""
    with contextlib.suppress(ConnectionError):
        return b"".join(iter(lambda: connection.recv(2**18), b""))
    return b""


def test_nothing_is_sent(connection):
    assert received(connection) == b""


def test_a_head_that_never_ends(connection):
    connection.sendall(b"GET / HTTP/1.1\r\n")
    began = time.monotonic()
    with contextlib.suppress(ConnectionError):
        while time.monotonic() < began + 20:
            connection.sendall(b"a: b\r\n")
            time.sleep(SECONDS / 10)
    assert time.monotonic() < began + 20


def test_a_second_head_that_never_ends(connection):
    connection.sendall(ASK % b"/")
    assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    connection.sendall(b"GET / HTTP/1.1\r\na: ")
    received(connection)


def test_a_body_that_nobody_reads(connection):
    connection.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n")
    assert received(connection).count(b"HTTP/1.1 200") == 1


def test_an_answer_that_nobody_reads(connection):
    connection.sendall(ASK % b"/large")
    time.sleep(5 * SECONDS)
    # Only a connection that was given up brings so little of so much.
    assert len(received(connection)) < LARGE


def test_large_answers_arrive(connection):
    connection.sendall(ASK % b"/large")
    left = LARGE
    while left > 0:
        left -= len(connection.recv(2**18))


def test_answers_take_the_time_that_they_take(connection):
    connection.sendall((ASK % b"/slow") * 2)
    assert received(connection).count(b"HTTP/1.1 200") == 2
