"""
The configuration, one class per step: names, defaults, limits and meaning of every key.

`config/config.yaml`, `config/config.schema.json` and the tables of `config/README.md` are made from
these classes by `romosaic.config_docs`. Names and defaults are romancal's where it has the parameter.
"""

from collections import Counter
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from .config_grids import OutputGrid
from .config_looks import Color, Fits, Hips, Moc, Overview, Preview, Qa
from .config_outliers import OutlierDetection
from .config_products import CustomProduct, Region
from .config_skymatch import Skymatch
from .config_source_catalog import SourceCatalog
from .config_types import (
    BITS,
    EXACT_MAPS,
    Batch,
    Bits,
    Detector,
    Fill,
    Filter,
    Flag,
    Folder,
    Instant,
    NonNegative,
    Positive,
    Real,
    Rising,
    Section,
    Skycell,
    Text,
    Texts,
    Visit,
    key,
    listed,
    optional,
    real,
    whole,
)


class Skymap(Section):
    """The tessellation of the sky in projection regions and skycells."""

    reference_file: optional(Text) = key(
        None,
        "Skymap reference file (SkycellsRefModel, .asdf). null: the tessellation is computed.",
        allowed="path or null",
    )


class SimulatedExposure(Section):
    """One simulated exposure."""

    ra: Real = key(..., "Right ascension of the detector's centre.", unit="deg")
    dec: real(ge=-90, le=90) = key(..., "Declination of the detector's centre.", unit="deg")
    roll: Real = key(0.0, "Position angle of the detector's +y axis, east of north.", unit="deg")
    sky: NonNegative = key(0.25, "Sky level.", unit="MJy/sr")
    detector: optional(Detector) = key(
        None, "Detector. null: `simulate.detector`.", allowed="WFI01 to WFI18, or null"
    )
    optical_element: optional(Filter) = key(None, "Filter. null: `simulate.optical_element`.")
    exposure_time: optional(Positive) = key(
        None, "Exposure time. null: `simulate.exposure_time`.", unit="s"
    )
    execution_plan: whole(ge=0, le=99) = key(1, "Execution plan number of the file name.")
    pass_: whole(ge=0, le=999) = key(1, "Pass number of the file name.", alias="pass")
    segment: whole(ge=0, le=999) = key(1, "Segment number of the file name.")
    observation: whole(ge=0, le=999) = key(1, "Observation number of the file name.")
    visit: whole(ge=0, le=999) = key(1, "Visit number of the file name.")
    exposure: optional(whole(ge=1, le=9999)) = key(
        None, "Exposure number of the file name. null: counted within one visit and detector."
    )


class Simulate(Section):
    """Simulated Level-2 images for the demo and for tests."""

    exposures: listed(SimulatedExposure) = key(
        [],
        "Exposures to simulate, in order of time. Empty: nothing is simulated.",
        allowed="list of {ra, dec, roll, sky, ...}",
    )
    seed: whole(ge=0) = key(
        1, "Seed of the scene, the noise and the defects: same seed, same files."
    )
    shape: Annotated[list[whole(ge=32, le=4088)], Field(min_length=2, max_length=2)] = key(
        [4088, 4088],
        "Detector size [ny, nx]; a smaller one is the middle of the real field of view.",
        unit="pixel",
        allowed="two integers from 32 to 4088",
    )
    optical_element: Filter = key("F158", "Filter of the exposures that name none.")
    detector: Detector = key(
        "WFI01", "Detector of the exposures that name none.", allowed="WFI01 to WFI18"
    )
    exposure_time: Positive = key(
        139.15, "Exposure time of the exposures that name none.", unit="s"
    )
    start_time: Instant = key(
        "2027-06-01T00:00:00",
        "Start of the first exposure; each next one starts 60 s after the end of the one before.",
        unit="UTC",
        allowed="ISO date-time",
    )
    program: whole(ge=1, le=99999) = key(1, "Program number of the file names.")
    stars_per_arcmin2: NonNegative = key(20.0, "Mean number of stars.", unit="arcmin-2")
    galaxies_per_arcmin2: NonNegative = key(70.0, "Mean number of galaxies.", unit="arcmin-2")
    star_magnitudes: Rising = key(
        [18.0, 27.0],
        "Magnitudes in F158 of the brightest and the faintest star.",
        unit="AB mag",
        allowed="two numbers, the first below the second",
    )
    galaxy_magnitudes: Rising = key(
        [19.0, 27.0],
        "Magnitudes in F158 of the brightest and the faintest galaxy.",
        unit="AB mag",
        allowed="two numbers, the first below the second",
    )
    jitter: NonNegative = key(8.0, "Pointing jitter, rms per axis.", unit="mas")
    gain: Positive = key(1.8, "Detector gain.", unit="electron/DN")
    read_noise: Positive = key(0.0224, "Read noise of the slope, rms.", unit="DN/s")
    cosmic_ray_rate: NonNegative = key(8.0, "Cosmic-ray hits on the detector.", unit="cm-2 s-1")
    bad_pixel_fraction: real(ge=0, le=0.5) = key(0.003, "Fraction of pixels flagged DO_NOT_USE.")
    hot_pixel_fraction: real(ge=0, le=0.1) = key(
        1e-4, "Fraction of hot pixels; they stay where they are on the detector."
    )
    hot_flagged_fraction: real(ge=0, le=1) = key(
        0.5, "Fraction of the hot pixels that dq flags; outlier_detection must find the others."
    )


