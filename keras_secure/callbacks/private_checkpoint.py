"""Checkpoints of private training that appear whole or not at all."""

import contextlib

from keras_secure.callbacks.atomic_checkpoint import AtomicCheckpoint
from keras_secure.errors import InputError, IntegrityError, PrivacyError
from keras_secure.integrity import build_manifest, read_manifest, write_manifest
from keras_secure.integrity.manifest import MANIFEST_NAME


class PrivateCheckpoint(AtomicCheckpoint):
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

    >>> import keras, tempfile
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
        super().__init__(directory, save_freq, keep, delete_checkpoint)

    def on_train_begin(self, logs=None):
        """Restores the newest intact checkpoint, if it is ahead of the model."""
        if not hasattr(self.model.optimizer, "executed_steps"):
            raise PrivacyError(
                f"PrivateCheckpoint found a {type(self.model.optimizer).__name__}, which takes no "
                "private steps. Use SecureCheckpoint, or compile a SecureModel with "
                "keras_secure.optimizers.DPOptimizer."
            )
        super().on_train_begin(logs)

    def _close(self, folder):
        write_manifest(folder)

    @contextlib.contextmanager
    def _opened(self, path):
        try:
            intact = read_manifest(path / MANIFEST_NAME)["files"] == build_manifest(path)["files"]
        except InputError as error:
            raise IntegrityError(str(error)) from error
        if not intact:
            raise IntegrityError("its files are not those of its manifest")
        yield path
