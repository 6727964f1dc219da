"""What is remembered of the newest checkpoint of a run, so that an older one is known as older."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from keras_secure.errors import IntegrityError
from keras_secure.integrity.atomic import sync_folder, write_atomically

_FORMAT = "keras_secure.checkpoint_record"
_MAX_SIZE = 4096


@dataclass(frozen=True)
class CheckpointRecord:
    """The newest checkpoint that was written, or resumed from.

    Signatures cannot tell that a checkpoint is not the newest: an older one is signed as well. The
    record can, as long as whoever exchanges checkpoints cannot write to it.

    Args:
        run: Identifier of the run.
        steps: The steps of its newest checkpoint.
        finished: Whether the run has ended in order and its checkpoints were removed.
    """

    run: str
    steps: int
    finished: bool = False

    def write(self, path: Path) -> None:
        """Replaces the record at `path`, and writes it through to the disk."""
        data = {"format": _FORMAT, "run": self.run, "steps": self.steps, "finished": self.finished}
        write_atomically(path, json.dumps(data).encode())
        sync_folder(path.parent)

    @staticmethod
    def remove_unfinished(path: Path) -> None:
        """Removes what a process left that was killed while it wrote the record at `path`."""
        for left in path.parent.glob(f".{path.name}.*.part"):
            left.unlink(missing_ok=True)

    @staticmethod
    def read(path: Path) -> "CheckpointRecord | None":
        """Returns the record at `path`, or None if there is none.

        Raises:
            IntegrityError: It cannot be read.
        """
        if not os.path.lexists(path):
            return None
        try:
            with open(path, "rb") as file:
                data = json.loads(file.read(_MAX_SIZE))
            record = CheckpointRecord(data["run"], data["steps"], data["finished"])
            if data["format"] != _FORMAT or type(record.steps) is not int:
                raise ValueError("it has another format")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise IntegrityError(
                f"The record of the newest checkpoint {path} cannot be read ({error!r}), so it is "
                "unknown whether a newer one is missing. Restore it; or, if you know that none is, "
                "remove it."
            ) from error
        return record

    def problem(self, run: str | None, steps: int) -> str:
        """Says why a state must not be gone on from; empty if it is the newest that is known.

        Args:
            run: The run of the checkpoint that was found; None if there is none.
            steps: Its steps, or those of the model itself.
        """
        known = f"step {self.steps} of run {self.run} was saved"
        if run is None:
            return "" if self.finished or steps >= self.steps else f"{known}, and it is not there"
        if run != self.run:
            return f"{known} last, and what is there is of run {run}"
        return "" if steps >= self.steps else f"{known}, and what is there is older, step {steps}"