class Associate(Section):
    """Which exposures make which product: one association per skycell, filter and group."""

    product_type: Literal["visit", "daily", "pass", "full", "user", "custom"] = key(
        "visit",
        "Exposures that share a product: those of one visit, or of one pass; daily, full and user: all "
        "of a program, as romancal groups them; custom: none, only `products` are made.",
    )
    products: listed(CustomProduct) = key(
        [],
        "Custom mosaics of `exposures`, besides those by skycell; the selection by `skycells`, "
        "`filters`, `region` and `visits` leaves them alone.",
        allowed="list of {name, members, region, target, grid, filter}",
    )
    allow_outside: Flag = key(
        False,
        "Members of users' associations may lie outside the association's folder (../ or absolute "
        "names).",
    )
    data_release_id: Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9]+$")] = key(
        "p", "Data release in the product names.", allowed="letters and digits"
    )
    min_overlap_pixels: NonNegative = key(
        400.0,
        "Smallest overlap of an exposure with a skycell; with less it is no member.",
        unit="skycell pixel",
    )
    own_regions_only: Flag = key(
        False,
        "Only skycells of the projection regions that an exposure itself touches, as romancal does; "
        "false: every skycell that it overlaps.",
    )
    on_bad_exposure: Literal["stop", "exclude"] = key(
        "stop",
        "When exposures cannot be used: stop, or exclude them and list them in quarantine.tsv and in the "
        "provenance of products that they belong to (which reads the pixels of every new exposure once more).",
    )
    skycells: listed(Skycell) = key(
        [],
        "Make only these skycells. Empty: all.",
        allowed="list of skycell names such as 135p90x51y67",
    )
    filters: listed(Filter) = key([], "Use only exposures of these filters. Empty: all.")
    region: optional(Region) = key(
        None,
        "Make only the skycells that meet this circle. null: everywhere.",
        allowed="{ra, dec, radius} or null",
    )
    visits: listed(Visit) = key(
        [],
        "Use only exposures of these visits. Empty: all.",
        allowed="list of the 19 digits after the 'r' of an exposure name, in quotes",
    )

    def conflicts(self) -> list[tuple[tuple[str, ...], str]]:
        """Custom products that contradict themselves or each other."""
        names = Counter(product.name for product in self.products)
        found = [f"two products are named {name}" for name, count in names.items() if count > 1]
        for product in self.products:
            found += [f"{product.name}: {problem}" for problem in product.problems()]
        if self.product_type == "custom" and not self.products:
            found.append("product_type is custom: list the products to make")
        return [(("products", "product_type"), message) for message in found]


class Plan(Section):
    """What the run will make and what it will cost, before it starts."""

    nearly_empty_fraction: real(ge=0, le=1) = key(
        0.01, "A product that covers a smaller fraction of its grid is called nearly empty."
    )


class Flux(Section):
    """Surface brightness in MJy/sr, validated, with sky statistics of blocks of pixels."""

    max_unusable_fraction: real(ge=0, le=1) = key(
        0.5,
        "Largest fraction of unusable pixels: flagged DO_NOT_USE, or without a finite value, a positive "
        "error and positive variances. An exposure with more is refused.",
    )


