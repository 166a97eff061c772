import catalog_scene as scene
import numpy as np
import pytest
from astropy.table import Table
from photutils.psf import ImagePSF, PSFPhotometry
from romosaic.coadd_psf import CoaddPSF, analytic_psf, circularised, radial_profile, reference_psf
from romosaic.psf_kernels import window
from romosaic.psf_photometry import PSF_FLAGS, fit_psf

RADII = np.array([0.1, 0.2, 0.4, 0.8])


@pytest.fixture(scope="module")
def field():
    rng = np.random.default_rng(7)
    sources = scene.lattice(rng, 360, 31, 30, 4000)
    data, err, _ = scene.observe(rng, scene.render((360, 360), sources))
    return (data - scene.SKY).astype(np.float32), err, np.zeros(data.shape, bool), sources


def test_noiseless_fit_is_exact(field):
    sources = field[3]
    image = scene.render((360, 360), sources[:1]).astype(np.float32)
    err = np.full(image.shape, scene.NOISE, np.float32)
    x, y, flux = sources[0]
    fit = fit_psf(image, err, field[2], np.array([x + 0.8]), np.array([y - 0.7]), scene.psf())
    assert fit.x[0] == pytest.approx(x, abs=1e-6)
    assert fit.y[0] == pytest.approx(y, abs=1e-6)
    assert fit.flux[0] == pytest.approx(flux, rel=1e-6)
    assert fit.flags[0] == 0 and fit.gof[0] < 1e-6


def test_pulls_and_goodness_of_fit(field):
    data, err, bad, sources = field
    fit = fit_psf(data, err, bad, sources[:, 0], sources[:, 1], scene.psf())
    assert (fit.flags == 0).all()
    assert fit.gof.mean() == pytest.approx(1, abs=0.12)
    for value, true, sigma in (
        (fit.x, sources[:, 0], np.sqrt(fit.var_x)),
        (fit.y, sources[:, 1], np.sqrt(fit.var_y)),
        (fit.flux, sources[:, 2], fit.flux_err),
    ):
        pull = (value - true) / sigma
        assert abs(pull.mean()) < 0.3
        assert 0.8 < pull.std() < 1.2


def test_fits_equal_photutils(field):
    """Photutils fits with the same weights, those of the window around the position that was found."""
    data, err, bad, sources = field
    fit = fit_psf(data, err, bad, *sources[:20, :2].T.round(1), scene.psf())
    model = ImagePSF(scene.psf().central(12), oversampling=4)
    photometry = PSFPhotometry(model, (9, 9), aperture_radius=5)
    box, weights = np.zeros(4, int), np.zeros((9, 9))
    for k in range(20):
        window(bad, fit.x[k], fit.y[k], box, weights)
        cut = np.s_[box[0] : box[1], box[2] : box[3]]
        error = 1 / np.sqrt(np.maximum(weights, 1e-9))
        start = Table({"x": [fit.x[k] - box[2] + 0.05], "y": [fit.y[k] - box[0]]})
        arrays = {"error": error, "mask": weights == 0, "init_params": start}
        row = photometry(data[cut].astype(float), **arrays)[0]
        assert fit.x[k] == pytest.approx(row["x_fit"] + box[2], abs=1e-4)
        assert fit.y[k] == pytest.approx(row["y_fit"] + box[0], abs=1e-4)
        assert fit.flux[k] == pytest.approx(row["flux_fit"], rel=1e-4)


@pytest.mark.parametrize(("radius", "faint", "most"), [(1.5, 600, 0.005), (4.0, 2000, 0.02)])
def test_positions_of_discs(radius, faint, most):
    """Wherever they lie in their pixels; scattered by noise as their errors say."""
    rng = np.random.default_rng(5)
    sources = scene.lattice(rng, 900, 40, faint, 3 * faint)
    image, bad, start = (
        scene.render((900, 900), sources, radius),
        np.zeros((900, 900), bool),
        sources[:, :2],
    )
    data, err, _ = scene.observe(rng, image)
    exact = fit_psf(image.astype(np.float32), err, bad, *start.T, scene.psf())
    assert np.abs(np.stack([exact.x, exact.y], axis=1) - start).max() < most
    fit = fit_psf((data - scene.SKY).astype(np.float32), err, bad, *(start + 0.3).T, scene.psf())
    assert (fit.flags == 0).all() and (fit.gof > 2).all()
    pulls = (
        (fit.x - sources[:, 0]) / np.sqrt(fit.var_x),
        (fit.y - sources[:, 1]) / np.sqrt(fit.var_y),
    )
    # 400 pulls: their standard deviation is known to 3.5 %
    assert 0.88 < np.std(pulls[0]) < 1.12 and 0.88 < np.std(pulls[1]) < 1.12


