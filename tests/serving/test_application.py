"""The way of a request: who may ask, what it costs, and what is written down about it."""

import asyncio
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from harness_serving import (
    ANYONE,
    PRIVATE_KEY,
    PUBLIC_KEY,
    Gate,
    SumModel,
    answer,
    ask,
    client,
    records,
    release,
)
from starlette.testclient import TestClient

from keras_secure.errors import InputError, IntegrityError
from keras_secure.serving import (
    ApiKeys,
    AuditLog,
    Authenticator,
    Identity,
    Limits,
    QueryBudgets,
    Verdict,
    create_app,
    open_inputs,
    verify_audit_log,
)

PREDICT = "/v1/models/sum:predict"


@pytest.fixture
def keys(tmp_path):
    return ApiKeys(tmp_path / "keys.json", create=True)


@pytest.fixture
def log(tmp_path):
    return AuditLog(tmp_path / "audit.jsonl", PRIVATE_KEY)


def test_answers_are_those_of_the_model():
    with client() as found:
        reply = ask(found, [[1.0, 2.0], [0.5, 0.25]])
        assert reply.status_code == 200
        assert reply.headers["content-type"] == "application/json"
        assert reply.json() == {
            "predictions": [
                {"predictions": [3.0, 6.0], "rejected": False},
                {"predictions": [0.75, 1.5], "rejected": False},
            ]
        }
        reply = found.post(PREDICT, content=b'{"inputs": {"x": [[NaN, 1]]}}')
        assert reply.json() == {"outputs": {"predictions": [[0.0, 0.0]], "rejected": [True]}}
        reply = ask(found, [[1.0, 2.0]], "/v1/models/sum/versions/1:predict")
        assert reply.status_code == 200
        # Clients post forms without knowing it: curl -d does.
        form = {"content-type": "application/x-www-form-urlencoded"}
        assert ask(found, headers=form).status_code == 200


def test_one_output_alone_is_answered_as_a_plain_model_would():
    with client(SumModel(outputs=["predictions"])) as found:
        assert ask(found).json() == {"predictions": [[3.0, 6.0]]}
        assert found.get("/v1/models/sum/metadata").json()["metadata"]["signature_def"][
            "signature_def"
        ]["serving_default"]["outputs"].keys() == {"predictions"}


def test_other_signatures_are_asked_by_name():
    with client() as found:
        body = {"signature_name": "total", "inputs": [[1, 2], [3, 4]]}
        reply = found.post(PREDICT, json=body)
        assert reply.json() == {"outputs": {"label": [1, 1], "total": [2]}}
        body = {"signature_name": "total", "instances": [[1, 2], [3, 4]]}
        reply = found.post(PREDICT, json=body)
        assert reply.status_code == 400
        assert "inconsistent" in reply.json()["error"]
        metadata = found.get("/v1/models/sum/metadata").json()["metadata"]["signature_def"]
        assert metadata["signature_def"].keys() == {"serving_default", "total"}


def test_classify_regress_status_metadata():
    with client(SumModel(release(metadata={"labels": ["one", "two"]}))) as found:
        body = json.dumps({"examples": [{"x": [1, 2]}]})
        reply = found.post("/v1/models/sum:classify", content=body)
        assert reply.json() == {"results": [[["one", 3.0], ["two", 6.0]]]}
        reply = found.post("/v1/models/sum:regress", content=body)
        assert reply.status_code == 400
        assert "regress" in reply.json()["error"]
        assert found.get("/v1/models/sum").json()["model_version_status"][0]["version"] == "1"
        assert found.get("/v1/models/sum/versions/1").status_code == 200
        assert found.get("/v1/models/sum/versions/1/metadata").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/models/other:predict", 404),
        ("GET", "/v1/models/other", 404),
        ("GET", "/v1/models/other/metadata", 404),
        ("POST", "/v1/models/sum/versions/2:predict", 404),
        ("POST", "/v1/models/sum/versions/x:predict", 400),
        ("POST", f"/v1/models/sum/versions/{'9' * 40}:predict", 400),
        ("POST", f"/v1/models/sum/versions/{'0' * 5000}:predict", 400),
        ("POST", "/v1/models/sum/versions/-1:predict", 400),
        ("POST", "/v1/models/sum/labels/stable:predict", 400),
        ("POST", "/v1/models/sum:fly", 405),
        ("GET", PREDICT, 404),
        ("PUT", PREDICT, 405),
        ("DELETE", "/v1/models/sum", 405),
        ("GET", "/v1/models", 400),
        ("GET", "/v1/models/sum/", 400),
        ("POST", "/v1/models/../models/sum:predict:x", 405),
        ("POST", "/v1/models/sum%2f..%2fsum:predict", 400),
        ("GET", "/v1/models/sum/../../../etc/passwd", 404),
        ("GET", "/docs", 404),
        ("GET", "/", 404),
    ],
)
def test_addresses_that_lead_nowhere(method, path, status):
    with client() as found:
        reply = found.request(method, path, content=b'{"instances": [[1, 2]]}')
        assert reply.status_code == status
        assert list(reply.json()) == ["error"]
        assert reply.headers["content-type"] == "application/json"