class Resample(OutputGrid):
    """The mosaic: data, weights, variances and context."""

    absent: ClassVar[dict[str, str]] = {
        "in_memory": "members are read one by one, and nothing is spilled to disk",
        "pixmap_stepsize": EXACT_MAPS,
        "pixmap_order": EXACT_MAPS,
    }

    resample_on_skycell: Flag = key(
        True,
        "Make the products of a skycell on its grid, for which the keys of grids above do not count; false: "
        "make all products on regular grids, as these keys say.",
    )
    kernel: Literal["square", "point", "turbo", "gaussian", "lanczos2", "lanczos3"] = key(
        "square",
        "How a pixel's flux spreads over the output; all but square use drizzle's library.",
    )
    pixfrac: real(gt=0, le=1) = key(
        1.0, "Side of a drop as a fraction of the input pixel; 1 with the lanczos kernels."
    )
    fillval: Fill = key("NaN", "Value of pixels that no member covers.", unit="MJy/sr")
    weight_type: Literal["ivm", "ivm-block", "exptime", "none", "ivm-sky", "ivm-pixel"] = key(
        "ivm",
        "Weight of a member: ivm: inverse variance of its sky; ivm-block: the same by blocks of its "
        "detector; exptime: its exposure time; none: 1. Of each pixel: ivm-sky: inverse variance "
        "scaled to the sky, as in romancal; ivm-pixel: 1 / var_rnoise, romancal's ivm, which makes "
        "stars up to 8 % fainter.",
    )
    good_bits: Bits = key("~DO_NOT_USE", "DQ bits that a good pixel may have.", allowed=BITS)
    include_var_flat: Flag = key(False, "Write the variance of the flat field, too.")
    propagate_dq: Flag = key(
        False, "Write dq, too: the flags of all pixels that contribute, joined bit by bit."
    )
    engine: Literal["auto", "tiled", "drizzle"] = key(
        "auto",
        "tiled: this project's kernel (square, pixfrac 1 only); drizzle: the drizzle library; auto: "
        "tiled where it can.",
    )

    def conflicts(self) -> list[tuple[tuple[str, ...], str]]:
        """See `Section.conflicts`."""
        found = super().conflicts()
        if self.kernel.startswith("lanczos") and self.pixfrac != 1:
            found.append(
                (
                    ("pixfrac", "kernel"),
                    f"{self.pixfrac} is not allowed with kernel {self.kernel}; allowed: 1.0",
                )
            )
        if self.engine == "tiled" and (self.kernel != "square" or self.pixfrac != 1):
            found.append(
                (
                    ("engine", "kernel", "pixfrac"),
                    f"tiled is not allowed with kernel {self.kernel} and pixfrac {self.pixfrac}; "
                    "allowed: auto, drizzle, or kernel square and pixfrac 1.0",
                )
            )
        return found


class Epsf(Section):
    """PSF of a filter, measured on all its mosaics, where source_catalog.psf says so."""

    min_snr: Positive = key(50.0, "Least signal to noise of a star within 0.4 arcsec.")
    min_stars: whole(ge=1) = key(30, "With fewer stars the analytic PSF is used.")
    max_stars: whole(ge=1) = key(500, "So many of the brightest are used.")


class Catalog(Section):
    """One catalog per filter and projection region: every source once."""

    max_rows: whole(ge=1000, le=10_000_000) = key(
        100_000,
        "Most rows of a row group: what the job, and a reader, holds at a time.",
        unit="rows",
    )


class Hats(Section):
    """Catalogs of the filters in the HATS layout that LSDB reads, on request."""

    max_rows: whole(ge=1000, le=10_000_000) = key(
        250_000,
        "Most rows of a partition, a HEALPix pixel of the order that this asks for: what the job, and a "
        "reader, holds at a time.",
        unit="rows",
    )


class Verify(Section):
    """Check of all files of a run, on request: bytes, form, members and parameters."""

    schemas: Flag = key(
        True,
        "Hold data models against their schemas, too: most of the time that the check takes.",
    )


class CleanStale(Section):
    """Files that no association wants any more, on request."""

    remove: Flag = key(False, "Remove them; false: only list them.")


def _section(kind: type[Section]):
    """Make a section left empty stand for its defaults."""
    return Annotated[kind, BeforeValidator(lambda value: {} if value in (None, "") else value)]


class Config(Section):
    """The whole configuration: the input, where the results go, and a section per step."""

    exposures: Texts = key(
        [],
        "Level-2 exposures (_cal.asdf): globs (** for any depth), files, folders, or text files "
        "(.txt, .lst or @file) with one of these a line.",
        allowed="list of paths, or one path",
    )
    associations: Texts = key(
        [],
        "Level-3 associations (_asn.json), given as exposures are. Empty: they are made by associate.",
        allowed="list of paths, or one path",
    )
    output_dir: Folder = key(
        "results",
        "Folder of all results, and of the temporary files that become them: romosaic has no others.",
        allowed="path of a folder",
    )
    threads: whole(ge=1) = key(2, "Threads of the steps that work on pixels.")
    batch: optional(Batch) = key(
        None,
        "Make only a part of the survey: 2/10, the second tenth of the products, sorted by skycell; after all "
        "parts rest, what is of filters, colours and the run. null: everything at once. Targets that are "
        "named are made whole.",
        allowed="two whole numbers k/n from 1/1 to n/n, rest, or null",
    )
    skymap: _section(Skymap) = Skymap()
    simulate: _section(Simulate) = Simulate()
    associate: _section(Associate) = Associate()
    plan: _section(Plan) = Plan()
    flux: _section(Flux) = Flux()
    skymatch: _section(Skymatch) = Skymatch()
    outlier_detection: _section(OutlierDetection) = OutlierDetection()
    resample: _section(Resample) = Resample()
    epsf: _section(Epsf) = Epsf()
    source_catalog: _section(SourceCatalog) = SourceCatalog()
    catalog: _section(Catalog) = Catalog()
    preview: _section(Preview) = Preview()
    color: _section(Color) = Color()
    overview: _section(Overview) = Overview()
    qa: _section(Qa) = Qa()
    fits: _section(Fits) = Fits()
    moc: _section(Moc) = Moc()
    hips: _section(Hips) = Hips()
    hats: _section(Hats) = Hats()
    verify: _section(Verify) = Verify()
    clean_stale: _section(CleanStale) = CleanStale()
