"""The watch over queries that `keras-secure serve` keeps when it is asked to."""

import zipfile

import numpy as np

from keras_secure.errors import InputError
from keras_secure.serving.abuse import AbuseMonitor, standard_monitor


def make_monitor(path: str | None, bounds: tuple[float, float]) -> AbuseMonitor:
    """Makes a monitor, with the detectors that compare with the owner's data where there is a file.

    Args:
        path: An .npz file with `x`, the owner's inputs as the server gets them, and maybe
            `predictions`, the served model's answers to them; None for neither.
        bounds: Range of the inputs.

    Returns:
        An `AbuseMonitor`.

    Raises:
        InputError: The file cannot be used.
    """
    if path is None:
        return standard_monitor(bounds=bounds)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            x = arrays["x"]
            predictions = arrays.get("predictions")
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} cannot be used: {error}. An .npz file with the array x, and maybe "
            "predictions, was expected; write it with numpy.savez(FILE, x=...)."
        ) from error
    return standard_monitor(x, predictions, bounds)
