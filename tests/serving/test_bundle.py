"""A real bundle behind a real server: refused when it was touched, swapped, drained, killed."""

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import keras
import numpy as np
import pytest
from harness_serving import ANYONE
from starlette.testclient import TestClient

from keras_secure.errors import InputError, IntegrityError
from keras_secure.export import export_hardened
from keras_secure.integrity import generate_key_pair, publish, save_private_key, save_public_key
from keras_secure.layers import InputGuard
from keras_secure.serving import ApiKeys, ServedModel, create_app, serve, verify_audit_log
from keras_secure.serving.release import load_release

PRIVATE_KEY, PUBLIC_KEY = generate_key_pair()
X = np.random.default_rng(0).uniform(size=(5, 4)).astype("float32")


def export(folder, scale):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    model.set_weights([scale * weight for weight in model.get_weights()])
    guard = InputGuard(bounds=(0.0, 1.0))
    export_hardened(model, folder, input_guard=guard, private_key=PRIVATE_KEY)
    return model.predict(X, verbose=0)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    answers = {name: export(folder / name, scale) for name, scale in (("a", 1.0), ("b", 10.0))}
    save_private_key(PRIVATE_KEY, folder / "key.pem")
    save_public_key(PUBLIC_KEY, folder / "key.pub")
    return folder, answers


def predictions(answer):
    return np.array([row["predictions"] for row in answer["predictions"]], "float32")


def test_a_bundle_is_served_and_swapped_for_another(bundles, tmp_path):
    folder, answers = bundles
    store = tmp_path / "store"
    publish(store, folder / "a", PUBLIC_KEY)
    model = ServedModel(store, PUBLIC_KEY, signatures=["labels"])
    with TestClient(create_app({"dense": model}, ANYONE)) as client:
        body = {"instances": X.tolist()}
        got = predictions(client.post("/v1/models/dense:predict", json=body).json())
        np.testing.assert_allclose(got, answers["a"], rtol=1e-5)
        labels = client.post(
            "/v1/models/dense:predict", json={**body, "signature_name": "labels"}
        ).json()["predictions"]
        assert [row["label"] for row in labels] == answers["a"].argmax(axis=1).tolist()
        bad = b'{"instances": [[NaN, 0, 0, 0]]}'
        bad = client.post("/v1/models/dense:predict", content=bad).json()
        assert bad["predictions"][0]["rejected"] is True
        scores = client.post("/v1/models/dense:classify", json={"examples": [{"x": X[0].tolist()}]})
        np.testing.assert_allclose(
            [score for _, score in scores.json()["results"][0]], answers["a"][0], rtol=1e-5
        )
        publish(store, folder / "b", PUBLIC_KEY)
        assert client.post("/v1/models/dense:reload").json()["version"] == 2
        got = predictions(client.post("/v1/models/dense:predict", json=body).json())
        np.testing.assert_allclose(got, answers["b"], rtol=1e-5)
        assert client.post("/v1/models/dense:rollback").status_code == 200
        got = predictions(client.post("/v1/models/dense:predict", json=body).json())
        np.testing.assert_allclose(got, answers["a"], rtol=1e-5)


def test_a_touched_bundle_is_refused(bundles, tmp_path):
    folder, _ = bundles
    for change in ("bit", "added", "signature", "key"):
        bundle = tmp_path / change
        shutil.copytree(folder / "a", bundle)
        trust = PUBLIC_KEY
        if change == "bit":
            path = bundle / "saved_model" / "saved_model.pb"
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
        elif change == "added":
            (bundle / "saved_model" / "more").write_text("")
        elif change == "signature":
            (bundle / "model.sig").unlink()
        else:
            trust = generate_key_pair()[1]
        with pytest.raises(IntegrityError):
            load_release(bundle, trust)


def test_a_model_of_open_sizes_is_served_from_the_first_that_it_computes(tmp_path):
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((None, 1)), layers.Conv1D(2, 3), layers.MaxPooling1D(), layers.Conv1D(2, 3),
         layers.GlobalMaxPooling1D(), layers.Dense(1)]
    )  # fmt: skip
    bundle = export_hardened(
        model, tmp_path / "bundle", input_guard=InputGuard(), private_key=PRIVATE_KEY
    )
    with pytest.raises(InputError, match=r"cannot compute inputs of shape \(1, 4, 1\)"):
        bundle.load()(np.zeros((1, 4, 1)))
    # A request that the model cannot compute would keep TensorFlow Serving from loading it.
    written = bundle.saved_model / "assets.extra" / "tf_serving_warmup_requests"
    assert bytes([0x12, 2, 8, 1, 0x12, 2, 8, 8, 0x12, 2, 8, 1]) in written.read_bytes()  # 1 x 8 x 1
    app = create_app({"signal": ServedModel(tmp_path / "bundle", PUBLIC_KEY)}, ANYONE)
    with TestClient(app, raise_server_exceptions=False) as client:
        for size, status in ((8, 200), (4, 400), (9, 200)):
            body = {"instances": np.zeros((1, size, 1)).tolist()}
            assert client.post("/v1/models/signal:predict", json=body).status_code == status
        assert "sizes" in client.post("/v1/models/signal:predict", json={
            "instances": [[[0.0]]]}).json()["error"]  # fmt: skip


@pytest.mark.parametrize("declared", ["name", [3], ["x[one]"], {"name": True}])
def test_sensitive_fields_that_would_not_be_masked_are_refused(tmp_path, declared):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    metadata = {"sensitive_fields": declared}
    export_hardened(model, tmp_path / "bundle", private_key=PRIVATE_KEY, metadata=metadata)
    with pytest.raises(InputError, match=r"sensitive_fields|no field to mask"):
        load_release(tmp_path / "bundle", PUBLIC_KEY)


