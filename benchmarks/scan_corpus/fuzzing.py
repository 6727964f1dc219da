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
        gaps: Findings that say that the reading process died, or that a parser raised what nobody
            had expected: the file is flagged, and the parser ought to know better.
    """

    problem: str | None
    verdict: str
    seconds: float
    mebibytes: float
    gaps: tuple[str, ...] = ()


class Watch:
    """A worker that scans, watched from outside; replaced whenever it dies or is ended.

    Args:
        direct: Whether the worker reads the files itself, without the process that `scan` puts
            around that: many times faster, and hides nothing.
        seconds, mebibytes: What a file may take.
    """

    def __init__(self, direct=False, seconds=SECONDS, mebibytes=MEBIBYTES):
        self._direct, self._process = direct, None
        self._seconds, self._mebibytes = seconds, mebibytes

    def _start(self):
        folder = Path(__file__).resolve().parents[1]
        code = f"import sys; sys.path.insert(0, {str(folder)!r})\n"
        code += "from scan_corpus.fuzzing import serve; serve(" + str(self._direct) + ")"
        self._process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        if not self._answer(120):
            self._process = None
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
        # A busy machine may pause a process: what is slow is tried again by `fuzz`.
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
        return Outcome(problem, found["verdict"], seconds, found["mebibytes"], found["gaps"])

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


def scanned(path):
    from keras_secure.integrity.scan import scan

    report = scan(path)
    # What it says must be writable wherever a report goes.
    json.dumps(report.to_sarif()).encode()
    "\n".join(report.describe()).encode()
    return report.findings, report.ok


def inspected(path):
    from keras_secure.integrity.scan.collector import Collector, OutOfTime
    from keras_secure.integrity.scan.inspection import inspect_path
    from keras_secure.integrity.scan.limits import ScanLimits
    from keras_secure.integrity.scan.report import ScanReport

    found, limits = [], ScanLimits()
    deadline = time.monotonic() + limits.seconds
    collector = Collector(found.append, limits, (), deadline)
    try:
        inspect_path(Path(path), collector, lambda name: None)
    except (OutOfTime, MemoryError):
        return found, False
    return found, ScanReport(path, "", tuple(found)).ok


def gap(finding):
    """What a finding says of the scanner itself, or None."""
    if finding.id == "scan.file.crash":
        return finding.statement
    if finding.id == "scan.file.malformed" and "could not be understood" in finding.statement:
        return finding.statement[:160]
    return None


def serve(direct=False):
    """Scans a path a line and answers with a line of JSON each."""
    from keras_secure.errors import SecurityError

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        problem, verdict, gaps = None, "refused", []
        try:
            findings, ok = (inspected if direct else scanned)(line.rstrip("\n"))
            verdict = "clean" if ok else "flagged"
            json.dumps([one.to_dict() for one in findings]).encode()
            gaps = [said for said in map(gap, findings) if said]
        except SecurityError:
            pass
        except BaseException as error:
            at = error.__traceback__
            while at.tb_next:
                at = at.tb_next
            where = f"{Path(at.tb_frame.f_code.co_filename).name}:{at.tb_lineno}"
            problem = f"{type(error).__name__} at {where}: {error}"[:300]
        found = {"problem": problem, "verdict": verdict, "mebibytes": peak(), "gaps": gaps}
        print(json.dumps(found), file=answers, flush=True)


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


def fuzz(paths, scratch, *, cases=None, minutes=None, seed=0, keep=None, direct=False):
    """Damages files of `paths` and scans them, until `cases` or `minutes` are over.

    Returns a dictionary of counts and peaks, and a list of (problem, seed file, number): the number
    is what `damage` was called with. The damaged files of problems and gaps stay in `keep`, if that
    is a folder, one for each that reads differently. With `direct`, what looks like a problem is
    one only if the whole scan has it too.
    """
    watch, whole = Watch(direct), Watch()
    problems, kept = [], set()
    done = {"cases": 0, "clean": 0, "flagged": 0, "refused": 0, "seconds": 0.0, "mebibytes": 0.0}
    done["gaps"] = {}
    end = time.monotonic() + 60 * minutes if minutes else float("inf")
    try:
        while time.monotonic() < end and (cases is None or done["cases"] < cases):
            number = 1_000_003 * seed + done["cases"]
            source = paths[number * 7919 % len(paths)]
            other = paths[number * 104_729 % len(paths)]
            spliced = other.read_bytes()[:100_000] if other.is_file() else b""
            target = copied(source, Path(scratch) / f"case{source.suffix}")
            damage(target, number, spliced)
            outcome = watch.scan(target)
            said = list(outcome.gaps)
            if outcome.problem:
                said += [f"alone: {outcome.problem}"] if direct else []
                # A busy machine may pause a process: what is slow must be slow again.
                watch.close()
                whole.close()
                outcome = whole.scan(target)
            done["cases"] += 1
            if outcome.verdict:
                done[outcome.verdict] += 1
            for name in ("seconds", "mebibytes"):
                done[name] = max(done[name], getattr(outcome, name))
            if outcome.problem:
                problems.append((outcome.problem, str(source), number))
                said.append(outcome.problem)
            for one in said:
                done["gaps"].setdefault(one, (str(source), number))
                if keep is not None and one not in kept:
                    kept.add(one)
                    name = hashlib.sha256(one.encode()).hexdigest()[:12] + source.suffix
                    Path(keep).mkdir(parents=True, exist_ok=True)
                    if not (Path(keep) / name).exists():
                        copied(target, Path(keep) / name)
            if target.is_dir():
                shutil.rmtree(target)
            else:
                target.unlink()
    finally:
        watch.close()
        whole.close()
    return done, problems
