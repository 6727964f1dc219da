"""What a function without weights does to units and scales, found by trying it."""

import keras
import numpy as np

from keras_secure.watermark.symmetries.units import MAGNITUDE, SIGN

_LONGEST = 4


def probe(function, shape):
    """Tries which changes of its input's last axis a function hands on to its output's.

    A list of names would miss what users write themselves; the function knows best.

    Args:
        function: Takes a tensor, returns one; no weights, no randomness.
        shape: Shape of its input, None where any length will do.

    Returns:
        (freedoms, resizable): what of a scale comes out as it went in, and whether the outputs of
        a unit depend on that unit alone. None if the output's last axis has other units.
    """
    generator = np.random.default_rng(0)
    sizes = [2] + [_LONGEST if size is None else size for size in shape[1:]]
    x = 3 * generator.normal(size=sizes).astype("float32")
    width = x.shape[-1]

    def run(values):
        return keras.ops.convert_to_numpy(function(keras.ops.convert_to_tensor(values)))

    try:
        y = run(x)
    except Exception:  # whatever a user's function does with these numbers
        return None
    if y.ndim < 1 or y.shape[-1] != width or not np.isfinite(y).all():
        return None
    order = generator.permutation(width)
    if not _close(run(x[..., order]), y[..., order]):
        return None
    factor = np.exp(generator.normal(size=width)).astype("float32")
    flips = generator.choice([-1.0, 1.0], width).astype("float32")
    flips[0] = -1
    freedoms = set()
    if _close(run(x * factor), y * factor) and _close(run(x * 16), y * 16):
        freedoms.add(MAGNITUDE)
    if _close(run(x * flips), y * flips):
        freedoms.add(SIGN)
    changed = x.copy()
    changed[..., 0] += 1.0
    alone = width == 1 or _close(run(changed)[..., 1:], y[..., 1:])
    return frozenset(freedoms), alone


def _close(one, other):
    return one.shape == other.shape and np.allclose(one, other, rtol=1e-4, atol=1e-5)
