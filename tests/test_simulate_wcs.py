import numpy as np
import pytest
from conftest import survey_parameters
from romosaic import simulate
from romosaic.grid import Grid
from romosaic.scene import draw_scene
from romosaic.simulate_wcs import build_wcs, local_geometry, pixel_area_map, reference_point

ARRAYS = ("data", "err", "dq", "var_poisson", "var_rnoise", "var_flat")


@pytest.mark.parametrize(
    ("ra", "dec"), [(0.0, 0.0), (359.9999, 10.0), (123.0, 90.0), (0.0, -90.0), (11.3, 89.9)]
)
def test_any_place_any_size_and_back(ra, dec):
    exposure = {"ra": ra, "dec": dec, "roll": 40.0, "sky": 0.3}
    parameters = simulate.DEFAULTS | {"shape": [96, 160], "exposures": [exposure]}
    model, truth = simulate.simulate_exposure(simulate.plan(parameters)[0], parameters)
    assert model.validate() is None
    assert model.data.shape == (96, 160)
    wcs = model.meta.wcs
    assert wcs.available_frames == ["detector", "v2v3", "v2v3vacorr", "world"]
    assert wcs.bounding_box.bounding_box(order="F") == ((-0.5, 159.5), (-0.5, 95.5))
    x, y = np.meshgrid(np.linspace(-0.4, 159.4, 7), np.linspace(-0.4, 95.4, 5))
    # With the bounding box, gwcs takes sky positions around a pole or across RA 0 for outsiders.
    back = wcs.invert(*wcs(x, y), with_bounding_box=False)
    np.testing.assert_allclose(back, [x, y], atol=1e-3)
    sky_ra, sky_dec = wcs(79.5, 47.5)
    assert sky_dec == pytest.approx(dec, abs=1e-9)
    turn = (sky_ra - ra + 180) % 360 - 180
    assert abs(turn) * np.cos(np.radians(dec)) < 1e-9
    assert model.meta.wcsinfo.s_region.startswith("POLYGON ICRS ")
    vertices = np.array(model.meta.wcsinfo.s_region.split()[2:], float).reshape(4, 2)
    corner = wcs.invert(*vertices[0], with_bounding_box=False)
    np.testing.assert_allclose(corner, [-0.5, -0.5], atol=1e-3)
    assert np.all((vertices[:, 0] >= 0) & (vertices[:, 0] < 360))
    # Sources lie where the transform puts them, and there are as many as the density says.
    scene = draw_scene(*simulate.scene_circle(simulate.plan(parameters)[0], (96, 160)), parameters)
    rows = np.searchsorted(scene["id"], truth["source_id"])
    placed = wcs(truth["source_x"], truth["source_y"])
    np.testing.assert_allclose(placed[1], scene["dec"][rows], atol=1e-9)


@pytest.mark.parametrize("detector", ["WFI01", "WFI09", "WFI17"])
@pytest.mark.parametrize("roll", [0.0, 75.0, 200.0])
def test_roll_is_the_position_angle_of_y(detector, roll):
    wcs = build_wcs((128, 128), 200.0, 70.0, roll, detector, 1.00009)
    jacobian = local_geometry(wcs, np.array([200.0]), np.array([70.0]))[2][0]
    assert np.degrees(np.arctan2(*jacobian[:, 1])) % 360 == pytest.approx(roll, abs=3e-3)
    assert np.linalg.det(jacobian) > 0
    np.testing.assert_allclose(np.hypot(*jacobian), [0.1099, 0.1079], rtol=2e-4)


