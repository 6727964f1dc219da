"""Yours, and untouched: from training a marked model to proving that a copy of it is yours.

Run as `python examples/round_trip.py`, or with `--epochs 2` for a first look. In order: train with
a mark, commit to it, sign with parity, encrypt; then, where it is received: decrypt, damage,
refuse, repair, verify, scan, load, check the mark, also in a copy whose neurons were shuffled.
"""

import argparse
import secrets
import tempfile
from pathlib import Path

import keras
import numpy as np
from sklearn.datasets import load_digits

import keras_secure as ks

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=10)
options = parser.parse_args()

digits = load_digits()
x, y = (digits.data / 16.0).astype("float32"), digits.target
model = keras.Sequential(
    [
        keras.Input((64,)),
        keras.layers.Dense(256, activation="relu"),
        keras.layers.Dense(256, activation="relu"),
        keras.layers.Dense(10, activation="softmax"),
    ]
)

# Train, then mark the finished model: so unmarked models lean neither way (docs/watermarks.md).
secret = secrets.token_bytes(32)
mark = ks.watermark.SpreadSpectrum(secret, payload="ACME 26")
model.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x, y, epochs=options.epochs, verbose=2)
ks.watermark.embed(model, mark)

private_key, public_key = ks.integrity.generate_key_pair()
commitment = ks.watermark.commit(mark, model, private_key)

with tempfile.TemporaryDirectory() as home:
    release = Path(home, "release")
    release.mkdir()
    model.save(release / "model.keras")
    commitment.save(release / "commitment.json")

    # Sign, with parity to repair from; then encrypt for who may have it.
    ks.integrity.sign(release, private_key, parity=2, serial=1)
    recipient = ks.integrity.generate_identity(Path(home, "identity"))
    ks.integrity.encrypt(release, Path(home, "release.enc"), recipients=recipient)

    # Received: decrypt. One bit flips on the way to the disk.
    received = Path(home, "received")
    ks.integrity.decrypt(Path(home, "release.enc"), received, identities=Path(home, "identity"))
    victim = received / "model.keras"
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)

    report = ks.integrity.verify(received, public_key, min_serial=1)
    print("refused:", *report.describe())
    if report.ok:
        raise SystemExit("the damage was not seen")
    print("repaired:", *ks.integrity.repair(received, public_key).describe())
    ks.integrity.verify(received, public_key, min_serial=1).raise_if_failed()

    ks.integrity.scan(received).raise_if_failed()
    loaded = ks.integrity.load_model(victim, trust=public_key, signature=received / "model.sig")
    if not np.array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0)):
        raise SystemExit("what was loaded answers otherwise")

    # Whose is it? A third party needs commitment, key and model.
    claim = ks.watermark.Commitment.load(received / "commitment.json")
    found = ks.watermark.verify_claim(loaded, claim, secret, public_key)
    print("as released:", found.statement)

    # A thief shuffles the neurons, which changes no answer and hides the mark from a plain reading.
    order = np.random.default_rng(0).permutation(256)
    first, second = loaded.layers[:2]
    kernel, bias = first.get_weights()
    first.set_weights([kernel[:, order], bias[order]])
    kernel, bias = second.get_weights()
    second.set_weights([kernel[order], bias])
    stolen = ks.watermark.verify_claim(loaded, claim, secret, public_key, reference=model)
    print("shuffled, re-aligned:", stolen.statement)
    if (found.verdict, stolen.verdict) != ("proved", "proved"):
        raise SystemExit("the mark was not found")
