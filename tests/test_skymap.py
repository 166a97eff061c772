import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from romosaic.errors import SkymapError
from romosaic.fits_file import fits_header
from romosaic.grid import Grid
from romosaic.skymap import PIXEL_SCALE, SkyMap
from skymap_tables import cell_of_index, index_of_cell, region_starts
from skymap_vectors import same_angle

SKY = SkyMap()
MIRRORED = SkyMap(x_east=False)
RELAXED = settings(derandomize=True, deadline=None, max_examples=100)

#: Cells of the real reference file: name, index, ra_center, dec_center, orientat, x_tangent, y_tangent,
#: four corners. Two have the right ascension 360 and the orientat -225 that the file writes for 0 and 135.
REAL_ROWS = [
    ("135p90x25y49", 0, 132.70938995736145, 88.16582739076597, 2.2906100749969482, 7299.5, 122499.5,
     131.58967234962952, 88.1258208275896, 133.92436888897058, 88.12880791563244,
     133.87860880188813, 88.20510461458119, 131.44491664170377, 88.20199041441914),
    ("135p90x50y50", 992, 135.0, 90.0, 0.0, 2499.5, 2499.5, 90.0, 89.94598491466154,
     180.0, 89.94598491466154, 270.0, 89.94598491466154, 360.0, 89.94598491466154),
    ("135p90x51y49", 1042, 360.0, 89.89629111868736, -225.0, 7299.5, -2300.5,
     27.51200262385144, 89.8830677599556, 360.0, 89.9503061192273,
     332.48799737614854, 89.8830677599556, 360.0, 89.84227630249113),
    ("135p90x60y31", 1461, 17.241459398939934, 88.42586273928964, 117.75853729248047, 93699.5, -45500.5,
     19.09914665425586, 88.40902917069856, 17.843761670804135, 88.47732886524693,
     15.345633287337025, 88.44100788675728, 16.67737005097145, 88.37423632268445),
    ("135p90x67y33", 1759, 360.0, 88.2375032306423, -225.0, 84099.5, -79100.5,
     1.7548364850606193, 88.23667677041253, 360.0, 88.29146878372286,
     358.24516351493935, 88.23667677041253, 360.0, 88.18354080549906),
]  # fmt: skip


@st.composite
def positions(draw):
    """Random sky positions, half of them near a pole, none on a limit to the last bit."""
    part = st.integers(0, 10**9 - 1).map(lambda i: (i + 0.5) / 1e9)
    ra = 360 * draw(part)
    if draw(st.booleans()):
        return ra, draw(st.sampled_from([-1, 1])) * (90 - 4 * draw(part))
    return ra, float(np.degrees(np.arcsin(2 * draw(part) - 1)))


def height(t):
    a = abs(t)
    return np.sign(t) * (8 * a / 3 if a <= 0.25 else 1 - (2 - 4 * a) ** 2 / 3)


def by_definition(ra, dec):
    """Name of the cell whose core holds a position: the published definition, one position at a time."""
    ring = sum(np.degrees(np.arcsin(height((25.5 - k) / 52))) > dec for k in range(52))
    n = 8 * min(ring, 52 - ring, 13) or 1
    i = int(np.floor((ra % 360) * n / 360 + 0.5)) % n
    ra0, dec0 = i * 360 / n, float(np.degrees(np.arcsin(height((26 - ring) / 52))))
    d, d0 = np.radians(dec), np.radians(dec0)
    if n == 1:
        # Plane of a cap: ra = 135 + atan2(x, -y) in the north, ra = 225 + atan2(x, y) in the south.
        ra0 = 135.0 if dec > 0 else 225.0
        turn, r = np.radians(ra - ra0), np.tan(np.pi / 2 - abs(d))
        x, y = r * np.sin(turn), -np.sign(dec) * r * np.cos(turn)
    else:
        turn = np.radians(ra - ra0)
        den = np.sin(d0) * np.sin(d) + np.cos(d0) * np.cos(d) * np.cos(turn)
        x = np.cos(d) * np.sin(turn) / den
        y = (np.cos(d0) * np.sin(d) - np.sin(d0) * np.cos(d) * np.cos(turn)) / den
    step = 4800 * np.radians(0.055 / 3600)
    row, col = (int(np.floor(v / step + 0.5)) + 50 for v in (y, x))
    sign = "m" if dec0 < -1e-9 else "p"
    return f"{round(ra0):03d}{sign}{round(abs(dec0)):02d}x{row:02d}y{col:02d}"


