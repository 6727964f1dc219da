"""What changed between two bundles."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_secure.export.inspection import BundleSummary, Weight, inspect

# These are others in every bundle, whatever is in it.
_ALWAYS_NEW = {"serialNumber", "metadata.timestamp"}


@dataclass(frozen=True)
class BundleDifference:
    """What `diff` found.

    Attributes:
        card: Entries of the card that differ: by place, before and after; None where it is not.
        bom: The same of the bill of materials, but for its serial number, time and digests of
            files.
        operations: Operations that the graph holds in other numbers: before and after.
        weights: Tensors that differ, by name: `before` and `after` as `Weight.to_dict` tells them,
            None where there is none, and where the shapes are the same `distance`, the Euclidean
            norm of the difference, and `relative`, that over the norm before.
    """

    card: dict[str, tuple[Any, Any]]
    bom: dict[str, tuple[Any, Any]]
    operations: dict[str, tuple[int, int]]
    weights: dict[str, dict[str, Any]]

    @property
    def identical(self) -> bool:
        """Whether nothing differs."""
        return not (self.card or self.bom or self.operations or self.weights)

    def describe(self) -> list[str]:
        """The differences in lines of text."""
        return list(_lines(self))

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""

        def pairs(found: dict[str, tuple[Any, Any]]) -> dict[str, Any]:
            return {name: {"before": old, "after": new} for name, (old, new) in found.items()}

        return {
            "identical": self.identical,
            "card": pairs(self.card),
            "bom": pairs(self.bom),
            "operations": pairs(self.operations),
            "weights": self.weights,
        }


def diff(
    before: str | os.PathLike, after: str | os.PathLike, trust: Any = None
) -> BundleDifference:
    """Compares two bundles: what they say, what their graphs do, and their weights.

    Args:
        before: The folder of the one.
        after: The folder of the other.
        trust: Whom to believe, for both; see `inspect`.

    Returns:
        A `BundleDifference`.

    Raises:
        IntegrityError: One does not verify, or a file of it cannot be read.
        InputError: There is no bundle.

    Example:

    >>> import tempfile
    >>> import keras
    >>> from keras_secure.export import export_hardened
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="top")])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     old = export_hardened(model, f"{folder}/old").path
    ...     _ = model.layers[0].bias.assign([1.0, 0.0, 0.0])
    ...     found = diff(old, export_hardened(model, f"{folder}/new").path)
    >>> [round(change["distance"], 6) for change in found.weights.values()]
    [1.0]
    """
    old, new = inspect(before, trust), inspect(after, trust)
    return BundleDifference(
        _entries(old.card, new.card),
        _entries(_lasting(old), _lasting(new)),
        {
            name: (old.operations.get(name, 0), new.operations.get(name, 0))
            for name in sorted(old.operations.keys() | new.operations.keys())
            if old.operations.get(name, 0) != new.operations.get(name, 0)
        },
        _weights(old.weights, new.weights),
    )


def _lasting(summary: BundleSummary) -> dict[str, Any]:
    """The bill of materials without the digests of the bundle's own files."""
    bom = dict(summary.bom or {})
    bom["components"] = [each for each in bom.get("components", []) if each.get("type") != "file"]
    bom.pop("dependencies", None)
    return bom


def _entries(old: Any, new: Any) -> dict[str, tuple[Any, Any]]:
    before, after = dict(_leaves(old, "")), dict(_leaves(new, ""))
    return {
        place: (before.get(place), after.get(place))
        for place in sorted(before.keys() | after.keys())
        if before.get(place) != after.get(place) and place not in _ALWAYS_NEW
    }


def _leaves(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from _leaves(each, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list) and value:
        for number, each in enumerate(value):
            yield from _leaves(each, f"{place}[{number}]")
    else:
        yield place, value


def _weights(old: dict[str, Weight], new: dict[str, Weight]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        found[name] = {
            "before": None if before is None else before.to_dict(),
            "after": None if after is None else after.to_dict(),
        }
        if before is not None and after is not None and before.shape == after.shape:
            change = after.values.astype("float64") - before.values.astype("float64")
            distance = float(np.linalg.norm(change))
            found[name]["distance"] = distance
            found[name]["relative"] = distance / before.norm if before.norm else None
    return found


def _lines(found: BundleDifference) -> Iterator[str]:
    if found.identical:
        yield "identical: card, bill of materials, graph and weights"
    for kind, entries in (("card", found.card), ("bom", found.bom)):
        for place, (before, after) in entries.items():
            yield f"{kind} {place}: {before!r} -> {after!r}"
    for name, (before, after) in found.operations.items():
        yield f"operation {name}: {before} -> {after}"
    for name, change in found.weights.items():
        if change["before"] is None or change["after"] is None:
            yield f"weight {name}: {'added' if change['before'] is None else 'removed'}"
        elif "distance" not in change:
            yield f"weight {name}: {change['before']['shape']} -> {change['after']['shape']}"
        else:
            relative = change["relative"]
            share = "" if relative is None else f", {relative:.2%} of its norm"
            yield (
                f"weight {name}: moved by {change['distance']:.6g}{share}; norm "
                f"{change['before']['norm']:.6g} -> {change['after']['norm']:.6g}"
            )
