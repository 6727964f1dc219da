"""Turning what the user gives to `fit` into private batches."""

import math

import keras
import numpy as np
from keras import ops, tree

from keras_secure.errors import InputError, PrivacyError
from keras_secure.privacy import PoissonBatches, PoissonSampling, physical_batch_size

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


class PrivateArrays:
    """Arrays under the name by which the training step knows their parts.

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
            weights = _class_weights(self.parts.get("y"), class_weight)
            if sample_weight is not None:
                weights = weights * np.reshape(self.parts["sample_weight"], weights.shape)
            self.parts["sample_weight"] = weights

    def split(self, fraction):
        """Returns (training part, validation tuple): the last `fraction` is set aside."""
        cut = math.floor(self.num_examples * (1.0 - fraction))
        if not 0 < cut < self.num_examples:
            raise InputError(
                f"validation_split={fraction} leaves no examples on one side of "
                f"{self.num_examples}."
            )
        first = PrivateArrays(**tree.map_structure(lambda leaf: leaf[:cut], self.parts))
        rest = tree.map_structure(lambda leaf: leaf[cut:], self.parts)
        names = ("x", "y", "sample_weight")
        return first, tuple(rest[name] for name in names if name in rest)

    def batches(self, batch_size, seed):
        """Returns an endless Poisson stream; its `sampling` is what the accountant needs."""
        if not 0 < batch_size <= self.num_examples:
            raise InputError(
                f"batch_size is {batch_size}; with {self.num_examples} examples it must lie "
                f"between 1 and {self.num_examples}."
            )
        sampling = PoissonSampling(
            batch_size / self.num_examples,
            self.num_examples,
            physical_batch_size(self.num_examples, batch_size),
        )
        return PoissonBatches(self.parts, sampling, seed)


def _arrays(part):
    """Nested numpy arrays; a list of numbers is one array, a list of arrays a tuple of them."""
    if isinstance(part, dict):
        return {name: _arrays(value) for name, value in part.items()}
    if isinstance(part, (list, tuple)):
        if any(np.ndim(leaf) for leaf in tree.flatten(part)):
            return tuple(_arrays(value) for value in part)
        return np.asarray(part)
    return ops.convert_to_numpy(part)


def _class_weights(y, class_weight):
    if y is None or tree.is_nested(y):
        raise InputError("class_weight needs a single array of class labels in y.")
    labels = np.argmax(y, axis=-1) if y.ndim == 2 and y.shape[1] > 1 else y.reshape(-1)
    missing = sorted(set(np.unique(labels).tolist()) - set(class_weight))
    if missing:
        raise InputError(f"class_weight lacks the classes {missing[:5]} that occur in y.")
    return np.array([class_weight[int(label)] for label in labels], dtype="float32")
