"""What the products of a program are worth, against the truth of the exposures."""

import itertools
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import quality
from romosaic.association_file import read_grid
from romosaic.flux_file import open_flux
from romosaic.product import read_step

BINS = ((18.5, 20), (20, 22), (22, 23.5), (23.5, 25))
RADII = (0.1, 0.2, 0.4, 0.8)
#: Empty apertures of a radius, at most: so many tell the width of their pulls to 1 %.
APERTURES = 10_000
#: Detector pixels around the bright stars' middles that count as star cores, and what is bright.
CORE, BRIGHT = 3.0, 23.0


class Bin(NamedTuple):
    """Of ratios of stars: median, its standard error, half of the 16 to 84 % range, mean, number."""

    median: float
    error: float
    scatter: float
    mean: float
    number: int


@dataclass
class Products:
    """
    Products of one program on a set of exposures.

    Attributes
    ----------
    levels : dict
        Product -> exposure -> sky level, MJy/sr.
    flagged : dict
        Exposure -> flat indices of the pixels flagged as outliers, in any product.
    coadds : dict of Path
        Product -> file.
    """

    levels: dict[str, dict[str, float]]
    flagged: dict[str, np.ndarray]
    coadds: dict[str, Path]

    @classmethod
    def of_romosaic(cls, folder: Path) -> "Products":
        """Read the results of a run of the workflow."""
        levels, flagged = {}, {}
        for path in sorted((folder / "skymatch").glob("*.asdf")):
            rows = read_step(path)["members"]
            product = path.name.removesuffix("_skymatch.asdf")
            levels[product] = {row["exposure"]: row["level"] for row in rows}
        for path in (folder / "outlier_detection").glob("*.asdf"):
            for row in read_step(path)["members"]:
                flagged.setdefault(row["exposure"], []).append(row["flagged"])
        return cls(levels, union(flagged), coadds(folder / "resample"))

    @classmethod
    def of_romancal(cls, folder: Path) -> "Products":
        """Read the results of `romancal_process`, a folder per product."""
        levels, flagged, files = {}, {}, {}
        for path in sorted(folder.glob("*/members.npz")):
            files |= coadds(path.parent)
            with np.load(path) as kept:
                names = {key.rpartition(":")[0] for key in kept}
                levels[path.parent.name] = {name: float(kept[f"{name}:level"]) for name in names}
                for name in names:
                    flagged.setdefault(name, []).append(kept[f"{name}:flagged"])
        return cls(levels, union(flagged), files)

    def images(self, product: str) -> tuple[np.ndarray, np.ndarray]:
        """Data and variance of a coadd."""
        import asdf

        with asdf.open(self.coadds[product]) as file:
            roman = file["roman"]
            return np.array(roman["data"], np.float32), np.array(roman["err"], np.float32) ** 2


