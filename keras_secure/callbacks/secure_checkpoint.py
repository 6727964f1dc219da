"""Checkpoints that are signed, encrypted if asked for, and proven before they are restored."""

import contextlib
import secrets
from pathlib import Path

import keras
import numpy as np

from keras_secure.callbacks.atomic_checkpoint import (
    WEIGHTS,
    AtomicCheckpoint,
    named_steps,
    read_progress,
)
from keras_secure.callbacks.best_checkpoint import BestCheckpoint
from keras_secure.callbacks.checkpoint_record import CheckpointRecord
from keras_secure.callbacks.checkpoint_seal import CheckpointSeal, plain_folder
from keras_secure.callbacks.exact_weights import load_exactly
from keras_secure.errors import InputError, IntegrityError

_RECORD = "newest.json"


class SecureCheckpoint(AtomicCheckpoint):
    """Saves signed checkpoints of a fit, and resumes from the newest whose signature holds.

    A checkpoint is a folder that `keras_secure.integrity.verify` checks as any other: weights,
    optimizer, privacy ledger, random state of layers such as dropout, epoch and step. It appears
    whole or not at all. Before one is restored it is copied to a private folder, verified there,
    decrypted if need be, and loaded from there, so what was verified is what is loaded.

    A fit goes on after the epoch that was saved, with the optimizer in the state that it was in.
    If it was saved within an epoch, that epoch is made again from its start; `resumed["batch"]`
    tells how many of its batches the state has seen already.

    It never goes back: if the newest checkpoint is damaged, or the record knows of a newer one than
    is there, the fit is refused. Under a `DPOptimizer` the rules of `PrivateCheckpoint` hold, and a
    `PrivacyJournal` knows what an older state lacks.

    Args:
        directory: Folder for the checkpoints of one run; created if there is none.
        signing_key: What `keras_secure.integrity.sign` takes: a private key, its unencrypted PEM
            file, or several.
        trust: Whom to believe when restoring, as `keras_secure.integrity.verify` takes it; the
            public halves of `signing_key` by default.
        save_freq: `"epoch"`, or an int: the number of batches after which to save.
        keep: How many of the newest checkpoints to keep, at least 1.
        monitor: Name of a metric; the best checkpoint by it is kept as well, as long as the fits go
            on. Needs `save_freq="epoch"`. What is chosen by data that was not trained on is not
            covered by a privacy ledger.
        mode: `"min"` or `"max"`: which is better; None tells it from the name.
        recipients: Encrypts the weights for these, as `keras_secure.integrity.encrypt` does; give
            `identities` too, or nothing can be restored.
        identities: What decrypts what was encrypted for `recipients`.
        passphrase: Or encrypts them with a passphrase.
        key: Or with a key of 32 bytes.
        scratch: Folder for the unencrypted weights while they are being encrypted or restored, such
            as `/dev/shm`, which is no disk; `directory` by default.
        record: File that remembers the newest checkpoint. Where others can write to `directory`,
            give one that they cannot write to; `newest.json` in it by default, which shows
            accidents.
        delete_checkpoint: Whether to remove all of them when the fit has ended in order.

    Attributes:
        resumed: Dict with `epoch`, `batch` and `steps` of what the last fit went on from; None if
            it started afresh.

    Raises:
        IntegrityError: The newest checkpoint is not what a trusted key signed, or is older than the
            newest that is known.
        PrivacyError: The same under a `DPOptimizer`, unless a `PrivacyJournal` knows the steps that
            an older one lacks.

    Example:

    >>> import tempfile
    >>> import keras_secure as ks
    >>> private_key, public_key = ks.integrity.generate_key_pair()
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile("adam", loss="mse")
    >>> folder = tempfile.TemporaryDirectory()
    >>> checkpoint = SecureCheckpoint(folder.name, private_key, key=bytes(32), monitor="loss")
    >>> x, y = keras.ops.ones((64, 4)), keras.ops.full((64, 1), 10.0)
    >>> history = model.fit(x, y, epochs=3, verbose=0, callbacks=[checkpoint])
    >>> [path.name for path in checkpoint.checkpoints()]
    ['step-000000000006', 'step-000000000004']
    >>> ks.integrity.verify(checkpoint.best, public_key).ok
    True
    """

    def __init__(
        self,
        directory,
        signing_key,
        trust=None,
        *,
        save_freq="epoch",
        keep=2,
        monitor=None,
        mode=None,
        recipients=(),
        identities=(),
        passphrase=None,
        key=None,
        scratch=None,
        record=None,
        delete_checkpoint=False,
    ):
        super().__init__(directory, save_freq, keep, delete_checkpoint)
        if monitor is not None and save_freq != "epoch":
            raise InputError(
                f"monitor is {monitor!r} and save_freq {save_freq!r}: metrics are known at the end "
                "of an epoch. Give save_freq='epoch'."
            )
        shared = {"passphrase": passphrase, "key": key}
        self._seal = CheckpointSeal(
            signing_key,
            trust,
            {"recipients": recipients, **shared},
            {"identities": identities, **shared},
            plain_folder(self.directory if scratch is None else Path(scratch), self.directory),
        )
        self._best = None if monitor is None else BestCheckpoint(monitor, mode)
        self._record = self.directory / _RECORD if record is None else Path(record)
        self._run = ""
        self.resumed: dict[str, int] | None = None

    @property
    def best(self):
        """Folder of the best checkpoint by `monitor`; None if there is none."""
        if self._best is None or self._best.steps is None:
            return None
        found = [p for p in self.checkpoints() if named_steps(p) == self._best.steps]
        return found[0] if found else None

    def on_train_begin(self, logs=None):
        """Restores the newest checkpoint that is proven, if it is ahead of the model."""
        self.resumed = None
        self._seal.remove_plaintext()
        CheckpointRecord.remove_unfinished(self._record)
        super().on_train_begin(logs)

    def on_train_end(self, logs=None):
        """Removes the checkpoints of a fit that has ended in order, if asked for."""
        super().on_train_end(logs)
        if self.delete_checkpoint and not self.checkpoints() and self._run:
            CheckpointRecord(self._run, self._steps(), finished=True).write(self._record)

    def load(self, model, path=None):
        """Loads a checkpoint into a model of the same architecture, if it is proven.

        Going back to an older state is what this is for, so nothing is refused for its age; a
        `DPOptimizer` still refuses to forget what it spent.

        Args:
            model: A built `keras.Model`, such as was trained.
            path: Folder of the checkpoint; by default the best one, or without `monitor` the
                newest.

        Raises:
            IntegrityError: It is not what a trusted key signed.
            InputError: There is none.

        Example:

        >>> import tempfile
        >>> import keras_secure as ks
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", loss="mse")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     checkpoint = SecureCheckpoint(folder, ks.integrity.generate_key_pair()[0])
        ...     _ = model.fit(keras.ops.ones((8, 4)), keras.ops.ones((8, 1)), verbose=0,
        ...                   callbacks=[checkpoint])
        ...     weights = model.get_weights()
        ...     model.set_weights([0 * value for value in weights])
        ...     checkpoint.load(model)
        >>> bool(np.all(model.get_weights()[0] == weights[0]))
        True
        """
        path = path or self.best or next(iter(self.checkpoints()), None)
        if path is None:
            raise InputError(f"There is no checkpoint in {self.directory} to load.")
        with self._opened(Path(path)) as folder:
            read_progress(folder, Path(path))
            load_exactly(model, folder / WEIGHTS, path)

    def _restore(self):
        progress = super()._restore()
        if progress is None:
            self._check_newest(None, self._steps())
            progress = self._of_newest()
        self._run = progress.get("run", self._run) or secrets.token_hex(16)
        if self._best is not None:
            self._best.restore(progress.get("best"))

    def _load(self, folder, progress):
        self._check_newest(progress["run"], progress["steps"])
        super()._load(folder, progress)
        for variable, value in zip(self._random_states(), progress["random_states"], strict=True):
            variable.assign(np.asarray(value, variable.dtype))
        self.resumed = {name: progress[name] for name in ("epoch", "batch", "steps")}

    def _of_newest(self):
        """The progress of the newest checkpoint, where the model is already as far."""
        for path in self.checkpoints():
            with contextlib.suppress(IntegrityError), self._opened(path) as folder:
                return read_progress(folder, path)
        return {}

    def _check_newest(self, run, steps):
        record = CheckpointRecord.read(self._record)
        if record is not None and (problem := record.problem(run, steps)):
            self._report(
                [f"{self._record}, to be removed if that is given up, tells: {problem}"], ""
            )

    def _further_progress(self, path, logs):
        if self._best is not None:
            self._best.update(named_steps(path), logs)
        states = [keras.ops.convert_to_numpy(each).tolist() for each in self._random_states()]
        best = None if self._best is None else self._best.to_dict()
        return {"run": self._run, "random_states": states, "best": best}

    def _random_states(self):
        return [each for each in self.model.variables if each.name == "seed_generator_state"]

    def _write_weights(self, folder):
        if self._seal.encrypts:
            self._seal.write_weights(self.model, folder)
        else:
            super()._write_weights(folder)

    def _close(self, folder):
        self._seal.close(folder, self._steps())

    def _saved(self, path):
        CheckpointRecord(self._run, named_steps(path)).write(self._record)

    def _kept(self, newest):
        return {*super()._kept(newest), self.best} - {None}

    def _opened(self, path):
        return self._seal.opened(path)