def test_who_may_ask(keys):
    may = keys.add("alice", ["sum:predict"])
    elsewhere = keys.add("bob", ["other:*"])
    reads = keys.add("carol", ["sum:status", "sum:metadata"])
    with client(authenticator=Authenticator(keys)) as found:

        def status(key, path=PREDICT):
            headers = {} if key is None else {"x-api-key": key}
            if path == PREDICT:
                return ask(found, headers=headers).status_code
            return found.get(path, headers=headers).status_code

        assert status(may) == 200
        assert status(None) == 401
        assert status(may[:-1]) == 401
        assert status(elsewhere) == status(reads) == 403
        assert status(reads, "/v1/models/sum") == status(reads, "/v1/models/sum/metadata") == 200
        assert status(may, "/v1/models/sum") == status(may, "/metrics") == 403
        # Whether there is such a model, only those learn who may ask it.
        assert status(may, "/v1/models/other") == status(may, "/v1/models/nothing") == 403
        assert status(elsewhere, "/v1/models/other") == 404
        assert ask(found).headers["www-authenticate"] == "Bearer"
        assert found.get("/healthz").status_code == found.get("/readyz").status_code == 200
        for change in ("reload", "rollback"):
            reply = found.post(f"/v1/models/sum:{change}", headers={"x-api-key": may})
            assert reply.status_code == 403
        keys.revoke(may)
        assert status(may) == 401


def test_the_api_is_described_to_those_who_may_ask(keys):
    may, elsewhere = keys.add("alice", ["sum:status"]), keys.add("bob", ["third:*"])
    app = create_app({"sum": SumModel(), "other": SumModel()}, Authenticator(keys))
    with TestClient(app) as found:

        def described(key):
            return found.get("/openapi.json", headers={"x-api-key": key} if key else {})

        document = described(may).json()
        (name,) = document["paths"]["/v1/models/{name}"]["get"]["parameters"]
        assert name["schema"]["enum"] == ["sum"]
        for reply, status in ((described(None), 401), (described(elsewhere), 403)):
            assert reply.status_code == status
            assert "sum" not in reply.text


def test_what_another_server_may_read_otherwise_is_refused(keys):
    """A proxy may have judged the other credentials, or see the end of the body elsewhere."""
    may, too = keys.add("alice", ["sum:*"]), keys.add("bob", ["sum:*"])
    with client(authenticator=Authenticator(keys)) as found:
        both = [("x-api-key", may), ("x-api-key", too)]
        for headers in (both, [("authorization", f"Bearer {key}") for key in (may, too)]):
            assert ask(found, headers=headers).status_code == 401
        assert ask(found, headers=both[:1]).status_code == 200
        twice = [*both[:1], ("transfer-encoding", "chunked"), ("content-length", "23")]
        assert ask(found, headers=twice).status_code == 400


def test_sizes_and_depths_and_encodings():
    limits = Limits(request_bytes=200, rows=3, depth=4)
    with client(limits=limits) as found:
        assert ask(found, [[1, 2]] * 3).status_code == 200
        reply = ask(found, [[1, 2]] * 4)
        assert reply.status_code == 413
        assert "at most 3" in reply.json()["error"]
        assert ask(found, [[1.0, 2.0]] * 50).status_code == 413

        def parts():
            for _ in range(100):
                yield b" " * 10

        assert found.post(PREDICT, content=parts()).status_code == 413
        assert found.post(PREDICT, content=b'{"instances": [[[[1]]]]}').status_code == 400
        reply = ask(found, headers={"content-encoding": "gzip"})
        assert reply.status_code == 415


