"""Windows are what a convolution sees, by a loop over positions and by Keras' convolutions."""

import itertools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_secure import backend


def windows_by_loop(x, window, strides, dilations, padding):
    """One position, one tap at a time; what lies outside the input is zero."""
    space, before, counts = x.shape[1:-1], [], []
    for size, taps, stride, dilation in zip(space, window, strides, dilations, strict=True):
        span = (taps - 1) * dilation + 1
        if padding == "valid":
            before.append(0)
            counts.append((size - span) // stride + 1)
        else:
            count = -(-size // stride)
            total = max((count - 1) * stride + span - size, 0)
            before.append(span - 1 if padding == "causal" else total // 2)
            counts.append(count)
    columns = []
    for position in itertools.product(*map(range, counts)):
        column = []
        for tap in itertools.product(*map(range, window)):
            place = [
                p * stride + t * dilation - lead
                for p, stride, t, dilation, lead in zip(
                    position, strides, tap, dilations, before, strict=True
                )
            ]
            inside = all(0 <= at < size for at, size in zip(place, space, strict=True))
            column.append(
                x[(slice(None), *place)] if inside else np.zeros_like(x[:, *([0] * len(space))])
            )
        columns.append(np.concatenate(column, axis=-1))
    return np.stack(columns, axis=-1)


@st.composite
def cases(draw):
    rank = draw(st.integers(1, 3))
    window = draw(st.tuples(*[st.integers(1, 3)] * rank))
    # Keras' convolutions, too, take a stride or a dilation but never both.
    steps = draw(st.tuples(*[st.integers(1, 3)] * rank))
    ones = (1,) * rank
    strides, dilations = (steps, ones) if draw(st.booleans()) else (ones, steps)
    least = [(taps - 1) * dilation + 1 for taps, dilation in zip(window, dilations, strict=True)]
    space = tuple(low + draw(st.integers(0, 4)) for low in least)
    padding = draw(st.sampled_from(["valid", "same", "causal"] if rank == 1 else ["valid", "same"]))
    return (2, *space, draw(st.integers(1, 3))), window, strides, dilations, padding


@settings(max_examples=60, deadline=None)
@given(cases())
def test_windows_by_a_loop(case):
    shape, window, strides, dilations, padding = case
    # Every entry differs, so that no two places can be mistaken for each other.
    x = np.arange(1, 1 + math.prod(shape), dtype="float32").reshape(shape)
    found = backend.extract_windows(x, window, strides, dilations, padding)
    expected = windows_by_loop(x, window, strides, dilations, padding)
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=40, deadline=None)
@given(cases())
def test_shifts_give_the_same_sums_over_positions_as_windows(case):
    shape, window, strides, dilations, padding = case
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape).astype("float32")
    windows = windows_by_loop(x, window, strides, dilations, padding)
    counts = [
        -(-size // stride)
        if padding != "valid"
        else (size - (taps - 1) * dilation - 1) // stride + 1
        for size, taps, stride, dilation in zip(
            shape[1:-1], window, strides, dilations, strict=True
        )
    ]
    grads = rng.normal(size=(shape[0], *counts, 2)).astype("float32")
    expected = np.einsum("bip,bpo->bio", windows, grads.reshape(shape[0], -1, 2))
    shifts, spread = backend.extract_shifts(x, grads, window, strides, dilations, padding)
    assert shifts.shape[2] == spread.shape[1]
    np.testing.assert_allclose(np.einsum("bip,bpo->bio", shifts, spread), expected, atol=1e-4)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(
    ("window", "strides", "dilations"),
    [((3, 3), (1, 1), (1, 1)), ((4, 2), (2, 3), (1, 1)), ((2, 3), (1, 1), (2, 3))],
)
def test_windows_by_the_patch_kernel(window, strides, dilations, padding):
    x = np.random.default_rng(0).normal(size=(2, 9, 10, 3)).astype("float32")
    patches = tf.image.extract_patches(
        x, [1, *window, 1], [1, *strides, 1], [1, *dilations, 1], padding.upper()
    )
    expected = tf.transpose(tf.reshape(patches, (2, -1, patches.shape[-1])), (0, 2, 1))
    found = backend.extract_windows(x, window, strides, dilations, padding)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("layer", "space"),
    [
        (keras.layers.Conv1D(4, 3, strides=2, padding="causal", use_bias=False), (7,)),
        (keras.layers.Conv1D(4, 2, dilation_rate=3, padding="causal", use_bias=False), (8,)),
        (keras.layers.Conv2D(4, (3, 2), strides=(2, 1), padding="same", use_bias=False), (6, 7)),
        (keras.layers.Conv2D(4, 2, dilation_rate=2, padding="valid", use_bias=False), (5, 6)),
        (keras.layers.Conv3D(4, 2, strides=2, padding="same", use_bias=False), (4, 5, 3)),
    ],
)
def test_a_convolution_is_one_product_with_the_windows(layer, space):
    x = np.random.default_rng(0).normal(size=(2, *space, 3)).astype("float32")
    expected = keras.ops.convert_to_numpy(layer(x))
    windows = backend.extract_windows(
        x, layer.kernel_size, layer.strides, layer.dilation_rate, layer.padding
    )
    kernel = keras.ops.convert_to_numpy(layer.kernel).reshape(-1, 4)
    found = np.einsum("bip,io->bpo", windows, kernel).reshape(expected.shape)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_windows_of_any_number_of_examples_in_one_graph(jit_compile):
    traces = []

    def windows(x):
        traces.append(x.shape)
        return backend.extract_windows(x, (2, 2), (2, 1), (1, 1), "same")

    signature = [tf.TensorSpec((None, 5, 4, 2), "float32")]
    graph = tf.function(windows, input_signature=signature, jit_compile=jit_compile)
    for size in (1, 3):
        x = np.random.default_rng(size).normal(size=(size, 5, 4, 2)).astype("float32")
        expected = windows_by_loop(x, (2, 2), (2, 1), (1, 1), "same")
        np.testing.assert_array_equal(graph(x), expected)
    assert len(traces) == 1
    # Per-example norms need the sizes while they are traced.
    assert graph.get_concrete_function().structured_outputs.shape.as_list() == [None, 8, 12]