def test_size_of_the_whole_sky():
    counts = np.diff(region_starts(SKY))
    assert (len(counts), counts.sum()) == (4058, 8_045_034)
    assert (counts.min(), counts.max(), np.median(counts)) == (1927, 2021, 1983)
    assert counts[0] == counts[-1] == 1985
    assert len(SKY.tables.prefixes) == 4058


def test_regions_share_out_the_sky_in_rings():
    regions, sizes = SKY.tables.regions, SKY.tables.ring_sizes
    assert sizes.tolist() == [1, *range(8, 97, 8), *[104] * 27, *range(96, 7, -8), 1]
    area = (
        np.sin(np.radians(regions.dec_max)) - np.sin(np.radians(regions.dec_min))
    ) * regions.width
    assert area.sum() == pytest.approx(720, rel=1e-12)
    assert regions.dec_min[0] == pytest.approx(88.20062574551088, abs=1e-12)
    assert (regions.ra_min > regions.ra_max).sum() == 51
    assert (regions.ra_min[1], regions.ra_max[1]) == (337.5, 22.5)


@pytest.mark.parametrize("row", REAL_ROWS, ids=lambda row: row[0])
def test_cells_are_those_of_the_reference_file(row):
    name, index, ra, dec, orientat, x, y, *corners = row
    cell = SKY.cell(name)
    assert index_of_cell(SKY, name) == index
    assert (cell.region, cell.grid.x0, cell.grid.y0) == (0, x, y)
    same_angle(cell.grid.center[0] * (dec < 90), ra * (dec < 90))
    assert cell.grid.center[1] == pytest.approx(dec, abs=1e-9)
    found_ra, found_dec = cell.grid.corners()
    same_angle(found_ra, corners[::2])
    np.testing.assert_allclose(found_dec, corners[1::2], atol=1e-9, rtol=0)
    info = cell.grid.to_wcs_info()
    assert (info["name"], info["nx"], info["ny"]) == (name, 5000, 5000)
    assert info["pixel_scale"] == 1.5277777777777777e-05
    if dec < 90:
        same_angle(info["orientat"], orientat, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "ra", "dec"),
    [
        ("135p90x25y49", 131.58989149650404, 88.12582889870446),
        ("000p86x69y62", 20.56009991945395, 87.60319698080328),
    ],
)
def test_first_pixel_of_known_cells(name, ra, dec):
    found = SKY.cell(name).grid.to_sky(0, 0)
    np.testing.assert_allclose(found, (ra, dec), atol=1e-9, rtol=0)


def test_old_places_are_one_pixel_off_the_present_ones():
    """The old 225p90x49y67 lay at (228.3657, 88.7514), now of 135p90x51y67, a pixel off in each axis."""
    cell = SKY.cell("135p90x51y67")
    x, y = cell.grid.to_pixel(228.3657, 88.7514)
    np.testing.assert_allclose((x, y), 2499.5, atol=1.0 + 0.00005 / PIXEL_SCALE)
    # Old offsets were (4800 col + 1, 4800 row + 1), turned by 90 degrees: (x, y) old is (y, -x) now.
    ra, dec = cell.grid.to_sky(2499.5 + 1, 2499.5 - 1)
    assert (round(float(ra), 4), round(float(dec), 4)) == (228.3657, 88.7514)
    ra, dec = SKY.cell("270p65x48y69").grid.center
    assert (round(ra, 3), round(dec, 3)) == (273.228, 64.420)


