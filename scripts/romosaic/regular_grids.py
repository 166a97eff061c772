"""
Grids of products that are not made on a skycell, as section `resample` or a custom product describes them.

The options are romancal's, and so is the handedness: x grows to the west where +y is north.
"""

from dataclasses import dataclass, replace

import numpy as np

from .errors import AssociationError
from .grid import Grid, sky_position, unit_vector
from .output_wcs import MAX_SIDE, read_output_wcs

#: Pixels around the members' outlines, whose edges distortion bends between the vertices.
MARGIN = 2
_APART = "make several products"


@dataclass(frozen=True)
class RegularGrids:
    """
    How to make regular grids.

    Attributes
    ----------
    pixel_scale : float or None
        Degrees; None for `pixel_scale_ratio` times that of the first member.
    pixel_scale_ratio : float or None
        Ignored with `pixel_scale`.
    rotation : float
        Position angle of the +y axis, degrees east of north.
    crval : (float, float) or None
        Tangent point (ra, dec), degrees; None for the middle of the members.
    crpix : (float, float) or None
        Its pixel (x, y), 0-based; None for the middle of the grid, or, with `crval` but without `output_shape`,
        for where it falls.
    output_shape : (int, int) or None
        (nx, ny); None for the smallest that holds the members.
    given : Grid or None
        The grid of an ``output_wcs``, which leaves nothing to choose.
    on_skycell : bool
        Whether products of a skycell are made on it instead.
    """

    pixel_scale: float | None
    pixel_scale_ratio: float | None = None
    rotation: float = 0.0
    crval: tuple[float, float] | None = None
    crpix: tuple[float, float] | None = None
    output_shape: tuple[int, int] | None = None
    given: Grid | None = None
    on_skycell: bool = True

    def described(self, options: dict) -> "RegularGrids":
        """
        Return what options make of this: pixel side and rotation are kept where they say nothing of these.

        Parameters
        ----------
        options : dict
            See `config_grids.OutputGrid`.

        Raises
        ------
        GridError
            The file of `output_wcs` cannot be used.
        """
        scale, ratio = options["pixel_scale"], options["pixel_scale_ratio"]
        if scale is not None or ratio is not None:
            scale = None if scale is None else scale / 3600
        else:
            scale, ratio = self.pixel_scale, self.pixel_scale_ratio
        path, shape = options["output_wcs"], options["output_shape"]
        rotation = options["rotation"]
        return RegularGrids(
            pixel_scale=scale,
            pixel_scale_ratio=ratio,
            rotation=self.rotation if rotation is None else rotation,
            crval=options["crval"],
            crpix=options["crpix"],
            output_shape=shape,
            given=read_output_wcs(path, shape) if path else None,
            on_skycell=options.get("resample_on_skycell", self.on_skycell),
        )

    def fixed(self) -> Grid | None:
        """Return the grid where it is the same for any members, None where it is not."""
        if self.given or not (self.crval and self.output_shape and self.pixel_scale):
            return self.given
        return self._sized(self._plane(self.pixel_scale, *self.crval))

    def around(self, records: list[dict], where: object) -> Grid:
        """
        Make the grid of a product.

        Parameters
        ----------
        records : list of dict
            Its members, see `exposure.read_record`.
        where : object
            What to call the product in a message.

        Raises
        ------
        AssociationError
            The grid would have a side of more than `MAX_SIDE` pixels, or of none.
        """
        if grid := self.fixed():
            return grid
        scale = self.pixel_scale
        if scale is None:
            scale = self.pixel_scale_ratio * records[0]["pixel_scale"] / 3600
        ra, dec = (
            np.concatenate([record["footprint"][axis] for record in records])
            for axis in ("ra", "dec")
        )
        plane = self._plane(scale, *(self.crval or (0.0, 0.0)))
        if not self.crval:
            plane = _about_the_middle(plane, ra, dec, where)
        if self.output_shape:
            return self._sized(plane)
        return self._enclosing(plane, *plane.to_pixel(ra, dec), where)

    def _plane(self, scale: float, ra: float, dec: float) -> Grid:
        """Grid of one pixel at a tangent point."""
        turn = 0.0 - self.rotation  # a mirrored grid turns the other way
        return Grid(ra, dec, 0.0, 0.0, scale, 1, 1, turn, x_east=False)

    def _sized(self, plane: Grid) -> Grid:
        """Give a plane its `output_shape`."""
        nx, ny = self.output_shape
        x0, y0 = self.crpix or ((nx - 1) / 2, (ny - 1) / 2)
        return replace(plane, x0=float(x0), y0=float(y0), nx=nx, ny=ny)

    def _enclosing(self, plane: Grid, x: np.ndarray, y: np.ndarray, where: object) -> Grid:
        """Give a plane the size that positions on it need."""
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise AssociationError(where, f"its members are not in sight of crval {self.crval}")
        origin, sides = [], []
        for axis, place in enumerate((x, y)):
            low, high = float(place.min()) - MARGIN, float(place.max()) + MARGIN
            if self.crpix:
                start = float(self.crpix[axis])
                size = np.ceil(start + high + 0.5)
            elif self.crval:
                start = np.ceil(-0.5 - low)
                size = np.ceil(start + high + 0.5)
            else:
                size = np.ceil(2 * max(-low, high))
                start = (size - 1) / 2
            origin.append(float(start))
            sides.append(int(size))
        _check_size(*sides, where)
        return replace(plane, x0=origin[0], y0=origin[1], nx=sides[0], ny=sides[1])


def _about_the_middle(plane: Grid, ra: np.ndarray, dec: np.ndarray, where: object) -> Grid:
    """Move a plane's tangent point to the middle of the box, along its axes, around sky positions."""
    vectors = unit_vector(ra, dec)
    center = vectors.sum(axis=1)
    center /= max(np.linalg.norm(center), 1e-300)
    if np.linalg.norm(vectors - center[:, None], axis=0).max() > np.radians(45):
        raise AssociationError(where, "its members lie all over the sky", _APART)
    # The middle of the box in one plane is nearly that in the next; near a pole, where north turns, it takes
    # some more.
    for _ in range(8):
        place = (float(v) for v in sky_position(center))
        plane = replace(plane, **dict(zip(("ra0", "dec0"), place, strict=True)))
        x, y = plane.to_pixel(ra, dec)
        center = unit_vector(*plane.to_sky((x.min() + x.max()) / 2, (y.min() + y.max()) / 2))
    return plane


def _check_size(nx: int, ny: int, where: object) -> None:
    if max(nx, ny) > MAX_SIDE:
        raise AssociationError(
            where,
            f"its members need a grid of {nx} x {ny} pixels, more than {MAX_SIDE} on a side",
            f"{_APART}, or raise resample.pixel_scale",
        )
    if min(nx, ny) < 1:
        raise AssociationError(
            where, "its members lie before the first pixel of its grid", "correct crpix"
        )
