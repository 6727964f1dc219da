"""Types that values in HDF5 files have, and those that no weight has."""

from typing import Any


def type_problem(tid: Any, depth: int = 0) -> str:
    """What is unusual about the type of a dataset or an attribute.

    Args:
        tid: The type, as h5py has it.
        depth: How deep it is nested in others.

    Returns:
        The end of a sentence that begins with "The dataset is"; empty for usual types.
    """
    import h5py

    if depth > 8:
        return "of a type nested beyond measure"
    if isinstance(tid, h5py.h5t.TypeReferenceID):
        return "a reference to another object"
    if isinstance(tid, h5py.h5t.TypeVlenID):
        return "a list of varying length"
    if isinstance(tid, h5py.h5t.TypeOpaqueID):
        # NumPy's types of 8 and 16 bits that HDF5 does not know are kept this way.
        return "" if tid.get_size() <= 2 else "of an opaque type"
    if isinstance(tid, h5py.h5t.TypeCompoundID):
        for i in range(min(tid.get_nmembers(), 64)):
            if problem := type_problem(tid.get_member_type(i), depth + 1):
                return problem
        return "of a compound type" if depth == 0 and not is_complex(tid) else ""
    if isinstance(tid, h5py.h5t.TypeArrayID):
        return type_problem(tid.get_super(), depth + 1) or "an array of arrays"
    return ""


def is_complex(tid: Any) -> bool:
    """Whether NumPy takes a type for one of complex numbers."""
    try:
        return bool(tid.dtype.kind == "c")
    except (TypeError, ValueError):
        return False


def says_bfloat16(item: Any) -> bool:
    """Whether Keras has noted beside a dataset of two opaque bytes that they are a bfloat16."""
    import h5py

    try:
        value = h5py.AttributeManager(h5py.Dataset(item)).get("dtype")
    except Exception:
        return False
    return value in ("bfloat16", b"bfloat16")
