"""What a served bundle costs beside a bare application, and what it does when it is pressed.

Starts `keras-secure serve` with API keys, rate limits, a budget file and a signed audit log, and
beside it a bare FastAPI application that calls the same SavedModel. This process asks both in turns
over loopback, compares every answer with the one that belongs to its input, and prints:

- latency, throughput and CPU time of both. At the first number of connections the medians must not
  differ by more than --limit ms; with more, both are busy all the time, and latencies tell how the
  machine shares its processors;
- what happens beyond capacity: 200 and 503 with Retry-After, nothing else, and no crash;
- that SIGTERM answers whatever was taken: the audit log has a line for each answer and no other;
- that the audit log verifies after `kill -9`, and goes on after it.

Ends with exit code 1 where one of these does not hold.

    python benchmarks/serving.py --seconds 60
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

NUM_INPUTS = 64
TURN = 3.0
"""Seconds for which one server is asked before the other is."""


def make_bundle(folder):
    """Exports a small convolutional model; returns the key pair's paths."""
    import keras

    from keras_secure import export, integrity, layers

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
            keras.layers.Conv2D(32, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    private_key, public_key = integrity.generate_key_pair()
    integrity.save_private_key(private_key, folder / "key.pem")
    integrity.save_public_key(public_key, folder / "key.pub")
    guard = layers.InputGuard(bounds=(0.0, 1.0))
    bundle = export.export_hardened(
        model, folder / "bundle", input_guard=guard, private_key=private_key
    )
    x = np.random.default_rng(0).uniform(size=(NUM_INPUTS, 28, 28, 1)).astype("float32")
    x = np.round(x, 3)
    np.savez(folder / "data.npz", x=x, y=bundle.load()(x)["predictions"])


def serve_bare(saved_model):
    """The application to compare with: no identity, no limit, no log, no batching."""
    import tensorflow as tf
    import uvicorn
    from fastapi import Body, FastAPI

    loaded = tf.saved_model.load(saved_model)
    model = loaded.signatures["serving_default"]
    app = FastAPI()

    @app.post("/v1/models/bundle:predict")
    def predict(instances: list = Body(embed=True)):  # noqa: B008  (FastAPI's way)
        outputs = model(x=tf.constant(instances, tf.float32))
        rows = zip(
            outputs["predictions"].numpy().tolist(),
            outputs["rejected"].numpy().tolist(),
            strict=True,
        )
        return {"predictions": [{"predictions": p, "rejected": r} for p, r in rows]}

    predict(np.zeros((1, 28, 28, 1)).tolist())
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, http="h11", access_log=False, log_level="critical")
    )

    async def run():
        serving = asyncio.ensure_future(server.serve())
        while not server.started:
            await asyncio.sleep(0.05)
        port = server.servers[0].sockets[0].getsockname()[1]
        print(f"serving at http://127.0.0.1:{port}", flush=True)
        await serving

    asyncio.run(run())


class Process:
    """A server in a process of its own."""

    def __init__(self, command, folder, name):
        self._errors = (folder / f"{name}.err").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, *command], stdout=subprocess.PIPE, stderr=self._errors, cwd=folder
        )
        line = self.process.stdout.readline().decode()
        if "serving" not in line:
            raise SystemExit((folder / f"{name}.err").read_text()[-3000:])
        self.port = int(line.rsplit(":", 1)[1])

    def cpu_seconds(self):
        """CPU time that it took so far; NaN where the system does not tell."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return float("nan")
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        code = self.process.wait(60)
        self._errors.close()
        self.process.stdout.close()
        return code


def start_ours(folder, *options):
    command = [
        "-m", "keras_secure.cli.main", "serve", "bundle", "--trust", "key.pub", "--api-keys",
        "keys.json", "--audit-log", "audit.jsonl", "--audit-key", "key.pem", "--budget-file",
        "budgets.json", "--budget", "1000000000", "--rate", "1000000", "--burst", "1000000",
        "--port", "0", *options,
    ]  # fmt: skip
    return Process(command, folder, "ours")


class Client:
    """Asks in a number of connections, each one question after the other."""

    def __init__(self, folder, key):
        with np.load(folder / "data.npz") as data:
            self.x, self.y = data["x"], data["y"]
        self.requests = []
        for row in self.x:
            body = json.dumps({"instances": [row.tolist()]}).encode()
            head = (
                "POST /v1/models/bundle:predict HTTP/1.1\r\nhost: localhost\r\n"
                f"x-api-key: {key}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\n\r\n"
            )
            self.requests.append(head.encode() + body)

    async def press(self, port, connections, seconds):
        """Returns latencies in ms of right answers, and counts of everything else."""
        latencies, counts = [], {}
        until = time.perf_counter() + seconds
        await asyncio.gather(
            *(self._ask(port, n, until, latencies, counts) for n in range(connections))
        )
        return latencies, counts

    async def _ask(self, port, number, until, latencies, counts):
        def count(what):
            counts[what] = counts.get(what, 0) + 1

        turn, writer = number, None
        while time.perf_counter() < until:
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                count("no connection")
                return
            index = turn % NUM_INPUTS
            turn += 1
            began = time.perf_counter()
            try:
                writer.write(self.requests[index])
                status, headers, body = await read_answer(reader)
            except (OSError, EOFError) as error:
                partial = getattr(error, "partial", b"")
                count("answer cut off" if partial else "connection closed")
                writer.close()
                writer = None
                continue
            if status == 200:
                if self.is_right(index, body):
                    latencies.append(1000 * (time.perf_counter() - began))
                    count("200")
                else:
                    count("wrong answer")
            else:
                count(f"{status}{'' if b'retry-after' in headers else ' without Retry-After'}")
            if b"connection: close" in headers:
                writer.close()
                writer = None
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def is_right(self, index, body):
        (row,) = json.loads(body)["predictions"]
        return bool(np.allclose(row["predictions"], self.y[index], rtol=0, atol=1e-5))


async def read_answer(reader):
    """Reads one answer of HTTP; returns status, headers in lower case, body."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0])
    return int(head[9:12]), head, await reader.readexactly(length)


