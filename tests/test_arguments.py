"""Which numbers pass for arguments, and what others are told."""

import math
from fractions import Fraction

import numpy as np
import pytest

from keras_secure.arguments import check_integer, check_number
from keras_secure.errors import InputError


@pytest.mark.parametrize("value", [2, np.int8(2), np.uint64(2)])
def test_integers_of_every_kind_become_int(value):
    found = check_integer("steps", value, 2, 2)
    assert (found, type(found)) == (2, int)


@pytest.mark.parametrize("value", [1, 4, 2.0, "2", True, None, math.nan, np.array([2, 3])])
def test_other_integers_are_refused_by_name_and_range(value):
    with pytest.raises(InputError, match=r"steps=.* cannot be used: give an integer from 2 to 3\."):
        check_integer("steps", value, 2, 3)


@pytest.mark.parametrize("value", [0.5, 1, np.float16(0.5), np.int64(1), Fraction(1, 2)])
def test_numbers_of_every_kind_become_float(value):
    found = check_number("share", value, "(0, 1]")
    assert (found, type(found)) == (float(value), float)


@pytest.mark.parametrize(
    ("interval", "inside", "outside"),
    [
        ("(0, 1)", [0.1, 0.9], [0, 1, -1, 2]),
        ("[0, 1]", [0, 1], [-1e-9, 1 + 1e-9]),
        ("(0, 1]", [1], [0]),
        ("[0, 1)", [0], [1]),
        ("[0, inf)", [0, 1e300], [-1, math.inf]),
        ("[0, inf]", [math.inf], [-math.inf]),
    ],
)
def test_brackets_say_which_ends_belong(interval, inside, outside):
    for value in inside:
        assert check_number("x", value, interval) == value
    for value in (*outside, math.nan, True, "0.5", None):
        with pytest.raises(InputError, match=r"x=.* cannot be used: give a number in") as caught:
            check_number("x", value, interval)
        assert interval in str(caught.value)
