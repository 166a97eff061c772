"""
Detector-to-sky transform of simulated exposures, in the frames of calibrated files.

detector (pixels, 0-based) -> v2v3 (arcsec in the telescope's field; polynomial distortion) -> v2v3vacorr
(corrected for velocity aberration) -> world (ICRS, degrees; a rotation of the sphere). The distortion has the
size of the real one: the pixel scale changes by 1.5 % along an edge of the detector, 28 pixels are not linear.
"""

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import gwcs

FULL_SIZE = 4088
"""Pixels on a side of the real detector's image; smaller ones are cut from its middle."""

FIELD_CENTER = (1546.384, -892.792)
"""V2 and V3 of the middle of the instrument's field, arcsec."""

V3_IDEAL_Y_ANGLE = -60.0
"""Angle from V3 to detector +y (towards V2), degrees; detectors 3, 6, ... 18 are mounted upside down."""

# Field offsets of the detectors (arcsec, before the field's rotation by 60 degrees), rounded.
_FIELD_OFFSETS = (
    *((-244.8, -128.2), (-244.4, 398.9), (-244.1, 870.1), (-733.3, -225.7), (-733.3, 302.4)),
    *((-733.0, 772.6), (-1220.4, -461.9), (-1221.5, 68.8), (-1225.1, 535.0), (244.1, -128.2)),
    *((244.1, 398.9), (243.7, 870.1), (732.2, -225.7), (733.0, 302.4), (732.6, 772.6)),
    *((1219.7, -462.2), (1221.1, 68.8), (1225.1, 535.0)),
)
# Arcsec per pixel**(i+j) of x**i y**j: linear terms (no y in x, so that +y has the position angle of the
# frame), then 15 pixels of quadratic and 3 of cubic at an edge.
_ALONG_X = {(1, 0): 0.1099, (2, 0): 3.6e-7, (1, 1): -1.9e-7, (0, 2): 1.2e-7}
_ALONG_X |= {(3, 0): 3.1e-11, (2, 1): 0.9e-11, (1, 2): -1.7e-11, (0, 3): 0.6e-11, (4, 0): 8e-16}
_ALONG_Y = {(1, 0): -1.9e-4, (0, 1): 0.1079, (2, 0): -1.1e-7, (1, 1): 2.6e-7, (0, 2): -3.3e-7}
_ALONG_Y |= {(3, 0): -0.5e-11, (2, 1): 2.2e-11, (1, 2): 1.1e-11, (0, 3): -2.4e-11, (2, 2): -6e-16}
_DEGREE = 5


def reference_point(detector: str) -> tuple[float, float, float]:
    """
    Place of a detector in the telescope's field.

    Parameters
    ----------
    detector : str
        WFI01 to WFI18.

    Returns
    -------
    v2, v3 : float
        Of the detector's middle, arcsec (to about 1" of the flight values).
    y_angle : float
        Angle from V3 to detector +y, positive towards V2, degrees.
    """
    number = int(detector[3:])
    x, y = _FIELD_OFFSETS[number - 1]
    c, s = np.cos(np.radians(60)), np.sin(np.radians(60))
    angle = V3_IDEAL_Y_ANGLE + (180.0 if number % 3 == 0 else 0.0)
    v2, v3 = FIELD_CENTER[0] - c * x - s * y, FIELD_CENTER[1] - s * x + c * y
    return float(v2), float(v3), angle