@RELAXED
@given(positions())
def test_every_position_lies_in_exactly_one_core(position):
    primary = SKY.primary_cell(*position)
    assert primary == by_definition(*position)
    around = Grid(*position, 99.5, 99.5, PIXEL_SCALE, 200, 200)
    owners = [
        name
        for name in SKY.cells_overlapping(*around.corners())
        if SKY.cell(name).in_core(*SKY.cell(name).grid.to_pixel(*position))
    ]
    assert owners == [primary]


@RELAXED
@given(st.integers(0, 8_045_033))
def test_index_to_name_to_cell_and_back(index):
    cell = cell_of_index(SKY, index)
    assert index_of_cell(SKY, cell.name) == index
    assert cell.name in SKY
    ra, dec = cell.grid.center
    around = Grid(ra, dec, 49.5, 49.5, PIXEL_SCALE, 100, 100)
    assert cell.name in SKY.cells_overlapping(*around.corners())
    assert SKY.overlap_pixels(cell.name, *around.corners()) == pytest.approx(1e4, rel=5e-3)


@RELAXED
@given(positions(), st.integers(1, 103))
def test_turning_a_ring_by_its_symmetry_maps_cells_onto_cells(position, steps):
    ra, dec = position
    cell = SKY.cell(SKY.primary_cell(ra, dec))
    ring = SKY.tables.ring[cell.region]
    n, first = SKY.tables.ring_sizes[ring], SKY.tables.ring_sizes[:ring].sum()
    if n == 1:
        return
    turned = SKY.cell(SKY.primary_cell(ra + steps * 360 / n, dec))
    assert turned.region == first + (cell.region - first + steps) % n
    assert (turned.row, turned.col) == (cell.row, cell.col)
    assert (turned.grid.x0, turned.grid.y0, turned.grid.dec0) == (
        cell.grid.x0, cell.grid.y0, cell.grid.dec0,
    )  # fmt: skip


@pytest.mark.parametrize("dec", [-89.99, -84.7, -45.0, 0.01, 60.3, 88.19])
def test_both_sides_of_right_ascension_zero(dec):
    for ra in (-0.01, 0.01, 359.99, 0.0):
        name = SKY.primary_cell(ra, dec)
        assert name == by_definition(ra, dec)
        assert name == SKY.primary_cell(ra + 360, dec)
        x, y = SKY.cell(name).grid.to_pixel(ra, dec)
        assert 99.5 - 1e-6 <= x < 4899.5 + 1e-6 and 99.5 - 1e-6 <= y < 4899.5 + 1e-6
    grid = Grid(0.0, dec, 1999.5, 1999.5, PIXEL_SCALE, 4000, 4000)
    names = SKY.cells_overlapping(*grid.corners())
    assert {SKY.primary_cell(0.01, dec), SKY.primary_cell(-0.01, dec)} <= set(names)


def test_positions_where_the_peer_finds_no_cell():
    found = SKY.primary_cell([0, 45, 225], [84.85, 84.85, -84.83])
    assert found.tolist() == ["000p86x29y50", "045p86x29y50", "225m86x71y50"]


def test_cores_are_half_open_and_hold_the_poles():
    assert SKY.primary_cell(0, 90) == SKY.primary_cell(77, 90) == "135p90x50y50"
    assert SKY.primary_cell(0, -90) == "225m90x50y50"
    assert SKY.primary_cell(22.5, 86)[:6] == "045p86"
    assert SKY.primary_cell(np.nextafter(22.5, 0), 86)[:6] == "000p86"
    limit = SKY.tables.regions.dec_min[0]
    assert SKY.primary_cell(10, limit)[:6] == "135p90"
    assert SKY.primary_cell(10, np.nextafter(limit, 0))[:6] == "000p86"
    assert SKY.primary_cell(-1e-20, 0.0) == SKY.primary_cell(0.0, 0.0) == "000p00x50y50"
    cell = SKY.cell("000p00x50y50")
    x = np.array([99.4, 99.5, 4899.4, 4899.5])
    assert cell.in_core(x, 2000).tolist() == [False, True, True, False]
    assert cell.in_core(2000, x).tolist() == [False, True, True, False]
    mirrored = MIRRORED.cell("000p00x50y50")
    assert mirrored.in_core(4999 - x, 2000).tolist() == [False, True, True, False]


