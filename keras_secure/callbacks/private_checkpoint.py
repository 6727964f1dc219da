"""Checkpoints that appear whole or not at all."""

import contextlib
import json
import os
import re
import shutil
import warnings
from pathlib import Path

import keras

from keras_secure.errors import InputError, IntegrityError, PrivacyError, PrivacyWarning
from keras_secure.integrity import build_manifest, read_manifest, write_manifest
from keras_secure.integrity.atomic import sync_folder, write_new
from keras_secure.integrity.manifest import MANIFEST_NAME

_PREFIX = "step-"
_STEPS = re.compile(_PREFIX + r"\d{12}")
_WEIGHTS = "state.weights.h5"
_PROGRESS = "progress.json"


class PrivateCheckpoint(keras.callbacks.Callback):
    """Saves the state of a fit so that a crash at any moment leaves an intact checkpoint.

    `keras.callbacks.BackupAndRestore` overwrites its only file, and a crash meanwhile leaves
    neither the old nor the new one. Here every checkpoint is a folder of its own, written through
    to the disk under a temporary name and then renamed: weights, optimizer, privacy ledger, and a
    manifest of their digests. A fit with the same folder goes on after the newest one; together
    with `PrivacyJournal` it also counts the steps that came after it.

    Nothing is restored into an optimizer that has executed as many steps as the checkpoint itself.

    Args:
        directory: Folder for the checkpoints of one run; created if there is none.
        save_freq: `"epoch"`, or an int: the number of batches after which to save.
        keep: How many checkpoints to keep, at least 1; older ones are removed.
        delete_checkpoint: Whether to remove all of them when the fit has ended in order, as
            `BackupAndRestore` does.

    Raises:
        PrivacyError: if checkpoints are there and the newest is damaged, unless a `PrivacyJournal`
            knows the steps that an older one lacks.

    Example:

    >>> import tempfile
    >>> import keras_secure as ks
    >>> secure = ks.SecureModel(keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]))
    >>> secure.compile(ks.optimizers.DPSGD(l2_norm_clip=1.0, noise_multiplier=2.0), loss="mse")
    >>> folder = tempfile.TemporaryDirectory()
    >>> checkpoint = PrivateCheckpoint(folder.name, save_freq=2, delete_checkpoint=False)
    >>> x, y = keras.random.normal((64, 4)), keras.random.normal((64, 1))
    >>> history = secure.fit(x, y, batch_size=16, verbose=0, callbacks=[checkpoint])
    >>> [path.name for path in checkpoint.checkpoints()]
    ['step-000000000004', 'step-000000000002']
    """

    def __init__(self, directory, save_freq="epoch", keep=2, delete_checkpoint=True):
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
        if not hasattr(self.model.optimizer, "executed_steps"):
            raise PrivacyError(
                f"PrivateCheckpoint found a {type(self.model.optimizer).__name__}, which takes no "
                "private steps. Use keras.callbacks.BackupAndRestore, or compile a SecureModel "
                "with keras_secure.optimizers.DPOptimizer."
            )
        self.directory.mkdir(parents=True, exist_ok=True)
        for left in self.directory.glob(".*.part"):
            shutil.rmtree(left, ignore_errors=True)
        self._restore()
        self._saved_at = self.model.optimizer.executed_steps

    def on_epoch_begin(self, epoch, logs=None):
        """Notes the epoch to go on from."""
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        """Saves after every `save_freq` batches."""
        if self.save_freq == "epoch":
            return
        if self.model.optimizer.executed_steps - self._saved_at >= self.save_freq:
            # After an epoch's last batch a resumed fit goes on with the next epoch.
            self._save(self._epoch + (batch + 1 == self.params.get("steps")))

    def on_epoch_end(self, epoch, logs=None):
        """Saves after every epoch."""
        if self.save_freq == "epoch":
            self._save(epoch + 1)

    def on_train_end(self, logs=None):
        """Removes the checkpoints of a fit that has ended in order, the newest last."""
        # What a journal has yet to confirm is kept: it may be refused.
        if self.delete_checkpoint and not self.model.optimizer.awaits_journal:
            self._remove(self.checkpoints())

    def _save(self, next_epoch):
        steps = self.model.optimizer.executed_steps
        self._saved_at = steps
        path = self.directory / f"{_PREFIX}{steps:012d}"
        if path.exists():
            return
        staging = self.directory / f".{path.name}.part"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        self.model.save_weights(staging / _WEIGHTS)
        _sync_file(staging / _WEIGHTS)
        progress = {"epoch": next_epoch, "steps": steps}
        write_new(staging / _PROGRESS, json.dumps(progress).encode())
        write_manifest(staging)
        sync_folder(staging)
        os.rename(staging, path)
        sync_folder(self.directory)
        self._remove(self.checkpoints()[self.keep :])

    def _restore(self):
        optimizer = self.model.optimizer
        damage: list[str] = []
        for path in self.checkpoints():
            if int(path.name.removeprefix(_PREFIX)) <= optimizer.executed_steps:
                break
            if problem := _problem(path):
                damage.append(f"{path} is damaged: {problem}")
                continue
            if damage:
                self._report(damage, f"; {path} is used instead")
            progress = json.loads((path / _PROGRESS).read_text())
            if not optimizer.built:
                optimizer.build(self.model.trainable_variables)
            self.model.load_weights(path / _WEIGHTS)
            # Keras has no public way to say from which epoch a fit goes on; its own backup callback
            # sets the same attribute.
            self.model._initial_epoch = progress["epoch"]
            return
        if damage:
            self._report(damage, " and there is no intact one")

    def _report(self, damage, instead):
        found = "; ".join(damage) + instead
        if not self.model.optimizer.expects_journal:
            raise PrivacyError(
                f"{found}. An older state lacks the privacy spent since. Restore the damaged "
                "files, or resume with this run's PrivacyJournal, which knows what was spent."
            )
        warnings.warn(f"{found}. The journal counts what it lacks.", PrivacyWarning, stacklevel=2)

    def _remove(self, paths):
        for path in reversed(paths):
            # Renamed first, so that what is half removed is never taken for a damaged checkpoint.
            aside = path.with_name(f".{path.name}.old.part")
            with contextlib.suppress(OSError):
                os.rename(path, aside)
            shutil.rmtree(aside, ignore_errors=True)


def _problem(folder):
    """Says what is wrong with a checkpoint's files; None if they are as they were written."""
    try:
        if read_manifest(folder / MANIFEST_NAME)["files"] != build_manifest(folder)["files"]:
            return "its files are not those of its manifest"
    except (InputError, IntegrityError) as error:
        return str(error)
    return None


def _sync_file(path):
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