def test_rates_and_budgets(tmp_path, keys):
    slow = keys.add("alice", ["sum:*"], rate=0.001, budget=100)
    poor = keys.add("bob", ["sum:*"], budget=3)
    path = tmp_path / "budgets.json"
    limits = Limits(burst=2)
    for spent in (0, 3):
        budgets = QueryBudgets(path)
        with client(authenticator=Authenticator(keys), limits=limits, budgets=budgets) as found:
            for _ in range(2):
                assert ask(found, headers={"x-api-key": slow}).status_code == 200
            reply = ask(found, headers={"x-api-key": slow})
            assert reply.status_code == 429
            assert int(reply.headers["retry-after"]) > 100
            if not spent:
                assert ask(found, [[1, 2]] * 2, headers={"x-api-key": poor}).status_code == 200
                # What is malformed costs nothing.
                assert ask(found, [[1]], headers={"x-api-key": poor}).status_code == 400
                assert ask(found, [[1, 2]] * 2, headers={"x-api-key": poor}).status_code == 429
                assert ask(found, [[1, 2]], headers={"x-api-key": poor}).status_code == 200
            reply = ask(found, headers={"x-api-key": poor})
            assert reply.status_code == 429
            assert "retry-after" not in reply.headers


def test_strangers_are_told_apart_by_address_and_others_not(keys):
    limits = Limits(rate=0.001, burst=1)
    with client(limits=limits) as found:
        assert ask(found).status_code == 200
        assert ask(found).status_code == 429


def test_beyond_the_concurrency_others_are_turned_away():
    gate = Gate()
    with client(SumModel(release(gate)), limits=Limits(concurrency=2)) as found:
        with ThreadPoolExecutor(2) as pool:
            asked = [pool.submit(ask, found, [[n, 0]]) for n in range(2)]
            assert gate.entered.acquire(timeout=10)
            while found.service.inference.in_flight < 2:
                pass
            reply = ask(found)
            assert reply.status_code == 503
            assert int(reply.headers["retry-after"]) >= 1
            assert found.get("/readyz").status_code == 200
            gate.open.set()
            sums = [f.result().json()["predictions"][0]["predictions"][0] for f in asked]
        assert sums == [0.0, 1.0]
        assert ask(found).status_code == 200


def test_time_is_up():
    gate = Gate()
    with client(SumModel(release(gate)), limits=Limits(seconds=0.2)) as found:
        assert ask(found).status_code == 504
        gate.open.set()
        # A busy machine may take more than that for an answer, but not again and again.
        assert 200 in (ask(found).status_code for _ in range(50))


def test_a_failing_model_is_no_crash_and_tells_nothing(caplog):
    def broken(x):
        raise RuntimeError("secret path /etc")

    with client(SumModel(release(broken))) as found:
        reply = ask(found)
        assert reply.status_code == 500
        assert "secret" not in reply.text
        assert reply.headers["x-request-id"] in reply.json()["error"]
        assert found.get("/healthz").status_code == 200
    assert "secret path" in caplog.text


def test_many_at_once_each_get_their_own():
    with client() as found, ThreadPoolExecutor(16) as pool:

        def one(number):
            rows = [[number + place, 0.5] for place in range(1 + number % 3)]
            got = ask(found, rows).json()["predictions"]
            return [row["predictions"][0] for row in got] == [n + 0.5 for n, _ in rows]

        assert all(pool.map(one, range(200)))


def test_the_log_tells_who_and_how_much_and_not_what(tmp_path, keys, log):
    key = keys.add("alice", ["sum:predict"])
    with client(authenticator=Authenticator(keys), audit_log=log) as found:
        ask(found, [[54321.25, 2.5]], headers={"x-api-key": key})
        ask(found, [[1]], headers={"x-api-key": key})
        ask(found, headers={"x-api-key": "ksk_x"})
    path = tmp_path / "audit.jsonl"
    found_records = records(path)
    served, malformed, refused = (r for r in found_records if r["kind"] == "request")
    assert (served["status"], served["rows"], served["via"]) == (200, 1, "api_key")
    assert served["identity"] == key.split("_")[1]
    assert (malformed["status"], malformed["reason"]) == (400, "malformed")
    assert (refused["status"], refused["identity"]) == (401, None)
    # So many digits stand in no time stamp by chance; a secret may hold underscores.
    assert "54321.25" not in path.read_text()
    assert key.split("_", 2)[2] not in path.read_text()
    kinds = [record["kind"] for record in found_records]
    assert kinds[0] == "start"
    assert kinds[-2:] == ["stop", "checkpoint"]
    assert verify_audit_log(path, PUBLIC_KEY).ok


