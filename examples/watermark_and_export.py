"""Watermark, hardened export and signature: a model that is provably yours, and untouched.

Run as `python examples/watermark_and_export.py`, or with `--epochs 2` for a first look.
"""

import argparse
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
        keras.layers.Dense(128, activation="relu", name="marked"),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
model.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])

mark = ks.watermark.SpreadSpectrum("my secret key", num_bits=64)
ks.watermark.attach(model.get_layer("marked"), mark)
monitor = ks.callbacks.WatermarkMonitor("marked", mark)
model.fit(x, y, epochs=options.epochs, verbose=2, callbacks=[monitor])
found = ks.watermark.verify(model, mark, layers="marked")
print(f"bit error rate {found.bit_error_rate:.3f}, p-value {found.p_value:.1e}")

private_key, public_key = ks.integrity.generate_key_pair()
with tempfile.TemporaryDirectory() as folder:
    ks.export.export_hardened(
        model,
        Path(folder, "bundle"),
        input_guard=ks.layers.InputGuard(bounds=(0.0, 1.0)),
        output_guard=ks.layers.OutputGuard(round_to=2),
        private_key=private_key,
    )
    serve = ks.export.open_bundle(Path(folder, "bundle"), public_key).load()
    batch = np.stack([x[0], np.full(64, np.nan, "float32")])
    answer = serve(batch)
    print("predictions", answer["predictions"].round(2).tolist(), "rejected", answer["rejected"])

    victim = Path(folder, "bundle", "saved_model", "saved_model.pb")
    victim.write_bytes(victim.read_bytes()[:-1] + b"\0")
    try:
        ks.export.open_bundle(Path(folder, "bundle"), public_key)
    except ks.errors.IntegrityError as error:
        print(f"refused: {error}")