def test_arrays_of_positions_keep_their_shape():
    ra, dec = np.array([[10.0, np.nan], [np.inf, 30.0]]), np.array([[5.0, 5.0], [5.0, 91.0]])
    found = SKY.primary_cell(ra, dec)
    assert found.tolist() == [[by_definition(10, 5), ""], ["", ""]]
    assert SKY.primary_cell(ra[0, 0], np.array([5.0, -5.0])).shape == (2,)
    assert isinstance(SKY.primary_cell(10, 5), str)
    assert SKY.primary_cell(np.empty(0), np.empty(0)).shape == (0,)


def test_no_position_is_without_a_core():
    rng = np.random.default_rng(11)
    ra, z = rng.uniform(0, 360, 200_000), rng.uniform(-1, 1, 200_000)
    assert (SKY.primary_cell(ra, np.degrees(np.arcsin(z))) != "").all()


def test_the_mirrored_handedness_has_the_same_cells():
    rng = np.random.default_rng(5)
    for index in rng.integers(0, 8_045_034, 30).tolist():
        cell, mirror = cell_of_index(SKY, index), cell_of_index(MIRRORED, index)
        assert (mirror.name, mirror.row, mirror.col) == (cell.name, cell.row, cell.col)
        assert (mirror.grid.x0, mirror.grid.y0) == (4999 - cell.grid.x0, cell.grid.y0)
        np.testing.assert_allclose(mirror.grid.center, cell.grid.center, atol=1e-12)
        x, y = rng.uniform(0, 5000, (2, 100))
        np.testing.assert_array_equal(mirror.in_core(4999 - x, y), cell.in_core(x, y))
        ra, dec = cell.grid.corners()
        assert MIRRORED.overlaps(ra, dec)[0] == SKY.overlaps(ra, dec)[0]
        np.testing.assert_allclose(MIRRORED.overlaps(ra, dec)[1], SKY.overlaps(ra, dec)[1])


def test_other_parameters_make_another_map():
    coarse = SkyMap(pixel_scale=2 * PIXEL_SCALE, cell_size=2500, pitch=2400, border=50)
    assert region_starts(coarse)[-1] == 8_045_034
    assert coarse.cell("270p65x48y69").grid.center == pytest.approx(
        SKY.cell("270p65x48y69").grid.center
    )
    assert len(SkyMap(nside=10).tables.regions) == 2402
    with pytest.raises(SkymapError, match="do not fit a pitch"):
        SkyMap(cell_size=4000)
    with pytest.raises(SkymapError, match="not positive"):
        SkyMap(pixel_scale=0)
    with pytest.raises(SkymapError, match="cannot name the regions"):
        SkyMap(nside=40)
    with pytest.raises(SkymapError, match="do not fit skycells"):
        SkyMap(cell_size=2000, pitch=1800).cell("270p65x48y69")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("270p65x80y48", "the nearest are 270p65x75y48, 270p65x75y47, 270p65x75y49"),
        ("136p90x51y67", "the nearest are 135p90x51y67"),
        ("135P90X51Y67", "the nearest are 135p90x51y67"),
        ("271m64x50y50", "the nearest are 270m65x50y50"),
        ("999p99x99y99", "the nearest are "),
        ("225p90x49y67", "now 135p90x51y67; the nearest are 135p90x"),
        ("135m90x49y67", "before July 2025"),
        ("270p65x50y73", "there is no skycell 270p65x50y73"),
        ("r274dp63x31y81", "a skycell name of 2024"),
        ("a022dp83xp18yp21", "a skycell name of 2024"),
        ("M31", "'M31' is not a skycell name -> names look like 135p90x51y67"),
        ("", "is not a skycell name"),
        (None, "is not a skycell name"),
    ],
)
def test_a_name_that_does_not_exist_is_explained_in_one_line(name, said):
    assert name not in SKY
    with pytest.raises(SkymapError) as caught:
        SKY.cell(name)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_south_cap_of_old_names_turns_the_other_way():
    """Old south cap: tangent at RA 135, x the column. The direction of a cell on the sky is kept."""
    with pytest.raises(SkymapError) as caught:
        SKY.cell("135m90x49y67")
    present = str(caught.value).split("is now ")[1].split(";")[0]
    old = Grid(135.0, -90.0, 2499.5 + 4800, 2499.5 - 17 * 4800, PIXEL_SCALE, 5000, 5000)
    ra, dec = SKY.cell(present).grid.center
    same_angle(ra, old.center[0])
    assert dec == pytest.approx(old.center[1], abs=1e-9)


