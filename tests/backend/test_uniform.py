"""Uniform numbers as a pure function of key, stream and counter."""

import numpy as np
from keras import ops

from keras_secure import backend


def test_uniform_numbers_are_uniform_and_depend_on_stream_and_counter_alone():
    key = np.array([3, 9], "uint32")
    streams = np.stack([np.zeros(400), np.arange(400)], 1).astype("uint32")
    drawn = np.asarray(backend.uniform(key, streams, 5, 501))
    assert drawn.shape == (400, 501)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts, _ = np.histogram(drawn, bins=100, range=(0, 1))
    expected = drawn.size / 100
    statistic = ((counts - expected) ** 2 / expected).sum()
    # The 1e-6 quantiles of chi squared with 99 degrees of freedom; a wrong range is far outside.
    assert 44 < statistic < 180
    squeezed = np.histogram(0.98 * drawn, bins=100, range=(0, 1))[0]
    assert ((squeezed - expected) ** 2 / expected).sum() > 1000
    # Neighbours in any direction know nothing of each other.
    for one, other in (
        (drawn[1:], drawn[:-1]),
        (drawn[:, 1:], drawn[:, :-1]),
        (drawn, np.asarray(backend.uniform(key, streams, 6, 501))),
        (drawn, np.asarray(backend.uniform(key, streams + np.uint32([1, 0]), 5, 501))),
    ):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.015
    # A part of the rows, alone, in another order, compiled: the very same numbers.
    np.testing.assert_array_equal(backend.uniform(key, streams[[7, 2]], 5, 501), drawn[[7, 2]])
    graph = backend.compiled(lambda s, c: backend.uniform(key, s, c, 501), jit_compile=True)
    np.testing.assert_array_equal(graph(streams, ops.convert_to_tensor(5)), drawn)
