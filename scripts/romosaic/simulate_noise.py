"""
What the detector does to a noiseless image: photon and read noise, variances, cosmic rays, hot and bad pixels.

Rates are DN/s. The variances are those of a fitted ramp: computed from the measured signal, so they are
correlated with the noise, and the read-noise variance grows in three steps with the signal, because the fit
weights the reads of bright pixels differently (Casertano 2022, Roman-STScI-000394; the steps are those found in
real-simulator files).
"""

from dataclasses import dataclass

import numpy as np

FLAT_ERROR = 0.003
"""Relative error of the flat field, a fixed pattern of the detector."""

PIXEL_AREA_CM2 = 1e-6
"""Area of a detector pixel (10 µm square)."""

COSMIC_RAY_POISSON = 0.5
"""Part of a cosmic ray's charge that the ramp fit takes for photons in var_poisson."""

READ_NOISE_STEPS = ((0.65, 1.41), (1.6, 2.33))
"""Signals (DN/s) from which on the read-noise variance is multiplied by the second number."""

_ROWS = 256
_FLOAT16_MAX = np.float32(65504)


@dataclass(frozen=True)
class Detector:
    """
    Noise properties.

    Attributes
    ----------
    gain : float
        Electrons per DN of a fitted ramp.
    read_noise : float
        Read noise of the slope of a faint pixel, DN/s rms.
    exposure_time : float
        Seconds.
    """

    gain: float
    read_noise: float
    exposure_time: float

    @property
    def electrons(self) -> float:
        """Electrons per DN/s."""
        return self.gain * self.exposure_time

    def read_variance(self, rate: np.ndarray) -> np.ndarray:
        """Read-noise variance (DN/s)**2, float32, of pixels of given rates (DN/s)."""
        factor = np.ones(np.shape(rate), np.float32)
        for signal, value in READ_NOISE_STEPS:
            factor[rate > signal] = value
        return factor * np.float32(self.read_noise**2)

    def variance(self, rate: np.ndarray) -> np.ndarray:
        """Variance of the noise (photons and reads, no flat), (DN/s)**2, at noiseless rates (DN/s)."""
        return np.asarray(rate, float) / self.electrons + self.read_variance(rate)


@dataclass(frozen=True)
class Defects:
    """
    Pixels with a fault: flat indices (int64, ascending) into the image.

    Attributes
    ----------
    dead, noisy : arrays
        Pixels that see no light, and pixels with thirty times the noise; both flagged.
    hot : array
        Pixels with an excess.
    hot_rate : float32 array
        The excess, DN/s.
    hot_flagged : bool array
        Which of the hot pixels are known and flagged.
    """

    dead: np.ndarray
    noisy: np.ndarray
    hot: np.ndarray
    hot_rate: np.ndarray
    hot_flagged: np.ndarray

    def flags(self, shape: tuple[int, int]) -> np.ndarray:
        """Data quality of the known defects, uint32 (ny, nx)."""
        from roman_datamodels.dqflags import pixel

        dq = np.zeros(shape[0] * shape[1], np.uint32)
        dq[self.dead] = pixel.DO_NOT_USE | pixel.DEAD
        dq[self.noisy] = pixel.DO_NOT_USE | pixel.OTHER_BAD_PIXEL
        dq[self.hot[self.hot_flagged]] = pixel.DO_NOT_USE | pixel.HOT
        return dq.reshape(shape)


