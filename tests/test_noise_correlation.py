"""Errors of sums over correlated pixels, against the noise of real drizzling."""

import catalog_scene as scene
import numpy as np
import pytest
from drizzle_scene import OUTPUT, coadd, exposure, grid
from romosaic import noise_correlation as nc
from romosaic.apertures import ellipse_sums
from romosaic.depth import depth
from romosaic.detection import Detection
from romosaic.photometry import Scale
from romosaic.psf_photometry import fit_psf


@pytest.mark.parametrize("side", [0.0, 0.4, 1.0, 1.6, 2.0])
def test_rolls_give_a_correlation(side):
    rho = nc.roll_averaged(side) if side else nc.INDEPENDENT
    half = rho.shape[0] // 2
    assert rho.sum() == pytest.approx(1) and rho[half, half] == rho.max()
    np.testing.assert_allclose(rho, rho[::-1, ::-1])
    np.testing.assert_allclose(rho, rho.T, atol=1e-12)


def test_aligned_drops_of_two_pixels_have_known_overlaps():
    """Along an axis the footprint is a trapezoid: its square has the integral 5 / 3, what it sums to is 4."""
    members = [exposure("a", 0.0, roll=0.0, bend=3.0)]
    rho = np.array(coadd(members, grid(110)).noise["correlation"])
    assert rho.sum() == pytest.approx(1, abs=0.01)
    assert rho[len(rho) // 2].sum() == pytest.approx(5 / 12, abs=0.01)


def test_coadd_tells_its_correlation_and_without_it_rolls_are_unknown():
    members = [exposure(str(i), 0.0, shape=(110, 110), roll=23.0 * i + 4) for i in range(4)]
    noise = coadd(members, grid(180)).noise
    told, guessed = nc.read_correlation(noise, 1.0, 2.0), nc.read_correlation(None, 1.0, 2.0)
    np.testing.assert_array_equal(told, noise["correlation"])
    assert told[len(told) // 2, len(told) // 2] == pytest.approx(noise["pixel_factor"], rel=0.02)
    assert told.sum() == pytest.approx(1, abs=0.01)
    half, wide = len(told) // 2, len(guessed) // 2
    inner = guessed[wide - half : wide + half + 1, wide - half : wide + half + 1]
    np.testing.assert_allclose(told, inner, atol=0.006)
    assert nc.read_correlation({"correlation": None}, 1.0, 2.0).shape == guessed.shape


def test_forms_are_the_double_sums():
    rng = np.random.default_rng(1)
    rho, (a, b) = nc.roll_averaged(1.7), rng.normal(size=(2, 6, 9))
    half = rho.shape[0] // 2
    y, x = np.divmod(np.arange(a.size), 9)
    dy, dx = y[:, None] - y, x[:, None] - x
    near = np.maximum(abs(dy), abs(dx)) <= half
    full = np.where(near, rho[np.clip(dy + half, 0, 2 * half), np.clip(dx + half, 0, 2 * half)], 0)
    expected = [p.ravel() @ full @ q.ravel() for p, q in ((a, a), (b, b), (a, b))]
    np.testing.assert_allclose(nc.covariances(a, b, nc.taps(rho)), expected)
    assert nc.variance(a, nc.taps(nc.INDEPENDENT)) == pytest.approx(np.sum(a**2))


def test_medians_of_independent_pixels():
    assert nc.median_factor(nc.INDEPENDENT, 40, 50) == pytest.approx(np.pi / 2)


@pytest.fixture(
    scope="module",
    params=[(1, 1.0, 1.0), (3, 1.0, 1.0), (1, 0.8, 1.0), (3, 0.8, 1.0), (3, 0.8, 2.0)],
    ids="{0[0]} exposures pixfrac {0[1]} scale {0[2]}".format,
)
def noise(request):
    """Coadds of noise alone, with the correlation that they tell."""
    n, pixfrac, scale = request.param  # exposures, size of a drop, output pixels of 0.055 arcsec
    size = round(330 / scale)
    area, made = grid(size, scale=scale * OUTPUT), []
    for seed in range(3):
        members = []
        for i in range(n):
            where = {"roll": 37.0 * i + 11, "at": (7.3 * i, -4.1 * i), "bend": 0.7}
            member = exposure(str(i), 0.0, shape=(240, 240), **where)
            member.data[:] = np.random.default_rng([seed, i]).normal(0, 0.1, member.shape)
            members.append(member)
        made.append(coadd(members, area, pixfrac=pixfrac))
    return area, made


def pixel_correlation(coadded) -> float:
    rho = coadded.noise["correlation"]
    return rho[len(rho) // 2][len(rho) // 2]


def spread(values):
    return float(np.std(np.concatenate(values)))


def places(size: int, step: float, reach: float) -> np.ndarray:
    at = np.arange(reach + 1, size - reach - 1, step)
    return np.stack([v.ravel() for v in np.meshgrid(at, at + 0.37)])


@pytest.mark.parametrize("radius", [0.1, 0.2, 0.4, 0.8])
@pytest.mark.parametrize("ratio", [1.0, 0.5])
def test_empty_circles_and_ellipses_scatter_by_their_errors(noise, radius, ratio):
    # 300 circles of 0.8 arcsec that do not overlap: their scatter is good to 4 %
    area, made = noise
    pulls, r = [], radius / 3600 / area.pixel_scale
    x, y = places(area.nx, max(2.05 * r, 5), r)
    a, turn = np.full(x.size, r), np.full(x.size, 0.6)
    for coadded in made:
        nothing = np.zeros(coadded.data.shape, np.int32)
        ellipses = (nothing > 0, nothing, np.zeros(x.size, np.int32), x, y, a, ratio * a, turn)
        sums = ellipse_sums(coadded.data, coadded.err, *ellipses)
        half_rho = nc.taps(np.array(coadded.noise["correlation"]))
        variance = nc.ellipse_variances(coadded.err, *ellipses, half_rho)
        pulls.append(sums[:, 0] / np.sqrt(variance))
    assert 0.92 < spread(pulls) < 1.08


def test_empty_segments_scatter_by_their_errors(noise):
    area, made = noise
    y, x = np.mgrid[: area.ny, : area.nx]
    step = round(16 * OUTPUT / area.pixel_scale) + 4
    n = area.nx // step
    u, v = x % step - step / 2, y % step - step / 2
    inside = (u**2 + u * v + v**2 < 0.1 * step**2) & (x < n * step) & (y < n * step)
    segments = np.where(inside, y // step * n + x // step + 1, 0).astype(np.int32)
    labels = np.arange(1, n * n + 1, dtype=np.int32)
    low = np.stack([(labels - 1) % n, (labels - 1) // n]) * step
    bounds = np.stack([low[0], low[0] + step - 1, low[1], low[1] + step - 1], axis=1)
    pulls = []
    for coadded in made:
        half_rho = nc.taps(np.array(coadded.noise["correlation"]))
        variance = nc.segment_variances(coadded.err, segments, labels, bounds, half_rho)
        flux = np.bincount(segments.ravel(), coadded.data.ravel())[1:]
        pulls.append(flux / np.sqrt(variance))
    assert 0.92 < spread(pulls) < 1.08


def test_psf_fits_scatter_by_their_errors(noise):
    """Faint stars on drizzled noise: flux, position and chi-square."""
    area, made = noise
    x, y = places(area.nx, 14.37, 20 * OUTPUT / area.pixel_scale)
    pulls = {"x": [], "y": [], "flux": [], "gof": []}
    if area.pixel_scale > 1.5 * OUTPUT:
        pytest.skip("the scene's PSF is one of pixels of 0.055 arcsec")
    for coadded in made:
        flux = np.full(x.size, 60 * float(np.median(coadded.err)))
        image = coadded.data + scene.render(coadded.data.shape, np.stack([x, y, flux], axis=1))
        fit = fit_psf(
            *(image.astype(np.float32), coadded.err, ~np.isfinite(coadded.err), x, y, scene.psf()),
            correlation=np.array(coadded.noise["correlation"]),
        )
        pulls["x"].append((fit.x - x) / np.sqrt(fit.var_x))
        pulls["y"].append((fit.y - y) / np.sqrt(fit.var_y))
        pulls["flux"].append((fit.flux - flux) / fit.flux_err)
        pulls["gof"].append(fit.gof)
    for name in ("x", "y", "flux"):
        assert 0.9 < spread(pulls[name]) < 1.1, name
    # single pixels of a lone exposure, whose drops leave gaps, scatter more than the mean correlation tells
    factor = made[0].noise["pixel_factor"] / pixel_correlation(made[0])
    assert np.mean(pulls["gof"]) == pytest.approx(factor, abs=0.05)


def test_depth_is_that_of_the_errors_and_empty_circles_prove_them(noise):
    area, made = noise
    coadded, nothing = made[0], np.zeros(made[0].data.shape, np.int32)
    found = Detection(
        *(coadded.data, coadded.data, coadded.err, nothing > 0, nothing, np.zeros(0, bool)),
        np.ones(1),
    )
    rho = np.array(coadded.noise["correlation"])
    scale = Scale(area.middle_pixel_area, rho)
    told = depth(found, coadded.err, scale, scene.psf())
    assert list(told["m5sigma"]) == ["aper01", "aper02", "aper04", "aper08", "aper16", "psf"]
    # white noise of the detectors: a circle's variance goes with its area but for the edge
    flux = 10 ** (-0.4 * (told["m5sigma"]["aper16"] - 31.4)) / 5
    expected = np.median(coadded.err) * scale.flux * np.sqrt(np.pi) * 1.6 / scale.arcsec
    assert flux == pytest.approx(expected * np.sqrt((1 - 0.4 * 0.11 / 1.6) * rho.sum()), rel=0.03)
    assert told["empty_apertures"]["count"] > 400
    for name in ("aper01", "aper02", "aper04"):
        assert told["empty_apertures"]["factor"][name] == pytest.approx(1, abs=0.12)


def test_depth_of_nothing():
    nothing = np.zeros((30, 30), np.int32)
    plane = nothing.astype(np.float32)
    found = Detection(plane, plane, plane, nothing == 0, nothing, np.zeros(0, bool), np.ones(1))
    told = depth(found, plane, Scale(1e-13))
    assert told == {"m5sigma": {}, "empty_apertures": {"count": 0, "factor": {}}}
