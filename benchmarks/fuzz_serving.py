"""Asks a served bundle what must not be answered, and counts what was.

Starts `keras-secure serve` with API keys and tokens, and sends it over raw connections requests
whose credentials are missing, wrong, altered, expired, revoked or for something else, and requests
with good credentials whose body, size, depth, address or HTTP is not as it should be. None may be
answered with a prediction, none with a status of 5xx, and the server must live. Where
benchmarks/peers/build_schemathesis.sh was run, schemathesis asks as well, by the server's OpenAPI.

    python benchmarks/fuzz_serving.py --requests 10000
"""

import argparse
import asyncio
import base64
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from serving import Process, make_bundle

PEER = Path(__file__).parent / "peers" / "env-schemathesis" / "bin" / "schemathesis"
PATH = "/v1/models/bundle:predict"
VALID = json.dumps({"instances": np.full((1, 28, 28, 1), 0.5).tolist()}).encode()


def credentials(folder):
    """Good ones of both kinds, and many that are not, by what is wrong with them."""
    import jwt
    from cryptography.hazmat.primitives.asymmetric import ed25519

    from keras_secure.serving import ApiKeys

    keys = ApiKeys(folder / "keys.json", create=True)
    good = keys.add("good", ["bundle:predict"])
    bad = {
        "expired key": keys.add("expired", ["*:*"], expires="2020-01-01"),
        "key for another model": keys.add("elsewhere", ["other:*"]),
        "key for another verb": keys.add("reader", ["bundle:status", "bundle:metadata"]),
        "revoked key": keys.add("revoked", ["*:*"]),
        "key cut short": good[:-1],
        "unknown key": "ksk_0123456789abcdef_" + "A" * 43,
        "key of other letters": good.swapcase(),
        "no text": "",
        "long text": "A" * 20_000,
    }
    keys.revoke(bad["revoked key"])

    private = ed25519.Ed25519PrivateKey.generate()
    entry = jwt.algorithms.OKPAlgorithm.to_jwk(private.public_key(), as_dict=True)
    entry |= {"kid": "1", "alg": "EdDSA"}
    (folder / "jwks.json").write_text(json.dumps({"keys": [entry]}))

    def token(key=private, kid="1", **more):
        claims = {
            "iss": "https://issuer", "aud": "bundle", "sub": "alice", "scope": "bundle:predict",
            "exp": time.time() + 3600, **more,
        }  # fmt: skip
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(claims, key, "EdDSA", headers={"kid": kid})

    good_token = token()
    head, claims, signature = good_token.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","kid":"1"}').decode().rstrip("=")
    middle = len(claims) // 2
    altered = claims[:middle] + ("A" if claims[middle] != "A" else "B") + claims[middle + 1 :]
    bad |= {
        "expired token": token(exp=1),
        "token without end": token(exp=None),
        "token of another issuer": token(iss="https://other"),
        "token for another server": token(aud="other"),
        "token for another model": token(scope="other:predict"),
        "token without scope": token(scope=None),
        "token by another key": token(ed25519.Ed25519PrivateKey.generate()),
        "token by an unknown key": token(kid="2"),
        "token with other claims": f"{head}.{altered}.{signature}",
        "token without signature": f"{none}.{claims}.",
        "token with an empty signature": f"{head}.{claims}.",
    }
    return [good, good_token], bad


def headers_of(credential, rng):
    if credential is None:
        return {}
    if credential.startswith("ksk_") and rng.random() < 0.5:
        return {"x-api-key": credential}
    return {"authorization": f"Bearer {credential}"}


def altered_body(rng):
    """A body that is no request for this model, and what is wrong with it."""
    kind = rng.integers(8)
    if kind == 0:
        return "cut", VALID[: rng.integers(len(VALID) - 1)]
    if kind == 1:
        data = bytearray(VALID)
        for place in rng.integers(len(data), size=3):
            data[place] = rng.integers(128, 256)
        return "not UTF-8", bytes(data)
    if kind == 2:
        opening = b"[" if rng.random() < 0.5 else b'{"a":'
        return "deep", b'{"instances": ' + opening * int(rng.integers(16, 20_000))
    if kind == 3:
        shape = tuple(rng.integers(1, 6, size=rng.integers(1, 5)))
        return "shape", json.dumps({"instances": np.zeros(shape).tolist()}).encode()
    if kind == 4:
        return "large", b" " * 300_000
    if kind == 5:
        return "noise", rng.bytes(int(rng.integers(0, 2000)))
    if kind == 6:
        found = VALID.replace(
            b"0.5", rng.choice([b'"0.5"', b"null", b"true", b"1e400000", b"{}"]), 1
        )
        return "type", found.replace(b"1e400000", b"[0.5]")
    twice = [b'{"instances": [], ' + VALID[1:], VALID[:-1] + b', "inputs": [[1]]}']
    twice.append(VALID[:-1] + b', "signature_name": "other"}')
    return "meaning", twice[rng.integers(len(twice))]


PATHS = [
    "/v1/models/bundle", "/v1/models/bundle/metadata", "/v1/models/other:predict", "/metrics",
    "/v1/models/bundle/versions/2:predict", "/v1/models/bundle/labels/x:predict",
    "/v1/models/../models/bundle:predict/..", "/v1/models/bundle%2f..%2fbundle:predict/x",
    "//v1/models/bundle:predict", "/v1/models/bundle:predict%00", "/v1/models/bundle:reload",
    "/v1/models/bundle:rollback", "/v1/models/bundle/versions/-1:predict",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/v1/models/bundle/versions/99999999999999999999999:predict", "/V1/MODELS/BUNDLE:PREDICT",
    "/v1/models/" + "a" * 5000 + ":predict", "/admin", "/docs", "/v1/models/bundle:predict;x=y",
]  # fmt: skip


