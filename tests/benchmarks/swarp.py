"""SWarp on the calibrated members of a product: resampling and coaddition of data and weight, nothing else."""

import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
from astropy.io import fits
from programs import Cost, finish, megabytes
from romosaic.association_file import read_grid
from romosaic.flux_file import FluxExposure, open_flux
from romosaic.grid import Grid
from romosaic.product import read_step

KERNELS = ("BILINEAR", "LANCZOS3")
DETECTOR_PIXEL = 0.11  # arcsec
#: Exponents of x and y of the PV coefficients of the first axis (those of odd powers of r are left out).
TERMS = {
    **{0: (0, 0), 1: (1, 0), 2: (0, 1), 4: (2, 0), 5: (1, 1), 6: (0, 2)},
    **{7: (3, 0), 8: (2, 1), 9: (1, 2), 10: (0, 3)},
    **{12: (4, 0), 13: (3, 1), 14: (2, 2), 15: (1, 3), 16: (0, 4)},
    **{17: (5, 0), 18: (4, 1), 19: (3, 2), 20: (2, 3), 21: (1, 4), 22: (0, 5)},
}


def version() -> str | None:
    """Version of SWarp, None where it is not installed."""
    if not shutil.which("SWarp"):
        return None
    told = subprocess.run(["SWarp", "--version"], capture_output=True, text=True)
    return (told.stdout + told.stderr).split("version")[-1].split()[0]


def header(member: FluxExposure) -> fits.Header:
    """World coordinates of a member as TPV polynomials, to 1e-3 detector pixel or better."""
    ny, nx = member.shape
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(0, nx - 1, 24), np.linspace(0, ny - 1, 24)))
    ra, dec = member.pixmap.sky(x, y)
    middle = np.array([(nx - 1) / 2, (ny - 1) / 2])
    at = [float(value) for value in member.pixmap.sky(*middle)]
    # Degrees in the tangent plane of the middle.
    plane = np.stack(Grid(*at, 0, 0, 1.0, 1, 1).to_pixel(ra, dec), axis=-1)
    offset = np.stack([x, y], axis=-1) - middle
    matrix = np.linalg.lstsq(np.c_[offset, np.ones(len(x))], plane, rcond=None)[0][:2].T
    linear = offset @ matrix.T
    cards = {"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "CUNIT1": "deg", "CUNIT2": "deg"}
    for axis in (0, 1):
        u, v = linear[:, axis], linear[:, 1 - axis]
        powers = np.stack([u**i * v**j for i, j in TERMS.values()], axis=-1)
        size = np.abs(powers).max(axis=0)
        found = np.linalg.lstsq(powers / size, plane[:, axis], rcond=None)[0] / size
        error = np.abs(powers @ found - plane[:, axis]).max() * 3600 / DETECTOR_PIXEL
        if error > 1e-3:
            raise ValueError(f"{member.name}: TPV polynomials are wrong by {error:.1e} pixel")
        cards |= {
            f"PV{axis + 1}_{k}": value for k, value in zip(TERMS, found.tolist(), strict=True)
        }
        cards |= {f"CRVAL{axis + 1}": at[axis], f"CRPIX{axis + 1}": middle[axis] + 1}
        cards |= {f"CD{axis + 1}_{k + 1}": matrix[axis, k] for k in (0, 1)}
    return fits.Header(cards)


def grid_header(grid: Grid) -> str:
    """Text of the header that tells SWarp its output pixels."""
    cards = {"NAXIS": 2, "NAXIS1": grid.nx, "NAXIS2": grid.ny}
    cards |= {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": grid.ra0, "CRVAL2": grid.dec0}
    cards |= {"CRPIX1": grid.x0 + 1, "CRPIX2": grid.y0 + 1}
    cards |= {"CD1_1": grid.pixel_scale, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": grid.pixel_scale}
    return fits.Header(cards).tostring(sep="\n", endcard=True, padding=False) + "\n"


def write_inputs(results: Path, product: str, folder: Path) -> list[Path]:
    """Write the members as FITS: sky level subtracted, weight 1 / sky variance, 0 where bad or outlier."""
    levels = read_step(results / f"skymatch/{product}_skymatch.asdf")["members"]
    flags = read_step(results / f"outlier_detection/{product}_outliers.asdf")["members"]
    paths = []
    for level, flag in zip(levels, flags, strict=True):
        member = open_flux(results / f"flux/{level['exposure']}_flux.asdf")
        data = member.data - np.float32(level["level"])
        good = (np.asarray(member.dq) & 1 == 0) & np.isfinite(data)
        good.ravel()[flag["flagged"]] = False
        weight = good * np.float32(1 / member.sky_variance)
        path, cards = folder / f"{member.name}.fits", header(member)
        fits.writeto(path, np.where(good, data, 0), cards)
        fits.writeto(path.with_suffix(".weight.fits"), weight, cards)
        paths.append(path)
    return paths


def run_swarp(results: Path, folder: Path) -> dict[str, tuple[Cost, Path]]:
    """
    Coadd the first product of a run of the workflow with each of `KERNELS`.

    Parameters
    ----------
    results : Path
        Of the run.
    folder : Path
        For SWarp's files; what is there is removed.

    Returns
    -------
    dict of (Cost, Path)
        By kernel; the path is that of the coadd, with its weight beside it.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    asn = sorted((results / "associate/associations").glob("*.json"))[0]
    inputs = write_inputs(results, asn.name.removesuffix("_asn.json"), folder)
    runs = {}
    for kernel in KERNELS:
        coadd = folder / f"{kernel.lower()}.coadd.fits"
        weight = coadd.with_suffix(".weight.fits")
        coadd.with_suffix(".head").write_text(grid_header(read_grid(asn)))
        options = {"IMAGEOUT_NAME": coadd, "WEIGHTOUT_NAME": weight, "RESAMPLING_TYPE": kernel}
        options |= {"WEIGHT_TYPE": "MAP_WEIGHT", "RESCALE_WEIGHTS": "N", "SUBTRACT_BACK": "N"}
        options |= {"COMBINE_TYPE": "WEIGHTED", "FSCALASTRO_TYPE": "NONE", "NTHREADS": 1}
        options |= {"RESAMPLE_DIR": folder, "WRITE_XML": "N", "VERBOSE_TYPE": "QUIET"}
        command = ["SWarp", *inputs]
        for key, value in options.items():
            command += [f"-{key}", value]
        start = time.perf_counter()
        process = subprocess.Popen([str(part) for part in command], cwd=folder)
        code, core, memory = finish(process)
        if code:
            raise SystemExit(f"benchmark: SWarp failed -> run it by hand in {folder}")
        wall = time.perf_counter() - start
        runs[kernel] = Cost(core, wall, memory, megabytes([coadd, weight]), 1), coadd
    return runs


def images(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """
    Data and variance of a coadd, NaN where nothing is.

    The variance is that of large areas, as romosaic's and romancal's: 1 / weight is what an input pixel
    has, and as many output pixels as lie in one share its noise.
    """
    data, weight = fits.getdata(path), fits.getdata(path.with_suffix(".weight.fits"))
    scale = abs(fits.getheader(path)["CD2_2"]) * 3600
    empty = weight <= 0
    variance = (DETECTOR_PIXEL / scale) ** 2 / np.where(empty, np.nan, weight)
    return np.where(empty, np.nan, data).astype(np.float32), variance.astype(np.float32)
