"""Turning what the user gives to `fit` into private batches."""

import math
import operator
from abc import ABC, abstractmethod

import keras
import numpy as np
from keras import ops, tree

from keras_secure.errors import InputError, PrivacyError
from keras_secure.privacy import (
    BallsInBinsBatches,
    DeterministicBatches,
    DeterministicPasses,
    PoissonBatches,
    PoissonSampling,
    UnstatedSampling,
    physical_batch_size,
)
from keras_secure.training.random_access import RandomAccess

_PARTS = ("x", "y", "sample_weight")

# Half precision holds a layer's response to inputs up to this.
_LARGEST = 1e3


def is_arrays(x):
    """Whether `x` consists of arrays with random access to examples."""
    if isinstance(x, keras.utils.PyDataset) or hasattr(x, "element_spec") or x is None:
        return False
    leaves = tree.flatten(x)
    return bool(leaves) and all(hasattr(leaf, "shape") and len(leaf.shape) > 0 for leaf in leaves)


def first_batch(data):
    """Returns the first batch of a `tf.data.Dataset` or `PyDataset` as a tuple (x, y, weights).

    Raises:
        PrivacyError: for data that cannot be read twice.
    """
    if isinstance(data, keras.utils.PyDataset):
        batch = data[0]
    elif hasattr(data, "element_spec"):
        batch = next(iter(data))
    else:
        raise PrivacyError(
            f"Training with differential privacy cannot use data of type {type(data).__name__}: "
            "its batches can be read only once and nothing bounds how often an example occurs. "
            "Give arrays, a PyDataset or a tf.data.Dataset."
        )
    batch = batch if isinstance(batch, tuple) else (batch,)
    return (*batch, None, None)[:3]


def first_examples(x, y=None, sample_weight=None, count=3):
    """Returns the first examples as tensors that any model can be checked on.

    Numbers that are not finite or very large become ordinary ones, and weights become one: what is
    checked is how the model is built, which must not depend on what these examples hold.
    """

    def ordinary(leaf):
        if leaf is None:
            return None
        tensor = ops.convert_to_tensor(leaf[:count])
        if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype)):
            return tensor
        return ops.clip(ops.where(ops.isfinite(tensor), tensor, 0.0), -_LARGEST, _LARGEST)

    x, y = tree.map_structure(ordinary, (x, y))
    weights = tree.map_structure(
        lambda leaf: None if leaf is None else ops.ones_like(ordinary(leaf)), sample_weight
    )
    return x, y, weights


class PrivateExamples(ABC):
    """What batches are drawn from: examples with random access."""

    num_examples: int

    @abstractmethod
    def rows(self, indices):
        """Returns the examples of these numbers as nested arrays under the names of their parts."""

    @abstractmethod
    def split(self, fraction):
        """Returns (training part, validation tuple): the last `fraction` is set aside."""

    def first(self, count=3):
        """Returns the first examples as (x, y, sample_weight), None where there is no such part."""
        parts = self.rows(np.arange(min(count, self.num_examples)))
        return tuple(parts.get(name) for name in _PARTS)

    def batches(self, batch_size, *, sampling="poisson", steps=1, shuffle=True, seed=None):
        """Returns an endless stream; its `sampling` is what the accountant needs.

        Args:
            batch_size: Mean size of a batch.
            sampling: `"poisson"`, `"balls_in_bins"` or `"deterministic"`.
            steps: Steps that will be taken at most.
            shuffle: Whether the order of deterministic passes is a random one, drawn once.
            seed: None, or an int for repeatable batches.
        """
        if not 0 < batch_size <= self.num_examples:
            raise InputError(
                f"batch_size is {batch_size}; with {self.num_examples} examples it must lie "
                f"between 1 and {self.num_examples}."
            )
        if sampling == "balls_in_bins":
            return BallsInBinsBatches(self, self.num_examples, batch_size, steps, seed)
        if sampling == "deterministic":
            return DeterministicBatches(self, self.num_examples, batch_size, shuffle, seed)
        plan = PoissonSampling(
            batch_size / self.num_examples,
            self.num_examples,
            physical_batch_size(self.num_examples, batch_size),
        )
        return PoissonBatches(self, plan, seed)

    def _cut(self, fraction):
        cut = math.floor(self.num_examples * (1.0 - fraction))
        if not 0 < cut < self.num_examples:
            raise InputError(
                f"validation_split={fraction} leaves no examples on one side of "
                f"{self.num_examples}. "
                "Choose another share."
            )
        return cut


class PrivateArrays(PrivateExamples):
    """Arrays under the name by which the training step knows their parts.

    Arrays of numpy, memory-mapped files among them, are not copied.

    Args:
        x: Nested arrays of inputs.
        y: Nested arrays of targets, or None.
        sample_weight: Nested arrays of weights, or None.
        class_weight: Dict from class to weight, or None; multiplied into the weights.

    Raises:
        InputError: if the lengths differ or class weights meet targets that are no classes.
    """

    def __init__(self, x, y=None, sample_weight=None, class_weight=None):
        parts = {"x": x, "y": y, "sample_weight": sample_weight}
        self.parts = {name: _arrays(part) for name, part in parts.items() if part is not None}
        lengths = {len(leaf) for leaf in tree.flatten(self.parts)}
        if len(lengths) != 1:
            raise InputError(
                f"The arrays hold different numbers of examples: {sorted(lengths)}. Give x, y and "
                "sample_weight with the same first axis."
            )
        self.num_examples = lengths.pop()
        if class_weight is not None:
            self.parts["sample_weight"] = _weighed(self.parts, class_weight)

    def rows(self, indices):
        """See `PrivateExamples`."""
        return tree.map_structure(operator.itemgetter(indices), self.parts)

    def split(self, fraction):
        """See `PrivateExamples`."""
        cut = self._cut(fraction)
        first = PrivateArrays(**tree.map_structure(lambda leaf: leaf[:cut], self.parts))
        rest = tree.map_structure(lambda leaf: leaf[cut:], self.parts)
        return first, tuple(rest[name] for name in _PARTS if name in rest)


