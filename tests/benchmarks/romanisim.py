"""
Quality on images of the real simulator, against their truth.

    PYTHONPATH=scripts:tests .venv/bin/python tests/benchmarks/romanisim.py ../shared/data/romanisim_f158

runs the workflow on a folder of Level-2 images with `truth.npz` (sky_extra_dn_s_<n>,
conversion_megajanskys_<n>, cr_idx_<n>, cr_amp_<n>, hot_idx_<n>) and `truth_catalog.ecsv` (ra, dec, type, flux
in maggies), and prints sky levels, flagged cosmic rays and star fluxes.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import quality
from astropy.table import Table
from romosaic.association import read_grid
from romosaic.flux_file import open_flux
from romosaic.product import read_step

ROOT = Path(__file__).parent.parent.parent
AB_ZERO = 3631.0  # Jy


def run(data: Path, results: Path) -> None:
    """Run the workflow on the images."""
    command = [sys.executable, "-m", "snakemake", "-s", ROOT / "Snakefile", "-d", results.parent]
    command += ["--cores", "2", "-q", "all", "--config", f"exposures={data}"]
    command += [f"output_dir={results}"]
    subprocess.run([str(part) for part in command], check=True)


def print_sky(results: Path, truth) -> None:
    """Largest error of the level differences, over the products."""
    worst = 0.0
    for path in sorted(results.glob("skymatch/*.asdf")):
        rows = read_step(path)["members"]
        numbers = [int(row["exposure"].split("_")[1]) for row in rows]
        true = [
            truth[f"sky_extra_dn_s_{n}"] * truth[f"conversion_megajanskys_{n}"] for n in numbers
        ]
        error = np.array([row["level"] for row in rows]) - np.array(true).ravel()
        worst = max(worst, np.ptp(error))
    print(f"sky levels: largest error of a difference {worst:.5f} MJy/sr (limit 0.0015)")


def print_outliers(results: Path, truth) -> None:
    """Flagged shares by amplitude, for pixels that three or more exposures see, and false flags of all."""
    members = [open_flux(path) for path in sorted(results.glob("flux/*.asdf"))]
    flagged = {member.name: [] for member in members}
    for path in results.glob("outlier_detection/*.asdf"):
        for row in read_step(path)["members"]:
            flagged[row["exposure"]].append(row["flagged"])
    totals = {2: {}, 3: {}}
    for number, member in enumerate(members, 1):
        count = quality.coverage(member, members)
        scale = float(truth[f"conversion_megajanskys_{number}"])
        for least, total in totals.items():
            scores = quality.outlier_scores(
                member,
                np.unique(np.concatenate(flagged[member.name])).astype(int),
                truth[f"cr_idx_{number}"],
                truth[f"cr_amp_{number}"] * scale,
                truth[f"hot_idx_{number}"],
                count >= least,
            )
            for key, (found, all_) in scores.items():
                old = total.get(key, (0, 0))
                total[key] = old[0] + found, old[1] + all_
    for least, total in totals.items():
        parts = ", ".join(f"{key} {found}/{all_}" for key, (found, all_) in total.items())
        bright = [total[key] for key in ("10-30", "30-100", "100-inf")]
        share = sum(f for f, _ in bright) / sum(a for _, a in bright)
        false = total["clean"][0] / total["clean"][1]
        print(f">= {least} exposures: {parts}; above 10 sigma {share:.2%}, false {false:.1e}")


def print_stars(results: Path, catalog: Table) -> None:
    """Flux within 0.4 arcsec over truth, of isolated stars, by magnitude."""
    from roman_datamodels.datamodels import open as open_model

    flux = np.asarray(catalog["F158"]) * AB_ZERO
    ra, dec = np.asarray(catalog["ra"], float), np.asarray(catalog["dec"], float)
    stars = np.flatnonzero(np.asarray(catalog["type"]) == "PSF")
    stars = stars[quality.isolated(ra, dec, stars, flux)]
    magnitude = -2.5 * np.log10(flux[stars] / AB_ZERO)
    ratios = np.full(len(stars), np.nan)
    for path in sorted(results.glob("resample/*.asdf")):
        grid = read_grid(results / f"associate/associations/{path.name[:-11]}_asn.json")
        with open_model(path) as model:
            measured = quality.aperture_flux(np.asarray(model.data), grid, ra[stars], dec[stars])
        ratios = np.where(np.isfinite(measured), measured / flux[stars], ratios)
    for low, high in ((18.5, 20), (20, 22), (22, 23.5), (23.5, 25)):
        here = ratios[(magnitude >= low) & (magnitude < high) & np.isfinite(ratios)]
        if here.size:
            scatter = here.std() / np.sqrt(here.size)
            print(f"stars {low}-{high}: {np.median(here):.4f} +- {scatter:.4f} ({here.size})")


if __name__ == "__main__":
    data = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        results = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(folder) / "results"
        if not results.exists():
            run(data, results)
        truth = np.load(data / "truth.npz")
        print_sky(results, truth)
        print_outliers(results, truth)
        print_stars(results, Table.read(data / "truth_catalog.ecsv"))
