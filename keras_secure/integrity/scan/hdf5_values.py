"""Datasets in HDF5 files: where their values lie, how many there are, whether they are numbers."""

from typing import Any

from keras_secure.integrity.scan.finite import BLOCK, count_nonfinite, nonfinite_free
from keras_secure.integrity.scan.hdf5_findings import Hdf5Findings
from keras_secure.integrity.scan.hdf5_type import is_complex, says_bfloat16, type_problem
from keras_secure.integrity.scan.place import quoted

BUILTIN_FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}


class Hdf5Values:
    """Inspects the datasets of one file, which share its bytes.

    Args:
        findings: Takes what is found.
    """

    def __init__(self, findings: Hdf5Findings):
        self.findings = findings
        self.used = 0
        self.folded = 0

    def inspect(self, item: Any, path: str) -> None:
        """Checks a dataset.

        Args:
            item: The dataset, as h5py has it.
            path: Its path.
        """
        import h5py

        properties = item.get_create_plist()
        layout = properties.get_layout()
        if properties.get_external_count():
            target = properties.get_external(0)[0]
            self.findings.add(
                "scan.hdf5.external_storage",
                f"The values are those of another file, {quoted(target)!r}.",
                path,
                target=target,
            )
            return
        if layout == h5py.h5d.VIRTUAL:
            self.findings.add("scan.hdf5.virtual", "The values are mapped from other files.", path)
            return
        filters = [properties.get_filter(i) for i in range(min(properties.get_nfilters(), 32))]
        unknown = [(code, name) for code, _, _, name in filters if code not in BUILTIN_FILTERS]
        for code, name in unknown:
            self.findings.add(
                "scan.hdf5.filter",
                f"The values pass filter {code} ({quoted(name, 40)}), which Keras does not use.",
                path,
                filter=code,
            )
        tid = item.get_type()
        if problem := type_problem(tid):
            rule = "scan.hdf5.reference" if "reference" in problem else "scan.hdf5.type"
            self.findings.add(rule, f"The dataset is {problem}.", path)
            return
        if isinstance(tid, h5py.h5t.TypeStringID):
            self.findings.add("scan.hdf5.type", "The dataset holds text.", path)
            return
        shape = item.shape or ()
        values = 1
        for n in shape:
            values = min(values * n, 2**62)
        if item.get_space().get_simple_extent_type() == h5py.h5s.NULL:
            values = 0
        declared, stored = values * tid.get_size(), item.get_storage_size()
        self.findings.contents.stored += values
        self.used += stored
        if self.used > self.findings.data.size or (declared > stored and not filters):
            self.findings.add(
                "scan.hdf5.declared_size",
                f"The shape {quoted(shape, 60)} needs {declared} bytes; {stored} are stored.",
                path,
                declared=declared,
                stored=stored,
            )
            return
        limits = self.findings.collector.limits
        self.findings.collector.unfolded += declared if filters else 0
        if filters and declared > limits.ratio * stored:
            self.folded += declared
        if filters and (
            (declared > limits.ratio * stored and self.folded > limits.unfolded_freely)
            or self.findings.collector.unfolded > limits.unfolded
            or (values and not stored)
        ):
            self.findings.add(
                "scan.hdf5.bomb",
                f"{stored} stored bytes unfold into {declared}.",
                path,
                declared=declared,
                stored=stored,
            )
            return
        if not unknown and values:
            self._finite(item, tid, layout, filters, declared, path)

    def _finite(self, item, tid, layout, filters, declared, path) -> None:
        import h5py

        kind = tid.dtype.str if isinstance(tid, h5py.h5t.TypeFloatID) or is_complex(tid) else None
        if isinstance(tid, h5py.h5t.TypeOpaqueID) and says_bfloat16(item):
            kind = "bfloat16"
        if kind is None and layout != h5py.h5d.CHUNKED:
            return
        offset = item.get_offset() if layout == h5py.h5d.CONTIGUOUS else None
        if offset is not None and kind is not None and not filters:
            if offset + declared > self.findings.data.size:
                self.findings.add(
                    "scan.hdf5.declared_size", "The values lie outside the file.", path
                )
                return
            bad = count_nonfinite(
                self.findings.data.within(offset, declared), kind, self.findings.collector
            )
        else:
            bad = self._read_through(h5py.Dataset(item), kind)
        if bad:
            self.findings.add(
                "scan.weights.nonfinite", f"{bad} values are not finite.", path, count=bad
            )

    def _read_through(self, dataset: Any, kind: str | None) -> int:
        """Reads by the library, slice by slice; chunks that cannot be unfolded raise."""
        import numpy

        rows = dataset.shape[0] if dataset.shape else 1
        row = max(1, dataset.size // max(1, rows) * dataset.dtype.itemsize)
        if row > 16 * BLOCK:
            blocks = list(dataset.iter_chunks()) if dataset.chunks else [()]
        else:
            step = max(1, BLOCK // row)
            blocks = [slice(i, i + step) for i in range(0, rows, step)] if dataset.shape else [()]
        bad = 0
        for block in blocks:
            self.findings.collector.tick()
            values = numpy.asarray(dataset[block])
            if kind == "bfloat16":
                bits = values.view("<u2") if values.ndim else values.reshape(1).view("<u2")
                bad += int(numpy.count_nonzero((bits & 0x7F80) == 0x7F80))
            elif values.dtype.kind in "fc" and not nonfinite_free(values):
                bad += int(values.size - numpy.count_nonzero(numpy.isfinite(values)))
        return bad