def test_inputs_are_kept_when_asked_for_and_only_for_their_readers(tmp_path, log):
    from keras_secure.integrity import generate_identity

    recipient = generate_identity(tmp_path / "identity.txt")
    model = SumModel(release(metadata={"sensitive_fields": ["x[1]"]}))
    with client(model, audit_log=log, input_recipients=recipient) as found:
        ask(found, [[54321.25, 77.5]])
    (line,) = (r for r in records(tmp_path / "audit.jsonl") if r["kind"] == "request")
    content = open_inputs(line["sealed"], tmp_path / "identity.txt")
    assert content["request"] == {"instances": [[54321.25, "***"]]}
    assert content["answer"]["predictions"][0]["predictions"] == [54398.75, 108797.5]
    assert "54321.25" not in (tmp_path / "audit.jsonl").read_text()


def test_a_log_that_was_deleted_answers_nobody_and_ends_well(tmp_path, log):
    with client(audit_log=log) as found:
        assert ask(found).status_code == 200
        (tmp_path / "audit.jsonl").unlink()
        assert ask(found).status_code == 503
        assert found.get("/readyz").status_code == 503
        assert found.get("/healthz").status_code == 200


def test_what_cannot_be_written_down_is_not_answered(log, monkeypatch):
    with client(audit_log=log) as found:
        real = os.write
        monkeypatch.setattr(os, "write", _full)
        reply = ask(found)
        assert reply.status_code == 503
        assert "predictions" not in reply.text
        assert found.get("/readyz").status_code == 503
        monkeypatch.setattr(os, "write", real)
        assert ask(found).status_code == 200
        assert found.get("/readyz").status_code == 200


def _full(descriptor, data):
    raise OSError(28, "No space left on device")


def test_a_flood_of_strangers_does_not_fill_the_log(tmp_path, log, keys):
    key = keys.add("alice", ["sum:*"])
    with client(authenticator=Authenticator(keys), audit_log=log) as found:
        for _ in range(200):
            assert ask(found).status_code == 401
        assert ask(found, headers={"x-api-key": key}).status_code == 200
    lines = [r for r in records(tmp_path / "audit.jsonl") if r["kind"] == "request"]
    assert len(lines) < 150
    assert len(lines) + sum(r.get("suppressed", 0) for r in lines) == 201


class Watcher:
    """An observer that says what it was told to."""

    def __init__(self, verdict):
        self.verdict, self.seen = verdict, []

    def observe(self, query):
        self.seen.append(query)
        assert threading.current_thread() is not threading.main_thread()
        return self.verdict


def test_an_observer_sees_and_answers(log, tmp_path):
    watcher = Watcher(None)
    with client(observer=watcher, audit_log=log) as found:
        assert ask(found).json()["predictions"][0]["predictions"] == [3.0, 6.0]
        (query,) = watcher.seen
        assert (query.identity.id, query.model, query.version) == ("anyone", "sum", 1)
        np.testing.assert_array_equal(query.inputs["x"], [[1, 2]])
        np.testing.assert_array_equal(query.outputs["predictions"], [[3, 6]])
        watcher.verdict = Verdict("alert", "odd")
        assert ask(found).status_code == 200
        coarse = {"predictions": np.array([[0.0, 1.0]]), "rejected": np.array([False])}
        watcher.verdict = Verdict("coarsen", "near duplicates", coarse)
        assert ask(found).json()["predictions"][0]["predictions"] == [0.0, 1.0]
        watcher.verdict = Verdict("throttle", "too near", seconds=77.0)
        reply = ask(found)
        assert reply.status_code == 429
        assert reply.headers["retry-after"] == "77"
        watcher.verdict = None
        assert ask(found).status_code == 429
        assert len(watcher.seen) == 4
        page = found.get("/metrics").text
    assert 'keras_secure_verdicts_total{action="alert",model="sum"} 1.0' in page
    verdicts = [r.get("verdict") for r in records(tmp_path / "audit.jsonl")]
    assert {"action": "throttle", "reason": "too near"} in verdicts