def test_distortion_has_the_size_of_the_real_one():
    wcs = build_wcs((4088, 4088), 30.0, 0.0, 0.0)
    edge = np.array([0.0, 2043.5, 4087.0])
    y, x = (a.ravel() for a in np.meshgrid(edge, edge, indexing="ij"))
    ra, dec = wcs(x, y)
    px, py, jacobian = local_geometry(wcs, ra, dec)
    np.testing.assert_allclose([px, py], [x, y], atol=1e-6)
    scale = np.sqrt(np.linalg.det(jacobian))
    assert 0.01 < np.ptp(scale) / scale.mean() < 0.05
    design = np.stack([np.ones(9), x, y], axis=1)
    bend = ra - design @ np.linalg.lstsq(design, ra, rcond=None)[0]
    assert 5 < np.abs(bend).max() * 3600 / 0.11 < 50
    area = pixel_area_map(wcs, (4088, 4088))
    corner = np.radians(scale[0] / 3600) ** 2
    assert area[0, 0] == pytest.approx(corner, rel=1e-5)


def test_velocity_aberration_scales_around_the_reference_point():
    plain, moved = (build_wcs((64, 64), 10.0, 20.0, 0.0, "WFI05", s) for s in (1.0, 1.0001))
    assert moved(31.5, 31.5) == pytest.approx(plain(31.5, 31.5), abs=1e-10)
    offset = [np.hypot(*np.subtract(w(60.0, 31.5), w(31.5, 31.5))) for w in (plain, moved)]
    assert offset[1] / offset[0] == pytest.approx(1.0001, abs=1e-6)


def test_detectors_are_apart():
    places = np.array([reference_point(f"WFI{k:02d}")[:2] for k in range(1, 19)])
    gaps = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1)) + 1e9 * np.eye(18)
    assert gaps.min() > 4088 * 0.107


# --- scene -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ra", "dec"), [(0.0, 90.0), (0.0, 0.0), (77.0, -90.0)])
def test_scene_is_uniform_on_the_sphere(ra, dec):
    radius = 0.25
    scene = draw_scene(ra, dec, radius, simulate.DEFAULTS | {"stars_per_arcmin2": 5.0})
    area = np.pi * (radius * 60) ** 2
    for kind, density in (("star", 5.0), ("galaxy", 70.0)):
        count = np.count_nonzero(scene["type"] == kind)
        assert abs(count - density * area) < 5 * np.sqrt(density * area)
    plane = Grid(ra, dec, 0.0, 0.0, 1 / 3600, 1, 1)
    x, y = plane.to_pixel(scene["ra"], scene["dec"])
    angle = np.arctan2(y, x)
    rank = np.histogram(angle, bins=8, range=(-np.pi, np.pi))[0]
    assert np.sum((rank - rank.mean()) ** 2 / rank.mean()) < 35
    # Equal areas: the squared distance is uniform.
    distance = np.sort(np.hypot(x, y) ** 2)
    step = np.abs(distance / distance[-1] - (np.arange(len(distance)) + 0.5) / len(distance))
    assert step.max() < 3 / np.sqrt(len(distance))


def test_scene_depends_on_place_only():
    parameters = simulate.DEFAULTS
    wide = draw_scene(0.02, 45.0, 0.05, parameters)
    narrow = draw_scene(359.99, 45.01, 0.02, parameters)
    rows = np.searchsorted(wide["id"], narrow["id"])
    assert len(narrow) > 50
    for key in ("id", "ra", "dec", "mag", "sersic_n", "half_light_radius", "type"):
        np.testing.assert_array_equal(wide[key][rows], narrow[key])
    stars = wide["type"] == "star"
    assert np.all(np.isnan(wide["sersic_n"][stars]))
    assert np.all((wide["mag"] > 18) & (wide["mag"] < 27))
    assert np.all(wide["mag"][~stars] > 19)
    assert np.median(wide["mag"]) > 24.5


def test_an_empty_sky_is_only_sky():
    parameters = survey_parameters(stars_per_arcmin2=0.0, galaxies_per_arcmin2=0.0)
    _, truth = simulate.simulate_exposure(simulate.plan(parameters)[0], parameters)
    assert len(truth["source_id"]) == 0
    np.testing.assert_array_equal(truth["noiseless"], np.float32(0.25 / 0.7708))
