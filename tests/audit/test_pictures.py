import base64
import io
import re

import numpy as np
import pytest

from keras_secure.audit import plots
from keras_secure.audit.pictures import change_picture, png_data_uri


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 1), (3, 5, 3)])
def test_png_decodes_to_the_same_pixels(shape):
    from matplotlib.image import imread

    pixels = np.random.default_rng(0).integers(0, 256, shape)
    content = base64.b64decode(png_data_uri(pixels / 255.0).removeprefix("data:image/png;base64,"))
    decoded = np.rint(imread(io.BytesIO(content)) * 255).astype(int)
    np.testing.assert_array_equal(decoded, pixels.reshape(decoded.shape))


def test_values_outside_the_range_do_not_wrap_around():
    wild = np.array([[-1.0, 2.0, np.nan, np.inf]])
    assert png_data_uri(wild) == png_data_uri(np.array([[0.0, 1.0, 0.0, 1.0]]))


def test_not_an_image():
    with pytest.raises(ValueError, match=r"\(4,\) is not an image's"):
        png_data_uri(np.zeros(4))


def test_change_is_centred_and_stretched():
    original = np.full((2, 2), 0.5)
    np.testing.assert_array_equal(change_picture(original, original), 0.5)
    moved = change_picture(original, original + np.array([[0.1, -0.1], [0.0, 0.05]]))
    np.testing.assert_allclose(moved, [[1.0, 0.0], [0.5, 0.75]])


def test_charts_leave_the_users_plotting_alone():
    import matplotlib
    from matplotlib import pyplot

    settings, open_figures = dict(matplotlib.rcParams), pyplot.get_fignums()
    plots.burn_down_svg([{"step": 1, "epsilon": 0.5}], 3.0)
    assert dict(matplotlib.rcParams) == settings
    assert pyplot.get_fignums() == open_figures


def test_a_line_is_drawn_at_its_values():
    """The path's corners, read back in chart units, are the measured points."""
    spent = [0.0, 1.0, 1.5, 3.0]
    points = [{"step": 10 * i, "epsilon": value} for i, value in enumerate(spent)]
    drawing = plots.burn_down_svg(points)
    colour = plots.PALETTE[0]
    paths = re.findall(rf'<path d="([^"]*)"[^>]*stroke: {colour}; stroke-width: 2', drawing)
    corners = np.array(re.findall(r"[ML] (\S+) (\S+)", paths[0]), float)
    heights = corners[0, 1] - corners[:, 1]
    np.testing.assert_allclose(heights / heights[-1], np.array(spent) / 3.0, atol=1e-3)
    widths = corners[:, 0] - corners[0, 0]
    np.testing.assert_allclose(widths / widths[-1], [0, 1 / 3, 2 / 3, 1], atol=1e-3)