def test_a_swap_drops_nobody_and_can_be_undone(log, tmp_path):
    gate = Gate()
    model = SumModel(
        release(gate),
        release(lambda x: answer(x, 10.0)),
        IntegrityError("'weights' was changed"),
        release(shape=(None, 3)),
        release(lambda x: answer(x, 100.0), serial=9),
    )
    with client(model, audit_log=log) as found, ThreadPoolExecutor(2) as pool:

        def value(path=PREDICT):
            return ask(found, path=path).json()["predictions"][0]["predictions"][0]

        def change(what):
            return found.post(f"/v1/models/sum:{what}")

        assert change("rollback").status_code == 409
        early = pool.submit(value)
        assert gate.entered.acquire(timeout=10)
        assert change("reload").json()["version"] == 2
        assert value() == 30.0
        gate.open.set()
        # It was asked before, so it is answered by the version that it asked.
        assert early.result() == 3.0
        assert ask(found, path="/v1/models/sum/versions/1:predict").status_code == 404
        assert value("/v1/models/sum/versions/2:predict") == 30.0
        states = found.get("/v1/models/sum").json()["model_version_status"]
        assert [(s["version"], s["state"]) for s in states] == [("2", "AVAILABLE"), ("1", "END")]
        refused = change("reload")
        assert refused.status_code == 409
        assert "weights" not in refused.text
        assert change("reload").status_code == 409
        assert value() == 30.0
        assert change("rollback").json()["version"] == 1
        assert value() == 3.0
        assert change("reload").json()["version"] == 9
        assert value() == 300.0
        page = found.get("/monitoring/prometheus/metrics").text
    assert 'keras_secure_model_version{model="sum"} 9.0' in page
    changes = [r for r in records(tmp_path / "audit.jsonl") if r["kind"] == "model"]
    assert [r["change"] for r in changes] == [
        "loaded", "rollback", "reload", "reload", "reload", "rollback", "reload",
    ]  # fmt: skip
    assert "weights" in changes[3]["refused"]


def test_swaps_under_load_never_fail_a_request():
    scales = [1.0, 10.0] * 20
    model = SumModel(*(release(lambda x, s=s: answer(x, s)) for s in scales))
    with client(model) as found, ThreadPoolExecutor(4) as pool:
        done, answered = threading.Event(), threading.Semaphore(0)

        def press(number):
            try:
                while not done.is_set():
                    got = ask(found, [[float(number), 0.0]]).json()["predictions"][0]["predictions"]
                    assert got in ([number, 2 * number], [10 * number, 20 * number])
                    answered.release()
            finally:
                done.set()

        pressing = [pool.submit(press, number) for number in range(1, 4)]
        try:
            for _ in range(15):
                assert found.post("/v1/models/sum:reload").status_code == 200
                # However the machine shares its processors, swaps and answers alternate.
                while not done.is_set() and not answered.acquire(timeout=0.1):
                    pass
        finally:
            done.set()
        for future in pressing:
            future.result()


def test_a_model_that_does_not_verify_is_not_served():
    app = create_app({"sum": SumModel(IntegrityError("'weights' was changed"))}, ANYONE)
    with pytest.raises(IntegrityError, match="weights"), TestClient(app):
        raise AssertionError("it started")
    for models in ({}, {"a/b": SumModel()}, {"": SumModel()}):
        with pytest.raises(InputError):
            create_app(models, ANYONE)


def test_draining_answers_what_was_taken():
    gate = Gate()
    with ThreadPoolExecutor(1) as pool:
        with client(SumModel(release(gate))) as found:
            asked = pool.submit(ask, found)
            assert gate.entered.acquire(timeout=10)
            found.service.draining = True
            assert found.get("/readyz").status_code == 503
            gate.open.set()
            assert asked.result().status_code == 200
        assert not found.service.ready


def test_metrics_count_what_was_answered():
    with client() as found:
        ask(found, [[1, 2]] * 3)
        ask(found, [[1]])
        found.get("/v1/models/made-up-name-of-a-model")
        page = found.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain")
    for line in [
        'keras_secure_rows_total{model="sum"} 3.0',
        'keras_secure_requests_total{code="200",model="sum",verb="predict"} 1.0',
        'keras_secure_refused_total{reason="malformed"} 1.0',
        "keras_secure_ready 1.0",
    ]:
        assert line in page.text
    # Names from outside become no labels, which would fill the memory.
    assert "made-up" not in page.text


