"""How much a scan may read, hold, unfold and take."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from keras_secure.arguments import is_number
from keras_secure.errors import InputError

MEBIBYTE = 2**20


@dataclass(frozen=True)
class ScanLimits:
    """What a file may ask of the scan; asking for more is a finding, never a crash.

    Args:
        seconds: Wall-clock and CPU time of the reading process, beside `seconds_per_gibibyte`.
        seconds_per_gibibyte: Further time by the size on disk, as weights are read whole.
        memory: Bytes of address space that the reading process may have.
        files: Count of files in a folder, and of entries in an archive.
        document: Bytes of one JSON document, of one graph, or of one attribute.
        depth: How deep JSON, configurations and HDF5 groups may be nested.
        unfolded: Bytes that compressed content may have, all in all.
        ratio: How many times larger than its stored bytes compressed content may be.
        unfolded_freely: Bytes up to which `ratio` is not asked: zeros fold well.
        parameters: Parameters that a configuration may declare without bytes stored for them.
        findings: Findings of one kind per file; further ones are counted only.

    Raises:
        InputError: A limit is not a positive number.

    Example:

    >>> ScanLimits(seconds=3).wall_clock(2**30)
    7.0
    """

    seconds: float = 6.0
    seconds_per_gibibyte: float = 4.0
    memory: int = 768 * MEBIBYTE
    files: int = 20_000
    document: int = 64 * MEBIBYTE
    depth: int = 200
    unfolded: int = 16 * 1024 * MEBIBYTE
    ratio: float = 200.0
    unfolded_freely: int = 32 * MEBIBYTE
    parameters: int = 50_000_000
    findings: int = 20

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if not is_number(value) or not 0 < value < float("inf"):
                raise InputError(
                    f"The limit {field.name} is {value!r}; expected a positive number: give one, "
                    "or leave it out for the default."
                )

    def wall_clock(self, size: int) -> float:
        """Seconds that the reading of `size` bytes on disk may take."""
        return self.seconds + self.seconds_per_gibibyte * size / 2**30

    def to_dict(self) -> dict[str, Any]:
        """Returns the limits as a JSON-serializable dictionary."""
        return asdict(self)