def raw_requests(key):
    """HTTP that is not as it should be; every one has good credentials."""
    start = f"POST {PATH} HTTP/1.1\r\nhost: a\r\nx-api-key: {key}\r\n".encode()
    length = b"content-length: %d\r\n" % len(VALID)
    return {
        "two lengths": start + length + b"content-length: 5\r\n\r\n" + VALID,
        "length and chunks": start + length + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "negative length": start + b"content-length: -1\r\n\r\n" + VALID,
        "bare line feeds": start.replace(b"\r\n", b"\n") + b"content-length: a\n\n",
        "broken chunks": start + b"transfer-encoding: chunked\r\n\r\nzz\r\n" + VALID,
        "no host": start.replace(b"host: a\r\n", b"") + length + b"\r\n" + VALID,
        "header of a megabyte": start + b"x: " + b"a" * 2**20 + b"\r\n\r\n",
        "spaces in a header": start + b"x y : 1\r\n\r\n",
        "two keys": start + f"authorization: Bearer {key}\r\n".encode() + length + b"\r\n" + VALID,
        "compressed": start + b"content-encoding: gzip\r\n" + length + b"\r\n" + VALID,
        "another protocol": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "length announced and not sent": start + b"content-length: 400000\r\n\r\n",
    }


def build(method, path, headers, body):
    lines = [f"{method} {path} HTTP/1.1", "host: a", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += ["connection: close", "", ""]
    return "\r\n".join(lines).encode("utf-8", "replace") + body


def draw(rng, good, bad):
    """One request that must not be answered; its kind, and its bytes."""
    kind = rng.random()
    if kind < 0.4:
        name = ["no credentials", *bad][rng.integers(len(bad) + 1)]
        return name, build("POST", PATH, headers_of(bad.get(name), rng), VALID)
    credential = good[rng.integers(len(good))]
    if kind < 0.75:
        name, body = altered_body(rng)
        return f"body: {name}", build("POST", PATH, headers_of(credential, rng), body)
    if kind < 0.95:
        path = PATHS[rng.integers(len(PATHS))]
        method = ["GET", "POST", "PUT", "DELETE", "OPTIONS", "TRACE"][rng.integers(6)]
        return "address", build(method, path, headers_of(credential, rng), VALID)
    raw = raw_requests(good[0])
    name = list(raw)[rng.integers(len(raw))]
    return f"HTTP: {name}", raw[name]


async def send(port, data, seconds=2.0):
    """Returns everything that the server answers in time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        writer.write(data)
        await writer.drain()
        async with asyncio.timeout(seconds):
            received = await reader.read(2**20)
    except (OSError, TimeoutError):
        pass
    finally:
        writer.close()
    return received


async def ask_all(port, count, good, bad):
    """Returns by kind how often each status came, and what was served."""
    rng = np.random.default_rng(0)
    requests = iter([draw(rng, good, bad) for _ in range(count)])
    found, served = {}, []

    async def work():
        for name, data in requests:
            answer = await send(port, data)
            status = re.match(rb"HTTP/1\.1 (\d{3})", answer)
            shown = status[1].decode() if status else "closed"
            found.setdefault(name, {})
            found[name][shown] = found[name].get(shown, 0) + 1
            if shown[0] in "25" or b"predictions" in answer:
                served.append((name, data[:200], answer[:300]))

    await asyncio.gather(*(work() for _ in range(16)))
    return found, served


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--examples", type=int, default=100, help="of schemathesis, by operation")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_bundle(folder)
        good, bad = credentials(folder)
        command = [
            "-m", "keras_secure.cli.main", "serve", "bundle", "--trust", "key.pub", "--api-keys",
            "keys.json", "--jwks", "jwks.json", "--issuer", "https://issuer", "--audience",
            "bundle", "--audit-log", "audit.jsonl", "--audit-key", "key.pem", "--port", "0",
            "--max-request-bytes", "200000",
        ]  # fmt: skip
        server = Process(command, folder, "server")
        found, served = asyncio.run(ask_all(server.port, args.requests, good, bad))
        for name in sorted(found):
            print(f"{name:32s} {found[name]}")
        for name, data, answer in served[:10]:
            print(f"SERVED {name}: {data!r} -> {answer!r}")
        valid = build("POST", PATH, {"x-api-key": good[0]}, VALID)
        lives = asyncio.run(send(server.port, valid, 60.0)).startswith(b"HTTP/1.1 200")
        total = sum(sum(counts.values()) for counts in found.values())
        print(f"{total} requests, {len(served)} served or failed; the server lives: {lives}")
        clean = True
        if PEER.exists():
            address = f"http://127.0.0.1:{server.port}"
            finished = subprocess.run(
                [PEER, "run", f"{address}/openapi.json", "--checks", "all", "-n",
                 str(args.examples), "-H", f"X-API-Key: {good[0]}", "--seed", "1",
                 "--suppress-health-check", "all"],
                capture_output=True, text=True, check=False, cwd=folder,
            )  # fmt: skip
            clean = finished.returncode == 0
            lines = finished.stdout.splitlines()
            print("\n".join(lines[-12:] if clean else lines[-200:]))
        else:
            print("schemathesis is not there: run benchmarks/peers/build_schemathesis.sh")
        ended = server.end() == 0
        from keras_secure.serving import verify_audit_log

        report = verify_audit_log(folder / "audit.jsonl", folder / "key.pub")
        print(f"the server ended well: {ended}; its log of {report.lines} lines: {report.ok}")
    return 0 if lives and clean and ended and report.ok and not served else 1


if __name__ == "__main__":
    sys.exit(main())