def test_windows_that_would_slide_away_stay_at_the_start():
    """On the slope of a galaxy a window would climb to its middle, which is another source."""
    data = scene.render((60, 60), np.array([[30.0, 30, 5]]), 8.0).astype(np.float32)
    err, bad = np.full(data.shape, 0.001, np.float32), np.zeros(data.shape, bool)
    x, y = np.array([33.5, 34.0, 35.0, 30.4]), np.array([31.0, 30.0, 30, 30])
    fit = fit_psf(data, err, bad, x, y, scene.psf())
    assert (fit.flags == 0).all() and (fit.gof > 2).all()
    assert (np.hypot(fit.x - 30, fit.y - 30)[:3] > 1).all() and abs(fit.x[3] - 30) < 0.1
    assert (fit.flux_err > 0).all() and (fit.var_x > 0).all()


def test_errors_of_fits_at_borders_are_no_zeros():
    """Light of stars beyond the border draws windows off the image: what is left there tells no errors."""
    rng = np.random.default_rng(4)
    for _ in range(40):
        beyond = rng.uniform(3, 9)
        image = scene.render((80, 80), np.array([[20 - beyond, 40 + rng.uniform(-1, 1), 5.0]]))
        data = (image + rng.normal(0, 0.001, image.shape))[:, 20:].astype(np.float32)
        err, bad = np.full(data.shape, 0.001, np.float32), np.zeros(data.shape, bool)
        x, y = rng.uniform(-0.4, 3, 20), rng.uniform(37, 43, 20)
        fit = fit_psf(data, err, bad, x, y, scene.psf())
        known = np.isfinite(fit.flux_err)
        assert (fit.flux_err[known] > 0).all() and (fit.var_x[known] > 0).all()
        assert (known == (fit.flags & (16 | 64 | 128 | 256) == 0)).all()


def test_fits_do_not_depend_on_each_other(field):
    data, err, bad, sources = field
    together = fit_psf(data, err, bad, sources[:, 0], sources[:, 1], scene.psf())
    for part in (slice(5, 6), slice(None, None, -1)):
        alone = fit_psf(data, err, bad, sources[part, 0], sources[part, 1], scene.psf())
        np.testing.assert_array_equal(alone.flux, together.flux[part])
        np.testing.assert_array_equal(alone.x, together.x[part])


def test_flags():
    shape = (60, 60)
    sources = np.array([[10, 10, 1], [30, 30, 1], [50, 10, 1], [10, 50, 1], [45, 45, -1.0]])
    data = scene.render(shape, sources).astype(np.float32)
    err, bad = np.full(shape, 0.001, np.float32), np.zeros(shape, bool)
    bad[30, 31] = True  # one pixel of the second
    bad[5:15, 45:55] = True  # all of the third
    bad[45:55, 5:15] = True  # all but three of the fourth
    bad[50, 9:12] = False
    x, y = sources[:, 0].copy(), sources[:, 1].copy()
    x, y = np.append(x, [np.nan, -20, 25.0]), np.append(y, [5, 5, 52.0])
    fit = fit_psf(data, err, bad, x, y, scene.psf())
    assert fit.flags[:4].tolist() == [0, 1, 129, 257]
    assert fit.flags[4] & 4
    assert fit.flags[5] == 64 and fit.flags[6] == 64
    assert np.isnan(fit.flux[[2, 3, 5, 6]]).all() and np.isnan(fit.gof[[2, 3, 5, 6]]).all()
    assert fit.flux[1] == pytest.approx(1, rel=1e-3)
    known = sum(PSF_FLAGS)
    assert all(flag | known == known for flag in fit.flags.tolist())


def test_noise_and_garbage_never_raise():
    rng = np.random.default_rng(0)
    for data in (np.zeros((40, 40)), rng.normal(size=(40, 40)), rng.normal(size=(40, 40)) ** 21):
        x, y = rng.uniform(-5, 45, (2, 200))
        err, bad = np.ones((40, 40), np.float32), rng.uniform(size=(40, 40)) < 0.3
        fit = fit_psf(data.astype(np.float32), err, bad, x, y, scene.psf())
        fitted = np.isfinite(fit.flux)
        assert ((fit.flags & (64 | 128 | 256) == 0) == fitted).all()
        converged = fitted & (fit.flags & 24 == 0)
        assert np.isfinite(fit.flux_err[converged]).all()
        assert (fit.flux_err[np.isfinite(fit.flux_err)] > 0).all()