def union(flagged: dict[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    """Indices of any of the lists, by exposure."""
    return {name: np.unique(np.concatenate(parts)).astype(int) for name, parts in flagged.items()}


def coadds(folder: Path) -> dict[str, Path]:
    """Coadd files by product."""
    return {path.name.removesuffix("_coadd.asdf"): path for path in folder.glob("*_coadd.asdf")}


class Judge:
    """
    The truth of a set of exposures, on the members and grids of a run of the workflow.

    Parameters
    ----------
    data : benchmark_data.Simulated or Romanisim
    folder : Path
        Results of the workflow.
    """

    def __init__(self, data, folder: Path):
        self.data, self.scene = data, data.scene()
        self.members = [open_flux(path) for path in sorted((folder / "flux").glob("*.asdf"))]
        self.grids = {
            path.name.removesuffix("_asn.json"): read_grid(path)
            for path in sorted((folder / "associate" / "associations").glob("*.json"))
        }

    @cached_property
    def depth(self) -> list[np.ndarray]:
        """Members at each pixel of each member, 0 off the grids; steps of 4 pixels in full-size ones."""
        grids = list(self.grids.values())
        return [
            quality.coverage(m, self.members, grids, max(1, m.shape[0] // 1000))
            for m in self.members
        ]

    @cached_property
    def empty(self) -> dict[tuple[str, float], tuple[np.ndarray, np.ndarray]]:
        """Places without sources (pixels) by product and radius: apertures there share no noise."""
        scene, found = (self.scene.ra, self.scene.dec, self.scene.magnitude), {}
        for (name, grid), radius in itertools.product(self.grids.items(), RADII):
            pitch = (2 * radius + 3 * quality.DETECTOR_PIXEL) / (grid.pixel_scale * 3600)
            found[name, radius] = quality.empty_places(grid, *scene, pitch)
        return found

    @cached_property
    def defects(self) -> dict[str, np.ndarray]:
        """Pixels of each member with a cosmic ray, hot or bad ones."""
        found = {}
        for member in self.members:
            truth, mask = self.data.truth(member.name), (np.asarray(member.dq) & 1) > 0
            for key in ("rays", "hot", "bad"):
                mask.ravel()[truth[key].astype(int)] = True
            found[member.name] = mask
        return found

    def outliers(self, products: Products, least: int = 3) -> dict[str, tuple[int, int]]:
        """Pixels flagged and all, where so many exposures see: see `quality.outlier_scores`."""
        total: dict[str, tuple[int, int]] = {}
        bright = self.scene.star & (self.scene.magnitude < BRIGHT)
        for member, depth in zip(self.members, self.depth, strict=True):
            truth = self.data.truth(member.name)
            place = member.pixmap.detector(self.scene.ra[bright], self.scene.dec[bright])
            scores = quality.outlier_scores(
                member,
                products.flagged[member.name],
                truth["rays"],
                truth["amplitude"],
                np.r_[truth["hot"], truth["bad"]].astype(int),
                depth >= least,
                truth["hot"],
                quality.discs(member.shape, *place, CORE),
            )
            for key, score in scores.items():
                total[key] = tuple(np.add(total.get(key, (0, 0)), score).tolist())
        return total

    def sky(self, products: Products) -> tuple[float, float]:
        """Largest and rms error of the levels of a product, less their mean, MJy/sr."""
        errors = []
        for levels in products.levels.values():
            error = [level - self.data.truth(name)["sky"] for name, level in levels.items()]
            errors.append(np.array(error) - np.mean(error))
        errors = np.concatenate(errors)
        return float(np.abs(errors).max()), float(np.sqrt((errors**2).mean()))

    def stars(self, images) -> list[Bin]:
        """
        Flux within 0.4 arcsec over truth, of isolated stars by magnitude.

        Parameters
        ----------
        images : callable
            Data and variance of a product.
        """
        scene, stars = self.scene, self._stars(quality.ALONE)
        ratio = np.full(len(stars), np.nan)
        for product, grid in self.grids.items():
            data = images(product)[0]
            measured = quality.aperture_flux(data, grid, scene.ra[stars], scene.dec[stars])
            ratio = np.where(np.isfinite(measured), measured / scene.flux[stars], ratio)
        return by_magnitude(scene.magnitude[stars], ratio)

    def kept(self, images, levels) -> list[Bin]:
        """
        Light of stars on coadds over that on their exposures, as `stars`: see `quality.kept_light`.

        Parameters
        ----------
        images : callable
            Data and variance of a product.
        levels : dict
            Of `Products`.
        """
        scene, stars = self.scene, self._stars(quality.APART)
        ratio = np.full(len(stars), np.nan)
        for product, grid in self.grids.items():
            exposures = [
                (member, levels[product][member.name], self.defects[member.name])
                for member in self.members
                if member.name in levels[product]
            ]
            given = scene.ra[stars], scene.dec[stars], scene.right * scene.flux[stars]
            found = quality.kept_light(images(product)[0], grid, exposures, *given)
            ratio = np.where(np.isfinite(found), found, ratio)
        return by_magnitude(scene.magnitude[stars], ratio)

    def _stars(self, limits: tuple[tuple[float, float], ...]) -> np.ndarray:
        """Numbers of the stars on the grids that have no bright neighbour: see `quality.isolated`."""
        scene, near = self.scene, np.zeros(len(self.scene.ra), bool)
        for grid in self.grids.values():
            x, y = grid.to_pixel(scene.ra, scene.dec)
            near |= (x > 0) & (x < grid.nx) & (y > 0) & (y < grid.ny)
        stars = np.flatnonzero(scene.star & near & (scene.magnitude < BINS[-1][1]))
        return stars[quality.isolated(scene.ra, scene.dec, stars, scene.flux, limits)]

    def noise(self, images) -> tuple[float, list[tuple[float, float, int]]]:
        """
        Noise of single sky pixels (MJy/sr), and the pulls of empty apertures: width, its error, their number.

        The variance of an aperture is f times the sum of the variances of its pixels with f = 1 - 0.40 p /
        r, p the side of a detector pixel and r the radius: drizzled neighbours share noise.
        """
        pixels, pulls = [], {radius: [] for radius in RADII}
        for product, grid in self.grids.items():
            data, variance = images(product)
            for radius in RADII:
                places = np.stack(self.empty[product, radius])
                covered = np.isfinite(data[tuple(np.rint(places[::-1]).astype(int))])
                x, y = thinned(places[:, covered], APERTURES // len(self.grids))
                total, summed = quality.empty_apertures(data, variance, grid, x, y, radius)
                share = 1 - 0.40 * quality.DETECTOR_PIXEL / radius
                pulls[radius].append(total / np.sqrt(share * summed))
            at = np.rint(y).astype(int), np.rint(x).astype(int)
            local = [data[at[0], at[1] + shift] for shift in (-8, 0, 8)]
            # The middle one against the mean of two that share no noise with it, 1.5 times its variance.
            pixels.append((local[1] - (local[0] + local[2]) / 2) / np.sqrt(1.5))
        widths = []
        for radius in RADII:
            found = np.concatenate(pulls[radius])
            found = found[np.isfinite(found)]
            widths.append((*quality.with_error(quality.half_width, found), len(found)))
        return quality.half_width(np.concatenate(pixels)), widths


def by_magnitude(magnitude: np.ndarray, ratio: np.ndarray) -> list[Bin]:
    """Statistics in each of `BINS` of the values that are not NaN."""
    rows = []
    for low, high in BINS:
        here = ratio[(magnitude >= low) & (magnitude < high) & np.isfinite(ratio)]
        if not len(here):
            rows.append(Bin(np.nan, np.nan, np.nan, np.nan, 0))
            continue
        scatter = quality.half_width(here)
        error = 1.2533 * scatter / np.sqrt(len(here))  # of a median of Gaussian values
        rows.append(Bin(float(np.median(here)), error, scatter, float(np.mean(here)), len(here)))
    return rows


def thinned(places: np.ndarray, number: int) -> np.ndarray:
    """Every so many of places (2, n), in their order, that there are no more than a number."""
    return places[:, :: max(1, -(-places.shape[1] // number))]