def compare(client, ours, bare, seconds, connections):
    """Asks both in turns; returns their latencies and counts."""
    found = {"keras_secure": ([], {}), "bare FastAPI": ([], {})}
    cpu = {"keras_secure": 0.0, "bare FastAPI": 0.0}
    asyncio.run(client.press(ours.port, connections, 1.0))
    asyncio.run(client.press(bare.port, connections, 1.0))
    turns = max(1, round(seconds / TURN))
    for _ in range(turns):
        for name, server in (("keras_secure", ours), ("bare FastAPI", bare)):
            cpu[name] -= server.cpu_seconds()
            latencies, counts = asyncio.run(client.press(server.port, connections, seconds / turns))
            cpu[name] += server.cpu_seconds()
            found[name][0].extend(latencies)
            for what, number in counts.items():
                found[name][1][what] = found[name][1].get(what, 0) + number
    for name, (latencies, counts) in found.items():
        print(
            f"{connections:3d} connections  {name:13s} p50 {np.percentile(latencies, 50):6.2f} ms  "
            f"p99 {np.percentile(latencies, 99):6.2f} ms  {len(latencies) / seconds:7.1f}/s  "
            f"CPU {1000 * cpu[name] / len(latencies):5.2f} ms a request  "
            f"{counts}",
            flush=True,
        )
    (ours_ms, ours_counts), (bare_ms, _) = found.values()
    return float(np.median(ours_ms) - np.median(bare_ms)), set(ours_counts) == {"200"}


def audit_lines(folder):
    """Statuses of the requests in the log, by how often; and the verification's report."""
    from keras_secure.serving import verify_audit_log

    statuses = {}
    for line in (folder / "audit.jsonl").read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            record = json.loads(line)
            if record["kind"] == "request":
                statuses[record["status"]] = statuses.get(record["status"], 0) + 1
    return statuses, verify_audit_log(folder / "audit.jsonl", folder / "key.pub")


async def press_and_signal(client, server, number, connections=8, seconds=4.0):
    pressing = asyncio.ensure_future(client.press(server.port, connections, seconds))
    await asyncio.sleep(seconds / 2)
    server.process.send_signal(number)
    return await pressing


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0, help="for which each is asked")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--limit", type=float, default=1.5, help="ms over the bare application")
    parser.add_argument("--bare", metavar="SAVED_MODEL", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.bare:
        serve_bare(args.bare)
        return 0
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    failures = []

    def check(holds, text):
        print(f"{'ok  ' if holds else 'FAIL'} {text}", flush=True)
        if not holds:
            failures.append(text)

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_bundle(folder)
        from keras_secure.serving import ApiKeys

        key = ApiKeys(folder / "keys.json", create=True).add("load", ["bundle:predict"])
        client = Client(folder, key)

        ours = start_ours(folder)
        bare = Process(
            [os.path.abspath(__file__), "--bare", str(folder / "bundle" / "saved_model")],
            folder,
            "bare",
        )
        share = args.seconds / len(args.connections)
        for connections in args.connections:
            difference, clean = compare(client, ours, bare, share, connections)
            check(clean, "every answer is the right one")
            if connections == args.connections[0]:
                text = f"p50 is {difference:+.2f} ms over the bare one's (at most {args.limit})"
                check(difference <= args.limit, text)
        bare.end()
        check(ours.end() == 0, "SIGTERM ends the server with code 0")

        ours = start_ours(folder, "--max-concurrency", "2")
        _, counts = asyncio.run(client.press(ours.port, 64, min(10.0, args.seconds)))
        print(f"64 connections at a concurrency of 2: {counts}")
        check(set(counts) == {"200", "503"}, "beyond capacity there are 200 and 503 only")
        check(
            set(asyncio.run(client.press(ours.port, 1, 1.0))[1]) == {"200"},
            "afterwards all is well",
        )
        before, _ = audit_lines(folder)
        _, counts = asyncio.run(press_and_signal(client, ours, signal.SIGTERM))
        code = ours.process.wait(60)
        after, report = audit_lines(folder)
        print(f"while it ended: {counts}")
        check(code == 0 and "answer cut off" not in counts, "SIGTERM cuts off no answer")
        taken = {status: after[status] - before.get(status, 0) for status in after}
        check(
            taken.get(200, 0) == counts.get("200", 0),
            "every request that was taken was answered, as the log has it",
        )
        check(report.ok and report.lines == report.signed, "the log verifies, and all is signed")

        ours = start_ours(folder)
        before, _ = audit_lines(folder)
        _, counts = asyncio.run(press_and_signal(client, ours, signal.SIGKILL))
        ours.process.wait(60)
        after, report = audit_lines(folder)
        print(f"when it was killed: {counts}; {report.describe()}")
        check(report.ok, "after kill -9 the log verifies up to its last whole line")
        check(
            after[200] - before[200] >= counts["200"],
            "every answer that came before kill -9 is in the log",
        )
        ours = start_ours(folder)
        ours.end()
        check(audit_lines(folder)[1].ok, "after a new start the log goes on and verifies")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
