"""A guard in front of another server: what it forwards, what it keeps, what it survives."""

import json

import httpx
import numpy as np
import pytest
from harness_serving import ANYONE, PRIVATE_KEY, ask, client, records

from keras_secure.errors import InputError
from keras_secure.serving import ApiKeys, AuditLog, Authenticator, Limits, UpstreamModel, Verdict

PREDICT = "/v1/models/sum:predict"


def tensor(dtype, *sizes):
    dim = [{"size": str(size), "name": ""} for size in sizes]
    return {"dtype": dtype, "tensor_shape": {"dim": dim, "unknown_rank": False}, "name": "x:0"}


class TensorFlowServing:
    """A small one: adds up rows of two numbers, and remembers what it was asked."""

    def __init__(self):
        self.asked, self.up, self.answer = [], True, None

    def __call__(self, request):
        if not self.up:
            raise httpx.ConnectError("refused", request=request)
        self.asked.append(request)
        path = request.url.path
        if self.answer is not None and not path.endswith("/metadata"):
            return self.answer
        if path == "/v1/models/there/metadata":
            signature = {
                "inputs": {"x": tensor("DT_FLOAT", -1, 2)},
                "outputs": {"y": tensor("DT_FLOAT", -1)},
                "method_name": "tensorflow/serving/predict",
            }
            text = {"inputs": {"t": tensor("DT_STRING", -1)}, "outputs": {}, "method_name": "p"}
            strange = {"inputs": {"r": tensor("DT_RESOURCE")}, "outputs": {}, "method_name": "p"}
            signatures = {"serving_default": signature, "text": text, "strange": strange}
            return httpx.Response(
                200,
                json={
                    "model_spec": {"name": "there", "signature_name": "", "version": "4"},
                    "metadata": {"signature_def": {"signature_def": signatures}},
                },
            )
        if path == "/v1/models/there":
            return httpx.Response(200, json={"model_version_status": []})
        body = json.loads(request.content)
        if path.endswith("/versions/9:predict"):
            return httpx.Response(404, json={"error": "Servable not found"})
        if path.endswith(":regress"):
            return httpx.Response(200, json={"results": [sum(e["x"]) for e in body["examples"]]})
        if body.get("signature_name") == "text":
            return httpx.Response(200, json={"predictions": ["ok" for _ in body["instances"]]})
        rows = body.get("instances") or body["inputs"]
        rows = rows["x"] if isinstance(rows, dict) else rows
        key = "predictions" if "instances" in body else "outputs"
        return httpx.Response(200, json={key: [float(np.sum(row)) for row in rows]})


@pytest.fixture
def server():
    return TensorFlowServing()


@pytest.fixture
def model(server):
    return UpstreamModel(
        "http://upstream:8501", "there", bounds=(0, 10), transport=httpx.MockTransport(server)
    )


def test_what_was_checked_is_forwarded_and_nothing_else(server, model, tmp_path):
    keys = ApiKeys(tmp_path / "keys.json", create=True)
    key = keys.add("alice", ["sum:*"])
    with client(model, Authenticator(keys)) as found:
        headers = {"x-api-key": key, "cookie": "c=1", "x-forwarded-for": "1.2.3.4"}
        body = {"instances": [[1.0, 2.0]], "more": "than is known"}
        reply = found.post(PREDICT + "?a=b", json=body, headers=headers)
        assert reply.json() == {"predictions": [3.0]}
    forwarded = server.asked[-1]
    assert forwarded.url == "http://upstream:8501/v1/models/there:predict"
    assert json.loads(forwarded.content) == {"instances": [[1.0, 2.0]]}
    assert not {"x-api-key", "cookie", "x-forwarded-for", "authorization"} & set(forwarded.headers)