@lru_cache(maxsize=4)
def _distortion(y_angle: float) -> tuple[np.ndarray, ...]:
    """Coefficients (4 matrices [i, j] of x**i y**j) of v2, v3 of pixel offsets and of the inverse."""
    along = np.zeros((2, _DEGREE + 1, _DEGREE + 1))
    for k, terms in enumerate((_ALONG_X, _ALONG_Y)):
        for power, value in terms.items():
            along[k][power] = value
    c, s = np.cos(np.radians(y_angle)), np.sin(np.radians(y_angle))
    v2, v3 = c * along[0] + s * along[1], -s * along[0] + c * along[1]
    # Fitted on the whole detector and a little more, so that it holds beyond the edges.
    half = 1.05 * FULL_SIZE / 2
    x, y = (half * a.ravel() for a in np.meshgrid(*[np.cos(np.pi * np.arange(24) / 23)] * 2))
    from numpy.polynomial.polynomial import polyval2d

    u, v = polyval2d(x, y, v2), polyval2d(x, y, v3)
    powers = [(i, j) for i in range(_DEGREE + 1) for j in range(_DEGREE + 1 - i)]
    scale = np.abs([u, v]).max()
    terms = np.stack([(u / scale) ** i * (v / scale) ** j for i, j in powers], axis=1)
    inverse = np.zeros((2, _DEGREE + 1, _DEGREE + 1))
    for k, target in enumerate((x, y)):
        for (i, j), value in zip(
            powers, np.linalg.lstsq(terms, target, rcond=None)[0], strict=True
        ):
            inverse[k, i, j] = value / scale ** (i + j)
    return v2, v3, inverse[0], inverse[1]


def build_wcs(
    shape: tuple[int, int],
    ra: float,
    dec: float,
    roll: float,
    detector: str = "WFI01",
    va_scale: float = 1.0,
) -> "gwcs.WCS":
    """
    Transform of an exposure.

    Parameters
    ----------
    shape : (int, int)
        Size (ny, nx) of the image; its middle is the middle of the detector.
    ra, dec : float
        Sky position of the middle, degrees; poles included.
    roll : float
        Position angle of detector +y at the middle, east of north, degrees. At a pole north is the
        direction along the meridian `ra`.
    detector : str
        WFI01 to WFI18.
    va_scale : float
        Scale of the velocity-aberration correction, about 1 +- 1e-4.

    Returns
    -------
    gwcs.WCS
        With a bounding box (the image's outline), and inverse polynomials good to 1e-3 pixel.
    """
    import gwcs
    from astropy import coordinates
    from astropy import units as u
    from gwcs import coordinate_frames as frames

    v2, v3, y_angle = reference_point(detector)
    axes = {"axes_order": (0, 1), "axes_names": ("v2", "v3"), "unit": (u.arcsec, u.arcsec)}
    pixels = frames.Frame2D(name="detector", axes_order=(0, 1), unit=(u.pix, u.pix))
    world = frames.CelestialFrame(reference_frame=coordinates.ICRS(), name="world")
    wcs = gwcs.WCS(
        [
            (pixels, _detector_to_v2v3(shape, v2, v3, y_angle)),
            (frames.Frame2D(name="v2v3", **axes), _aberration(va_scale, v2, v3)),
            (
                frames.Frame2D(name="v2v3vacorr", **axes),
                telescope_to_sky(v2, v3, ra, dec, roll - y_angle),
            ),
            (world, None),
        ]
    )
    wcs.bounding_box = ((-0.5, shape[1] - 0.5), (-0.5, shape[0] - 0.5))
    return wcs


def _detector_to_v2v3(shape, v2, v3, y_angle):
    from astropy.modeling import models

    polynomials = [_polynomial(c) for c in _distortion(y_angle)]
    fan_out = models.Mapping((0, 1, 0, 1))
    bend = fan_out | polynomials[0] & polynomials[1]
    bend.inverse = fan_out | polynomials[2] & polynomials[3]
    center = models.Shift(-(shape[1] - 1) / 2) & models.Shift(-(shape[0] - 1) / 2)
    return center | bend | models.Shift(v2) & models.Shift(v3)


def _polynomial(coefficients: np.ndarray):
    from astropy.modeling.models import Polynomial2D

    terms = {
        f"c{i}_{j}": float(coefficients[i, j])
        for i in range(_DEGREE + 1)
        for j in range(_DEGREE + 1 - i)
    }
    return Polynomial2D(_DEGREE, **terms)


def _aberration(scale, v2, v3):
    from astropy.modeling import models

    if scale == 1.0:
        return models.Identity(2)
    stretch = models.Scale(scale) & models.Scale(scale)
    return stretch | models.Shift((1 - scale) * v2) & models.Shift((1 - scale) * v3)


