"""Section `outlier_detection` of the configuration."""

from typing import ClassVar, Literal

from .config_types import BITS, EXACT_MAPS, Bits, Falling, Real, Section, key, real, whole

_TWO = "two positive numbers, the second not above the first"


class OutlierDetection(Section):
    """Cosmic rays and bad pixels that stand out from the median of the members."""

    absent: ClassVar[dict[str, str]] = {
        "weight_type": "all members count alike in the median (of the mosaic: resample.weight_type)",
        "pixfrac": "members are interpolated bilinearly (of the mosaic: resample.pixfrac)",
        "kernel": "members are interpolated bilinearly (of the mosaic: resample.kernel)",
        "fillval": "pixels that fewer than two members see are not judged (of the mosaic: resample.fillval)",
        "resample_data": "members are always mapped onto the product's grid, those of one pointing too",
        "resample_on_skycell": "the grid is the product's: see associate.products",
        "in_memory": "memory follows outlier_detection.memory_mb, and nothing is spilled to disk",
        "save_intermediate_results": "there are none; flagged pixels and reasons are always written",
        "pixmap_stepsize": EXACT_MAPS,
        "pixmap_order": EXACT_MAPS,
    }

    noise: Literal["model", "err"] = key(
        "model",
        "model: noise of the sky plus Poisson noise of the median image; err: the pixel's own err, "
        "which a cosmic ray inflates: romancal's test.",
    )
    snr: Falling = key(
        [5.0, 4.0],
        "Thresholds of the first pass and of the second, beside pixels of the first.",
        unit="sigma",
        allowed=_TWO,
    )
    scale: Falling = key(
        [1.2, 0.7],
        "Tolerance of the first and the second pass, times the local derivative of the median image: for "
        "F158 and redder. With noise model bluer filters, whose stars are sharper, get up to 1.5 times "
        "as much.",
        allowed=_TWO,
    )
    backg: Real = key(0.0, "Background subtracted from data minus median image.", unit="MJy/sr")
    maskpt: real(ge=0, le=1) = key(
        0.7, "Share of good pixels that a value interpolated for the median needs, by weight."
    )
    good_bits: Bits = key("~DO_NOT_USE", "DQ bits that a good pixel may have.", allowed=BITS)
    memory_mb: whole(ge=16) = key(
        600,
        "Memory of the bands in which the median is taken, of the images that are open for it and of the lists "
        "of bad pixels: fewer rows and fewer images for less. The job asks for what it needs besides, too.",
        unit="MB",
    )
