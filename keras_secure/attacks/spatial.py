"""Rotation and translation of images."""

import math

import keras
import numpy as np
from keras import ops

from keras_secure.arguments import check_channels_last, is_number
from keras_secure.attacks.arguments import check_counts, check_sizes
from keras_secure.attacks.iterative_attack import IterativeAttack
from keras_secure.attacks.random_noise import keep_worst
from keras_secure.attacks.rows import by_row
from keras_secure.errors import InputError
from keras_secure.registration import component

SEARCHES = ("grid", "random")


@component("attacks")
class Spatial(IterativeAttack):
    """Rotates an image about its centre and shifts it, until the model is fooled.

    Bounded by no norm: `norm` is `"spatial"`, and the distance that is reported is the size of the
    transformation, the largest of its angle and shifts, each as a share of the largest one that
    is allowed. `epsilon` scales all of them, so `epsilon=0.5` allows half the angle and half
    the shifts. Smaller transformations of a grid are tried first.

    Args:
        epsilon: Share of the ranges below that is allowed, at least 0.
        max_rotation: Largest angle, in degrees, either way.
        max_shift: Largest shift along height and width, in pixels, either way.
        search: `"grid"` for all combinations of evenly spaced angles and shifts, `"random"` for
            uniform draws of them.
        num_rotations: Angles of the grid.
        num_shifts: Shifts of the grid along each of the two axes.
        draws: How many random transformations are tried.
        fill: Value of what comes into the picture from outside, inside `bounds`.
        bounds: Smallest and largest value that an input may have.
        targeted: Whether the labels given are the classes to reach rather than to leave.
        seed: Integer that makes random draws repeatable, or None.

    Raises:
        InputError: If an argument cannot be used.

    Example:

    >>> model = keras.Sequential(
    ...     [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    ... )
    >>> attack = Spatial(max_shift=1, num_rotations=3, num_shifts=3)
    >>> result = attack.run(model, np.zeros((2, 8, 8, 1), "float32"), [0, 1], verbose=0)
    >>> bool((result.distance <= 1).all())
    True

    Reference:
        Engstrom et al. 2019, "Exploring the landscape of spatial robustness", arXiv 1712.02779,
        sections 3 (grid and worst-of-k) and 5 (ranges).
    """

    looks_first = False

    def __init__(
        self,
        epsilon=1.0,
        *,
        max_rotation=30.0,
        max_shift=3.0,
        search="grid",
        num_rotations=31,
        num_shifts=5,
        draws=10,
        fill=0.0,
        bounds=(0.0, 1.0),
        targeted=False,
        seed=None,
    ):
        super().__init__(epsilon, bounds=bounds, targeted=targeted, seed=seed)
        self.norm = "spatial"  # which `settle` takes for: bounded by the attack alone
        check_sizes(max_rotation=max_rotation, max_shift=max_shift, above_zero=False)
        if max_rotation == max_shift == 0:
            raise InputError("max_rotation=0 with max_shift=0 leaves nothing to try.")
        if search not in SEARCHES:
            raise InputError(f"search={search!r} is not known: use one of {', '.join(SEARCHES)}.")
        check_counts(num_rotations=num_rotations, num_shifts=num_shifts, draws=draws)
        if not is_number(fill) or not self.bounds[0] <= fill <= self.bounds[1]:
            raise InputError(f"fill={fill!r} cannot be used: it must lie in bounds={bounds}.")
        self.max_rotation = float(max_rotation)
        self.max_shift = float(max_shift)
        self.search = search
        self.num_rotations = int(num_rotations)
        self.num_shifts = int(num_shifts)
        self.draws = int(draws)
        self.fill = float(fill)
        self.steps = len(self._grid()) if search == "grid" else self.draws

    def begin(self, problem):
        """Nothing is tried yet; see `IterativeAttack`."""
        if len(problem.x.shape) not in (3, 4):
            raise InputError(
                f"Spatial rotates images and was given inputs of shape {tuple(problem.x.shape)}: "
                "expected (batch, height, width) or (batch, height, width, channels)."
            )
        if len(problem.x.shape) == 4:
            check_channels_last("Spatial", keras.config.image_data_format())
        batch = ops.shape(problem.x)[0]
        return {
            "x_adv": problem.x,
            "loss": ops.full((batch,), -float("inf"), "float32"),
            "size": ops.zeros((batch,), "float32"),
            "found": ops.zeros((batch,), "bool"),
        }

    def step(self, problem, state, index):
        """Tries one more transformation."""
        batch = ops.shape(problem.x)[0]
        if self.search == "grid":
            shares = ops.take(ops.convert_to_tensor(self._grid()), index, axis=0)
            shares = ops.broadcast_to(shares, (batch, 3))
        else:
            shares = 2.0 * problem.uniform(index, 3) - 1.0
        shares = shares * ops.cast(problem.epsilon, "float32")
        limits = (math.radians(self.max_rotation), self.max_shift, self.max_shift)
        shares = shares * ops.convert_to_tensor([float(limit > 0) for limit in limits])
        angles, down, right = (limit * shares[:, i] for i, limit in enumerate(limits))
        moved = rotate_and_shift(problem.x, angles, down, right, self.fill)
        after = keep_worst(problem, state, moved, self.targeted)
        taken = ops.logical_or(after["found"], after["loss"] > state["loss"])
        size = ops.max(ops.absolute(shares), axis=1)
        return {**after, "size": ops.where(taken, size, state["size"])}

    def _grid(self):
        """Shares (angle, shift down, shift right) of the ranges, the small ones first."""

        def spaced(count):
            return np.linspace(-1.0, 1.0, count) if count > 1 else np.zeros(1)

        rotations = spaced(self.num_rotations if self.max_rotation else 1)
        shifts = spaced(self.num_shifts if self.max_shift else 1)
        grid = np.stack(np.meshgrid(rotations, shifts, shifts, indexing="ij"), axis=-1)
        grid = grid.reshape(-1, 3)
        return grid[np.argsort(np.abs(grid).max(axis=1), kind="stable")].astype("float32")

    def get_config(self):
        """Returns the arguments that rebuild this attack."""
        config = super().get_config()
        del config["norm"]
        return {
            **config,
            "max_rotation": self.max_rotation,
            "max_shift": self.max_shift,
            "search": self.search,
            "num_rotations": self.num_rotations,
            "num_shifts": self.num_shifts,
            "draws": self.draws,
            "fill": self.fill,
        }


