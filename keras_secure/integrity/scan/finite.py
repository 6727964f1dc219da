"""Values that are not numbers any more: NaN and infinity."""

from keras_secure.integrity.scan.collector import Collector
from keras_secure.integrity.scan.region import Region

BLOCK = 4 * 2**20


def count_nonfinite(data: Region, kind: str, collector: Collector) -> int:
    """Counts the values of an array that are NaN or infinite, a block at a time.

    Args:
        data: The bytes of the array.
        kind: Its type as NumPy writes it, of floating or complex numbers, or `"bfloat16"`.
        collector: Asked for the time that is left.

    Returns:
        The count.

    Example:

    >>> import io, numpy
    >>> from keras_secure.integrity.scan.limits import ScanLimits
    >>> values = numpy.array([1.0, numpy.nan, numpy.inf], "<f4").tobytes()
    >>> region = Region.whole(io.BytesIO(values))
    >>> count_nonfinite(region, "<f4", Collector(print, ScanLimits()))
    2
    """
    import numpy

    brain = kind == "bfloat16"
    dtype = numpy.dtype("<u2" if brain else kind)
    size = max(1, BLOCK // dtype.itemsize) * dtype.itemsize
    bad = 0
    data.seek(0)
    while block := data.read(size):
        collector.tick()
        values = numpy.frombuffer(block[: len(block) // dtype.itemsize * dtype.itemsize], dtype)
        if brain:
            bad += int(numpy.count_nonzero((values & 0x7F80) == 0x7F80))
        elif not nonfinite_free(values):
            bad += int(values.size - numpy.count_nonzero(numpy.isfinite(values)))
    return bad


def nonfinite_free(values) -> bool:
    """Whether all values of a NumPy array are finite, at the price of one sum where they are."""
    import numpy

    with numpy.errstate(all="ignore"):
        return bool(numpy.isfinite(values.sum())) if values.dtype.itemsize >= 4 else False
