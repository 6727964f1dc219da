"""What was released: a record of the private steps actually executed."""

import hashlib
import json
import uuid
from dataclasses import asdict, dataclass, replace

from keras_secure.errors import PrivacyError
from keras_secure.privacy.sampling import Sampling

_FORMAT = 2
# Keeps a seal from being taken for that of anything else under the same key.
_SEALED = b"keras_secure ledger "


@dataclass(frozen=True)
class Phase:
    """A stretch of steps under one mechanism.

    Args:
        sampling: A `Sampling`, such as `PoissonSampling`.
        noise_multiplier: Noise standard deviation over `l2_norm_clip`.
        l2_norm_clip: Bound on each example's gradient norm.
        expected_batch_size: What the noisy sum is divided by.
        steps: Steps executed.
        reproducible: True when a seed was given, so the noise can be recomputed and removed.
    """

    sampling: Sampling
    noise_multiplier: float
    l2_norm_clip: float
    expected_batch_size: float
    steps: int = 0
    reproducible: bool = False

    def with_steps(self, steps):
        """Returns the same mechanism with another number of steps."""
        return replace(self, steps=steps)

    def to_dict(self):
        """Returns the phase as JSON-serializable values."""
        return {**asdict(self), "sampling": self.sampling.get_config()}

    @classmethod
    def from_dict(cls, values):
        """Rebuilds a phase from `to_dict`."""
        phase = cls(**{**values, "sampling": Sampling.from_config(values["sampling"])})
        if type(phase.steps) is not int or phase.steps < 0 or not phase.noise_multiplier >= 0:
            raise ValueError(f"a phase of {phase.steps} steps at noise {phase.noise_multiplier}")
        return phase


class Ledger:
    """The phases of one private training run.

    The number of steps comes from the counter that the training step itself advances, so the record
    follows what was executed and not what `fit` was asked for.

    Written out, every phase carries a digest of itself and of all before it, so that no part can be
    changed, reordered or dropped by itself; a seal by a `LedgerKey` keeps anyone without the key
    from rewriting the whole.

    Args:
        phases: Finished phases, oldest first.
        run_id: Identifies the run; None makes a new one.
        is_open: Whether a journal runs ahead of this record, so that alone it may be behind.
    """

    def __init__(self, phases=(), run_id=None, is_open=False):
        self.finished = [phase for phase in phases if phase.steps]
        self.current: Phase | None = None
        self.run_id = run_id or uuid.uuid4().hex
        self.is_open = is_open

    def begin(self, phase, executed_steps):
        """Closes the current phase at `executed_steps` and opens `phase`."""
        self.finished = self.phases(executed_steps)
        self.current = phase

    @property
    def recorded_steps(self):
        """Int: the steps of all finished phases."""
        return sum(phase.steps for phase in self.finished)

    def phases(self, executed_steps):
        """Returns the phases with their steps, given the counter's value."""
        before = self.recorded_steps
        if executed_steps < before:
            raise PrivacyError(
                f"The step counter reads {executed_steps}, but the ledger has recorded {before} "
                "steps. The counter must not be reset; load a checkpoint saved by this run."
            )
        if executed_steps == before:
            return list(self.finished)
        if self.current is None:
            raise PrivacyError(
                f"{executed_steps - before} private steps were executed outside any recorded "
                "phase, so their privacy cost is unknown. Train through SecureModel.fit."
            )
        return [*self.finished, self.current.with_steps(executed_steps - before)]

    def to_json(self, executed_steps, key=None):
        """Returns the ledger as a JSON string, sealed if a `LedgerKey` is given."""
        header = {"format": _FORMAT, "run_id": self.run_id, "is_open": self.is_open}
        phases = [phase.to_dict() for phase in self.phases(executed_steps)]
        digests = _chain(header, phases)
        seal = None if key is None else key.mac(_SEALED + digests[-1].encode())
        chained = [{**p, "digest": d} for p, d in zip(phases, digests[1:], strict=True)]
        return json.dumps({**header, "phases": chained, "digest": digests[-1], "seal": seal})

    @classmethod
    def from_json(cls, text, key=None):
        """Rebuilds a ledger from `to_json`.

        Args:
            text: What `to_json` returned.
            key: The `LedgerKey` that must have sealed it; None checks the digests alone.

        Raises:
            PrivacyError: if it cannot be read, was altered, or is not sealed by `key`.
        """
        try:
            values = json.loads(text)
            if values["format"] != _FORMAT:
                raise ValueError(f"unknown format {values['format']!r}")
            run_id, is_open = values["run_id"], values["is_open"]
            if not isinstance(run_id, str) or not isinstance(is_open, bool):
                raise ValueError("its run or its state is not named")
            found = [phase.pop("digest") for phase in values["phases"]]
            header = {"format": _FORMAT, "run_id": run_id, "is_open": is_open}
            digests = _chain(header, values["phases"])
            if digests[1:] != found or digests[-1] != values["digest"]:
                raise ValueError("its digests do not fit, so it was altered")
            phases = [Phase.from_dict(phase) for phase in values["phases"]]
            seal = values["seal"]
        except (ValueError, KeyError, TypeError, AttributeError, PrivacyError) as error:
            raise PrivacyError(
                f"The privacy ledger in the checkpoint cannot be read ({error}). Restore an intact "
                "checkpoint; without its ledger the privacy spent is unknown."
            ) from error
        if key is not None and not key.fits(_SEALED + digests[-1].encode(), seal):
            raise PrivacyError(
                "The privacy ledger is not sealed by the given key: it was altered, or written "
                "without this key. Restore a checkpoint that was saved with it."
            )
        return cls(phases, run_id, is_open)


def merged(phases):
    """Returns the same phases with neighbours under one mechanism joined into one.

    Those that are accounted by passes over the data stay as they are.

    Example:

    >>> from keras_secure.privacy import Phase, UnstatedSampling
    >>> phase = Phase(UnstatedSampling(), 1.0, 1.0, 8.0, steps=2)
    >>> [phase.steps for phase in merged([phase, phase, phase.with_steps(0)])]
    [4]
    """
    joined: list[Phase] = []
    for phase in phases:
        alike = joined and joined[-1].with_steps(0) == phase.with_steps(0)
        if alike and not phase.sampling.counts_passes:
            joined[-1] = phase.with_steps(joined[-1].steps + phase.steps)
        elif phase.steps:
            joined.append(phase)
    return joined


def begins_with(phases, earlier):
    """Whether the steps of `earlier`, one by one, are the first of those of `phases`."""
    whole, part = merged(phases), merged(earlier)
    if not part:
        return True
    if len(part) > len(whole) or whole[: len(part) - 1] != part[:-1]:
        return False
    last = whole[len(part) - 1]
    return last.with_steps(0) == part[-1].with_steps(0) and part[-1].steps <= last.steps


def _chain(header, records):
    """Returns the header's digest and, for every record, one of it and all before it."""
    digests = [hashlib.sha256(_canonical(header)).hexdigest()]
    for record in records:
        digests.append(hashlib.sha256(digests[-1].encode() + _canonical(record)).hexdigest())
    return digests


def _canonical(values):
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
