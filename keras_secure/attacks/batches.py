"""How examples are put into batches of a few sizes."""


def batches(rows, batch_size, small=True):
    """Splits rows into batches, each with the size it is padded to.

    There are three sizes, `batch_size` and its fourth and sixteenth part, so that a graph for each
    is traced at most three times, and little is computed for padding.

    Args:
        rows: Integer array.
        batch_size: Largest size, at least 1.
        small: Whether the two smaller sizes are used.

    Returns:
        A list of (part of `rows`, size), sizes descending.

    Example:

    >>> import numpy as np
    >>> [(len(part), size) for part, size in batches(np.arange(150), 64)]
    [(64, 64), (64, 64), (16, 16), (4, 4), (2, 4)]
    >>> [(len(part), size) for part, size in batches(np.arange(60), 64)]
    [(60, 64)]
    """
    sizes = [batch_size]
    if small:
        sizes += sorted({-(-batch_size // 4), -(-batch_size // 16)} - {batch_size}, reverse=True)
    result = []
    while len(rows):
        size = next((size for size in sizes if 4 * len(rows) > 3 * size), sizes[-1])
        result.append((rows[:size], size))
        rows = rows[size:]
    return result
