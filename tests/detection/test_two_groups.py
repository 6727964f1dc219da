"""Splitting a cloud of points where it falls apart."""

import numpy as np
import pytest

from keras_secure.detection.two_groups import two_groups


def cloud(share, distance, size=2000, features=6, seed=0):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(size, features))
    # Another direction varies most and tells nothing.
    points[:, 0] *= 6
    second = np.arange(size) < share * size
    points[second, 3] += distance
    return points, second


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9])
def test_the_split_is_found_behind_a_direction_that_varies_more(share):
    points, second = cloud(share, 14)
    groups = two_groups(points)
    found = groups.second > 0.5
    agreement = np.mean(found == second)
    assert max(agreement, 1 - agreement) > 0.999
    assert abs(groups.direction[3]) > 0.99
    assert groups.separation > 10
    np.testing.assert_allclose(np.sort(groups.shares), np.sort([share, 1 - share]), atol=0.01)


def test_separation_is_ashmans_d_of_the_groups():
    points, second = cloud(0.3, 14)
    groups = two_groups(points)
    projected = (points - points.mean(axis=0)) @ groups.direction
    one, other = projected[second], projected[~second]
    expected = np.sqrt(2) * abs(one.mean() - other.mean()) / np.sqrt(one.var() + other.var())
    assert groups.separation == pytest.approx(expected, rel=0.05)


def test_one_cloud_has_no_far_groups():
    points, _ = cloud(0.3, 0)
    assert two_groups(points).separation < 4


def test_too_few_points_have_no_groups():
    assert two_groups(np.random.default_rng(0).normal(size=(15, 3))) is None


@pytest.mark.parametrize("seed", range(3))
def test_a_wide_group_is_told_from_the_tail_of_a_narrow_one(seed):
    """A mixture of normals alone gives the tail to the wide group, and here misses the groups."""
    rng = np.random.default_rng(seed)
    narrow = rng.normal(size=(2000, 6)) * [0.5, 2, 2, 2, 2, 2]
    narrow[:, 0] -= rng.exponential(1.0, 2000)
    wide = rng.normal(size=(200, 6)) * [2, 1, 1, 1, 1, 1]
    wide[:, 0] -= 8
    groups = two_groups(np.concatenate([narrow, wide]))
    wrong = np.mean((groups.second > 0.5) != (np.arange(2200) >= 2000))
    assert min(wrong, 1 - wrong) < 0.03
