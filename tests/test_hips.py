"""HiPS tiles: where their pixels lie, what is in them, which coadd it is from, the files around them."""

from dataclasses import replace

import numpy as np
import pytest
from astropy import units
from astropy.io import fits
from astropy.wcs import WCS
from astropy_healpix import lonlat_to_healpix
from PIL import Image
from romosaic import hips, hips_tiles, moc
from romosaic.file_checks import problem_of
from romosaic.grid import Grid, sky_position, unit_vector
from romosaic.hips_tiles import SHIFT, WIDTH
from romosaic.skymap import SkyMap
from romosaic.small_image import Stretch
from small_coadds import write_coadd

SKY = SkyMap()
PIXEL = 58.6323 / WIDTH  # degrees, of order 0
#: A place in a skycell at the pole, on RA 0, where HEALPix changes its form (sin dec = 2/3), and elsewhere.
PLACES = {
    "pole": (123.0, 89.9995),
    "RA 0": (0.0, -12.3),
    "kink": (44.99, 41.8103),
    "south": (200.0, -75.0),
}


def window(ra: float, dec: float, side: int = 260) -> Grid:
    """Pixels around a place, of the skycell that holds it."""
    grid = SKY.cell(str(SKY.primary_cell(ra, dec))).grid
    x, y = (round(float(p)) - side // 2 for p in grid.to_pixel(ra, dec))
    return replace(grid, x0=grid.x0 - x, y0=grid.y0 - y, nx=side, ny=side, skycell=None)


def made(folder, coadds, order=13, subtract_sky=False, workers=1):
    """HiPS of coadds."""
    ranges = moc.union(moc.covered(c.image("weight"), c.grid, 17) for c in coadds)
    moc.write(folder / "moc.fits", ranges, 17)
    paths = [coadd.blocks.path for coadd in coadds]
    own = {"order": order, "subtract_sky": subtract_sky, "creator_did": "ivo://me.org/a"}
    counts = hips.make(folder / "f158", paths, folder / "moc.fits", workers=workers, **own)
    return folder / "f158", counts


def pixels(folder, order):
    """Unit vectors (3, n) and values of the pixels that have data, and headers of their tiles."""
    vectors, values, headers = [], [], []
    for path in sorted(folder.glob(f"Norder{order}/Dir*/*.fits")):
        number = int(path.stem.removeprefix("Npix"))
        data = fits.getdata(path)
        seen = np.isfinite(data)
        vectors.append(hips_tiles.pixel_vectors(order, number)[:, seen])
        values.append(data[seen])
        headers.append(fits.getheader(path))
    return np.concatenate(vectors, axis=1), np.concatenate(values), headers


@pytest.mark.parametrize("order", [0, 3, 13])
def test_pixels_lie_where_wcslib_says(order):
    rng = np.random.default_rng(order)
    count = 12 << 2 * order
    places = [
        lonlat_to_healpix(*p * units.deg, 1 << order, order="nested") for p in PLACES.values()
    ]
    for number in map(int, {*places, *rng.integers(0, count, 6), 0, count - 1}):
        cards = hips_tiles.tile_cards(order, number)
        header = fits.Header([(k, v[0] if isinstance(v, tuple) else v) for k, v in cards.items()])
        x, y = np.meshgrid(np.arange(0, WIDTH, 73), np.arange(0, WIDTH, 73))
        found = unit_vector(*WCS(header, naxis=2).all_pix2world(x, y, 0))
        vectors = hips_tiles.pixel_vectors(order, number)[:, y, x]
        apart = np.degrees(np.linalg.norm(found - vectors, axis=0)).max()
        assert apart < 1e-3 * PIXEL / 2**order, number  # near a pole wcslib has 1e-11 radians


def test_rows_and_columns_are_those_of_the_standard():
    """The draft of HiPS 1.5 gives the WCS of tile 7 of order 0 as an example."""
    given = "CRPIX1 -255.5 CRPIX2 -255.5 CRVAL1 0 CRVAL2 0 PV2_1 4 PV2_2 3 CD1_1 -8.7890625e-2"
    given += " CD1_2 -8.7890625e-2 CD2_1 8.7890625e-2 CD2_2 -8.7890625e-2"
    words = given.split()
    header = fits.Header([("CTYPE1", "RA---HPX"), ("CTYPE2", "DEC--HPX")])
    header.update({key: float(value) for key, value in zip(words[::2], words[1::2], strict=True)})
    x, y = np.array([0, 511, 0, 300]), np.array([0, 0, 511, 100])
    found = unit_vector(*WCS(header, naxis=2).all_pix2world(x, y, 0))
    np.testing.assert_allclose(found, hips_tiles.pixel_vectors(0, 7)[:, y, x], atol=1e-9)
    assert sorted(hips_tiles.pixel_numbers().ravel()) == list(range(WIDTH**2))


@pytest.mark.parametrize("number", [0, 3 << 2, 200, 767])
def test_parents_are_the_means_of_their_children(number):
    vectors = hips_tiles.pixel_vectors(3, number)
    children = [hips_tiles.pixel_vectors(4, 4 * number + k).astype(np.float32) for k in range(4)]
    joined = np.stack([hips_tiles.join([c[axis] for c in children]) for axis in range(3)])
    apart = np.degrees(np.linalg.norm(joined - vectors, axis=0))
    assert apart.max() < 0.05 * PIXEL / 2**3
    hole = np.full_like(children[0][0], np.nan)
    assert np.isnan(hips_tiles.join([hole, None, None, None])).all()
    hole[0, 1] = 5
    assert np.nanmax(hips_tiles.join([None, hole, None, None])) == 5


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
def test_a_source_is_where_it_is_and_as_bright(tmp_path, place):
    """A star of known place and flux over a slope; positions by the WCS of the tiles."""
    grid = window(*place)
    x0, y0 = grid.to_pixel(*place)
    y, x = np.indices(grid.shape)
    level = 0.5 + 0.001 * (x - x0) - 0.002 * (y - y0)
    star = 3 * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 2 / 2.0**2)
    coadd = write_coadd(tmp_path / "a_coadd.asdf", grid, data=(level + star).astype(np.float32))
    folder, _ = made(tmp_path, [coadd])
    vectors, values, headers = pixels(folder, 13)
    px, py = grid.vectors_to_pixel(vectors)
    slope = 0.5 + 0.001 * (px - x0) - 0.002 * (py - y0)
    far = np.hypot(px - x0, py - y0) > 16
    inner = far & (np.abs(px - 129.5) < 129) & (np.abs(py - 129.5) < 129)
    # interpolation is exact on a plane: float32 is what is left
    np.testing.assert_allclose(values[inner], slope[inner], rtol=1e-6, atol=1e-7)
    light = np.where(far, 0, values - slope)
    assert (
        np.hypot((light * px).sum() / light.sum() - x0, (light * py).sum() / light.sum() - y0)
        < 0.01
    )
    area = 4 * np.pi / (12 << 2 * (13 + SHIFT))
    assert light.sum() * area == pytest.approx(star.sum() * grid.middle_pixel_area, rel=2e-3)
    # and a reader of FITS finds it: the brightest pixel of the tile that holds the place
    inside = [WCS(header).all_world2pix(*place, 0) for header in headers]
    (number,) = (n for n, xy in enumerate(inside) if np.abs(np.array(xy) - 255.5).max() <= 256)
    tile = fits.getdata(sorted(folder.glob("Norder13/Dir*/*.fits"))[number])
    row, column = np.unravel_index(np.nanargmax(tile), tile.shape)
    assert np.hypot(column - inside[number][0], row - inside[number][1]) < 1


