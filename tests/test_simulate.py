import re

import numpy as np
import pytest
from conftest import CORNER, survey_parameters
from romosaic import simulate
from romosaic.errors import ConfigError
from romosaic.scene import draw_scene, source_flux
from romosaic.simulate_noise import Detector
from romosaic.simulate_render import draw_sources, sersic_b, sersic_transfer
from romosaic.simulate_wcs import build_wcs, local_geometry, pixel_area_map

ARRAYS = ("data", "err", "dq", "var_poisson", "var_rnoise", "var_flat")


def one_star(wcs, shape, x, y, flux, optical_element="F158"):
    """Surface brightness image (flux unit per sr) of one star at a pixel position."""
    ra, dec = wcs(x, y, with_bounding_box=False)
    px, py, jacobian = local_geometry(wcs, np.array([ra]), np.array([dec]))
    nothing = np.array([np.nan])
    sources = {"x": px, "y": py, "jacobian": jacobian, "amplitude": np.array([flux])}
    sources |= dict.fromkeys(("sersic_n", "half_light_radius"), nothing)
    sources |= dict.fromkeys(("axis_ratio", "position_angle"), nothing)
    return draw_sources(shape, sources, optical_element, 8.0) / pixel_area_map(wcs, shape)


# --- files -------------------------------------------------------------------------------------


def test_files_open_validate_and_say_the_same_as_their_names(survey):
    import roman_datamodels.datamodels as rdm

    times = []
    for name, path in survey.paths.items():
        with rdm.open(path, validate_checksums=True) as model:
            assert model.validate() is None
            assert isinstance(model, rdm.ImageModel)
            assert "wfi_image-2.2.0" in model._instance._tag
            meta = model.meta
            assert meta.filename == path.name == f"{name}_cal.asdf"
            numbers = meta.observation
            visit = (
                f"{numbers['program']:05d}{numbers['execution_plan']:02d}{numbers['pass']:03d}"
                f"{numbers['segment']:03d}{numbers['observation']:03d}{numbers['visit']:03d}"
            )
            rest = f"{numbers['exposure']:04d}_{meta.instrument.detector}_{meta.instrument.optical_element}"
            assert name == f"r{visit}_{rest.lower()}"
            assert numbers["visit_id"] == visit
            assert numbers["observation_id"] == f"{visit}{numbers['exposure']:04d}"
            assert model.data.shape == (256, 256)
            span = (meta.exposure.end_time - meta.exposure.start_time).sec
            assert span == pytest.approx(meta.exposure.exposure_time, abs=1e-6)
            times += [meta.exposure.start_time.mjd, meta.exposure.mid_time.mjd]
            times += [meta.exposure.end_time.mjd]
            assert meta.wcsinfo.aperture_name == "WFI01_FULL"
            assert meta.cal_step.flux == "INCOMPLETE"
            assert meta.visit.nexposures == 4
    assert np.all(np.diff(times) > 0)
    assert not [p for p in survey.folder.iterdir() if p.name.startswith(".")]


def test_simulated_again_alone_and_in_other_order_the_arrays_are_the_same(survey, tmp_path):
    import roman_datamodels.datamodels as rdm

    for name in reversed(survey.names[1:3]):
        path = tmp_path / f"{name}_cal.asdf"
        simulate.simulate_one(survey.parameters, name, path)
        with rdm.open(path) as again, rdm.open(survey.paths[name]) as first:
            for key in ARRAYS:
                assert np.asarray(again[key]).tobytes() == np.asarray(first[key]).tobytes()
        with np.load(simulate.truth_path(path)) as truth:
            for key, value in survey.truth(name).items():
                np.testing.assert_array_equal(truth[key], value)


def test_another_seed_gives_another_sky_and_other_noise(simulated):
    parameters = survey_parameters(seed=8)
    model, truth = simulate.simulate_exposure(simulate.plan(parameters)[0], parameters)
    assert not np.array_equal(model.data, simulated[0].data)
    assert not np.array_equal(truth["source_id"], simulated[1]["source_id"])
    assert not np.array_equal(truth["cosmic_ray_index"], simulated[1]["cosmic_ray_index"])


def test_scene_file_holds_the_sources_of_every_exposure(survey):
    scene = survey.scene()
    assert len(np.unique(scene["id"])) == len(scene)
    for name in survey.names:
        truth = survey.truth(name)
        rows = np.searchsorted(scene["id"], truth["source_id"])
        np.testing.assert_array_equal(scene["id"][rows], truth["source_id"])
        np.testing.assert_allclose(scene["flux_f158"][rows], truth["source_flux"], rtol=1e-12)
        np.testing.assert_allclose(
            scene["mag_f158"], 31.4 - 2.5 * np.log10(scene["flux_f158"]), rtol=1e-12
        )


