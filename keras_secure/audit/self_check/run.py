"""Runs the checks on the engine as it is, then on the engine with each defect seeded."""

import time
from dataclasses import dataclass

import keras

from keras_secure.audit.self_check.checks import CHECKS
from keras_secure.audit.self_check.checks.check import CheckFailed
from keras_secure.audit.self_check.checks.replicas import two_replicas
from keras_secure.audit.self_check.defects import DEFECTS
from keras_secure.errors import SecurityError


@dataclass(frozen=True)
class SelfCheckReport:
    """What the self-check found.

    Args:
        failures: Statements of the checks that fail on the engine as it is: none if it is sound.
        caught: By defect, the statement of the check that caught it.
        missed: Names of the defects that no check caught.
        seconds: Wall time.
    """

    failures: dict[str, str]
    caught: dict[str, str]
    missed: list[str]
    seconds: float

    @property
    def ok(self):
        """Whether every check passes and every seeded defect is caught."""
        return not self.failures and not self.missed


def run_self_check(progress=None):
    """Checks the promises of private training, and that the checks can fail.

    Args:
        progress: Optional function that is given a line of text after each check and defect.

    Returns:
        `SelfCheckReport`.
    """
    say = progress or (lambda line: None)
    # Devices can be laid out only before anything is computed.
    two_replicas()
    start = time.monotonic()
    failures = {}
    for name, check in CHECKS.items():
        if (failure := _failure(check)) is not None:
            failures[name] = failure
            say(f"FAILS   {name}: {failure}")
        else:
            say(f"holds   {name}")
    caught, missed = {}, []
    for defect in DEFECTS:
        found = None
        with defect.seed():
            # The check that should catch it comes first; only if it fails to are others tried.
            for name in sorted(CHECKS, key=lambda name: name != defect.aim):
                if name not in failures and (found := _failure(CHECKS[name])) is not None:
                    break
        if found is None:
            missed.append(defect.name)
            say(f"MISSED  {defect.name}")
        else:
            caught[defect.name] = found
            say(f"caught  {defect.name}: {found}")
    return SelfCheckReport(failures, caught, missed, time.monotonic() - start)


def _failure(check):
    keras.utils.set_random_seed(0)
    try:
        check()
    except CheckFailed as failure:
        return str(failure)
    except SecurityError as refusal:
        return f"the engine refuses: {refusal}"
    return None