def test_the_dialect_goes_through(server, model):
    with client(model) as found:
        reply = found.post(PREDICT, json={"inputs": {"x": [[1, 2], [3, 4]]}})
        assert reply.json() == {"outputs": [3.0, 7.0]}
        reply = found.post("/v1/models/sum:regress", json={"examples": [{"x": [1, 2]}]})
        assert reply.json() == {"results": [3]}
        reply = found.post(
            PREDICT, json={"signature_name": "text", "instances": ["a", {"b64": "YQ=="}]}
        )
        assert reply.json() == {"predictions": ["ok", "ok"]}
        assert found.get("/v1/models/sum").json() == {"model_version_status": []}
        assert found.get("/v1/models/sum/metadata").json()["model_spec"]["version"] == "4"
        found.post("/v1/models/sum/versions/4:predict", json={"instances": [[1, 2]]})
        assert server.asked[-1].url.path == "/v1/models/there/versions/4:predict"
        found.post("/v1/models/sum/labels/stable:predict", json={"instances": [[1, 2]]})
        assert server.asked[-1].url.path == "/v1/models/there/labels/stable:predict"
        reply = found.post("/v1/models/sum/versions/9:predict", json={"instances": [[1, 2]]})
        assert (reply.status_code, reply.json()) == (404, {"error": "Servable not found"})


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [[1, 2, 3]]}',
        b'{"instances": [[1, "2"]]}',
        b'{"instances": [[1, 11]]}',
        b'{"instances": [[1, NaN]]}',
        b'{"instances": [[1, 2]], "instances": [[1, 2]]}',
        b'{"instances": [[1, 2]], "signature_name": "strange"}',
        b'{"instances": [[1, 2]], "signature_name": "none"}',
        b'{"instances": [[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]}',
        b"not json",
    ],
)
def test_what_is_refused_never_gets_there(server, model, body):
    with client(model) as found:
        before = len(server.asked)
        assert found.post(PREDICT, content=body).status_code == 400
        assert len(server.asked) == before


@pytest.mark.parametrize(
    "label", ["a%3Fb=", "a%23", "..%252F..%252Fother", "a%20b", "%2E%2E", "a%0A"]
)
def test_labels_lead_nowhere_else(server, model, label):
    with client(model) as found:
        before = len(server.asked)
        path = f"/v1/models/sum/labels/{label}"
        assert ask(found, path=f"{path}:predict").status_code == 400
        assert found.get(path).status_code in (400, 404)
        assert found.get(f"{path}/metadata").status_code in (400, 404)
        assert len(server.asked) == before


def test_limits_and_the_log_hold_here_too(server, model, tmp_path):
    log = AuditLog(tmp_path / "audit.jsonl", PRIVATE_KEY)
    with client(model, audit_log=log, limits=Limits(rows=2, budget=3)) as found:
        assert ask(found, [[1, 2]] * 3).status_code == 413
        assert ask(found, [[1, 2]] * 2).status_code == 200
        assert ask(found, [[1, 2]] * 2).status_code == 429
    lines = [r for r in records(tmp_path / "audit.jsonl") if r["kind"] == "request"]
    assert [line["status"] for line in lines] == [413, 200, 429]
    loaded = next(r for r in records(tmp_path / "audit.jsonl") if r["kind"] == "model")
    assert loaded["upstream"] == "http://upstream:8501"


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (httpx.Response(200, text="<html>"), 502),
        (httpx.Response(200, json=[1]), 502),
        (httpx.Response(302, headers={"location": "http://evil/"}, json={}), 502),
        (httpx.Response(500, json={"error": "broken"}), 500),
        (httpx.Response(503, json={"error": "busy"}), 503),
        (httpx.Response(200, json={"predictions": [1.0], "deep": 1}), 200),
    ],
)
def test_answers_of_the_other_server(server, model, answer, status):
    with client(model) as found:
        server.answer = answer
        reply = ask(found)
        assert reply.status_code == status
        assert ("error" in reply.json()) == (status != 200)


def test_the_other_server_may_be_down_and_come_back(server, model):
    server.up = False
    with client(model) as found:
        assert found.get("/readyz").status_code == 503
        assert found.get("/healthz").status_code == 200
        reply = ask(found)
        assert reply.status_code == 503
        assert reply.headers["retry-after"] == "1"
        server.up = True
        assert found.post("/v1/models/sum:reload").json()["version"] == 4
        assert found.get("/readyz").status_code == 200
        assert ask(found).status_code == 200
        server.up = False
        assert ask(found).status_code == 503
        assert found.post("/v1/models/sum:rollback").status_code == 409


class Coarse:
    def observe(self, query):
        assert query.outputs["predictions"].tolist() == [3.0]
        return Verdict("coarsen", "", {"predictions": np.array([4.0])})


def test_observers_see_what_comes_back(model):
    with client(model, ANYONE, observer=Coarse()) as found:
        assert ask(found).json() == {"predictions": [4.0]}


def test_addresses_that_are_none():
    with pytest.raises(InputError, match="no address"):
        UpstreamModel("ftp://somewhere")