def rotate_and_shift(images, angles, down, right, fill=0.0):
    """Rotates each image about its centre and then shifts it, bilinearly.

    Args:
        images: Tensor of shape (batch, height, width) or with channels, placed as
            `keras.config.image_data_format()` says.
        angles: Tensor of shape (batch,), in radians, clockwise as seen with rows going down.
        down: Tensor of shape (batch,), in pixels.
        right: Tensor of shape (batch,), in pixels.
        fill: Value of what lies outside the image.

    Returns:
        A tensor like `images`.

    Example:

    >>> image = ops.convert_to_tensor([[[1.0, 2.0], [3.0, 4.0]]])
    >>> none, one = ops.zeros((1,)), ops.ones((1,))
    >>> print(ops.convert_to_numpy(rotate_and_shift(image, none, none, one))[0])
    [[0. 1.]
     [0. 3.]]
    """
    channels_first = len(images.shape) == 4 and (
        keras.config.image_data_format() == "channels_first"
    )
    if channels_first:
        images = ops.transpose(images, (0, 2, 3, 1))
    shape = ops.shape(images)
    batch, height, width = shape[0], shape[1], shape[2]
    pixels = ops.reshape(images, (batch, height * width, -1)) - fill

    # Where in the old image each pixel of the new one lies: the way back from shift and rotation.
    rows = ops.cast(ops.reshape(ops.arange(height), (1, -1, 1)), images.dtype)
    columns = ops.cast(ops.reshape(ops.arange(width), (1, 1, -1)), images.dtype)
    middle = (ops.cast(height, images.dtype) - 1) / 2, (ops.cast(width, images.dtype) - 1) / 2
    angles, down, right = (by_row(ops.cast(t, images.dtype), rows) for t in (angles, down, right))
    from_middle = rows - middle[0] - down, columns - middle[1] - right
    cosine, sine = ops.cos(angles), ops.sin(angles)
    row = middle[0] + cosine * from_middle[0] - sine * from_middle[1]
    column = middle[1] + sine * from_middle[0] + cosine * from_middle[1]

    result = ops.zeros_like(pixels)
    top, left = ops.floor(row), ops.floor(column)
    for below in (0.0, 1.0):
        for beside in (0.0, 1.0):
            r, c = top + below, left + beside
            weight = (1 - ops.absolute(row - r)) * (1 - ops.absolute(column - c))
            inside = (r >= 0) & (r < height) & (c >= 0) & (c < width)
            place = ops.clip(r, 0, height - 1) * width + ops.clip(c, 0, width - 1)
            place = ops.reshape(ops.cast(place, "int32"), (batch, height * width, 1))
            weight = ops.reshape(ops.where(inside, weight, 0.0), (batch, height * width, 1))
            place = ops.broadcast_to(place, ops.shape(pixels))
            result = result + weight * ops.take_along_axis(pixels, place, axis=1)
    result = ops.reshape(result + fill, shape)
    return ops.transpose(result, (0, 3, 1, 2)) if channels_first else result