# --- names -------------------------------------------------------------------------------------


def test_names_count_within_visit_and_detector():
    common = {"ra": 0, "dec": 0, "roll": 0, "sky": 0.2}
    entries = [
        common,
        common,
        common | {"detector": "WFI02"},
        common | {"pass": 2},
        common | {"optical_element": "F106", "exposure": None},
        common | {"visit": 12, "exposure": 7, "execution_plan": 3},
    ]
    names = simulate.exposure_names({"exposures": entries, "program": 42})
    assert names == [
        "r0004201001001001001_0001_wfi01_f158",
        "r0004201001001001001_0002_wfi01_f158",
        "r0004201001001001001_0001_wfi02_f158",
        "r0004201002001001001_0001_wfi01_f158",
        "r0004201001001001001_0003_wfi01_f106",
        "r0004203001001001012_0007_wfi01_f158",
    ]
    assert all(re.fullmatch(r"r\d{19}_\d{4}_wfi\d\d_f\d{3}", name) for name in names)
    planned = simulate.plan({"exposures": entries})
    assert planned[0]["start_seconds"] == planned[2]["start_seconds"] == 0
    assert [e["visit_exposures"] for e in planned] == [3, 3, 3, 1, 3, 1]
    assert simulate.exposure_names({}) == []


def test_one_name_twice_is_refused():
    entries = [{"ra": 0, "dec": 0, "exposure": 3}] * 2
    with pytest.raises(
        ConfigError, match="r0000101001001001001_0003_wfi01_f158 is simulated twice"
    ):
        simulate.exposure_names({"exposures": entries})


def test_an_exposure_that_is_not_configured_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no entry"):
        simulate.simulate_one({}, "r1", tmp_path / "r1_cal.asdf")
    assert not list(tmp_path.iterdir())


# --- noise, sky, defects -----------------------------------------------------------------------


def test_pulls_of_clean_pixels_have_unit_width(simulated):
    model, truth = simulated
    clean = np.asarray(model.dq) == 0
    for key in ("cosmic_ray_index", "hot_index"):
        clean.ravel()[truth[key]] = False
    difference = np.asarray(model.data) - truth["noiseless"]
    detector = Detector(truth["gain"], truth["read_noise"], truth["exposure_time"])
    expected = detector.variance(truth["noiseless"]) + (0.003 * truth["noiseless"]) ** 2
    pull = difference[clean] / np.sqrt(expected[clean])
    assert np.std(pull) == pytest.approx(1, abs=0.01)
    assert np.mean(pull) == pytest.approx(0, abs=4 / np.sqrt(clean.sum()))
    # The file's own errors, from the measured signal, say the same to a per cent.
    own = difference[clean] / np.asarray(model.err, np.float32)[clean]
    assert np.std(own) == pytest.approx(1, abs=0.02)


def test_variances_add_up_and_follow_the_signal(simulated):
    model, truth = simulated
    parts = {key: np.asarray(model[key], np.float32) for key in ARRAYS if key.startswith("var")}
    err = np.asarray(model.err, np.float32)
    np.testing.assert_allclose(np.sqrt(sum(parts.values())), err, rtol=2e-3)
    sky = truth["sky"] / truth["conversion_megajanskys"]
    assert np.median(parts["var_poisson"]) == pytest.approx(sky / (1.8 * 139.15), rel=0.03)
    assert np.median(parts["var_rnoise"]) == pytest.approx(0.0224**2, rel=1e-3)
    data = np.asarray(model.data)
    assert parts["var_rnoise"][data > 3].min() > 2 * 0.0224**2


@pytest.mark.parametrize("number", range(4))
def test_sky_level(survey, number):
    import roman_datamodels.datamodels as rdm

    name = survey.names[number]
    truth = survey.truth(name)
    assert truth["sky"] == survey.parameters["exposures"][number]["sky"]
    with rdm.open(survey.paths[name]) as model:
        data = np.asarray(model.data) * model.meta.photometry.conversion_megajanskys
        good = data[np.asarray(model.dq) == 0]
    # Sources stand on one side only, so the lower half of the pixels is closest to the sky.
    low = np.percentile(good, 30)
    sigma = np.sqrt(truth["sky"] * 0.7708 / (1.8 * 139.15) + (0.0224 * 0.7708) ** 2)
    assert low == pytest.approx(truth["sky"] - 0.52 * sigma, abs=0.3 * sigma)


