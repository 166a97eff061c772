"""One call of the STScI drizzle library, for every kernel and pixfrac, in the conventions of `drizzling`."""

import warnings

import numpy as np

from .pixmap import GridMap

#: Pixels of no weight round the input of the library, which loses the outermost two at times.
RIM = 4


def padding(pixel_ratio: float) -> int:
    """Pixels to add round an output grid: near a border that the input crosses the library misweights."""
    return 8 + 4 * int(np.ceil(np.sqrt(pixel_ratio)))  # lanczos3 reaches 3 detector pixels


def positions(
    gridmap: GridMap, xs: np.ndarray, ys: np.ndarray, kernel: str, pixfrac: float
) -> np.ndarray:
    """
    Positions of pixels as the library needs them.

    It takes the corners of a square drop between the centres of pixels, linearly, and so misses by a share of
    the second differences what a curved map does within a pixel: 1e-6 of a pixel for real detectors, 5e-6 of
    the data. With this share taken off the centres its corners lie where the map has them.

    Parameters
    ----------
    gridmap : GridMap
        Map to the output.
    xs, ys : (nx,), (ny,) int arrays
        Consecutive columns and rows of the detector.
    kernel, pixfrac
        As for `add_image`.

    Returns
    -------
    (ny, nx, 2) float64 array
        Output positions (x, y).
    """
    if kernel != "square":
        return np.dstack(gridmap.forward(xs, ys))
    out = np.empty((ys.size, xs.size, 2))
    share = 0.5 * (pixfrac / 2) * (1 - pixfrac / 2)
    wide = [np.arange(v[0] - 1, v[-1] + 2) for v in (xs, ys)]
    for i, p in enumerate(gridmap.forward(*wide)):
        middle = p[1:-1, 1:-1]
        out[..., i] = p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2]
        out[..., i] -= 4 * middle
        out[..., i] *= -share
        out[..., i] += middle
    return out


def add_image(
    data: np.ndarray,
    weights: np.ndarray,
    pixmap: np.ndarray,
    shape: tuple[int, int],
    pixel_ratio: float,
    kernel: str,
    pixfrac: float,
    *,
    variance: np.ndarray | None = None,
    dq: np.ndarray | None = None,
):
    """
    Drizzle one image on an empty output.

    Parameters
    ----------
    data, weights : (ny, nx) float32 arrays
        Image and weights, with a rim of no weight.
    pixmap : (ny, nx, 2) float64 array
        From `positions`.
    shape : tuple of int
        (rows, columns) of the output.
    pixel_ratio : float
        Area of a detector pixel in output pixels.
    kernel, pixfrac : str, float
        See `drizzling.Drizzle`; the lanczos kernels do without a pixfrac.
    variance : (ny, nx) float32 array, optional
        Drizzled with the squares of the weights.
    dq : (ny, nx) uint32 array, optional
        Flags of the pixels.

    Returns
    -------
    drizzle.resample.Drizzle
        With a = the kernel's share, which sums to 1 over the output: `out_wht` = sum(a w), `out_img` =
        sum(a w d) / sum(a w), `out_img2` = sum(a^2 w^2 v) / sum(a w)^2, and `out_dq`, the flags of all
        pixels of positive weight in it.
    """
    from drizzle.resample import Drizzle

    lanczos = kernel.startswith("lanczos")
    made = Drizzle(kernel, out_shape=shape, disable_ctx=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Kernel")  # of fluxes; means have none
        made.add_image(
            data,
            exptime=1.0,
            pixmap=pixmap,
            weight_map=weights,
            # the library's lanczos shares sum to the area of a detector pixel
            wht_scale=1 / pixel_ratio if lanczos else 1.0,
            pixfrac=1.0 if lanczos else pixfrac,
            pixel_scale_ratio=pixel_ratio**-0.5,
            dq=dq,
            **({} if variance is None else {"data2": variance}),
        )
    return made
