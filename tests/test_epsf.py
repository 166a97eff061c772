"""The PSF of a filter measured on coadds: stars found among galaxies, profile against the truth."""

from dataclasses import replace
from functools import cache

import catalog_scene as scene
import numpy as np
import pytest
from romosaic import epsf
from romosaic.catalog_files import CoaddFile
from romosaic.catalog_references import measured_psf
from romosaic.coadd_psf import analytic_psf
from romosaic.noise_correlation import INDEPENDENT
from romosaic.product import write_step

SIZE = 460
PARAMETERS = {"min_snr": 50.0, "min_stars": 30, "max_stars": 500}
DETECTION = {"bkg_boxsize": 1000, "kernel_fwhm": 2.0, "snr_threshold": 3.0, "npixels": 25}
DETECTION["deblend"] = False


@cache
def coadd(seed: int) -> CoaddFile:
    """Stars and compact galaxies in turn, in the PSF of F158, whatever the coadd says of its filter."""
    rng = np.random.default_rng(seed)
    sources = scene.lattice(rng, SIZE, 60, 1500, 30000, edge=40)
    image = scene.render((SIZE, SIZE), sources[::2])
    image += scene.render((SIZE, SIZE), sources[1::2], radius=1.0)
    data, err, weight = scene.observe(rng, image)
    files = [(f"exposure{seed}", "abc")]
    drizzled = (scene.grid(SIZE), "F158", 1.0, "square", INDEPENDENT, 8.0)
    return CoaddFile(data, err, weight, *drizzled, {}, files, [], {})


@pytest.fixture(scope="module")
def measured():
    return epsf.measure_epsf((coadd(seed) for seed in range(2)), PARAMETERS, DETECTION)


def test_stars_are_chosen_among_galaxies():
    stars = epsf.find_stars(coadd(0), PARAMETERS, DETECTION)
    # 64 sources, 32 of them stars, all bright enough; other seeds have 23 to 25
    assert 22 <= stars.snr.size <= 33
    best = epsf.find_stars(coadd(0), PARAMETERS | {"max_stars": 5}, DETECTION)
    np.testing.assert_array_equal(best.snr, stars.snr[:5])


def test_measured_psf_is_the_true_one(measured):
    assert measured["stars"] >= 48 and measured["coadds"] == 2
    assert measured["inputs"] == [("exposure0", "abc"), ("exposure1", "abc")]
    assert measured["drizzling"] == [0.055, 1.0, "square"]
    model = scene.psf()
    psf = epsf_psf(measured, model)
    radii = np.array([0.1, 0.2, 0.4, 0.8, 1.6])
    truth = model.encircled_energy(radii)
    np.testing.assert_allclose(psf.encircled_energy(radii), truth, atol=0.005)
    middle, half = psf.image.shape[0] // 2, model.image.shape[0] // 2
    core = psf.image[middle - 16 : middle + 17, middle - 16 : middle + 17]
    true = model.image[half - 16 : half + 17, half - 16 : half + 17]
    np.testing.assert_allclose(core, true, atol=0.02 * true.max())


def epsf_psf(measured, model):
    from romosaic.coadd_psf import profile_psf

    return profile_psf(measured["radius"], measured["light"], 0.055, model, "measured")


def test_locus_is_found_where_the_model_is_wrong():
    columns = {}
    rng = np.random.default_rng(0)
    for name, star, galaxy in (("01", 0.40, 0.25), ("02", 0.72, 0.55), ("04", 0.90, 0.85)):
        part = np.where(np.arange(400) < 120, star, galaxy * rng.uniform(0.95, 1.05, 400))
        columns[f"aper{name}_flux"] = part * rng.normal(1, 0.003, 400)
    chosen = epsf.on_locus(columns, analytic_psf("F213", 0.055))
    assert (chosen < 120).all() and chosen.size > 90


def test_coadds_drizzled_otherwise_are_left_out():
    other = replace(coadd(1), pixfrac=0.8)
    found = epsf.measure_epsf([coadd(0), other], PARAMETERS, DETECTION)
    assert (found["coadds"], found["left_out"]) == (1, 1)
    assert found["inputs"] == [("exposure0", "abc")]


def test_nothing_covered_and_no_coadds():
    empty = replace(coadd(0), weight=np.zeros_like(coadd(0).weight))
    for coadds in ([], [empty]):
        found = epsf.measure_epsf(coadds, PARAMETERS, DETECTION)
        assert found["stars"] == 0 and found["radius"].size == 0


def written(path, found, **parameters):
    kept = {key: value for key, value in found.items() if key != "inputs"}
    kept["provenance"] = {"parameters": PARAMETERS | parameters}
    write_step(path, kept)
    return path


def test_catalogs_use_it_or_say_why_not(measured, tmp_path):
    model = scene.psf()
    path = written(tmp_path / "F158_epsf.asdf", measured)
    used = measured_psf(path, coadd(0), model)
    assert used.source == f"measured: {measured['stars']} stars of 2 coadds"
    np.testing.assert_array_equal(used.image, epsf_psf(measured, model).image)
    other = measured_psf(path, replace(coadd(0), kernel="turbo"), model)
    assert other.source == "analytic (measured on coadds that were drizzled otherwise)"
    few = measured_psf(written(tmp_path / "few.asdf", measured, min_stars=999), coadd(0), model)
    assert few.source.endswith("stars in the coadds, 999 wanted)")
    np.testing.assert_array_equal(few.image, model.image)