def test_the_api_describes_itself():
    with client() as found:
        document = found.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    body = document["paths"]["/v1/models/{name}:predict"]["post"]["requestBody"]
    schema = body["content"]["application/json"]["schema"]
    (named, plain) = schema["properties"]["instances"]["anyOf"]
    assert plain["items"]["minItems"] == plain["items"]["maxItems"] == 2
    assert named["items"]["required"] == ["x"]
    routes = {(path, method) for path, entry in document["paths"].items() for method in entry}
    # Without labels, which bundles have not, and without regress, which this one cannot.
    assert len(routes) == 2 * 4 + 2 + 2 + 2
    for path, method in routes:
        operation = document["paths"][path][method]
        parameters = {p["name"] for p in operation.get("parameters", [])}
        assert all(f"{{{name}}}" in path for name in parameters)
        assert path.count("{") == len(parameters)


HOSTILE = [
    b"", b"{", b"[]", b"null", b"1e999", b'{"instances": null}', b'{"instances": [[1, 2]',
    b'{"instances": [[1, "2"]]}', b'{"instances": [[1, 2, 3]]}', b"\xff" * 50, b"\x00" * 50,
    b'{"instances": ' + b"[" * 5000, b'{"a": 1, "a": 1}', b'{"inputs": {"x": {}}}',
    b'{"instances": [[true, false]]}', b'{"instances": [[1, 2]], "inputs": [[1, 2]]}',
    b'{"instances": [[1, 2]], "signature_name": "other"}',
    b'{"instances": [[1, 2]], "signature_name": ["serving_default"]}',
]  # fmt: skip


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_nothing_malformed_or_unauthorized_is_served(keys, count):
    rng = np.random.default_rng(0)
    good = keys.add("alice", ["sum:predict"])
    bad = [
        keys.add("expired", ["*:*"], expires="2020-01-01"),
        keys.add("elsewhere", ["other:*"]),
        keys.add("reader", ["sum:status"]),
        good[:-1],
        good.upper(),
        "",
        "ksk_",
        "A" * 9000,
    ]
    revoked = keys.add("revoked", ["*:*"])
    keys.revoke(revoked)
    valid = b'{"instances": [[1.0, 2.0]]}'
    paths = [
        PREDICT, "/v1/models/sum/versions/1:predict", "/v1/models/../sum:predict",
        "/v1//models/sum", "/v1/models/sum%00:predict", "/v1/models/sum:predict%0a",
        "/v1/models/%2e%2e/sum:predict",
    ]  # fmt: skip
    computed = []

    def counted(x):
        computed.append(len(x))
        return answer(x)

    with client(SumModel(release(counted)), Authenticator(keys)) as found:
        computed.clear()
        for _ in range(count):
            if rng.random() < 0.5:
                key, body = bad[rng.integers(len(bad))], valid
                key = revoked if rng.random() < 0.2 else key
            else:
                key, body = good, bytearray(HOSTILE[rng.integers(len(HOSTILE))])
                if body and rng.random() < 0.3:
                    body = body[: rng.integers(len(body))]
            headers = {"x-api-key" if rng.random() < 0.5 else "authorization": key}
            if "authorization" in headers:
                headers["authorization"] = f"Bearer {key}"
            path = paths[rng.integers(len(paths))]
            method = "POST" if rng.random() < 0.9 else "GET"
            reply = found.request(method, path, content=bytes(body), headers=headers)
            assert 400 <= reply.status_code < 500, (reply.status_code, path, key, body)
            assert list(reply.json()) == ["error"]
        assert computed == []
        assert ask(found, headers={"x-api-key": good}).status_code == 200


def test_services_close_what_they_opened(tmp_path):
    async def lives():
        for _ in range(3):
            path = tmp_path / "audit.jsonl"
            app = create_app({"sum": SumModel()}, ANYONE, audit_log=AuditLog(path, PRIVATE_KEY))
            async with app.router.lifespan_context(app):
                pass

    before = threading.active_count()
    asyncio.run(lives())
    assert threading.active_count() <= before
    assert Identity("a", "jwt", ()).may("sum", "predict") is False
