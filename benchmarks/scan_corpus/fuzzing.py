"""Scans damaged files in a process of its own and judges how the scanner took it."""

import hashlib
import json
import os
import resource
import selectors
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from scan_corpus.corruption import damage

SECONDS, MEBIBYTES = 10, 1024


@dataclass(frozen=True)
class Outcome:
    """What a scan came to.

    Args:
        problem: None, or what must not happen: another exception, a death, a hang, too much memory.
        verdict: `"clean"`, `"flagged"` or `"refused"`.
        seconds: Wall time.
        mebibytes: Peak memory of the process and of the largest of its children, together.
    """

    problem: str | None
    verdict: str
    seconds: float
    mebibytes: float


class Watch:
    """A worker that scans, watched from outside; replaced whenever it dies or is ended."""

    def __init__(self, seconds=SECONDS, mebibytes=MEBIBYTES):
        self._seconds, self._mebibytes, self._process = seconds, mebibytes, None

    def _start(self):
        folder = Path(__file__).resolve().parents[1]
        code = f"import sys; sys.path.insert(0, {str(folder)!r})\n"
        code += "from scan_corpus.fuzzing import serve; serve()"
        self._process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        if not self._answer(120):
            raise RuntimeError("The worker did not start; is keras_secure installed?")

    def _answer(self, limit):
        selector = selectors.DefaultSelector()
        selector.register(self._process.stdout, selectors.EVENT_READ)
        return self._process.stdout.readline() if selector.select(limit) else None

    def scan(self, path):
        """The outcome for one file or folder."""
        if self._process is None:
            self._start()
        start = time.monotonic()
        self._process.stdin.write(f"{path}\n".encode())
        self._process.stdin.flush()
        # A busy machine may pause a process: what is slow is confirmed by `judged`.
        line = self._answer(self._seconds)
        seconds = time.monotonic() - start
        if line is None:
            self.close()
            return Outcome(f"hangs: over {self._seconds} s", "", seconds, 0)
        if not line:
            code = self._process.wait()
            self._process = None
            return Outcome(f"died with {code}", "", seconds, 0)
        found = json.loads(line)
        problem = found["problem"]
        if problem is None and found["mebibytes"] > self._mebibytes:
            problem = f"takes {found['mebibytes']:.0f} MiB"
        if found["mebibytes"] > self._mebibytes:
            self.close()  # its peak would be counted for others
        return Outcome(problem, found["verdict"], seconds, found["mebibytes"])

    def judged(self, path):
        """The outcome, where a problem is one only if a fresh process has it too."""
        outcome = self.scan(path)
        if outcome.problem:
            self.close()
            outcome = self.scan(path)
        return outcome

    def close(self):
        if self._process is not None:
            # Its children with it: they share a session that is its own.
            os.killpg(self._process.pid, 9)
            self._process.wait()
            self._process = None


def peak():
    """MiB of this process at its peak and of the largest child that has ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    with open("/proc/self/status") as status:
        own = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return (own + children) / 1024


def serve():
    """Scans a path a line and answers with a line of JSON each."""
    from keras_secure.errors import SecurityError
    from keras_secure.integrity.scan import scan

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        problem, verdict = None, "refused"
        try:
            report = scan(line.rstrip("\n"))
            verdict = "clean" if report.ok else "flagged"
            # What it says must be writable wherever a report goes.
            json.dumps([one.to_dict() for one in report.findings], allow_nan=False).encode()
            "\n".join(one.statement for one in report.findings).encode()
        except SecurityError:
            pass
        except BaseException as error:
            at = error.__traceback__
            while at.tb_next:
                at = at.tb_next
            where = f"{Path(at.tb_frame.f_code.co_filename).name}:{at.tb_lineno}"
            problem = f"{type(error).__name__} at {where}: {error}"[:300]
        print(
            json.dumps({"problem": problem, "verdict": verdict, "mebibytes": peak()}),
            file=answers,
            flush=True,
        )


def copied(source, target):
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copyfile(source, target)
    return target


def seeds(corpus, samples, largest=400_000):
    """The samples that are small enough to damage by the thousand."""

    def size(path):
        files = path.rglob("*") if path.is_dir() else [path]
        return sum(one.lstat().st_size for one in files)

    paths = [Path(corpus) / sample.path for sample in samples]
    return [path for path in paths if size(path) <= largest]


def fuzz(paths, scratch, *, cases=None, minutes=None, seed=0, keep=None, told=print):
    """Damages files of `paths` and scans them, until `cases` or `minutes` are over.

    Returns a dictionary of counts and peaks, and a list of (problem, case); a case is the seed's
    path and the number that `damage` was called with. The damaged files of problems stay in
    `keep`, if that is a folder.
    """
    watch, problems, signatures = Watch(), [], set()
    done = {"cases": 0, "clean": 0, "flagged": 0, "refused": 0, "seconds": 0.0, "mebibytes": 0.0}
    end = time.monotonic() + 60 * minutes if minutes else float("inf")
    scratch = Path(scratch)
    try:
        while time.monotonic() < end and (cases is None or done["cases"] < cases):
            number = 1_000_003 * seed + done["cases"]
            source = paths[number * 7919 % len(paths)]
            other = paths[number * 104_729 % len(paths)]
            spliced = other.read_bytes()[:100_000] if other.is_file() else b""
            target = copied(source, scratch / f"case{source.suffix}")
            damage(target, number, spliced)
            outcome = watch.judged(target)
            done["cases"] += 1
            if outcome.verdict:
                done[outcome.verdict] += 1
            done["seconds"] = max(done["seconds"], outcome.seconds)
            done["mebibytes"] = max(done["mebibytes"], outcome.mebibytes)
            if outcome.problem:
                problems.append((outcome.problem, (str(source), number)))
                signature = outcome.problem.split(":")[0] + outcome.problem.split(":")[-1][:40]
                if keep is not None and signature not in signatures:
                    signatures.add(signature)
                    name = hashlib.sha256(f"{source}{number}".encode()).hexdigest()[:12]
                    kept = Path(keep) / (name + source.suffix)
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    copied(target, kept)
                    told(f"{outcome.problem}\n  {source} damaged with {number}: {kept}")
            if target.is_dir():
                shutil.rmtree(target)
            else:
                target.unlink()
    finally:
        watch.close()
    return done, problems