class PrivateSource(PrivateExamples):
    """The examples of a `RandomAccess`, read when they are drawn.

    Args:
        source: The `RandomAccess`.
        class_weight: Dict from class to weight, or None; multiplied into the weights.
        num_examples: How many of its examples take part; None for all.
    """

    def __init__(self, source, class_weight=None, num_examples=None):
        self.source, self.class_weight = source, class_weight
        self.num_examples = len(source) if num_examples is None else num_examples

    def rows(self, indices):
        """See `PrivateExamples`."""
        parts = self.source.rows(indices)
        if self.class_weight is not None:
            parts = {**parts, "sample_weight": _weighed(parts, self.class_weight)}
        return parts

    def split(self, fraction):
        """See `PrivateExamples`; the part that is set aside is read into memory."""
        cut = self._cut(fraction)
        rest = self.rows(np.arange(cut, self.num_examples))
        first = PrivateSource(self.source, self.class_weight, cut)
        return first, tuple(rest[name] for name in _PARTS if name in rest)


def private_examples(x, y=None, sample_weight=None, class_weight=None):
    """Returns the `PrivateExamples` of what was given to `fit`; None for the user's own batches."""
    if isinstance(x, RandomAccess):
        if y is not None or sample_weight is not None:
            raise InputError(
                "The examples of RandomAccess hold y and sample_weight themselves. "
                "Leave these arguments out."
            )
        return PrivateSource(x, class_weight)
    if is_arrays(x):
        return PrivateArrays(x, y, sample_weight, class_weight)
    return None


def stated_sampling(sampling, data=None):
    """Returns the `Sampling` of batches that the user forms.

    Args:
        sampling: What `DPOptimizer` was given: a `Sampling`, the name of a kind, or None.
        data: The `PyDataset` or `tf.data.Dataset` given to `fit`; None for single batches.

    Raises:
        PrivacyError: if the statement cannot be true of the data.
    """
    if sampling is None:
        return UnstatedSampling()
    if isinstance(sampling, str) and sampling != "deterministic":
        if data is None:
            return UnstatedSampling()
        raise PrivacyError(
            f"sampling={sampling!r} asks for batches to be drawn, but fit was given batches of "
            f"the user's own. Give arrays, or keras_secure.training.RandomAccess(...) around a "
            "source of single examples; or state with a privacy.Sampling how batches were drawn."
        )
    if data is None:
        # Single batches: nothing shows where a pass begins.
        counts_passes = isinstance(sampling, str) or sampling.counts_passes
        return UnstatedSampling() if counts_passes else sampling
    count = _batch_count(data)
    if sampling == "deterministic":
        if count is None:
            raise PrivacyError(
                "sampling='deterministic' needs data that knows the number of its batches. State "
                "it: sampling=keras_secure.privacy.DeterministicPasses(steps_per_epoch=...)."
            )
        return DeterministicPasses(count)
    if sampling.counts_passes and count is not None and count < sampling.steps_per_epoch:
        raise PrivacyError(
            f"A pass over the data has {count} batches, but the sampling states "
            f"{sampling.steps_per_epoch} steps. State {count}."
        )
    return sampling


def _batch_count(data):
    if isinstance(data, keras.utils.PyDataset):
        return data.num_batches
    count = int(data.cardinality())
    return count if count > 0 else None


def _arrays(part):
    """Nested numpy arrays; a list of numbers is one array, a list of arrays a tuple of them."""
    if isinstance(part, dict):
        return {name: _arrays(value) for name, value in part.items()}
    if isinstance(part, (list, tuple)):
        if any(np.ndim(leaf) for leaf in tree.flatten(part)):
            return tuple(_arrays(value) for value in part)
        return np.asarray(part)
    # Memory-mapped files stay on the disk, and large arrays are not there twice.
    return part if isinstance(part, np.ndarray) else ops.convert_to_numpy(part)


def _weighed(parts, class_weight):
    weights = _class_weights(parts.get("y"), class_weight)
    if "sample_weight" in parts:
        weights = weights * np.reshape(parts["sample_weight"], weights.shape)
    return weights


def _class_weights(y, class_weight):
    if y is None or tree.is_nested(y):
        raise InputError(
            "class_weight needs a single array of class labels in y. Give sample_weight instead."
        )
    labels = np.argmax(y, axis=-1) if y.ndim == 2 and y.shape[1] > 1 else y.reshape(-1)
    missing = sorted(set(np.unique(labels).tolist()) - set(class_weight))
    if missing:
        raise InputError(
            f"class_weight lacks the classes {missing[:5]} that occur in y. "
            "Give each class a weight."
        )
    return np.array([class_weight[int(label)] for label in labels], dtype="float32")