def test_cosmic_rays_are_where_the_truth_says(simulated):
    model, truth = simulated
    index, amplitude = truth["cosmic_ray_index"], truth["cosmic_ray_amplitude"]
    # 8 hits per cm2 and s on 256 x 256 pixels of 10 um in 139 s are 73, of a few pixels each.
    assert 60 < len(index) < 500
    assert len(np.unique(index)) == len(index)
    usable = np.asarray(model.dq).ravel()[index] == 0
    usable &= ~np.isin(index, truth["hot_index"])
    excess = (np.asarray(model.data) - truth["noiseless"]).ravel()[index]
    sigma = np.sqrt(
        Detector(1.8, 0.0224, 139.15).variance(truth["noiseless"].ravel()[index] + amplitude)
    )
    assert np.all(np.abs(excess - amplitude)[usable] < 5 * sigma[usable])
    # Part of the charge passes for photons in the variance.
    strong = usable & (amplitude > 2)
    grown = np.asarray(model.var_poisson, float).ravel()[index][strong] * 1.8 * 139.15
    seen = truth["noiseless"].ravel()[index][strong] + 0.5 * amplitude[strong]
    np.testing.assert_allclose(grown, seen, atol=0.3)
    assert not np.any(np.asarray(model.dq) & 4)


def test_defects_stay_on_the_detector_and_only_the_known_ones_are_flagged(survey):
    import roman_datamodels.datamodels as rdm
    from roman_datamodels.dqflags import pixel

    parameters = survey_parameters(hot_pixel_fraction=2e-3)
    first, second = (
        simulate.simulate_exposure(exposure, parameters)
        for exposure in simulate.plan(parameters)[:2]
    )
    for key in ("hot_index", "hot_amplitude", "hot_flagged", "bad_index"):
        np.testing.assert_array_equal(first[1][key], second[1][key])
    model, truth = first
    dq = np.asarray(model.dq).ravel()
    hot, known = truth["hot_index"], truth["hot_flagged"]
    assert 90 < len(hot) < 180
    assert 0.3 < known.mean() < 0.7
    assert np.all(dq[hot[known]] == pixel.HOT | pixel.DO_NOT_USE)
    assert np.all(dq[hot[~known]] == 0)
    assert np.all(dq[truth["bad_index"]] & pixel.DO_NOT_USE)
    flagged = np.flatnonzero(dq)
    np.testing.assert_array_equal(flagged, np.union1d(truth["bad_index"], hot[known]))
    assert len(truth["bad_index"]) == pytest.approx(0.003 * 256**2, abs=60)
    hits = np.isin(hot, truth["cosmic_ray_index"])
    excess = (np.asarray(model.data) - truth["noiseless"]).ravel()[hot]
    np.testing.assert_allclose(excess[~hits], truth["hot_amplitude"][~hits], atol=1.5, rtol=0.05)
    with rdm.open(survey.paths[survey.names[0]]) as plain:
        assert np.count_nonzero(np.asarray(plain.dq)) < len(flagged)


# --- flux --------------------------------------------------------------------------------------


def test_star_flux_is_the_sum_over_solid_angle_anywhere_on_the_distorted_detector():
    shape, sums = (4088, 300), []
    wcs = build_wcs(shape, 80.0, -60.0, 33.0)
    area = pixel_area_map(wcs, shape)
    for x, y in ((150.2, 400.7), (148.0, 2043.5), (152.6, 3700.1)):
        image = one_star(wcs, shape, x, y, 100.0)
        sums.append(np.sum(image * area, dtype=float))
    np.testing.assert_allclose(sums, 100.0, rtol=1e-5)
    assert area[3700, 150] / area[400, 150] < 0.99


