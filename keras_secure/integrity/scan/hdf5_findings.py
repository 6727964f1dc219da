"""What an inspection of an HDF5 file finds out, and where it reports it."""

from typing import Any

from keras_secure.integrity.scan.collector import Collector
from keras_secure.integrity.scan.place import Place, quoted
from keras_secure.integrity.scan.region import Region


class Hdf5Contents:
    """What an inspection learnt besides its findings.

    Args:
        stored: Count of values that the datasets store.
        declared: Parameters that a configuration in the file declares.
        has_config: Whether the file holds a model and not weights alone.
    """

    def __init__(self, stored: int = 0, declared: int = 0, has_config: bool = False):
        self.stored = stored
        self.declared = declared
        self.has_config = has_config


class Hdf5Findings:
    """Takes findings by the path of an object in the file.

    Args:
        data: The file.
        place: Where it stands.
        collector: Takes the findings.
    """

    def __init__(self, data: Region, place: Place, collector: Collector):
        self.data = data
        self.place = place
        self.collector = collector
        self.contents = Hdf5Contents()

    def add(self, rule: str, statement: str, path: str, **evidence: Any) -> None:
        """Reports a finding about the object at `path`."""
        self.collector.add(rule, statement, self.place.inside(path), **evidence)

    def broken(self, error: Exception, path: str) -> None:
        """Reports that the library cannot read the object at `path`."""
        self.add(
            "scan.hdf5.malformed",
            f"The HDF5 library cannot read it: {quoted(str(error), 200)}.",
            path,
        )