def test_photutils_fits_what_the_batch_fit_does_not():
    """Spikes in noise, where Gauss-Newton steps circle: sound where photutils ends, else flagged as before."""
    rng = np.random.default_rng(3)
    at = np.arange(10, 800, 20.0)
    x, y = (grid.ravel() for grid in np.meshgrid(at, at))
    data = rng.normal(0, scene.NOISE, (800, 800))
    data = (data + 10 * (rng.uniform(size=data.shape) < 0.04)).astype(np.float32)
    err, bad = np.full(data.shape, scene.NOISE, np.float32), np.zeros(data.shape, bool)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("romosaic.psf_photometry.MOST_REFITS", 0)
        before = fit_psf(data, err, bad, x, y, scene.psf())
    fit = fit_psf(data, err, bad, x, y, scene.psf())
    again = fit.flags == 8192
    assert again.sum() > 4 and (before.flags[again] & 8).all()
    assert np.isfinite([fit.flux_err[again], fit.var_x[again], fit.gof[again]]).all()
    assert (fit.flux[again] > 0).all()
    assert np.abs(np.stack([fit.x - x, fit.y - y])[:, again]).max() <= 2.5
    for name in ("x", "y", "flux", "flux_err", "gof", "flags"):
        np.testing.assert_array_equal(getattr(fit, name)[~again], getattr(before, name)[~again])
    one = np.flatnonzero(again)[-1:]
    alone = fit_psf(data, err, bad, x[one], y[one], scene.psf())
    assert alone.flux[0] == fit.flux[one[0]] and alone.x[0] == fit.x[one[0]]


def test_the_coadd_psf_is_wider_than_the_detectors():
    """Detector pixel, drop and output pixel: variances of squares add to that of the optics."""
    sizes = {}
    for pixfrac, kernel in ((1.0, "square"), (0.5, "square"), (1.0, "point")):
        psf = analytic_psf("F158", 0.055, pixfrac=pixfrac, kernel=kernel)
        sizes[pixfrac, kernel] = psf.encircled_energy(RADII)
    assert (sizes[1.0, "square"] < sizes[0.5, "square"]).all()
    assert (sizes[0.5, "square"] < sizes[1.0, "point"]).all()
    assert sizes[1.0, "square"][2] == pytest.approx(0.90, abs=0.01)


def test_energy_of_the_image_is_that_of_the_model():
    model = analytic_psf("F129", 0.055)
    image = CoaddPSF.from_image(model.image, model.oversample, 0.055, "image")
    np.testing.assert_allclose(
        image.encircled_energy(RADII), model.encircled_energy(RADII), atol=2e-4
    )
    with pytest.raises(ValueError, match="odd"):
        CoaddPSF.from_image(np.ones((4, 4)), 2, 0.055, "image")


@pytest.mark.parametrize("per_pixel", [True, False])
def test_reference_stamps_of_both_kinds_give_the_analytic_psf(per_pixel):
    """A stamp with or without the detector pixel, sampled as the reference files are."""
    from romosaic.psf import psf_image

    responses = (0.11,) if per_pixel else ()
    stamp = psf_image("F158", 0.11, 361, 4, responses=responses)
    if not per_pixel:
        stamp = stamp / 16
    psf = reference_psf(stamp, 4, 0.055, "test")
    assert psf.oversample == pytest.approx(2)
    expected = analytic_psf("F158", 0.055).encircled_energy(RADII)
    np.testing.assert_allclose(psf.encircled_energy(RADII), expected, atol=2e-3)
    fine, coarse = scene.psf().central(5)[::2, ::2], psf.central(5)
    np.testing.assert_allclose(coarse, fine, atol=1e-3 * fine.max())


def test_circularised_keeps_a_round_image():
    y, x = np.mgrid[-40:41, -40:41]
    gauss = np.exp(-0.5 * (x**2 + y**2) / 25.0)
    np.testing.assert_allclose(circularised(gauss), gauss, atol=2e-5)
    stretched = np.exp(-0.5 * (x**2 / 36.0 + y**2 / 16.0))
    round_ = circularised(stretched)
    assert round_[40, 47] == pytest.approx(round_[47, 40])
    radius, profile = radial_profile(stretched)
    assert radius[-1] == 40 and profile[0] == pytest.approx(1)
