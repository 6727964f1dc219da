"""How examples are put into batches of a few sizes."""


def batches(rows, batch_size, small=True):
    """Splits rows into batches, each with the size it is padded to.

    There are three sizes, `batch_size` and its fourth and sixteenth part, so that a graph for each
    is traced at most three times. What is left after the full batches is put where it costs least,
    with padding, and the time that a step takes whatever it works on, both counted.

    Args:
        rows: Integer array.
        batch_size: Largest size, at least 1.
        small: Whether the two smaller sizes are used.

    Returns:
        A list of (part of `rows`, size), sizes descending.

    Example:

    >>> import numpy as np
    >>> [(len(part), size) for part, size in batches(np.arange(150), 64)]
    [(64, 64), (64, 64), (16, 16), (6, 16)]
    >>> [(len(part), size) for part, size in batches(np.arange(50), 64)]
    [(50, 64)]
    """
    sizes = [batch_size]
    if small:
        sizes += sorted({-(-batch_size // 4), -(-batch_size // 16)} - {batch_size}, reverse=True)
    result = []
    for size in _cheapest(len(rows), sizes, overhead=batch_size / 8)[1]:
        result.append((rows[:size], size))
        rows = rows[size:]
    return result


def _cheapest(count, sizes, overhead):
    """Returns (cost, sizes of the batches) for `count` rows, costs in rows."""
    size, *smaller = sizes
    full = count // size
    left = count - full * size
    cost, plan = full * (size + overhead), [size] * full
    if not left:
        return cost, plan
    padded = cost + size + overhead, [*plan, size]
    if not smaller:
        return padded
    split_cost, split = _cheapest(left, smaller, overhead)
    return min(padded, (cost + split_cost, plan + split), key=lambda option: option[0])
