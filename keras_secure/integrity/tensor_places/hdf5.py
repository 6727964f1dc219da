"""Datasets of an HDF5 file whose bytes, or whose description, are damaged."""

from collections.abc import Iterator
from typing import Any

from keras_secure.integrity.tensor_places.intact_bytes import IntactBytes


def damaged_datasets(stream: IntactBytes) -> list[str]:
    """Names the datasets that are lost.

    Args:
        stream: The HDF5 file.

    Returns:
        Paths of the datasets, and with a trailing `/` of groups that cannot be read at all.

    Raises:
        OSError: The file's own head is damaged, so nothing in it can be found.
    """
    import h5py

    with h5py.File(stream, "r") as file:
        return list(_walk(stream, file, ""))


def _walk(stream: IntactBytes, group: Any, path: str) -> Iterator[str]:
    import h5py

    try:
        names = list(group)
    except (OSError, RuntimeError):
        if not path:
            raise OSError("The list of what the file holds is damaged.") from None
        yield f"{path}/"
        return
    for name in names:
        place = f"{path}/{name}" if path else name
        try:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue
            item = group[name]
            lost = isinstance(item, h5py.Dataset) and any(
                stream.hits(start, end) for start, end in _extents(item)
            )
        except (OSError, RuntimeError, KeyError):
            yield place
            continue
        if lost:
            yield place
        elif isinstance(item, h5py.Group):
            yield from _walk(stream, item, place)


def _extents(dataset: Any) -> Iterator[tuple[int, int]]:
    if dataset.chunks is None:
        # None where nothing is stored, or where it stands in the header that was just read.
        if (offset := dataset.id.get_offset()) is not None:
            yield offset, offset + dataset.id.get_storage_size()
        return
    for index in range(dataset.id.get_num_chunks()):
        chunk = dataset.id.get_chunk_info(index)
        yield chunk.byte_offset, chunk.byte_offset + chunk.size
