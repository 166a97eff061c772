"""Full-size exposures with known truth for `pixel_steps`, and the reference files that both programs get."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from romosaic import simulate, skymap
from romosaic.psf import JITTER, encircled_energy, psf_image
from skymap_tables import reference_tables

ROOT = Path(__file__).parent.parent.parent
FILTER = "F158"
AB_ZERO = 3631.0  # Jy
#: Right ascension and declination of the middle of the first skycell, and of the corner of all four.
SKYCELLS = ["000p86x51y59", "000p86x51y60", "000p86x52y59", "000p86x52y60"]
MIDDLE, CORNER = (10.608942812, 86.412982711), (11.298211110, 86.442028796)
REGIONS = [0, 1]  # a sky map file counts its regions from 0; the skycells lie in region 1

#: Offsets east and north (arcsec), roll (deg) and sky (MJy/sr) of the exposures.
CELL = [
    (0, 0, 0.0, 0.25),
    (60, -40, 0.0, 0.27),
    (-70, 50, 1.0, 0.24),
    (110, 80, 90.0, 0.29),
    (-105, -90, 90.0, 0.26),
    (50, -110, 91.0, 0.31),
]
# Four exposures meet all four skycells; pairs to the east, west, north and south meet two each.
SURVEY = [
    (0, 0, 0.0, 0.25),
    (40, 30, 0.0, 0.27),
    (-35, 20, 1.0, 0.24),
    (15, -40, 90.0, 0.29),
    *((285, 20, 0.0, 0.26), (280, -45, 90.0, 0.28)),
    *((-285, -20, 0.0, 0.30), (-280, 45, 90.0, 0.25)),
    *((30, 285, 0.0, 0.27), (-40, 280, 91.0, 0.26)),
    *((-30, -285, 0.0, 0.31), (40, -280, 91.0, 0.24)),
]


@dataclass(frozen=True)
class Scene:
    """
    What the sky holds.

    Attributes
    ----------
    ra, dec : (n,) float64
        Degrees.
    flux : (n,) float64
        Jy.
    star : (n,) bool
    right : float
        Share of a star's flux within 0.4 arcsec on a coadd, above an annulus of 2.4 to 2.8 arcsec.
    """

    ra: np.ndarray
    dec: np.ndarray
    flux: np.ndarray
    star: np.ndarray
    right: float

    @property
    def magnitude(self) -> np.ndarray:
        """AB."""
        return -2.5 * np.log10(self.flux / AB_ZERO)


class Simulated:
    """
    Exposures of the project's own simulator.

    Parameters
    ----------
    folder : Path
        Where they are, or are to be made.
    name : str
        ``cell``, ``survey`` or ``warm-up``.
    """

    def __init__(self, folder: Path, name: str):
        self.name, self.folder = name, folder / "data" / name
        pointings, (ra, dec) = (CELL, MIDDLE) if name == "cell" else (SURVEY, CORNER)
        self.skycells = SKYCELLS[:1] if name == "cell" else SKYCELLS
        cos = float(np.cos(np.radians(dec)))
        self.section = {
            "exposures": [
                {"ra": ra + e / 3600 / cos, "dec": dec + n / 3600, "roll": roll, "sky": sky}
                for e, n, roll, sky in (pointings[:4] if name == "warm-up" else pointings)
            ]
        }
        if name == "warm-up":
            self.section["shape"] = [1024, 1024]
        self.names = simulate.exposure_names(simulate.DEFAULTS | self.section)

    @property
    def exposures(self) -> list[Path]:
        """Level-2 files that both programs read."""
        return [self.folder / "exposures" / f"{name}_cal.asdf" for name in self.names]

    def make(self, cores: int) -> None:
        """Simulate what is missing or of other parameters (the workflow knows); write it for both."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "simulate.yaml"
        config.write_text(
            yaml.safe_dump({"output_dir": str(self.folder), "simulate": self.section})
        )
        command = [sys.executable, "-m", "snakemake", "-s", ROOT / "Snakefile", "-d", self.folder]
        command += ["-q", "all", "--cores", cores, "--rerun-incomplete", "--configfile", config]
        made = [self.folder / "simulate" / path.name for path in self.exposures]
        command += ["--", *made, self.folder / "simulate" / "scene.ecsv"]
        subprocess.run([str(part) for part in command], check=True)
        for new, path in zip(made, self.exposures, strict=True):
            if not path.exists() or path.stat().st_mtime < new.stat().st_mtime:
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(as_older_version(new.read_bytes()))

    def truth(self, exposure: str) -> dict:
        """Sky (MJy/sr), cosmic rays (flat indices, MJy/sr), hot pixels that dq does not flag, and bad ones."""
        path = self.folder / "simulate" / f"{exposure}_truth.npz"
        with np.load(path) as file:
            hidden = ~file["hot_flagged"]
            return {
                "sky": float(file["sky"]),
                "rays": file["cosmic_ray_index"],
                "amplitude": file["cosmic_ray_amplitude"] * float(file["conversion_megajanskys"]),
                "hot": file["hot_index"][hidden],
                "bad": np.r_[file["bad_index"], file["hot_index"][~hidden]],
            }

    def scene(self) -> Scene:
        """All sources."""
        from astropy.table import Table

        table = Table.read(self.folder / "simulate" / "scene.ecsv")
        place = [np.asarray(table[key], float) for key in ("ra", "dec")]
        flux, star = np.asarray(table["flux_f158"]) * 1e-9, np.asarray(table["type"] == "star")
        return Scene(*place, flux, star, right_share())