def test_each_pixel_is_from_the_coadd_that_owns_it(tmp_path):
    """Two overlapping windows of one pixel grid, one with a hole; a deeper and a shallower product of each."""
    left = window(*PLACES["RA 0"])
    right = replace(left, x0=left.x0 - 200)
    levels, coadds = {"a": 1.0, "b": 2.0, "c": 3.0}, []
    context = np.ones((2, *left.shape), np.uint32)
    for name, grid in (("a", left), ("b", right), ("c", right)):
        weight = np.full(grid.shape, 5, np.float32)
        if name == "a":
            weight[100:140, 100:] = 0
        planes = {"data": np.full(grid.shape, levels[name], np.float32), "weight": weight}
        planes |= {"context": context} if name == "b" else {}
        coadds.append(write_coadd(tmp_path / f"{name}_coadd.asdf", grid, **planes))
    folder, counts = made(tmp_path, coadds, workers=2)
    vectors, values, _ = pixels(folder, 13)
    x, y = left.vectors_to_pixel(vectors)
    hole = (x > 99.5) & (y > 99.5) & (y < 139.5)
    expected = np.where((x < 229.5) & ~hole, 1, 2)
    safe = (np.abs(x - 229.5) > 0.01) & (np.abs(np.abs(y - 119.5) - 20) > 1)
    safe &= (np.abs(x - 99.5) > 1) & (np.abs(x - 199.5) > 1)
    assert set(values) == {1.0, 2.0} and (values == expected)[safe].all()
    # all that is covered is there: 460 x 260 pixels but for the part of the hole that only `a` sees
    area = 4 * np.pi / (12 << 2 * (13 + SHIFT)) / left.middle_pixel_area
    assert len(values) * area == pytest.approx(460 * 260 - 40 * 100, rel=1e-3)
    assert counts == {
        order: len(list(folder.glob(f"Norder{order}/Dir*/*.fits"))) for order in range(14)
    }
    (tmp_path / "alone").mkdir()
    alone, _ = made(tmp_path / "alone", coadds)
    for path in folder.rglob("Npix*"):
        assert path.read_bytes() == (alone / path.relative_to(folder)).read_bytes()


