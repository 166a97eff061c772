"""The compiled per-source kernels against photutils and astropy, which measure one source at a time."""

import numpy as np
import pytest
from astropy.stats import SigmaClip
from photutils.aperture import CircularAnnulus, EllipticalAperture
from photutils.segmentation import SourceCatalog, detect_sources
from romosaic import apertures, centroids, shapes
from romosaic.detection import matched_filter, smooth
from romosaic.noise_correlation import INDEPENDENT, segment_variances, taps


@pytest.fixture(scope="module")
def field():
    """Galaxies of all shapes on white noise, with their segmentation and photutils' catalog."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:400, :400]
    image = np.zeros((400, 400))
    for _ in range(60):
        cx, cy = rng.uniform(0, 400, 2)
        sigma, ratio, turn = rng.uniform(1.3, 4), rng.uniform(0.5, 1), rng.uniform(0, 3)
        u = np.cos(turn) * (x - cx) + np.sin(turn) * (y - cy)
        v = np.cos(turn) * (y - cy) - np.sin(turn) * (x - cx)
        light = np.exp(-0.5 * (u**2 + (v / ratio) ** 2) / sigma**2)
        image += 10 ** rng.uniform(2, 4) / (2 * np.pi * sigma**2 * ratio) * light
    data = (image + rng.normal(size=image.shape)).astype(np.float32)
    err = rng.uniform(0.8, 1.2, data.shape).astype(np.float32)
    bad = np.zeros(data.shape, bool)
    smoothed = smooth(data, bad, matched_filter(2.0))
    found = detect_sources(smoothed, 0.9, 25)
    reference = SourceCatalog(
        data, found, convolved_data=smoothed, error=err, aperture_mask_method="mask"
    )
    segments = np.ascontiguousarray(found.data, np.int32)
    n = found.n_labels
    return {
        "data": data,
        "err": err,
        "bad": bad,
        "smoothed": smoothed,
        "segments": segments,
        "labels": np.arange(1, n + 1, dtype=np.int32),
        "shape": shapes.moments(data, smoothed, segments, n),
        "reference": reference,
    }


def place(field):
    s = field["shape"]
    return field["data"], field["bad"], field["segments"], field["labels"], s.x, s.y


def kron(field):
    s = field["shape"]
    radius = apertures.kron_radii(*place(field), *s.ellipse, 1.4)
    data, bad, segments, labels, x, y = place(field)
    sums = apertures.ellipse_sums(
        data,
        field["err"],
        bad,
        segments,
        labels,
        x,
        y,
        2.5 * radius * s.semimajor,
        2.5 * radius * s.semiminor,
        s.theta,
    )
    return radius, sums


def value(quantity):
    return np.asarray(getattr(quantity, "value", quantity))


def test_ellipse_sums_equal_photutils_exact_overlap():
    rng = np.random.default_rng(3)
    data = rng.normal(size=(200, 200)).astype(np.float32)
    err = rng.uniform(0.5, 2, data.shape).astype(np.float32)
    bad, segments = np.zeros(data.shape, bool), np.zeros(data.shape, np.int32)
    n = 40
    x, y = rng.uniform(-3, 203, (2, n))
    a = rng.uniform(0.3, 15, n)
    b, theta = a * rng.uniform(0.1, 1, n), rng.uniform(-4, 4, n)
    sums = apertures.ellipse_sums(
        data, err, bad, segments, np.zeros(n, np.int32), x, y, a, b, theta
    )
    for i in range(n):
        mask = EllipticalAperture((x[i], y[i]), a[i], b[i], theta=theta[i]).to_mask(method="exact")
        w = mask.to_image(data.shape)
        if w is None:
            assert np.isnan(sums[i, 0]) and sums[i, 2] == 0
            continue
        assert sums[i, 0] == pytest.approx((w * data).sum(), abs=1e-10)
        assert sums[i, 1] == pytest.approx((w**2 * err.astype(float) ** 2).sum(), rel=1e-10)
        assert sums[i, 2] == pytest.approx(w.sum(), rel=1e-10)
        assert sums[i, 3] == pytest.approx(np.pi * a[i] * b[i], rel=1e-12)


def test_ellipse_sums_leave_out_bad_pixels_and_other_segments():
    data, err = np.ones((20, 20), np.float32), np.full((20, 20), 2, np.float32)
    bad, segments = np.zeros((20, 20), bool), np.zeros((20, 20), np.int32)
    bad[10, 10], segments[:, 11:] = True, 2
    one = np.ones(1)
    args = (10 * one, 10 * one, 3 * one, 3 * one, 0 * one)
    everything = apertures.ellipse_sums(data, err, bad, segments, np.zeros(1, np.int32), *args)[0]
    own = apertures.ellipse_sums(data, err, bad, segments, np.ones(1, np.int32), *args)[0]
    assert everything[0] == pytest.approx(9 * np.pi - 1)
    # The other segment begins half a pixel to the right of the centre.
    d = 0.5
    cap = 9 * np.arccos(d / 3) - d * np.sqrt(9 - d * d)
    assert own[2] == pytest.approx(9 * np.pi - 1 - cap)
    assert own[1] < 4 * own[2]


def test_not_finite_sources_are_nan():
    data, bad = np.ones((9, 9), np.float32), np.zeros((9, 9), bool)
    segments, label = np.zeros((9, 9), np.int32), np.ones(1, np.int32)
    nan, one = np.full(1, np.nan), np.ones(1)
    sums = apertures.ellipse_sums(data, data, bad, segments, label, nan, one, one, one, one)
    assert np.isnan(sums[0, :2]).all() and sums[0, 2] == 0
    assert np.isnan(apertures.kron_radii(data, bad, segments, label, nan, one, one, one, one, 1.4))
    assert np.isnan(apertures.flux_radii(data, bad, segments, label, one, one, nan, one))
    assert np.isnan(apertures.annulus_levels(data, bad, nan, one, 1.0, 2.0)).all()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("x", "x_centroid"),
        ("y", "y_centroid"),
        ("semimajor", "semimajor_axis"),
        ("semiminor", "semiminor_axis"),
        ("xmin", "bbox_xmin"),
        ("xmax", "bbox_xmax"),
        ("ymin", "bbox_ymin"),
        ("ymax", "bbox_ymax"),
        ("area", "area"),
        ("flux", "segment_flux"),
    ],
)
def test_moments_equal_photutils(field, ours, theirs):
    expected = value(getattr(field["reference"], theirs))
    np.testing.assert_allclose(getattr(field["shape"], ours), expected, rtol=2e-6)


def test_ellipse_and_orientation_equal_photutils(field):
    reference, shape = field["reference"], field["shape"]
    for ours, theirs in zip(shape.ellipse, ("cxx", "cxy", "cyy"), strict=True):
        np.testing.assert_allclose(
            ours, value(getattr(reference, f"ellipse_{theirs}")), rtol=1e-5, atol=1e-8
        )
    turn = np.degrees(shape.theta) - value(reference.orientation)
    np.testing.assert_allclose((turn + 90) % 180 - 90, 0, atol=1e-4)
    assert np.abs(shape.theta).max() <= np.pi / 2
    place = (field["err"], field["segments"], field["labels"], shape.bounds)
    variance = segment_variances(*place, taps(INDEPENDENT))
    np.testing.assert_allclose(np.sqrt(variance), value(reference.segment_flux_err), rtol=1e-5)


def test_kron_and_half_light_equal_photutils(field):
    reference = field["reference"]
    radius, sums = kron(field)
    np.testing.assert_allclose(radius, value(reference.kron_radius), rtol=1e-5)
    np.testing.assert_allclose(sums[:, 0], value(reference.kron_flux), rtol=1e-5)
    half = apertures.flux_radii(
        *place(field), 0.5 * sums[:, 0], 2.5 * radius * field["shape"].semimajor
    )
    np.testing.assert_allclose(half, value(reference.flux_radius(0.5)), rtol=1e-4)


def test_windowed_centroids_equal_photutils(field):
    radius, sums = kron(field)
    half = apertures.flux_radii(
        *place(field), 0.5 * sums[:, 0], 2.5 * radius * field["shape"].semimajor
    )
    data, bad, segments, labels, x, y = place(field)
    windowed = centroids.windowed_centroids(
        *(data, field["err"], bad, segments, labels, x, y, half), taps(INDEPENDENT)
    )
    expected = value(field["reference"].centroid_win)
    cxx, cxy, cyy = field["shape"].ellipse
    dx, dy = windowed[:, 0] - x, windowed[:, 1] - y
    kept = cxx * dx**2 + cxy * dx * dy + cyy * dy**2 <= 1
    assert kept.sum() > 30
    np.testing.assert_allclose(windowed[kept, :2], expected[kept], atol=1e-4)


def test_annulus_levels_equal_sigma_clip():
    rng = np.random.default_rng(5)
    data = rng.normal(size=(120, 120)).astype(np.float32)
    data[::9, ::7] += 30
    x, y = rng.uniform(5, 115, (2, 12))
    levels = apertures.annulus_levels(data, np.zeros(data.shape, bool), x, y, 10.3, 14.4)
    for i in range(x.size):
        mask = CircularAnnulus((x[i], y[i]), 10.3, 14.4).to_mask(method="center")
        values = SigmaClip(3.0)(mask.get_values(data).astype(float), masked=False)
        assert levels[i, 0] == np.median(values)
        assert levels[i, 1] == pytest.approx(np.sqrt(np.pi / 2 / values.size) * values.std())


def test_sources_do_not_depend_on_each_other(field):
    data, bad, segments, labels, x, y = place(field)
    radius, _ = kron(field)
    half = np.full(x.size, 2.0)
    order = np.random.default_rng(0).permutation(x.size)
    for one in (order, order[3:4]):
        again = apertures.kron_radii(
            data,
            bad,
            segments,
            labels[one],
            x[one],
            y[one],
            *(c[one] for c in field["shape"].ellipse),
            1.4,
        )
        np.testing.assert_array_equal(again, radius[one])
        windowed = [
            centroids.windowed_centroids(
                *(data, field["err"], bad, segments, labels[k], x[k], y[k], half[k]),
                taps(INDEPENDENT),
            )
            for k in (slice(None), one)
        ]
        np.testing.assert_array_equal(windowed[0][one], windowed[1])


def test_daofind_equals_its_definition(field):
    """Sharpness and roundness from whole-image convolutions, as photutils' DAOStarFinder defines them."""
    from scipy.ndimage import convolve

    data, s = field["data"], field["shape"]
    sharpness, roundness = shapes.daofind(data, s.x, s.y, 2.0)
    sigma = 2.0 / 2.3548200450309493
    grid = np.mgrid[-2:3, -2:3]
    r2 = (grid**2).sum(axis=0)
    inside = r2 <= 4
    gauss = np.exp(-0.5 * r2 / sigma**2)[inside]
    kernel = np.zeros((5, 5))
    kernel[inside] = (gauss - gauss.mean()) / (gauss.size * gauss.var())
    height = convolve(data.astype(float), kernel, mode="constant")
    i = int(np.argmin(np.hypot(s.x - 200, s.y - 200)))
    row, col = round(s.y[i]), round(s.x[i])
    stamp = data[row - 2 : row + 3, col - 2 : col + 3].astype(float)
    others = inside.copy()
    others[2, 2] = False
    expected = (stamp[2, 2] - stamp[others].mean()) / height[row, col]
    assert sharpness[i] == pytest.approx(expected, rel=1e-5)
    quads = height[row - 2 : row + 3, col - 2 : col + 3].copy()
    quads[2, 2] = 0
    assert roundness[i] == pytest.approx(2 * _four_fold(quads) / np.abs(quads).sum(), rel=1e-4)


