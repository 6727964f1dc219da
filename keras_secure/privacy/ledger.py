"""What was released: a record of the private steps actually executed."""

import json
import uuid
from dataclasses import asdict, dataclass

from keras_secure.errors import PrivacyError
from keras_secure.privacy.sampling import Sampling

_FORMAT = 1


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

    Args:
        phases: Finished phases, oldest first.
        run_id: Identifies the run; None makes a new one.
    """

    def __init__(self, phases=(), run_id=None):
        self.finished = [phase for phase in phases if phase.steps]
        self.current: Phase | None = None
        self.run_id = run_id or uuid.uuid4().hex

    def begin(self, phase, executed_steps):
        """Closes the current phase at `executed_steps` and opens `phase`."""
        self.finished = self.phases(executed_steps)
        self.current = phase

    def phases(self, executed_steps):
        """Returns the phases with their steps, given the counter's value."""
        before = sum(phase.steps for phase in self.finished)
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
        running = Phase(**{**self.current.__dict__, "steps": executed_steps - before})
        return [*self.finished, running]

    def to_json(self, executed_steps):
        """Returns the ledger as a JSON string."""
        phases = [phase.to_dict() for phase in self.phases(executed_steps)]
        return json.dumps({"format": _FORMAT, "run_id": self.run_id, "phases": phases})

    @classmethod
    def from_json(cls, text):
        """Rebuilds a ledger from `to_json`; raises `PrivacyError` if it cannot be read."""
        try:
            values = json.loads(text)
            if values["format"] != _FORMAT:
                raise ValueError(f"unknown format {values['format']!r}")
            phases = [Phase.from_dict(phase) for phase in values["phases"]]
            return cls(phases, values["run_id"])
        except (ValueError, KeyError, TypeError, PrivacyError) as error:
            raise PrivacyError(
                f"The privacy ledger in the checkpoint cannot be read ({error}). Restore an intact "
                "checkpoint; without its ledger the privacy spent is unknown."
            ) from error