@pytest.mark.parametrize("failing", ["load", "call"])
def test_what_its_framework_cannot_load_is_a_refusal(bundles, monkeypatch, failing):
    def load(self, *args):
        if failing == "load":
            raise RuntimeError("Op type not registered")
        return lambda x: 1 / 0

    monkeypatch.setattr("keras_secure.export.Bundle.load", load)
    with pytest.raises(InputError, match=r"not registered|computes no example"):
        load_release(bundles[0] / "a", PUBLIC_KEY)


class Server:
    def __init__(self, folder, place, *options):
        self.key = ApiKeys(place / "keys.json", create=True).add("test", ["dense:*", "dense:admin"])
        command = [
            sys.executable, "-m", "keras_secure.cli.main", "serve", f"dense={place / 'bundle'}",
            "--trust", str(folder / "key.pub"), "--api-keys", str(place / "keys.json"),
            "--audit-log", str(place / "audit.jsonl"), "--audit-key", str(folder / "key.pem"),
            "--port", "0", *options,
        ]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.url = line.split()[-1] if line else ""

    def ask(self, context=None, path=":predict"):
        request = urllib.request.Request(
            f"{self.url}/v1/models/dense{path}",
            json.dumps({"instances": X.tolist()}).encode(),
            {"x-api-key": self.key},
        )
        with urllib.request.urlopen(request, timeout=30, context=context) as answer:
            return predictions(json.load(answer))

    def end(self, number):
        self.process.send_signal(number)
        self.process.stdout.close()
        return self.process.wait(30)


@pytest.fixture
def place(bundles, tmp_path):
    shutil.copytree(bundles[0] / "a", tmp_path / "bundle")
    return tmp_path


@pytest.mark.slow
def test_signals_swap_drain_and_kill(bundles, place):
    folder, answers = bundles
    server = Server(folder, place)
    np.testing.assert_allclose(server.ask(), answers["a"], rtol=1e-5)
    shutil.rmtree(place / "bundle")
    shutil.copytree(folder / "b", place / "bundle")
    server.process.send_signal(signal.SIGHUP)
    until = time.monotonic() + 30
    while not np.allclose(server.ask(), answers["b"], rtol=1e-5):
        assert time.monotonic() < until
    # A bundle that does not verify changes nothing.
    (place / "bundle" / "more").write_text("")
    server.process.send_signal(signal.SIGHUP)
    time.sleep(1.0)
    np.testing.assert_allclose(server.ask(), answers["b"], rtol=1e-5)
    outcomes = []

    def press():
        while True:
            try:
                outcomes.append(np.allclose(server.ask(), answers["b"], rtol=1e-5))
            except urllib.error.HTTPError as error:
                outcomes.append(error.code)
                return
            except (OSError, ValueError):
                return

    pressing = [threading.Thread(target=press) for _ in range(3)]
    for thread in pressing:
        thread.start()
    time.sleep(0.5)
    assert server.end(signal.SIGTERM) == 0
    for thread in pressing:
        thread.join(30)
    assert set(outcomes) == {True}
    report = verify_audit_log(place / "audit.jsonl", PUBLIC_KEY)
    assert report.ok
    assert report.lines == report.signed

    (place / "bundle" / "more").unlink()
    server = Server(folder, place)
    server.ask()
    assert server.end(signal.SIGKILL) == -signal.SIGKILL
    assert verify_audit_log(place / "audit.jsonl", PUBLIC_KEY).ok
    (place / "bundle" / "more").write_text("")
    refused = Server(folder, place)
    assert refused.url == ""
    assert refused.process.wait(30) == 1
    refused.process.stdout.close()


@pytest.mark.parametrize("option", ["client_authorities", "key"])
def test_certificates_of_clients_are_not_dropped_in_silence(option):
    with pytest.raises(InputError, match="without TLS"):
        serve(
            create_app({"dense": ServedModel("nowhere", PUBLIC_KEY)}, ANYONE), **{option: "a.pem"}
        )


@pytest.mark.slow
def test_tls_and_certificates_of_clients(bundles, place):
    folder, answers = bundles
    authority = make_certificate(place, "authority")
    make_certificate(place, "server", authority)
    make_certificate(place, "client", authority)
    server = Server(
        folder, place, "--certificate", str(place / "server.pem"), "--key",
        str(place / "server.key"), "--client-authorities", str(place / "authority.pem"),
    )  # fmt: skip
    try:
        assert server.url.startswith("https://")
        context = ssl.create_default_context(cafile=place / "authority.pem")
        with pytest.raises(OSError, match=r"(?i)certificate|EOF|reset|closed"):
            server.ask(context)
        context.load_cert_chain(place / "client.pem", place / "client.key")
        np.testing.assert_allclose(server.ask(context), answers["a"], rtol=1e-5)
        host, port = server.url.removeprefix("https://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
            plain.settimeout(10)
            try:
                answer = plain.recv(100)
            except OSError:
                answer = b""
            assert not answer.startswith(b"HTTP/1.1 200")
    finally:
        assert server.end(signal.SIGTERM) == 0


def make_certificate(place, name, authority=None):
    """Writes NAME.pem and NAME.key; returns what signs others."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    issuer, signer = (subject, key) if authority is None else authority
    now = datetime.datetime.now(datetime.UTC)
    hour = datetime.timedelta(hours=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - hour)
        .not_valid_after(now + hour)
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
    )
    certificate = builder.sign(signer, hashes.SHA256())
    (place / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (place / f"{name}.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    os.chmod(place / f"{name}.key", 0o600)
    return subject, key
