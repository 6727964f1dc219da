"""Lives of a fit with SecureCheckpoint, each killed by SIGKILL at a random moment.

Run as a program of its own: `harness_secure_crash.py FOLDER KILLS SEED`. Prints, as JSON, what each
life resumed from or was refused for, and whether the last one ended with exactly the weights and
the optimizer of a fit that nobody interrupted.
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
Y = (X[:, 0] > 0).astype("float32")[:, None]


class Told(keras.callbacks.Callback):
    """Writes what was resumed from, and that each epoch has ended."""

    def __init__(self, file, checkpoint):
        super().__init__()
        self.file, self.checkpoint = file, checkpoint

    def on_train_begin(self, logs=None):
        resumed = self.checkpoint.resumed or {"steps": 0}
        os.write(self.file, f"resumed {resumed['steps']}\n".encode())

    def on_epoch_end(self, epoch, logs=None):
        os.write(self.file, b"epoch\n")


def new_model():
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Dense(4), keras.layers.Dropout(0.5, seed=2), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    schedule = keras.optimizers.schedules.CosineDecay(0.01, 10000)
    model.compile(keras.optimizers.Adam(schedule, gradient_accumulation_steps=3), loss="mse")
    return model


def fit(model, epochs, *callbacks):
    model.fit(X, Y, batch_size=8, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks)
    return [keras.ops.convert_to_numpy(v) for v in [*model.variables, *model.optimizer.variables]]


def live(folder, channel, key, epochs=None):
    """Resumes, and trains until the kill; or for some epochs, compared to an unbroken fit."""
    checkpoint = ks.callbacks.SecureCheckpoint(folder / "saved", key, key=bytes(32))
    last = checkpoint.checkpoints()
    if epochs is not None and last:
        epochs += int(last[0].name.removeprefix("step-")) // 5
    state = fit(new_model(), epochs or 10**6, checkpoint, Told(channel, checkpoint))
    unbroken = fit(new_model(), epochs)
    same = all(np.array_equal(a, b) for a, b in zip(state, unbroken, strict=True))
    os.write(channel, f"same {same} {epochs}\n".encode())


def fork(*arguments):
    process = os.fork()
    if process:
        return process
    try:
        live(*arguments)
    except BaseException as error:
        os.write(arguments[1], ("refused " + " ".join(str(error).split()) + "\n").encode())
        traceback.print_exc()
    os._exit(0)


def main(folder, kills, seed):
    generator = random.Random(seed)
    path = folder / "channel"
    channel = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    key, _ = ks.integrity.generate_key_pair()
    for _ in range(kills):
        seen = len(path.read_text())
        process = fork(folder, channel, key)
        if generator.random() < 0.75:
            while "epoch" not in path.read_text()[seen:]:
                time.sleep(0.005)
                if os.waitpid(process, os.WNOHANG)[0] == process:
                    break
            time.sleep(generator.uniform(0.0, 0.4))
        else:
            time.sleep(generator.uniform(0.0, 3.0))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    os.waitpid(fork(folder, channel, key, 2), 0)
    left = sorted(entry.name for entry in (folder / "saved").iterdir())
    print(json.dumps({"lines": path.read_text().splitlines(), "left": left}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
