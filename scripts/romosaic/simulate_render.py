"""
Draw point sources and Sersic galaxies, seen through the point-spread function and averaged over pixels.

Every source is made in frequency space, where optics, pixel and a Sersic profile are products: the spectrum is
evaluated at the source's exact sub-pixel place up to the cut-off of the optics and folded onto the stamp's
frequencies, which is what sampling by pixels does. No oversampled image is needed, and the pixel values are
exact. A stamp's sum is the source's flux; light beyond its edge is wrapped into it (see `_point_sizes`).
"""

from functools import lru_cache

import numpy as np

from .compiled import compiled
from .psf import DETECTOR_PIXEL, cutoff_frequency, optical_transfer, wing_brightness

EDGE_SIGNAL = 1e-5
"""Signal (unit of the amplitudes, per pixel) of a source at the edge of its stamp."""

_SIZES = (32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
_POINT_SIZES = _SIZES[2:]
_TABLE = 4096
_MAX_PROFILE_FREQUENCY = 60.0


def draw_sources(
    shape: tuple[int, int],
    sources: dict[str, np.ndarray],
    optical_element: str,
    jitter: float,
) -> np.ndarray:
    """
    Image of sources: signal per pixel.

    Parameters
    ----------
    shape : (int, int)
        Size (ny, nx).
    sources : dict of arrays
        ``x``, ``y`` (n,) float64, 0-based pixels, off the image too; ``jacobian`` (n, 2, 2) float64, arcsec
        towards (east, north) per pixel along (x, y); ``amplitude`` (n,) float64, the whole source's signal;
        ``sersic_n`` (NaN for a point), ``half_light_radius`` (arcsec, major axis), ``axis_ratio``,
        ``position_angle`` (deg) (n,) float64.
    optical_element : str
        Filter name.
    jitter : float
        Pointing jitter, mas rms per axis.

    Returns
    -------
    float32 array, (ny, nx)
        Sum of the sources, in the unit of the amplitudes. The optics blur in arcsec (so the width in pixels
        follows the distortion), the response of a pixel is square in pixels.
    """
    image = np.zeros(shape, np.float32)
    point = np.isnan(sources["sersic_n"])
    sizes = np.where(point, _point_sizes(sources, optical_element), _galaxy_sizes(sources))
    column, row = np.rint(sources["x"]).astype(np.int64), np.rint(sources["y"]).astype(np.int64)
    half = sizes // 2
    seen = (column > -half) & (column < shape[1] + half) & (row > -half) & (row < shape[0] + half)
    optics = np.linalg.inv(sources["jacobian"]).transpose(0, 2, 1)
    profile = _profile_matrices(sources, optics, point)
    indices = np.unique(sources["sersic_n"][~point])
    tables = np.stack([np.ones(_TABLE + 1), *[sersic_transfer(float(n)) for n in indices]])
    kind = np.where(point, 0, 1 + np.searchsorted(indices, sources["sersic_n"]))
    transfer = _transfer_table(optical_element, jitter)
    for size in np.unique(sizes[seen]):
        group = np.flatnonzero(seen & (sizes == size))
        batch = max(1, 2**20 // size**2)
        for part in (group[i : i + batch] for i in range(0, len(group), batch)):
            stamps = _stamps(
                int(size),
                sources["x"][part] - column[part],
                sources["y"][part] - row[part],
                sources["amplitude"][part],
                optics[part],
                profile[part],
                tables,
                kind[part],
                transfer,
                cutoff_frequency(optical_element),
            )
            _add_stamps(image, stamps, column[part] - size // 2, row[part] - size // 2)
    return image


def _round_up(radius: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Smallest allowed stamp that holds a radius (pixels) around its middle."""
    rank = np.searchsorted(sizes, 2 * radius)
    return np.array(sizes)[np.minimum(rank, len(sizes) - 1)]


def _point_sizes(sources, optical_element):
    """
    Stamps of point sources: to where the diffraction wings fall to `EDGE_SIGNAL` (at least 64 pixels).

    Of the light, 1.1 % (F158) lies beyond a stamp of 64 pixels and is wrapped into its 49 arcsec2; in the
    larger stamps of bright stars 0.6 % (128 pixels), 0.2 % (384).
    """
    wings = wing_brightness(optical_element) / DETECTOR_PIXEL
    radius = np.cbrt(wings * np.abs(sources["amplitude"]) / EDGE_SIGNAL)
    return _round_up(radius, _POINT_SIZES)


def _galaxy_sizes(sources):
    """Stamps of galaxies: to where the profile falls to ten times `EDGE_SIGNAL`, and a margin for the PSF."""
    n = np.nan_to_num(sources["sersic_n"], nan=1.0)
    radius = np.nan_to_num(sources["half_light_radius"], nan=1.0) / DETECTOR_PIXEL
    ratio = np.nan_to_num(sources["axis_ratio"], nan=1.0)
    b = sersic_b(n)
    # Mean brightness within the half-light ellipse stands for the brightness on its edge.
    edge = np.abs(sources["amplitude"]) / (2 * np.pi * radius**2 * ratio)
    reach = 1 + np.log(np.maximum(edge / (10 * EDGE_SIGNAL), 1e-300)) / b
    return _round_up(radius * np.maximum(reach, 0.0) ** n + 12, _SIZES)


def sersic_b(n: np.ndarray) -> np.ndarray:
    """
    Constant b of Sersic profiles ``exp(-b (r / r_half)**(1/n))``.

    Parameters
    ----------
    n : array_like of float
        Sersic index.

    Returns
    -------
    float64 array
        b, such that half of the light is within r_half.
    """
    from scipy.special import gammaincinv

    return gammaincinv(2 * np.asarray(n, float), 0.5)


@lru_cache(maxsize=16)
def sersic_transfer(n: float) -> np.ndarray:
    """
    Fourier transform of a round Sersic profile of unit flux.

    Parameters
    ----------
    n : float
        Sersic index.

    Returns
    -------
    float64 array, (4097,)
        At the frequencies q, in cycles per half-light radius, whose square roots go in even steps from 0 to
        ``sqrt(60)``. By a logarithmic Hankel transform (Hamilton 2000, MNRAS 312, 257).
    """
    from scipy.fft import fht
    from scipy.interpolate import CubicSpline
    from scipy.special import gamma

    b = float(sersic_b(n))
    count, step = 8192, np.log(10) * 14 / 8192
    log_r = (np.arange(count) - (count - 1) / 2) * step - 3.0
    r = np.exp(log_r)
    flux = 2 * np.pi * n * gamma(2 * n) / b ** (2 * n)
    brightness = np.exp(-b * np.minimum(r, 1e6) ** (1 / n)) / flux
    spectrum = fht(brightness * r, step, mu=0.0)
    # The transform pairs r with k = 1/r, the array's middle with its middle.
    k = np.exp((np.arange(count) - (count - 1) / 2) * step + 3.0)
    q = np.linspace(0.0, np.sqrt(_MAX_PROFILE_FREQUENCY), _TABLE + 1) ** 2
    inside = (k > 1e-4) & (k < 1e3)
    spline = CubicSpline(np.log(k[inside]), (2 * np.pi * spectrum / k)[inside])
    wave = 2 * np.pi * q
    # Near zero the second moment of the profile says all, and the transform's ends are not reached.
    moment = gamma(4 * n) / gamma(2 * n) / b ** (2 * n)
    return np.where(wave < 2e-3, 1 - wave**2 * moment / 4, spline(np.log(np.maximum(wave, 2e-3))))


def _profile_matrices(sources, optics, point):
    """Matrices (n, 2, 2) from cycles per pixel to cycles per half-light radius along the ellipse's axes."""
    radius = np.where(point, 1.0, sources["half_light_radius"])
    ratio = np.where(point, 1.0, sources["axis_ratio"])
    angle = np.radians(np.where(point, 0.0, sources["position_angle"]))
    c, s = np.cos(angle), np.sin(angle)
    # Rows: the major axis (angle from north to east) and the minor one, over (east, north).
    axes = np.stack([np.stack([s, c], -1), np.stack([-c, s], -1) * ratio[:, None]], axis=1)
    return axes * radius[:, None, None] @ optics


@lru_cache(maxsize=8)
def _transfer_table(optical_element, jitter):
    end = cutoff_frequency(optical_element)
    return optical_transfer(optical_element, np.linspace(0.0, end, _TABLE + 1), jitter)


def _stamps(size, dx, dy, amplitude, optics, profile, tables, kind, transfer, cutoff):
    """Stamps (n, size, size) with the sources at pixel size // 2 + (dx, dy)."""
    import scipy.fft

    # Cycles per pixel that the optics pass; the pixel is smaller than nominal nowhere by more than 5 %.
    folds = int(np.ceil(1.05 * cutoff * DETECTOR_PIXEL - 0.5))
    spectra = np.zeros((len(dx), size, size // 2 + 1), np.complex128)
    _fill_spectra(
        spectra, folds, dx, dy, amplitude, optics, profile, tables, kind, transfer, cutoff
    )
    return scipy.fft.irfft2(spectra, s=(size, size), overwrite_x=True)


@compiled
def _wave(k, place):
    """Transform of a pixel at a place (pixels), at k cycles per pixel."""
    phase = -2 * np.pi * k * place
    return np.sinc(k) * complex(np.cos(phase), np.sin(phase))


@compiled
def _fill_spectra(
    spectra, folds, dx, dy, amplitude, optics, profile, tables, kind, transfer, cutoff
):
    """Add, for every source, its spectrum at all frequencies to the stamp's frequency that samples alike."""
    n, size, half = spectra.shape
    scale = (len(transfer) - 1) / cutoff
    steps = tables.shape[1] - 1
    root = steps / np.sqrt(_MAX_PROFILE_FREQUENCY)
    for s in range(n):
        o, p, table = optics[s], profile[s], tables[kind[s]]
        point = kind[s] == 0
        # Pixel response and place along x, the same in every row of frequencies.
        along_x = np.empty((2 * folds + 1, half), np.complex128)
        for fold_x in range(-folds, folds + 1):
            for i in range(half):
                along_x[fold_x + folds, i] = _wave(i / size + fold_x, size // 2 + dx[s])
        for fold_y in range(-folds, folds + 1):
            for j in range(size):
                ky = (j if j < half else j - size) / size + fold_y
                along_y = amplitude[s] * _wave(ky, size // 2 + dy[s])
                for fold_x in range(-folds, folds + 1):
                    for i in range(half):
                        kx = i / size + fold_x
                        fe = o[0, 0] * kx + o[0, 1] * ky
                        fn = o[1, 0] * kx + o[1, 1] * ky
                        f = np.sqrt(fe * fe + fn * fn)
                        if f >= cutoff:
                            continue
                        at = f * scale
                        k = int(at)
                        value = transfer[k] + (at - k) * (transfer[k + 1] - transfer[k])
                        if not point:
                            pa = p[0, 0] * kx + p[0, 1] * ky
                            pb = p[1, 0] * kx + p[1, 1] * ky
                            at = np.sqrt(np.sqrt(pa * pa + pb * pb)) * root
                            k = int(at)
                            if k >= steps:
                                continue
                            value *= table[k] + (at - k) * (table[k + 1] - table[k])
                        spectra[s, j, i] += value * along_y * along_x[fold_x + folds, i]


@compiled
def _add_stamps(image, stamps, x0, y0):
    """Add the part of every stamp that falls in the image, its first pixel being (x0, y0)."""
    ny, nx = image.shape
    size = stamps.shape[1]
    for s in range(stamps.shape[0]):
        for j in range(max(0, -y0[s]), min(size, ny - y0[s])):
            for i in range(max(0, -x0[s]), min(size, nx - x0[s])):
                image[y0[s] + j, x0[s] + i] += np.float32(stamps[s, j, i])
