"""Lives of a checkpointed private fit, each killed by SIGKILL at a random moment.

Run as a program of its own: `harness_crash.py FOLDER KILLS SEED`. It imports everything once and
forks a process for each life, so that a life starts within seconds. Every life writes to a channel,
unbuffered and on its own account: before a step is recorded in the journal, before it is executed,
and after it. Prints one JSON object a life.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import numpy as np

import keras_secure as ks

X = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
Y = (X[:, 0] > 0).astype("int32")
BATCH_SIZE, NOISE, SAVE_FREQ = 8, 2.0, 3


class Channel(keras.callbacks.Callback):
    """Writes a line at each of the moments it is given."""

    def __init__(self, file, before=None, after=None):
        super().__init__()
        self.file, self.before, self.after = file, before, after

    def on_train_batch_begin(self, batch, logs=None):
        if self.before:
            write(self.file, self.before)

    def on_train_batch_end(self, batch, logs=None):
        if self.after:
            write(self.file, self.after)


class Start(keras.callbacks.Callback):
    """Writes, once all is restored and before the first step, what the ledger counts."""

    def __init__(self, file, journal):
        super().__init__()
        self.file, self.journal, self.done = file, journal, False

    def on_epoch_begin(self, epoch, logs=None):
        if not self.done:
            optimizer = self.model.optimizer
            steps = optimizer.executed_steps
            counted = sum(phase.steps for phase in optimizer.ledger.phases(steps))
            write(self.file, f"start {counted} {self.journal.lost_steps}")
            self.done = True


def write(file, text):
    os.write(file, text.encode() + b"\n")


def live(folder, channel, epochs):
    """Resumes, and trains until the end or the kill."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    secure = ks.SecureModel(model)
    optimizer = ks.optimizers.DPSGD(0.1, l2_norm_clip=1.0, noise_multiplier=NOISE)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    secure.compile(optimizer, loss=loss)
    journal = ks.callbacks.PrivacyJournal(folder / "journal")
    callbacks = [
        Channel(channel, before="announced"),
        journal,
        Channel(channel, before="begun", after="executed"),
        Start(channel, journal),
        ks.callbacks.PrivateCheckpoint(folder / "saved", SAVE_FREQ, delete_checkpoint=False),
    ]
    secure.fit(X, Y, batch_size=BATCH_SIZE, epochs=epochs, verbose=0, callbacks=callbacks)
    write(channel, f"end {optimizer.executed_steps} {optimizer.epsilon(1e-3)!r}")


def fork(folder, channel, epochs):
    """Starts a life in a process of its own; a refusal is written to the channel."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        live(folder, channel, epochs)
        code = 0
    except BaseException as error:
        write(channel, "refused " + " ".join(f"{type(error).__name__}: {error}".split()))
        traceback.print_exc()
    os._exit(code)


def lines(path, seen):
    """The complete lines of the channel after the first `seen`."""
    return path.read_text().split("\n")[seen:-1]


def main(folder, kills, seed):
    generator = random.Random(seed)
    path = folder / "channel"
    channel = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    seen = 0
    for number in range(kills + 1):
        last = number == kills
        process = fork(folder, channel, 1 if last else 10**6)
        ended = False
        if not last:
            # Most are killed while they train and save, some while they restore and reconcile.
            if generator.random() < 0.75:
                while not ended and "executed" not in lines(path, seen):
                    time.sleep(0.005)
                    ended = os.waitpid(process, os.WNOHANG)[0] == process
                time.sleep(generator.uniform(0.0, 0.6))
            else:
                time.sleep(generator.uniform(0.0, 3.0))
            if not ended:
                os.kill(process, signal.SIGKILL)
        if not ended:
            os.waitpid(process, 0)
        found = lines(path, seen)
        seen += len(found)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