def telescope_to_sky(v2: float, v3: float, ra: float, dec: float, roll: float):
    """
    Rotation of the telescope's field onto the sky.

    Parameters
    ----------
    v2, v3 : float
        A point of the field, arcsec.
    ra, dec : float
        Its place on the sky, degrees.
    roll : float
        Position angle of +V3 there, degrees.

    Returns
    -------
    astropy.modeling.Model
        (v2, v3) in arcsec to (ra, dec) in degrees.
    """
    from astropy.modeling import models
    from gwcs.geometry import CartesianToSpherical, SphericalToCartesian

    angles = [v2 / 3600, -v3 / 3600, roll, dec, -ra]
    return (
        models.Scale(1 / 3600) & models.Scale(1 / 3600)
        | SphericalToCartesian(wrap_lon_at=180)
        | models.RotationSequence3D(angles, axes_order="zyxyz")
        | CartesianToSpherical(wrap_lon_at=360)
    )


def pixel_area_map(wcs: "gwcs.WCS", shape: tuple[int, int]) -> np.ndarray:
    """
    Solid angle of every pixel.

    Parameters
    ----------
    wcs : gwcs.WCS
        Detector to sky.
    shape : (int, int)
        Size (ny, nx).

    Returns
    -------
    float32 array, (ny, nx)
        Steradians; a polynomial through the exact areas at 13 x 13 nodes, good to 1e-6.
    """
    from numpy.polynomial import chebyshev

    from .grid import unit_vector

    degree = 8
    nodes = np.cos(np.pi * (np.arange(degree + 5) + 0.5) / (degree + 5))
    y, x = np.meshgrid(*[(n - 1) / 2 + nodes * n / 2 for n in shape], indexing="ij")
    # Wide differences: rounding of the sky positions costs 1e-15 / (2 h * 5e-7 rad).
    h = 2.0
    sides = [
        unit_vector(*wcs(x + dx, y + dy, with_bounding_box=False))
        - unit_vector(*wcs(x - dx, y - dy, with_bounding_box=False))
        for dx, dy in ((h, 0.0), (0.0, h))
    ]
    area = np.linalg.norm(np.cross(sides[0], sides[1], axis=0), axis=0) / (2 * h) ** 2
    unit = np.mean(area)
    fit = np.linalg.pinv(chebyshev.chebvander(nodes, degree))
    coefficients = fit @ (area / unit) @ fit.T
    rows, columns = (
        chebyshev.chebvander((np.arange(n) - (n - 1) / 2) / (n / 2), degree) for n in shape
    )
    return ((rows @ (coefficients * unit)) @ columns.T).astype(np.float32)


def local_geometry(
    wcs: "gwcs.WCS", ra: np.ndarray, dec: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Pixel positions of sources and the shape of the pixels there.

    Parameters
    ----------
    wcs : gwcs.WCS
        Detector to sky.
    ra, dec : (n,) float arrays
        Degrees.

    Returns
    -------
    x, y : (n,) float64 arrays
        0-based pixels, good to 1e-6 on the detector.
    jacobian : (n, 2, 2) float64 array
        Arcsec towards east (first row) and north per pixel along x (first column) and y.
    """
    from .grid import east_north, unit_vector

    x, y = wcs.backward_transform(ra, dec)
    east, north = east_north(ra, dec)
    here = unit_vector(ra, dec)

    def offset(x, y):
        away = unit_vector(*wcs(x, y, with_bounding_box=False)) - here
        return np.stack([np.sum(east * away, axis=0), np.sum(north * away, axis=0)]) * 206264.80625

    h = 0.5
    jacobian = np.stack(
        [offset(x + h, y) - offset(x - h, y), offset(x, y + h) - offset(x, y - h)], axis=1
    ).transpose(2, 0, 1)
    # One Newton step takes the inverse polynomial's remaining error out.
    step = np.linalg.solve(jacobian, offset(x, y).T[:, :, None])[:, :, 0]
    return x - step[:, 0], y - step[:, 1], jacobian
