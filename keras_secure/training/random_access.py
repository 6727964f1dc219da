"""Single examples, by their number, from data that is no array in memory."""

import collections

import keras
import numpy as np
from keras import ops, tree

from keras_secure import backend
from keras_secure.errors import InputError


class RandomAccess:
    """Lets private `fit` draw its own batches from a data set instead of taking the user's.

    `fit(RandomAccess(source), batch_size=...)` draws as it does from arrays: Poisson batches, or
    what `DPOptimizer(sampling=...)` names. Examples are read when they are drawn.

    Args:
        source: One of
            an object with `__len__` and `__getitem__(i)` that returns example `i` without a batch
            axis, as x, (x, y) or (x, y, sample_weight), such as a list of tuples or a reader of
            files;
            a `keras.utils.PyDataset`, whose items are batches of one size but for the last. Its
            examples must not change from epoch to epoch. A draw reads every batch it touches once,
            which for random draws of B examples out of M batches is most of min(B, M) batches:
            give `cached_batches`, or a source of single examples;
            a `tf.data.Dataset` of single examples with random access (`from_tensor_slices`,
            `range`, and `map`, `take`, `skip`, `cache` of these). Every example costs one call.
        cached_batches: How many batches of a `PyDataset` are kept in memory, the most recently
            used ones; 0 by default.

    Raises:
        InputError: if the source is none of these, is empty, or its batches differ in size.

    Example:

    >>> import numpy as np
    >>> files = [(np.full(2, i, "float32"), i % 2) for i in range(10)]
    >>> source = RandomAccess(files)
    >>> len(source), source.rows(np.array([3, 0, 3]))["x"].tolist()
    (10, [[3.0, 3.0], [0.0, 0.0], [3.0, 3.0]])
    """

    def __init__(self, source, cached_batches=0):
        self.source = source
        if isinstance(source, keras.utils.PyDataset):
            self._reader = _BatchReader(source, cached_batches)
            self._length, self._read = self._reader.length, self._reader.read
        elif hasattr(source, "element_spec"):
            self._length, example = backend.example_reader(source)
            self._read = lambda numbers: [_parts(example(number)) for number in numbers]
        elif hasattr(source, "__len__") and hasattr(source, "__getitem__"):
            self._length = len(source)
            self._read = lambda numbers: [_parts(source[number]) for number in numbers]
        else:
            raise InputError(
                f"RandomAccess got a {type(source).__name__}, which does not give access to single "
                "examples. Give an object with __len__ and __getitem__, a PyDataset, or a "
                "tf.data.Dataset with random access."
            )
        if self._length < 1:
            raise InputError("RandomAccess got an empty data set. Give at least one example.")

    def __len__(self):
        return self._length

    def rows(self, indices):
        """Reads examples and stacks them.

        Args:
            indices: int array; every example is read once, however often its number occurs.

        Returns:
            Dict of the parts "x", "y" and "sample_weight" that the source has, as nested numpy
            arrays with a first axis of `len(indices)`.
        """
        numbers, places = np.unique(indices, return_inverse=True)
        examples = self._read([int(number) for number in numbers])
        return tree.map_structure(lambda *leaves: np.stack(leaves)[places.reshape(-1)], *examples)


class _BatchReader:
    """Examples out of a `PyDataset` of batches."""

    def __init__(self, dataset, cached_batches):
        self.dataset, self.cached_batches = dataset, cached_batches
        self.cache: collections.OrderedDict = collections.OrderedDict()
        count = dataset.num_batches
        if not count:
            raise InputError(
                "The PyDataset does not say how many batches it has. Give it a __len__."
            )
        self.size = _batch_size(dataset[0])
        last = _batch_size(dataset[count - 1])
        if last > self.size:
            raise InputError(
                f"The last batch of the PyDataset holds {last} examples and the first {self.size}; "
                "all but the last must be of one size."
            )
        self.length = (count - 1) * self.size + last

    def read(self, numbers):
        wanted = collections.defaultdict(list)
        for place, number in enumerate(numbers):
            wanted[number // self.size].append((place, number % self.size))
        examples: list = [None] * len(numbers)
        for batch_number, rows in wanted.items():
            batch = self._batch(batch_number)
            for place, row in rows:
                examples[place] = _row(batch, row)
        return examples

    def _batch(self, number):
        if number in self.cache:
            self.cache.move_to_end(number)
            return self.cache[number]
        batch = tree.map_structure(np.asarray, _parts(self.dataset[number]))
        expected = min(self.size, self.length - number * self.size)
        if _batch_size(batch) != expected:
            raise InputError(
                f"Batch {number} of the PyDataset holds {_batch_size(batch)} examples instead of "
                f"{expected}; all but the last must be of one size."
            )
        if self.cached_batches:
            self.cache[number] = batch
            if len(self.cache) > self.cached_batches:
                self.cache.popitem(last=False)
        return batch


def _row(batch, row):
    return tree.map_structure(lambda leaf: leaf[row], batch)


def _parts(example):
    """Names the parts of what a source returns."""
    parts = example if isinstance(example, tuple) else (example,)
    names = ("x", "y", "sample_weight")
    if len(parts) > len(names):
        raise InputError(
            f"The source returned a tuple of {len(parts)} parts; x, y and sample_weight are "
            "expected at most. Give several inputs as a dictionary or a list."
        )
    named = {name: part for name, part in zip(names, parts, strict=False) if part is not None}
    return tree.map_structure(ops.convert_to_numpy, named)


def _batch_size(batch):
    return len(tree.flatten(batch)[0])