def draw_defects(
    generator: np.random.Generator,
    shape: tuple[int, int],
    bad_fraction: float,
    hot_fraction: float,
    hot_flagged_fraction: float,
) -> Defects:
    """
    Defects of a detector.

    Parameters
    ----------
    generator : numpy.random.Generator
        Stream of the detector, not of the exposure: defects stay where they are.
    shape : (int, int)
        Size (ny, nx).
    bad_fraction, hot_fraction : float
        Parts of all pixels; half of the bad ones are dead, half noisy.
    hot_flagged_fraction : float
        Part of the hot pixels that are flagged.

    Returns
    -------
    Defects
        No pixel has two faults. Hot pixels have 0.8 to 20 DN/s, evenly in the logarithm.
    """
    pixels = shape[0] * shape[1]
    bad, hot = generator.binomial(pixels, [bad_fraction, hot_fraction])
    chosen = generator.choice(pixels, min(bad + hot, pixels), replace=False)
    dead, noisy, hot_pixels = np.split(chosen, [bad // 2, bad])
    hot_pixels = np.sort(hot_pixels)
    rate = 10.0 ** generator.uniform(-0.1, 1.3, len(hot_pixels))
    flagged = generator.uniform(size=len(hot_pixels)) < hot_flagged_fraction
    return Defects(np.sort(dead), np.sort(noisy), hot_pixels, rate.astype(np.float32), flagged)


def draw_cosmic_rays(
    generator: np.random.Generator, shape: tuple[int, int], rate: float, exposure_time: float
) -> tuple[np.ndarray, np.ndarray]:
    """
    Charge that cosmic rays leave, as straight tracks of mostly 1 to 5 pixels.

    Parameters
    ----------
    generator : numpy.random.Generator
        Stream of the exposure.
    shape : (int, int)
        Size (ny, nx).
    rate : float
        Hits per cm2 and second.
    exposure_time : float
        Seconds.

    Returns
    -------
    index : int64 array
        Flat indices of the pixels hit, ascending, each once.
    amplitude : float32 array
        Charge in the pixel, DN/s, all tracks together; at least 0.01.
    """
    hits = generator.poisson(rate * PIXEL_AREA_CM2 * shape[0] * shape[1] * exposure_time)
    # Tracks that start outside the image are not drawn: they are as many as those that leave it.
    y0, x0 = (generator.uniform(-0.5, n - 0.5, hits) for n in shape)
    angle = generator.uniform(0.0, 2 * np.pi, hits)
    length = np.minimum(generator.exponential(1.2, hits), 5.0)
    # Charge per pixel of path; steep tracks leave it all in one pixel.
    density = generator.lognormal(np.log(3.0), 1.2, hits)
    steps = 24
    along = (np.arange(steps) + 0.5) / steps
    x = np.rint(x0[:, None] + (length * np.cos(angle))[:, None] * along).astype(np.int64)
    y = np.rint(y0[:, None] + (length * np.sin(angle))[:, None] * along).astype(np.int64)
    charge = np.broadcast_to((density * np.maximum(length, 0.5) / steps)[:, None], x.shape)
    inside = (x >= 0) & (x < shape[1]) & (y >= 0) & (y < shape[0])
    index, inverse = np.unique(y[inside] * shape[1] + x[inside], return_inverse=True)
    amplitude = np.bincount(inverse, weights=charge[inside], minlength=len(index))
    strong = amplitude >= 0.01
    return index[strong], amplitude[strong].astype(np.float32)


def observe(
    rate: np.ndarray,
    detector: Detector,
    defects: Defects,
    cosmic_rays: tuple[np.ndarray, np.ndarray],
    generators: dict[str, np.random.Generator],
) -> dict[str, np.ndarray]:
    """
    Measured image and its variances.

    Parameters
    ----------
    rate : float32 array, (ny, nx)
        Noiseless image, DN/s, not negative.
    detector : Detector
        Noise properties.
    defects : Defects
        Faulty pixels.
    cosmic_rays : (index, amplitude)
        From `draw_cosmic_rays`.
    generators : dict of numpy.random.Generator
        ``noise``: stream of the exposure; ``flat``: stream of the detector.

    Returns
    -------
    dict of (ny, nx) arrays
        ``data`` float32 DN/s; ``var_poisson``, ``var_rnoise``, ``var_flat`` float16 (DN/s)**2, from the
        measured signal; ``err`` float16 DN/s, the root of their sum (made before they are rounded).
    """
    ny, nx = rate.shape
    noise = np.ones(ny * nx, np.float32)
    noise[defects.noisy] = 30.0
    extra = np.zeros(ny * nx, np.float32)
    extra[cosmic_rays[0]] = cosmic_rays[1]
    rate = rate.copy()
    rate.ravel()[defects.dead] = 0.0
    rate.ravel()[defects.hot] += defects.hot_rate
    noise, extra = noise.reshape(ny, nx), extra.reshape(ny, nx)
    out = {"data": np.empty((ny, nx), np.float32)}
    out |= {
        name: np.empty((ny, nx), np.float16)
        for name in ("err", "var_poisson", "var_rnoise", "var_flat")
    }
    # In bands of rows, as the Poisson numbers alone take sixteen bytes a pixel.
    for row in range(0, ny, _ROWS):
        band = slice(row, row + _ROWS)
        measured = _measure(rate[band], noise[band], detector, generators)
        variances = _variances(measured, extra[band], detector)
        out["data"][band] = measured + extra[band]
        out["err"][band] = np.sqrt(sum(variances.values()))
        for name, values in variances.items():
            out[name][band] = np.minimum(values, _FLOAT16_MAX)
    return out


def _measure(rate, noise, detector, generators):
    flat = generators["flat"].standard_normal(rate.shape, dtype=np.float32)
    seen = rate * np.maximum(1 + np.float32(FLAT_ERROR) * flat, 0)
    electrons = generators["noise"].poisson(seen * np.float64(detector.electrons))
    read = generators["noise"].standard_normal(rate.shape, dtype=np.float32)
    read *= np.sqrt(detector.read_variance(rate)) * noise
    return (electrons / detector.electrons).astype(np.float32) + read


def _variances(measured, extra, detector):
    photons = np.maximum(measured, 0) + np.float32(COSMIC_RAY_POISSON) * extra
    total = measured + extra
    return {
        "var_poisson": photons / np.float32(detector.electrons),
        "var_rnoise": detector.read_variance(total),
        "var_flat": np.square(np.float32(FLAT_ERROR) * total),
    }
