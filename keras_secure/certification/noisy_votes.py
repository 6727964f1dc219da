"""Counting what a classifier answers under noise, in one graph."""

import numpy as np
from keras import ops

from keras_secure import backend
from keras_secure.errors import InputError
from keras_secure.logits import logits_of

# Values of one block of noise, about: enough to keep a kernel busy, little enough for any memory.
_BLOCK_VALUES = 2**18
# Examples and blocks that one call of the graph takes; it ends early where there are fewer.
_EXAMPLES, _BLOCKS = 64, 1024
_SECOND_STREAM = 2**31


class NoisyVotes:
    """Counts the classes that a model gives to noisy copies of inputs.

    Sample number s of example number i sees noise that depends on the seed, i and s alone, so
    counts do not depend on how the samples are batched or in how many calls they are taken. Noise
    is drawn in blocks of a size that depends on the shape of the inputs alone, and a loop inside
    one graph draws, classifies and counts.

    Args:
        model: Classifier, called with `training=False`. Copies whose outputs hold a NaN vote for
            no class.
        stddev: Standard deviation of the noise.
        bounds: None, or the range that noisy copies are clipped to.
        from_logits: See `classification_logits`; matters for a single output unit only.
        shape: Shape of one input.
        batch_size: Noisy copies in one pass, about: a multiple of the block.
        jit_compile: Whether XLA compiles the loop as a whole.
    """

    def __init__(self, model, stddev, bounds, from_logits, shape, batch_size, jit_compile):
        self.model, self.stddev, self.bounds = model, float(stddev), bounds
        self.from_logits = from_logits
        self.shape, self.values = tuple(shape), int(np.prod(shape))
        self.block = 1
        while self.block < 256 and 2 * self.block * self.values <= _BLOCK_VALUES:
            self.block *= 2
        self.blocks_per_pass = max(1, round(batch_size / self.block))
        self.num_classes = int(self._answers(np.zeros((1, *self.shape), "float32")).shape[-1])
        self._count = backend.compiled(self._traced_count, jit_compile=jit_compile)

    def count(self, x, rows, seed, start, stop, second_stream=False, progress=None):
        """Counts votes for some of the examples.

        Args:
            x: Float32 array of shape (num_examples, ...).
            rows: Integer array: numbers of the examples to count for.
            seed: Integer from 0 to 2^63 - 1.
            start: Number of the first sample, a multiple of `block`.
            stop: One more than the number of the last.
            second_stream: Whether samples of a second, independent stream are taken.
            progress: None, or called with the number of samples counted.

        Returns:
            Int64 array of shape (len(rows), num_classes).
        """
        per_example = range(start // self.block, -(-stop // self.block))
        counts = np.zeros((len(rows), self.num_classes), "int64")
        items = [(place, block) for place in range(len(rows)) for block in per_example]
        position = 0
        while position < len(items):
            first = items[position][0]
            chunk = [
                item for item in items[position : position + _BLOCKS] if item[0] < first + _EXAMPLES
            ]
            position += len(chunk)
            taken = slice(first, first + _EXAMPLES)
            examples = np.asarray(rows[taken])
            votes = self._call(x[examples], examples, chunk, first, seed, stop, second_stream)
            counts[taken] += votes[: len(examples)]
            if progress is not None:
                progress(sum(min(self.block, stop - block * self.block) for _, block in chunk))
        return counts

    def _call(self, x, examples, chunk, first, seed, stop, second_stream):
        padded = np.zeros((_EXAMPLES, *self.shape), "float32")
        padded[: len(x)] = x
        # Slot among the examples, counter of the noise, samples of the block that count.
        work = np.zeros((3, -(-_BLOCKS // self.blocks_per_pass) * self.blocks_per_pass), "int64")
        slots, blocks = np.array([(place - first, block) for place, block in chunk], "int64").T
        stream = _SECOND_STREAM if second_stream else 0
        work[0, : len(chunk)] = slots
        work[1, : len(chunk)] = examples[slots].astype("int64") * 2**32 + stream + blocks
        work[2, : len(chunk)] = np.minimum(self.block, stop - blocks * self.block)
        turns = -(-len(chunk) // self.blocks_per_pass)
        key = np.array([seed, 0], "int64")
        votes = self._count(
            *[ops.convert_to_tensor(each) for each in (padded, work, key, np.int32(turns))]
        )
        return ops.convert_to_numpy(votes)

    def _traced_count(self, x, work, key, turns):
        size, block = self.blocks_per_pass, self.block

        def step(turn, counts):
            slots, counters, limits = ops.unstack(
                ops.slice(work, (0, turn * size), (3, size)), axis=0
            )
            noise = [
                ops.reshape(
                    backend.normal(block * self.values, self.stddev, key, counters[number]),
                    (1, block, *self.shape),
                )
                for number in range(size)
            ]
            noise = noise[0] if size == 1 else ops.concatenate(noise, axis=0)
            copies = ops.expand_dims(ops.take(x, slots, axis=0), 1) + noise
            answers = self._answers(ops.reshape(copies, (size * block, *self.shape)))
            classes = ops.where(
                ops.any(ops.isnan(answers), axis=-1), -1, ops.argmax(answers, axis=-1)
            )
            counted = ops.arange(block, dtype="int64")[None] < limits[:, None]
            # A class of -1 has no column.
            classes = ops.where(counted, ops.reshape(classes, (size, block)), -1)
            votes = ops.sum(ops.one_hot(classes, self.num_classes, dtype="int32"), axis=1)
            return turn + 1, counts + ops.segment_sum(votes, slots, num_segments=_EXAMPLES)

        _, counts = backend.sequential_loop(
            lambda turn, counts: turn < turns,
            step,
            (ops.zeros((), "int32"), ops.zeros((_EXAMPLES, self.num_classes), "int32")),
        )
        return counts

    def _answers(self, copies):
        if self.bounds is not None:
            copies = ops.clip(copies, *self.bounds)
        outputs = self.model(copies, training=False)
        if isinstance(outputs, (dict, list, tuple)) and len(outputs) != 1:
            raise InputError(
                f"The model has {len(outputs)} outputs; smoothing needs the one that classifies. "
                "Give keras.Model(model.inputs, model.outputs[i])."
            )
        single = outputs
        while isinstance(single, (dict, list, tuple)):
            single = next(iter(single.values() if isinstance(single, dict) else single))
        # Which of several outputs is the largest does not depend on what they are.
        if len(single.shape) == 2 and single.shape[1] > 1:
            return ops.cast(single, "float32")
        return logits_of(outputs, self.model, self.from_logits)
