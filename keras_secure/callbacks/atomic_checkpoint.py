"""What all checkpoints share: folders that appear whole or not at all, the newest resumed from."""

import contextlib
import json
import os
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_secure.callbacks.exact_weights import load_exactly, save_exactly
from keras_secure.errors import InputError, IntegrityError, PrivacyError, PrivacyWarning
from keras_secure.integrity.atomic import sync_folder, write_new

WEIGHTS = "state.weights.h5"
PROGRESS = "progress.json"

_PREFIX = "step-"
_STEPS = re.compile(_PREFIX + r"\d{12}")


class AtomicCheckpoint(keras.callbacks.Callback):
    """Base of callbacks that save the state of a fit so that a crash leaves an intact checkpoint.

    Every checkpoint is a folder of its own, written through to the disk under a temporary name and
    then renamed. A fit with the same folder goes on after the newest one.

    A subclass says how a checkpoint is closed (`_close`) and how it is opened again after proving
    that it is what was written (`_opened`).

    Args:
        directory: Folder for the checkpoints of one run; created if there is none.
        save_freq: `"epoch"`, or an int: the number of batches after which to save.
        keep: How many checkpoints to keep, at least 1; older ones are removed.
        delete_checkpoint: Whether to remove all of them when the fit has ended in order.
    """

    def __init__(self, directory, save_freq, keep, delete_checkpoint):
        super().__init__()
        if save_freq != "epoch" and (type(save_freq) is not int or save_freq < 1):
            raise InputError(f"save_freq is {save_freq!r}; give 'epoch' or a number of batches.")
        if keep < 1:
            raise InputError(f"keep is {keep}; at least one checkpoint must be kept.")
        self.directory, self.save_freq = Path(directory), save_freq
        self.keep, self.delete_checkpoint = keep, delete_checkpoint
        self._epoch = self._saved_at = 0

    def checkpoints(self):
        """Returns the folders of the checkpoints that are there, the newest first."""
        if not self.directory.is_dir():
            return []
        found = [path for path in self.directory.iterdir() if _STEPS.fullmatch(path.name)]
        return sorted(found, key=lambda path: path.name, reverse=True)

    def on_train_begin(self, logs=None):
        """Restores the newest intact checkpoint, if it is ahead of the model."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"No folder for checkpoints can be made at {self.directory}: {error.strerror}. "
                "Give a folder that you may write to."
            ) from error
        for left in self.directory.glob(".*.part"):
            shutil.rmtree(left, ignore_errors=True)
        self._restore()
        self._saved_at = self._steps()

    def on_epoch_begin(self, epoch, logs=None):
        """Notes the epoch to go on from."""
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        """Saves after every `save_freq` batches."""
        if self.save_freq == "epoch":
            return
        if self._steps() - self._saved_at >= self.save_freq:
            # After an epoch's last batch a resumed fit goes on with the next epoch.
            is_last = batch + 1 == self.params.get("steps")
            self._save({"epoch": self._epoch + is_last, "batch": 0 if is_last else batch + 1}, logs)

    def on_epoch_end(self, epoch, logs=None):
        """Saves after every epoch."""
        if self.save_freq == "epoch":
            self._save({"epoch": epoch + 1, "batch": 0}, logs)

    def on_train_end(self, logs=None):
        """Removes the checkpoints of a fit that has ended in order, the newest last."""
        # What a journal has yet to confirm is kept: it may be refused.
        if self.delete_checkpoint and not getattr(self.model.optimizer, "awaits_journal", False):
            self._remove(self.checkpoints())

    def _close(self, folder: Path) -> None:
        """Writes what shows later that the files of a new checkpoint are as they were written."""
        raise NotImplementedError

    def _opened(self, path: Path) -> "contextlib.AbstractContextManager[Path]":
        """Gives a folder with the proven files of a checkpoint, or raises `IntegrityError`."""
        raise NotImplementedError

    def _steps(self) -> int:
        """How many steps the model is ahead, by which checkpoints are named."""
        return executed_steps(getattr(self.model, "optimizer", None))

    def _further_progress(self, path: Path, logs: dict[str, Any] | None) -> dict[str, Any]:
        """What a subclass remembers with a checkpoint, besides epoch, batch and step."""
        return {}

    def _saved(self, path: Path) -> None:
        """Called when a checkpoint is in its place, before older ones are removed."""

    def _kept(self, newest: list[Path]) -> set[Path]:
        """Which of the checkpoints, the newest first, are not removed after a save."""
        return set(newest[: self.keep])

    def _save(self, progress: dict[str, Any], logs: dict[str, Any] | None) -> None:
        steps = self._steps()
        self._saved_at = steps
        path = self.directory / f"{_PREFIX}{steps:012d}"
        if path.exists():
            return
        staging = self.directory / f".{path.name}.part"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(mode=0o700)
        self._write_weights(staging)
        progress = {**progress, "steps": steps, **self._further_progress(path, logs)}
        write_new(staging / PROGRESS, json.dumps(progress).encode())
        self._close(staging)
        sync_folder(staging)
        os.rename(staging, path)
        sync_folder(self.directory)
        self._saved(path)
        newest = self.checkpoints()
        kept = self._kept(newest)
        self._remove([path for path in newest if path not in kept])

    def _write_weights(self, folder: Path) -> None:
        save_exactly(self.model, folder / WEIGHTS)
        sync_file(folder / WEIGHTS)

    def _remove(self, paths: list[Path]) -> None:
        for path in reversed(paths):
            # Renamed first, so that what is half removed is never taken for a damaged checkpoint.
            aside = path.with_name(f".{path.name}.old.part")
            with contextlib.suppress(OSError):
                os.rename(path, aside)
            shutil.rmtree(aside, ignore_errors=True)

    def _restore(self) -> dict[str, Any] | None:
        """Loads the newest checkpoint that is ahead of the model; returns its progress."""
        damage: list[str] = []
        for path in self.checkpoints():
            if named_steps(path) <= self._steps():
                break
            with contextlib.ExitStack() as stack:
                try:
                    folder = stack.enter_context(self._opened(path))
                    progress = read_progress(folder, path)
                except IntegrityError as error:
                    damage.append(f"{path} is damaged: {error}")
                    continue
                if damage:
                    self._report(damage, f"; {path} is used instead")
                self._load(folder, progress)
                return progress
        if damage:
            self._report(damage, " and there is no intact one")
        return None

    def _load(self, folder: Path, progress: dict[str, Any]) -> None:
        optimizer = self.model.optimizer
        if self.model.built and not optimizer.built:
            optimizer.build(self.model.trainable_variables)
        name = f"The checkpoint of step {progress['steps']} in {self.directory}"
        load_exactly(self.model, folder / WEIGHTS, name)
        # Keras only warns where the state of an optimizer is left out.
        if self._steps() != progress["steps"]:
            raise InputError(
                f"The checkpoint of step {progress['steps']} holds the state of another optimizer "
                f"than {type(optimizer).__name__}. Compile the model as it was when it was saved."
            )
        # Keras has no public way to say from which epoch a fit goes on; its own backup callback
        # sets the same attribute.
        self.model._initial_epoch = progress["epoch"]

    def _report(self, damage: list[str], instead: str) -> None:
        """Refuses to go on from a state older than one that is known.

        Raises:
            PrivacyError: The optimizer is private and no journal knows what the older state lacks.
            IntegrityError: The optimizer is not private.
        """
        found = "; ".join(damage) + instead
        optimizer = self.model.optimizer
        if not hasattr(optimizer, "expects_journal"):
            raise IntegrityError(
                f"{found}. Going on from there would undo what was trained since. Restore the "
                "newest checkpoint; or, if it is to be given up, remove it yourself."
            )
        if not optimizer.expects_journal:
            raise PrivacyError(
                f"{found}. An older state lacks the privacy spent since. Restore the damaged "
                "files, or resume with this run's PrivacyJournal, which knows what was spent."
            )
        warnings.warn(f"{found}. The journal counts what it lacks.", PrivacyWarning, stacklevel=2)


def executed_steps(optimizer: Any) -> int:
    """How many steps an optimizer has taken: private ones, or batches of any other.

    Raises:
        InputError: There is no optimizer of Keras that counts them.
    """
    if hasattr(optimizer, "executed_steps"):
        return optimizer.executed_steps
    # `iterations` counts updates, of which gradient accumulation makes one in several steps; a
    # wrapper has a counter of its own besides that of the optimizer in it.
    counters = [
        int(np.asarray(keras.ops.convert_to_numpy(variable)))
        for variable in getattr(optimizer, "variables", ())
        if variable.name == "iteration"
    ]
    if not counters:
        raise InputError(
            f"The model is compiled with {type(optimizer).__name__} as optimizer, which counts no "
            "steps to tell checkpoints by. Compile it with a keras.optimizers.Optimizer."
        )
    return max(counters)


def named_steps(path: Path) -> int:
    """The steps that a checkpoint's name tells."""
    return int(path.name.removeprefix(_PREFIX))


def read_progress(folder: Path, path: Path) -> dict[str, Any]:
    """Reads how far a checkpoint is, from files that were proven.

    Raises:
        IntegrityError: It is not the checkpoint that its name says.
    """
    try:
        progress = json.loads((folder / PROGRESS).read_text())
        epoch, steps = progress["epoch"], progress["steps"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"its {PROGRESS} cannot be read ({error!r})") from error
    if type(epoch) is not int or epoch < 0 or steps != named_steps(path):
        raise IntegrityError(f"it holds epoch {epoch!r} and step {steps!r}, not those of its name")
    return progress


def sync_file(path: Path) -> None:
    """Writes a file through to the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
