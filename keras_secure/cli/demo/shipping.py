"""Watermark, bundle, signature, and the proof that they hold where the model is served."""

import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np

import keras_secure as ks
from keras_secure.cli.demo.training import MARKED_LAYER
from keras_secure.errors import SecurityError

TOLERANCE = 1e-5
_SERVER = Path(__file__).with_name("serve_saved_model.py")
_NUM_SERVED = 256


def new_mark():
    """Returns a fresh watermark and its secret key."""
    key = secrets.token_hex(16)
    return ks.watermark.SpreadSpectrum(key, num_bits=64), key


def measure_watermark(trained, mark):
    """Returns the report's section on the watermark in the robust model."""
    found = ks.watermark.verify(trained.model, mark, layers=MARKED_LAYER)
    return {
        "bits": found.num_bits,
        "ber": found.bit_error_rate,
        "p_value": found.p_value,
        "method": type(mark).__name__,
        "layer": MARKED_LAYER,
        "model": "robust",
    }


def ship(trained, folder, metadata):
    """Exports the model as a signed bundle; returns it with its guards and its private key."""
    private_key, _ = ks.integrity.generate_key_pair()
    guards = ks.layers.InputGuard(bounds=(0.0, 1.0)), ks.layers.OutputGuard()
    bundle = ks.export.export_hardened(
        trained.model,
        folder,
        input_guard=guards[0],
        output_guard=guards[1],
        private_key=private_key,
        metadata=metadata,
    )
    return bundle, guards, private_key


def measure_integrity(bundle, public_key, scratch):
    """Verifies the bundle, and a copy of it with one byte flipped."""
    intact = ks.integrity.verify(bundle.path, public_key)
    intact.raise_if_failed()
    copy = Path(scratch) / "tampered"
    shutil.copytree(bundle.path, copy)
    victim = max((path for path in copy.rglob("*") if path.is_file()), key=os.path.getsize)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    tampered = ks.integrity.verify(copy, public_key)
    flipped = victim.relative_to(copy).as_posix()
    files = sorted(
        path.relative_to(bundle.path).as_posix()
        for path in bundle.path.rglob("*")
        if path.is_file() and path.name != "model.sig"
    )
    return {
        "verified": intact.ok,
        "files": files,
        "key_fingerprint": intact.key_fingerprint,
        "tamper": {
            "file": flipped,
            "detected": not tampered.ok,
            "named": ", ".join(tampered.changed) or None,
        },
    }


def measure_serving(trained, bundle, guards, dataset, scratch):
    """Runs the SavedModel in a process without Keras and compares its answers with Keras' own."""
    clean = dataset.x_test[:_NUM_SERVED].astype("float32")
    broken, outside = clean[:4].copy(), clean[:4].copy()
    broken.reshape(len(broken), -1)[:, 0] = np.nan
    outside.reshape(len(outside), -1)[:, 0] = [5.0, -5.0, 1e30, -1e30]
    request, answer = Path(scratch) / "request.npz", Path(scratch) / "answer.npz"
    np.savez(request, clean=clean, broken=broken, outside=outside)
    finished = subprocess.run(
        [sys.executable, "-P", str(_SERVER), str(bundle.saved_model), str(request), str(answer)],
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        last = (finished.stderr.strip().splitlines() or ["no output"])[-1]
        raise SecurityError(f"The exported model failed in a process of its own: {last}")
    input_guard, output_guard = guards

    def expected(x):
        guarded = output_guard(trained.model(input_guard(x), training=False))
        return keras.ops.convert_to_numpy(guarded)

    with np.load(answer) as served:
        difference = float(np.max(np.abs(served["clean"] - expected(clean))))
        nan_handled = bool(served["broken_rejected"].all() and (served["broken"] == 0).all())
        clipped = expected(np.clip(outside, 0.0, 1.0))
        out_of_range_handled = bool(
            not served["outside_rejected"].any()
            and np.max(np.abs(served["outside"] - clipped)) <= TOLERANCE
        )
    return {
        "max_difference": difference,
        "tolerance": TOLERANCE,
        "num_examples": len(clean),
        "nan_handled": nan_handled,
        "out_of_range_handled": out_of_range_handled,
        "guards": ["InputGuard (clips to [0, 1], rejects NaN)", "OutputGuard (finite answers)"],
    }