def _four_fold(q):
    """Light in opposite quadrants less that in the others, each quadrant with one half-axis."""
    right_up, up_left = q[:3, 3:].sum(), q[:2, :3].sum()
    left_down, down_right = q[2:, :2].sum(), q[3:, 2:].sum()
    return -right_up + up_left - left_down + down_right


def test_daofind_outside_and_not_finite():
    data = np.ones((30, 30), np.float32)
    sharpness, roundness = shapes.daofind(data, np.array([np.nan, 0.0]), np.array([3.0, 0.0]), 2.0)
    assert np.isnan(sharpness[0]) and np.isnan(roundness[0])
    assert np.isfinite(sharpness[1])


def test_thin_segments_get_the_variance_of_a_pixel():
    data = np.zeros((12, 12), np.float32)
    segments = np.zeros((12, 12), np.int32)
    data[4, 2:9], segments[4, 2:9] = 1, 1
    data[9, 9], segments[9, 9] = 1, 2
    for k in range(4):
        data[8 - k, k], segments[8 - k, k] = 1, 3
    shape = shapes.moments(data, data, segments, 3)
    assert (shape.xx * shape.yy - shape.xy**2 >= 1 / 144 - 1e-12).all()
    assert shape.semiminor[1] == pytest.approx(np.sqrt(1 / 12))
    assert np.isfinite(shape.theta).all()
