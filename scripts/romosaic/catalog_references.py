"""Reference files of the catalog that a user may give: an ePSF and an aperture correction."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .asdf_blocks import AsdfBlocks
from .catalog_files import CoaddFile
from .coadd_psf import CoaddPSF, analytic_psf, drizzled_energy, profile_psf, reference_psf
from .epsf import drizzling
from .errors import ConfigError, ProductError, first_line
from .product import read_step
from .psf import DETECTOR_PIXEL, JITTER, mean_jitter

# Half of a point source's light lies within 0.2" in every filter: larger radii are in detector pixels.
_LARGEST_HALF_LIGHT = 0.3
_SPECTRUM = "G2V"

Energy = tuple[np.ndarray, np.ndarray]


def point_source(
    coadd: CoaddFile, section: dict[str, Any], measured: str | Path | None = None
) -> tuple[CoaddPSF, Energy | None]:
    """
    What a point source looks like on a coadd, by the files that the configuration names or without any.

    Parameters
    ----------
    coadd : CoaddFile
        Its filter, pixels, and drizzling count.
    section : dict
        Section `source_catalog` of the configuration.
    measured : str or path, optional
        File of the step `epsf` for the filter.

    Returns
    -------
    psf : CoaddPSF
    energy : (radius, fraction) or None
        Of the aperture-correction file; None without one for this filter.

    Raises
    ------
    ConfigError
        A file cannot be used, or the filter has no model.
    """
    pixel_scale = coadd.grid.pixel_scale * 3600
    options = {"pixfrac": coadd.pixfrac, "kernel": coadd.kernel}
    psf = choose_psf(
        coadd.optical_element,
        pixel_scale,
        section["epsf_file"],
        jitter=coadd.jitter,
        **options,
    )
    path = section["apcorr_file"]
    energy = read_apcorr(path, coadd.optical_element) if path else None
    if energy is not None:
        energy = drizzled_energy(energy, coadd.optical_element, pixel_scale, **options)
    if measured and not psf.source.startswith("file"):
        psf = measured_psf(measured, coadd, psf, energy)
    return psf, energy


def measured_psf(
    path: str | Path, coadd: CoaddFile, model: CoaddPSF, energy: Energy | None = None
) -> CoaddPSF:
    """
    PSF that the step `epsf` has measured, or the analytic one with the reason in its `source`.

    Parameters
    ----------
    path : str or path
        File of `epsf`.
    coadd : CoaddFile
        It must be drizzled as the measured ones.
    model : CoaddPSF
        Analytic PSF.
    energy : (radius, fraction), optional
        Encircled energy on the coadd, which tells how much light lies beyond the stamps; default: the model's.

    Raises
    ------
    ProductError
        The file is damaged.
    """
    found = read_step(path)
    wanted = found["provenance"]["parameters"]["min_stars"]
    if found["stars"] < wanted:
        reason = f"{found['stars']} stars in the coadds, {wanted} wanted"
    elif found["drizzling"] != drizzling(coadd):
        reason = "measured on coadds that were drizzled otherwise"
    else:
        source = f"measured: {found['stars']} stars of {found['coadds']} coadds"
        arrays = (found["radius"], found["light"])
        if energy is not None:
            model = replace(model, energy_radius=energy[0], energy=energy[1])
        return profile_psf(*arrays, coadd.grid.pixel_scale * 3600, model, source)
    return replace(model, source=f"analytic ({reason})")


def choose_psf(
    optical_element: str,
    pixel_scale: float,
    epsf_file: str | None = None,
    *,
    pixfrac: float = 1.0,
    kernel: str = "square",
    jitter: float = JITTER,
) -> CoaddPSF:
    """
    PSF of a coadd: from the user's file if it is for this filter, else from the analytic model.

    Parameters
    ----------
    optical_element : str
        Filter of the coadd.
    pixel_scale : float
        Side of a coadd pixel, arcsec.
    epsf_file : str, optional
        ASDF file of an EpsfRefModel.
    pixfrac, kernel
        Of the drizzling, see `coadd_psf.analytic_psf`.
    jitter : float
        Of the exposures, mas rms per axis.

    Returns
    -------
    CoaddPSF
        Its `source` says which one it is.

    Raises
    ------
    ConfigError
        The file cannot be used, or the filter has no model.
    """
    options = {"pixfrac": pixfrac, "kernel": kernel}
    if epsf_file:
        found = read_epsf(epsf_file, optical_element)
        if found is not None:
            name = f"file: {Path(epsf_file).name}"
            stamp, oversample, of_file = found
            more = jitter**2 - of_file**2
            return reference_psf(stamp, oversample, pixel_scale, name, more_jitter=more, **options)
    try:
        return analytic_psf(optical_element, pixel_scale, jitter=jitter, **options)
    except KeyError as error:
        raise ConfigError(
            "config",
            [
                f"source_catalog.fit_psf: no PSF model for {optical_element} -> give epsf_file, or false"
            ],
        ) from error


def read_epsf(path: str | Path, optical_element: str) -> tuple[np.ndarray, float, float] | None:
    """
    Detector PSF of an EpsfRefModel: in focus, of a solar-type star, averaged over the detector.

    Parameters
    ----------
    path : str or path
        ASDF file with ``psf[focus, spectral type, place, y, x]``.
    optical_element : str
        Filter wanted.

    Returns
    -------
    stamp : (m, m) float64
        As `coadd_psf.reference_psf` takes it.
    oversample : float
        Samples per detector pixel.
    jitter : float
        Pointing jitter in the stamp, mas rms per axis.
        None instead of all when the file is for another filter.

    Raises
    ------
    ConfigError
        The file cannot be read or has another layout.
    """

    def extract(blocks: AsdfBlocks, tree: dict) -> tuple[np.ndarray, float, float] | None:
        meta = tree["meta"]
        psf = blocks.array(tree["psf"])
        if meta["instrument"]["optical_element"] != optical_element:
            return None
        defocus, spectra = list(meta.get("defocus", [0])), list(meta.get("spectral_type", []))
        focus = defocus.index(0) if 0 in defocus else 0
        star = spectra.index(_SPECTRUM) if _SPECTRUM in spectra else psf.shape[1] // 2
        stamp = psf[focus, star].astype(np.float64).mean(axis=0)
        if stamp.ndim != 2 or stamp.shape[0] != stamp.shape[1] or stamp.shape[0] % 2 == 0:
            raise ValueError(f"PSF images of shape {stamp.shape}, not an odd square")
        if not np.isfinite(stamp).all() or stamp.sum() <= 0:
            raise ValueError("PSF images that are not positive numbers")
        axes = [meta.get(f"jitter_{axis}") for axis in ("major", "minor")]
        return stamp, float(meta["oversample"]), mean_jitter([axes])

    return _read(path, "epsf_file", extract)


def read_apcorr(path: str | Path, optical_element: str) -> Energy | None:
    """
    Encircled energy of a point source from an ApcorrRefModel.

    Radii are in arcsec since rad 1.2 and in detector pixels before; the file does not say, but the radius of
    half the light does.

    Parameters
    ----------
    path : str or path
        ASDF file.
    optical_element : str
        Filter wanted.

    Returns
    -------
    radius, fraction : (k,) float64
        Arcsec, increasing, from 0; None instead when the file does not hold the filter.

    Raises
    ------
    ConfigError
        The file cannot be read or has another layout.
    """

    def extract(blocks: AsdfBlocks, tree: dict) -> Energy | None:
        if optical_element not in tree["data"]:
            return None
        table = tree["data"][optical_element]
        radius, fraction = (
            np.asarray(blocks.array(table[f"ee_{name}"]), np.float64)
            for name in ("radii", "fractions")
        )
        if radius.shape != fraction.shape or radius.size < 2 or (np.diff(fraction) <= 0).any():
            raise ValueError("encircled energies that do not increase")
        if np.interp(0.5, fraction, radius) > _LARGEST_HALF_LIGHT:
            radius = radius * DETECTOR_PIXEL
        return np.concatenate([[0.0], radius]), np.concatenate([[0.0], fraction])

    return _read(path, "apcorr_file", extract)


def _read(path: str | Path, key: str, extract: Callable[[AsdfBlocks, dict], Any]) -> Any:
    """Open a reference file and take something from its tree; any failure is the user's file."""
    try:
        blocks = AsdfBlocks.read(path)
        blocks.verify()
        return extract(blocks, blocks.tree["roman"])
    except (TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        problem = f"{path} cannot be used ({first_line(error)})"
    except ProductError as error:
        problem = f"{path} {error.what}"
    raise ConfigError("config", [f"source_catalog.{key}: {problem}"])