def test_old_names_that_no_longer_exist_lead_to_the_swapped_fields():
    lattice = SKY.tables.lattice(1)
    places = set(zip(lattice.rows.tolist(), lattice.cols.tolist(), strict=True))
    row, col = next((r, c) for r, c in sorted(places) if (c, r) not in places)
    with pytest.raises(SkymapError, match="before July 2025") as caught:
        SKY.cell(f"000p86x{col + 50:02d}y{row + 50:02d}")
    assert f"is now 000p86x{row + 50:02d}y{col + 50:02d}" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "sky"),
    [
        *((n, SKY) for n in ("135p90x50y50", "135p90x25y49", "225m90x67y33", "225m90x50y50")),
        *((n, SKY) for n in ("000p86x69y62", "270p65x48y69", "000p00x50y50", "125p00x50y40")),
        *((n, MIRRORED) for n in ("135p90x25y49", "225m90x67y33", "270p65x48y69")),
    ],
)
def test_fits_header_and_grid_agree_at_the_corners(name, sky):
    from astropy.io.fits import Header
    from astropy.wcs import WCS

    grid = sky.cell(name).grid
    wcs = WCS(Header(fits_header(grid)))
    x, y = np.array([-0.5, 4999.5, 4999.5, -0.5]), np.array([-0.5, -0.5, 4999.5, 4999.5])
    ra, dec = wcs.wcs_pix2world(x, y, 0)
    np.testing.assert_allclose(grid.to_pixel(ra, dec), (x, y), atol=1e-8, rtol=0)
    np.testing.assert_allclose(wcs.wcs_world2pix(*grid.corners(), 0), (x, y), atol=1e-8, rtol=0)
    assert wcs.wcs.lonpole == 180


def test_fits_header_of_a_turned_grid():
    from astropy.io.fits import Header
    from astropy.wcs import WCS

    for x_east in (True, False):
        grid = Grid(200.0, -33.0, 50.0, 20.0, 1e-4, 300, 200, 37.0, None, x_east)
        ra, dec = WCS(Header(fits_header(grid))).wcs_pix2world([-0.5, 250, 3], [0, 60, 199.5], 0)
        np.testing.assert_allclose(
            grid.to_pixel(ra, dec), ([-0.5, 250, 3], [0, 60, 199.5]), atol=1e-8, rtol=0
        )


def test_importing_costs_nothing():
    """Nothing but numpy is loaded, and no table is made before a cell is asked for."""
    scripts = Path(__file__).parents[1] / "scripts"
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from romosaic.skymap import SkyMap; sky = SkyMap();"
        "heavy = {'astropy', 'asdf', 'numba', 'gwcs', 'scipy', 'roman_datamodels'} & set(sys.modules);"
        "assert not heavy and 'tables' not in sky.__dict__, heavy; sky.cell('000p86x50y50');"
        "assert len(sky.tables._lattices) == 1"
    )
    subprocess.run([sys.executable, "-c", code, str(scripts)], check=True)


def test_a_map_goes_to_another_process_without_its_tables():
    sky = SkyMap(x_east=False)
    name = sky.primary_cell(10.0, 20.0)
    again = pickle.loads(pickle.dumps(sky))
    assert again == sky
    assert "tables" not in again.__dict__
    assert again.cell(name) == sky.cell(name)