def test_of_skycells_of_a_region_the_owner_is_the_one_with_the_place_next_to_its_middle():
    names = [f"000p86x{col}y{row}" for col in (51, 52, 53) for row in (59, 60, 61)]
    cells = [SKY.cell(name).grid for name in names]
    rng = np.random.default_rng(3)
    ra, dec = cells[4].to_sky(
        *np.where(
            rng.random((2, 4000)) < 0.5,
            rng.uniform(0, 200, (2, 4000)),
            rng.uniform(4800, 5000, (2, 4000)),
        )
    )
    off = [hips.off_middle(grid, *grid.to_pixel(ra, dec)) for grid in cells]
    owners, here = np.array(names)[np.argmin(off, axis=0)], SKY.primary_cell(ra, dec)
    known = np.isin(here, names)
    assert known.all() and (owners == here).all()


def test_coarser_tiles_alone_have_all_the_light(tmp_path):
    """With tiles of 0.8 arcsec pixels the coadd is averaged, not picked from."""
    grid = window(*PLACES["south"])
    data = np.random.default_rng(2).normal(1, 0.1, grid.shape).astype(np.float32)
    folder, counts = made(tmp_path, [write_coadd(tmp_path / "a_coadd.asdf", grid, data=data)], 9)
    assert max(counts) == 9 and sum(counts.values()) >= 10
    _, values, _ = pixels(folder, 9)
    # of 240 pixels each
    assert np.std(values) < 0.02 and np.mean(values) == pytest.approx(data.mean(), abs=0.02)
    _, last, _ = pixels(folder, 3)
    assert last == pytest.approx(
        data.mean(), abs=0.03
    )  # pixels of the rim count as much as whole ones


def test_files_around_the_tiles(tmp_path):
    grid = window(*PLACES["pole"])
    rng = np.random.default_rng(4)
    data = rng.normal(0.3, 0.02, grid.shape).astype(np.float32)
    data[100:110, 100:110] += 5
    weight = np.ones(grid.shape, np.float32)
    weight[:30] = 0
    coadd = write_coadd(tmp_path / "a_coadd.asdf", grid, data=data, weight=weight)
    folder, counts = made(tmp_path, [coadd], subtract_sky=True)
    text = (folder / "properties").read_text()
    known = {
        key.strip(): value.strip() for key, value in (line.split("=") for line in text.splitlines())
    }
    wanted = "creator_did obs_title dataproduct_type hips_version hips_release_date hips_status"
    wanted += " hips_tile_format hips_order hips_frame hips_tile_width"
    assert set(wanted.split()) <= set(known)
    assert (known["creator_did"], known["hips_order"]) == ("ivo://me.org/a/f158", "13")
    assert float(known["hips_initial_dec"]) > 89.9
    assert int(known["hips_nb_tiles"]) == 2 * sum(counts.values())
    assert problem_of(folder / "properties") == ""
    assert moc.read(folder / "Moc.fits")[1] == 17
    rows = (folder / "products.tsv").read_text().splitlines()
    assert rows[1].split("\t")[:2] == ["a", "2"]
    assert float(rows[1].split("\t")[2]) == pytest.approx(0.3, abs=0.002)
    _, values, _ = pixels(folder, 13)
    assert np.median(values) == pytest.approx(0, abs=0.002)
    # pictures: the same pixels as FITS, top down; transparent without data, white where bright
    for path in (next(folder.glob("Norder13/Dir*/*.fits")), folder / "Norder3/Allsky.fits"):
        tile, picture = fits.getdata(path), np.asarray(Image.open(path.with_suffix(".png")))
        np.testing.assert_array_equal(picture[::-1, :, 1] == 255, np.isfinite(tile))
        order = np.argsort(tile[np.isfinite(tile)])
        assert (np.diff(picture[::-1, :, 0][np.isfinite(tile)][order].astype(int)) >= 0).all()
    # the overview of order 3: tile n is the one in row n // 27 from the top, column n % 27
    allsky = fits.getdata(folder / "Norder3/Allsky.fits")
    row, column = np.argwhere(np.isfinite(allsky))[0]
    number = (len(allsky) - 1 - row) // 64 * 27 + column // 64
    _, dec = sky_position(hips_tiles.middles(3, np.array([number])))
    assert allsky.shape == (29 * 64, 27 * 64) and dec[0] > 80
    (folder / f"Norder3/Dir0/Npix{number}.fits").unlink()
    assert problem_of(folder / "properties").endswith(
        f"and {2 * sum(counts.values()) - 1} are there"
    )


def test_nothing_covered(tmp_path):
    grid = window(*PLACES["south"])
    coadd = write_coadd(tmp_path / "a_coadd.asdf", grid, weight=np.zeros(grid.shape, np.float32))
    folder, counts = made(tmp_path, [coadd])
    assert counts == {} and (folder / "properties").exists()
    assert hips.common_stretch(hips.sources([coadd.blocks.path], True)) == Stretch(0, 1, 1)
    assert "f158\t13\t0\t0.0" in hips.index([folder])
