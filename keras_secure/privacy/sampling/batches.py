"""Batches of one shape, drawn from whatever gives access to single examples."""

import operator
from abc import ABC, abstractmethod

import numpy as np
from keras import tree


class Batches(ABC):
    """Base of the streams that draw batches by one kind of sampling.

    A subclass says which examples enter which batch; this class reads them, pads them to one shape
    and marks what is padding.

    Args:
        examples: Nested numpy arrays with a common first axis, or an object whose method
            `rows(indices)` returns such arrays for an int array of example numbers.
        num_rows: Rows of every batch.
    """

    def __init__(self, examples, num_rows):
        self.examples, self.num_rows = examples, num_rows

    @abstractmethod
    def draws(self, position):
        """Yields, without end, the example numbers of the batches from step `position` on.

        Args:
            position: Steps already executed in the phase. Kinds that make passes over the data go
                on from there; kinds that draw every batch anew ignore it.
        """

    def starting_at(self, position):
        """Yields padded batches, dictionaries with a `mask` that is false for padding."""
        for chosen in self.draws(position):
            padded = np.zeros(self.num_rows, dtype=np.int64)
            padded[: len(chosen)] = chosen
            batch = dict(self._read(padded))
            batch["mask"] = np.arange(self.num_rows) < len(chosen)
            yield batch

    def __iter__(self):
        return self.starting_at(0)

    def _read(self, indices):
        if hasattr(self.examples, "rows"):
            return self.examples.rows(indices)
        return tree.map_structure(operator.itemgetter(indices), self.examples)


def multiple_of_eight(rows, limit):
    """Rounds a number of rows up, for the sake of vectorized kernels, but not over `limit`."""
    return min(limit, -(-rows // 8) * 8)
