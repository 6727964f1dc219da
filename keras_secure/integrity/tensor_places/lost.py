"""What of a model is gone with the damaged bytes of one file."""

import re
from dataclasses import dataclass
from pathlib import Path

from keras_secure.integrity.damage import DamagedFile
from keras_secure.integrity.tensor_places.archive import entries
from keras_secure.integrity.tensor_places.hdf5 import damaged_datasets
from keras_secure.integrity.tensor_places.intact_bytes import IntactBytes
from keras_secure.integrity.tensor_places.tensor_bundle import variables

_HDF5 = (".h5", ".hdf5")
_ZIP = (".keras", ".npz", ".zip")
_BUNDLE_DATA = re.compile(r"(.*)\.data-(\d{5})-of-\d{5}")
_MAX_INDEX = 64 * 2**20


@dataclass(frozen=True)
class LostTensors:
    """What cannot be used of a damaged file.

    Args:
        file: Its name.
        tensors: Names of the tensors that touch damaged bytes; for other parts of an archive, their
            names.
        all_known: Whether everything else is known to be whole. False where what says which bytes
            are which tensor is itself damaged; then the whole file counts as lost.
    """

    file: str
    tensors: tuple[str, ...]
    all_known: bool

    def describe(self) -> str:
        """One line that names file and tensors."""
        named = ", ".join(self.tensors)
        if self.all_known:
            return f"{self.file!r} has lost {named or 'no tensor'}"
        if named:
            return f"{self.file!r} has lost {named}, and perhaps more"
        return f"{self.file!r} is lost as a whole"


def lost_tensors(path: Path, file: DamagedFile, index: Path | None = None) -> LostTensors:
    """Names the tensors of a damaged file that touch damaged bytes.

    Only bytes whose digests are signed are read.

    Args:
        path: The file.
        file: Where it is damaged.
        index: For a data file of TensorFlow's checkpoint format, its intact index.

    Returns:
        The names, by the paths that the file itself uses: datasets of HDF5 files, entries of npz
        files, both for `.keras`, keys of TensorFlow checkpoints.
    """
    if file.kind in ("missing", "replaced"):
        return LostTensors(file.name, (), False)
    if not file.ranges:
        return LostTensors(file.name, (), True)
    name = file.name if file.name != "." else path.name
    with IntactBytes(path, file.ranges, 0, file.size) as stream:
        if name.endswith(_HDF5):
            return _of_hdf5(file.name, stream)
        if name.endswith(_ZIP):
            return _of_archive(file.name, stream)
        if index is not None and (match := _BUNDLE_DATA.fullmatch(name)):
            return _of_bundle(file.name, stream, index, int(match[2]))
    return LostTensors(file.name, (), False)


def index_of(name: str) -> str | None:
    """The index that belongs to a data file of TensorFlow's checkpoint format, or None.

    Example:

    >>> index_of("variables/variables.data-00000-of-00001")
    'variables/variables.index'
    """
    match = _BUNDLE_DATA.fullmatch(name)
    return f"{match[1]}.index" if match else None


def _of_hdf5(name: str, stream: IntactBytes) -> LostTensors:
    try:
        return LostTensors(name, tuple(damaged_datasets(stream)), True)
    except OSError:
        return LostTensors(name, (), False)


def _of_archive(name: str, stream: IntactBytes) -> LostTensors:
    found, all_known = entries(stream)
    lost: list[str] = []
    for entry in found:
        if not stream.hits(entry.head, entry.end):
            continue
        if not (entry.stored and entry.name.endswith(_HDF5)):
            lost.append(entry.name.removesuffix(".npy"))
            continue
        with stream.part(entry.start, entry.end - entry.start) as part:
            inner = _of_hdf5(entry.name, part)
        all_known = all_known and inner.all_known
        lost += [f"{entry.name}:{tensor}" for tensor in inner.tensors] or [entry.name]
    return LostTensors(name, tuple(lost), all_known)


def _of_bundle(name: str, stream: IntactBytes, index: Path, shard: int) -> LostTensors:
    try:
        with index.open("rb") as file:
            found = variables(file.read(_MAX_INDEX))
    except (OSError, ValueError):
        return LostTensors(name, (), False)
    hit = [v.name for v in found if v.shard == shard and stream.hits(v.start, v.end)]
    return LostTensors(name, tuple(hit), True)
