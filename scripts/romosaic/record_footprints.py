"""Which exposures of many meet a place on the sky."""

import numpy as np

from .circles import footprint_meets_circle
from .footprint import closed_polygon, square_overlaps
from .grid import Grid, unit_vector


class RecordFootprints:
    """
    Records of exposures, with their outlines as unit vectors and the circles around them.

    Parameters
    ----------
    records : list of dict
        See `exposure.read_record`.
    """

    def __init__(self, records: list[dict]) -> None:
        self.records = records
        found = [closed_polygon(r["footprint"]["ra"], r["footprint"]["dec"]) for r in records]
        self.polygons = [polygon for polygon, _, _ in found]
        self.centers = np.array([center for _, center, _ in found]).reshape(-1, 3)
        self.radii = np.array([radius for _, _, radius in found])

    def near(self, center: np.ndarray, radius: float) -> list[int]:
        """Numbers of those whose circle meets a circle (unit vector; radians)."""
        chord = np.linalg.norm(self.centers - center, axis=1)
        distance = 2 * np.arcsin(np.clip(chord / 2, 0, 1))
        return np.flatnonzero(distance <= self.radii + radius + 1e-9).tolist()

    def in_circle(self, ra: float, dec: float, radius: float) -> set[int]:
        """Numbers of those that meet a circle on the sky, degrees."""
        return {
            number
            for number in self.near(unit_vector(ra, dec), np.radians(radius))
            if footprint_meets_circle(self.polygons[number], ra, dec, radius)
        }

    def on_grid(self, grid: Grid) -> dict[int, float]:
        """Areas (pixels of the grid) of those that overlap a grid, by number."""
        center = unit_vector(*grid.center)
        corners = unit_vector(*grid.corners()) - center[:, None]
        radius = 2 * np.arcsin(np.clip(np.linalg.norm(corners, axis=0).max() / 2, 0, 1))
        areas = {}
        for number in self.near(center, radius):
            u, v, w = grid.frame @ self.polygons[number]
            if w.min() <= 0:
                continue
            # Stretched along y, the grid is a square about the origin.
            stretch = grid.nx / grid.ny
            x = u / w / grid.scale + grid.x0 - (grid.nx - 1) / 2
            y = (v / w / grid.scale + grid.y0 - (grid.ny - 1) / 2) * stretch
            zero = np.zeros(1)
            area = square_overlaps(x[None], y[None], zero.astype(int), zero, zero, grid.nx)
            if area[0] / stretch > 1e-4:
                areas[number] = float(area[0] / stretch)
        return areas

    def outside(self, grid: Grid) -> list[str]:
        """Names of those that do not overlap a grid."""
        inside = self.on_grid(grid)
        return [r["exposure"] for k, r in enumerate(self.records) if k not in inside]