def as_older_version(content: bytes) -> bytes:
    """
    Level-2 file of data model version 2.1.0, which both programs read, from one of a later version.

    romancal 1.1.0 knows no later one. The names of the versions are as long, so nothing moves; both programs
    validate what they read.
    """
    for name in (b"extensions/datamodels", b"tags/wfi_image"):
        content, count = re.subn(name + rb"-2\.\d\.0", name + b"-2.1.0", content)
        if not count:
            sys.exit(f"benchmark: exposures without {name.decode()}-2.x.0, which romancal reads")
    return content


class Romanisim:
    """
    Four exposures of the real simulator with `truth.npz` and `truth_catalog.ecsv`.

    Parameters
    ----------
    folder : Path
        Where they are.
    """

    name, skycells = "romanisim", SKYCELLS

    def __init__(self, folder: Path):
        self.folder = folder
        self.exposures = sorted(folder.glob("*_cal.asdf"))

    def make(self, cores: int) -> None:
        """Nothing to make: they are given."""

    def truth(self, exposure: str) -> dict:
        """As that of `Simulated`."""
        number = int(exposure.split("_")[1])
        with np.load(self.folder / "truth.npz") as file:
            scale = float(np.ravel(file[f"conversion_megajanskys_{number}"])[0])
            return {
                "sky": float(np.ravel(file[f"sky_extra_dn_s_{number}"])[0]) * scale,
                "rays": file[f"cr_idx_{number}"],
                "amplitude": file[f"cr_amp_{number}"] * scale,
                "hot": file[f"hot_idx_{number}"],
                "bad": np.zeros(0, int),
            }

    def scene(self) -> Scene:
        """All sources."""
        from astropy.table import Table

        table = Table.read(self.folder / "truth_catalog.ecsv")
        place = [np.asarray(table[key], float) for key in ("ra", "dec")]
        flux = np.asarray(table[FILTER]) * AB_ZERO
        return Scene(*place, flux, np.asarray(table["type"]) == "PSF", 0.825)


def right_share(radius: float = 0.4, ring: tuple[float, float] = (2.4, 2.8)) -> float:
    """Share of a simulated star's flux in an aperture on a coadd: detector pixel, drop, output pixel."""
    energy = encircled_energy(np.array([radius, *ring]), FILTER, responses=(0.11, 0.11, 0.055))
    sky = (energy[2] - energy[1]) / (ring[1] ** 2 - ring[0] ** 2) * radius**2
    return float(energy[0] - sky)


def write_references(folder: Path) -> dict[str, Path]:
    """
    Write the sky map, the ePSF and the aperture corrections as reference files of the archive's kinds.

    Both programs are given the last two, and romancal the first.
    """
    import roman_datamodels as rdm

    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name}.asdf" for name in ("skymap", "epsf", "apcorr")}
    model = rdm.datamodels.SkycellsRefModel.create_fake_data()
    sky = skymap.read_skymap()
    tables = reference_tables(sky, REGIONS)
    model.projection_regions, model.skycells = tables
    model.meta.nxy_skycell, model.meta.skycell_border_pixels = sky.cell_size, sky.border
    model.meta.pixel_scale = sky.pixel_scale * 3600
    model.save(paths["skymap"])

    model = rdm.datamodels.EpsfRefModel.create_fake_data()
    stamp = psf_image(FILTER, 0.11, 361, 4).astype(np.float32)
    model.psf = np.broadcast_to(stamp, (1, 3, 9, *stamp.shape)).copy()
    model.meta.oversample, model.meta.jitter_position_angle = 4, 0.0
    model.meta.jitter_major = model.meta.jitter_minor = JITTER
    model.meta.defocus, model.meta.spectral_type = [0], ["A0V", "G2V", "M5V"]
    model.meta.pixel_x = np.tile([4.0, 2044.0, 4084.0], 3).tolist()
    model.meta.pixel_y = np.repeat([4.0, 2044.0, 4084.0], 3).tolist()
    model.meta.instrument.optical_element = FILTER
    model.save(paths["epsf"])

    radius = np.linspace(0.02, 4, 200)
    energy = encircled_energy(radius, FILTER, responses=(0.11,))
    model = rdm.datamodels.ApcorrRefModel.create_fake_data()
    model["data"] = {
        FILTER: {
            "ap_corrections": 1 / energy,
            "ee_fractions": energy,
            "ee_radii": radius,
            "sky_background_rin": 2.4,
            "sky_background_rout": 2.8,
        }
    }
    model.save(paths["apcorr"])
    return paths
