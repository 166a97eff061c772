"""
Step `color`: a colour picture of a skycell that has three filters, from the small images of `preview`.

The longest wavelength is red. Sky levels are taken off, filters are balanced on what is bright in all of them,
and one asinh stretch of their mean keeps the colour of sources of any brightness (Lupton et al. 2004, PASP
116, 133).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .color_filters import choose_filters
from .pictures import (
    INK,
    JPEG,
    PAPER,
    PNG,
    draw_compass,
    draw_scale_bar,
    flatness,
    frame,
    new_figure,
)
from .small_image import SmallImage, covered_box, sky_level

#: Noise above the sky at which the stretch bends, and which is white.
_KNEE, _WHITE = 3.0, 400.0
#: Noise above the sky at which half of the colour is left.
_GREY = 6.0
_LETTERS = ("#ff8d7a", "#8be08b", "#7fb2ff")


def join(images: Sequence[SmallImage]) -> np.ndarray:
    """
    Weighted mean of images of a filter without their sky levels.

    Parameters
    ----------
    images : sequence of SmallImage
        On one grid.

    Returns
    -------
    (ny, nx) float32 array
        NaN where no image has data.
    """
    total, weights = np.zeros((2, *images[0].data.shape))
    for image in images:
        good = np.isfinite(image.data)
        total += np.where(good, image.weight * (image.data - image.sky), 0)
        weights += np.where(good, image.weight, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weights > 0, total / weights, np.nan).astype(np.float32)


def compose(bands: Sequence[np.ndarray]) -> np.ndarray:
    """
    Colour image of three images.

    Parameters
    ----------
    bands : three (ny, nx) float arrays
        Red, green, blue; sky level 0, NaN where there is no data.

    Returns
    -------
    (ny, nx, 3) float32 array
        0 to 1; 0 where a filter has no data.
    """
    stack = np.stack(bands).astype(np.float32)
    complete = np.isfinite(stack).all(axis=0)
    stack = np.where(complete, stack, 0)
    noises = np.array([max(sky_level(band)[1], 1e-12) for band in bands], np.float32)
    scaled = stack / noises[:, None, None]
    # The light of what every filter sees, without the few brightest pixels, is white on the whole.
    seen = complete & (scaled > 5).all(axis=0) & (scaled < 1000).all(axis=0)
    gains = 1 / noises
    if np.count_nonzero(seen) >= 30:
        gains = 1 / np.maximum(stack[:, seen].mean(axis=1), 1e-12)
        gains *= np.mean(scaled[:, seen])
    stack *= gains[:, None, None]
    mean = np.maximum(stack.mean(axis=0), 0)
    noise = max(sky_level(np.where(complete, stack.mean(axis=0), np.nan))[1], 1e-12)
    level = np.arcsinh((mean + noise) / (_KNEE * noise)) / np.arcsinh(_WHITE / _KNEE)
    # Noise has no colour: what is no brighter fades to grey.
    purity = mean**2 / (mean**2 + (_GREY * noise) ** 2)
    color = mean + purity * (np.maximum(stack, 0) - mean) + noise
    color *= level / (mean + noise)
    # Too bright a pixel keeps its hue.
    color /= np.maximum(color.max(axis=0), 1)
    return np.where(complete, np.clip(color, 0, 1), 0).transpose(1, 2, 0).astype(np.float32)


def draw(
    paths: Sequence[str | Path],
    bands: Mapping[str, Sequence[SmallImage]],
    title: str,
    filters: Sequence[str] = (),
    size: int = 1080,
) -> tuple[str, ...]:
    """
    Draw the colour picture of a skycell and its thumbnail.

    Parameters
    ----------
    paths : (picture, thumbnail)
        PNG and JPEG file.
    bands : mapping
        Small images of the skycell by filter.
    title : str
        Name of the skycell.
    filters : sequence of str, optional
        See `choose_filters`.
    size : int, optional
        Height of the picture of a square skycell, pixels.

    Returns
    -------
    tuple of str
        Filters shown as red, green and blue.
    """
    chosen = choose_filters(list(bands), filters)
    image = compose([join(bands[element]) for element in chosen])
    grid = bands[chosen[0]][0].grid
    _picture(paths[0], image, grid, title, chosen, size)
    _picture(paths[1], image, grid, title, chosen, 600)
    return chosen


def _picture(path, image: np.ndarray, grid, title: str, chosen: Sequence[str], size: int) -> None:
    wide, side, square = 9.0, 8.7, 9.6
    y0, y1, x0, x1 = box = covered_box(image.any(axis=2))
    tall = side * flatness(box)
    high = square - side + tall
    figure = new_figure(wide, high, size * high / square)
    axes = figure.add_axes((0.15 / wide, 0.15 / high, side / wide, tall / high))
    # Black is sky; where a filter has no data the ground shows.
    solid = np.dstack([image, image.any(axis=2).astype(np.float32)])
    axes.imshow(solid, origin="lower", interpolation="antialiased")
    axes.set_xlim(x0 - 0.5, x1 - 0.5)
    axes.set_ylim(y0 - 0.5, y1 - 0.5)
    frame(axes, "")
    draw_compass(axes, grid, box, 0.8)
    draw_scale_bar(axes, grid, box)
    style = {"fontsize": 15, "weight": "bold"}
    figure.text(0.15 / wide, 1 - 0.5 / high, title, color=INK, **style)
    for number, (element, color) in enumerate(zip(chosen, _LETTERS, strict=True)):
        x = 0.15 + side - 0.9 * (2 - number)
        figure.text(x / wide, 1 - 0.5 / high, element, color=color, ha="right", **style)
    kind = PNG if Path(path).suffix == ".png" else JPEG
    figure.savefig(path, facecolor=PAPER, **kind)