def test_star_sums_to_its_flux_within_the_noise():
    """Bright isolated star in measured data, aperture 1.2", sky known."""
    from romosaic.psf import encircled_energy

    parameters = survey_parameters(
        stars_per_arcmin2=60.0, star_magnitudes=[18.0, 19.0], galaxies_per_arcmin2=0.0
    )
    ratios = []
    for exposure in simulate.plan(parameters):
        model, truth = simulate.simulate_exposure(exposure, parameters)
        data = np.asarray(model.data, float).copy()
        faulty = np.concatenate([truth["bad_index"], truth["hot_index"], truth["cosmic_ray_index"]])
        data.ravel()[faulty] = truth["noiseless"].ravel()[faulty]
        image = (data * truth["conversion_megajanskys"] - truth["sky"]) * truth["pixel_area"]
        y, x = np.indices(image.shape)
        places = np.stack([truth["source_x"], truth["source_y"]])
        for k, (px, py) in enumerate(places.T):
            others = np.hypot(*(np.delete(places, k, axis=1) - [[px], [py]]))
            if not (30 < px < 225 and 30 < py < 225) or np.any(others < 60):
                continue
            near = np.hypot(x - px, y - py) < 1.2 / 0.109
            ratios.append(image[near].sum() * 1e15 / truth["source_flux"][k])
    assert len(ratios) >= 4
    assert np.mean(ratios) == pytest.approx(encircled_energy(1.2, "F158"), rel=0.005)
    assert np.ptp(ratios) < 0.02


def test_star_is_the_psf():
    from romosaic.psf import psf_image

    shape = (201, 201)
    wcs = build_wcs(shape, *CORNER, 0.0)
    image = one_star(wcs, shape, 100.3, 99.8, 1.0) * pixel_area_map(wcs, shape)
    # A tenth of a pixel is a sample of an image with ten samples per pixel.
    expected = psf_image("F158", size=2011, oversample=10)[7::10, 2::10][:201, :201]
    # The pixels are 1 % smaller than nominal, and one axis more than the other.
    assert image.max() == pytest.approx(expected.max(), rel=0.04)
    weight = expected > 1e-3
    np.testing.assert_allclose(image[weight], expected[weight], atol=0.004)


@pytest.mark.parametrize("n", [0.5, 1.0, 4.0])
def test_galaxy_has_its_profile_shape_and_orientation(n):
    shape = (1101, 1101)
    scale = 0.109
    north_up = np.array([[[-scale, 0.0], [0.0, scale]]])
    values = {"x": 550.0, "y": 550.0, "amplitude": 500.0, "sersic_n": n}
    values |= {"half_light_radius": 1.5, "axis_ratio": 0.6, "position_angle": 30.0}
    sources = {key: np.array([value]) for key, value in values.items()} | {"jacobian": north_up}
    image = draw_sources(shape, sources, "F158", 8.0).astype(float)
    assert image.sum() == pytest.approx(500.0, rel=1e-4)
    y, x = np.indices(shape) - 550.0
    east, north = -x * scale, y * scale
    a = np.radians(30.0)
    major, minor = east * np.sin(a) + north * np.cos(a), -east * np.cos(a) + north * np.sin(a)
    ellipse = np.hypot(major, minor / 0.6)
    # The PSF takes a few per cent out of the half-light ellipse.
    assert 0.45 < image[ellipse < 1.5].sum() / 500.0 < 0.5
    core = ellipse < 4
    moments = [np.sum(image[core] * v[core]) for v in (east * east, east * north, north * north)]
    angle = 0.5 * np.degrees(np.arctan2(2 * moments[1], moments[2] - moments[0]))
    assert angle == pytest.approx(30.0, abs=1.0)
    ring = (ellipse > 2.8) & (ellipse < 3.2)
    inner = (ellipse > 1.4) & (ellipse < 1.6)
    slope = np.log(image[ring].mean() / image[inner].mean())
    expected = -sersic_b(n) * (2 ** (1 / n) - 1)
    assert slope == pytest.approx(expected, rel=0.07)


def test_transfer_of_gaussian_and_exponential_profiles():
    q = np.linspace(0, np.sqrt(60), 4097) ** 2
    gauss = np.exp(-((np.pi * q) ** 2) / sersic_b(0.5))
    exponential = (1 + (2 * np.pi * q / sersic_b(1.0)) ** 2) ** -1.5
    np.testing.assert_allclose(sersic_transfer(0.5), gauss, atol=1e-7)
    np.testing.assert_allclose(sersic_transfer(1.0), exponential, atol=1e-7)


def test_filters_see_the_same_sources_with_their_colours():
    parameters = simulate.DEFAULTS
    scene = draw_scene(40.0, 5.0, 0.01, parameters)
    red, blue = source_flux(scene, "F213"), source_flux(scene, "F062")
    index = np.log(red / blue) / np.log(2.137 / 0.630)
    np.testing.assert_allclose(index, scene["spectral_index"], atol=1e-9)
    np.testing.assert_allclose(
        -2.5 * np.log10(source_flux(scene, "F158")) + 31.4, scene["mag"], rtol=1e-12
    )
