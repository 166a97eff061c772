"""FITS files of coadds: the same pixels, the same sky, read by others; the rules of exports."""

import shutil
import subprocess

import numpy as np
import pytest
from astropy.io import fits as astropy_fits
from astropy.time import Time
from astropy.wcs import WCS
from coadd_file import grid_wcs
from romosaic import fits, moc
from romosaic.errors import ProductError
from romosaic.fits_file import write_fits
from romosaic.grid import Grid
from romosaic.skymap import SkyMap
from small_coadds import write_coadd

SKY = SkyMap()
GRIDS = {
    "cell": SKY.cell("000p86x52y60").grid,
    "north pole": SKY.cell("135p90x50y50").grid,
    "south pole": SKY.cell("225m90x50y50").grid,
    "RA 0": SKY.cell(str(SKY.primary_cell(0.0, -12.3))).grid,
    "mirrored": SkyMap(x_east=False).cell("225m90x52y47").grid,
    "turned": Grid(359.99, 40.0, 20.25, 30.5, 1e-5, 40, 60, 130.0, x_east=False),
    "far": Grid(12.0, -5.0, -90000.5, 80000.5, 0.055 / 3600, 5000, 5000, 33.0),
}
SMALL = Grid(10.0, 20.0, 30.5, 20.0, 0.055 / 3600, 70, 50)


def written(path, coadd, planes):
    write_fits(
        path,
        coadd.grid,
        fits.coadd_cards(coadd),
        fits.images(coadd, planes),
        {"MEMBERS": fits.members_table(coadd)},
    )
    return path


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
def test_the_wcs_is_that_of_the_coadd(tmp_path, grid):
    blank = np.zeros((2, 2), np.float32)
    write_fits(tmp_path / "a.fits", grid, {}, [({}, blank)], {})
    wcs = WCS(astropy_fits.getheader(tmp_path / "a.fits"))
    x, y = np.meshgrid(np.linspace(0, grid.nx - 1, 7), np.linspace(0, grid.ny - 1, 7))
    back = wcs.all_world2pix(*grid_wcs(grid)(x, y, with_bounding_box=False), 0)
    assert np.hypot(back[0] - x, back[1] - y).max() < 1e-6


def test_planes_come_back_bit_by_bit(tmp_path):
    rng = np.random.default_rng(3)
    data = rng.normal(0, 1, SMALL.shape).astype(np.float32)
    data[:10] = np.nan
    context = rng.integers(0, 1 << 32, (2, *SMALL.shape), np.uint32)
    coadd = write_coadd(tmp_path / "name_coadd.asdf", SMALL, data=data, context=context)
    path = written(tmp_path / "a.fits", coadd, ["data", "var_flat", "context", "weight"])
    with astropy_fits.open(path) as file:
        file.verify("exception")
        assert [hdu.name for hdu in file] == ["DATA", "CONTEXT", "CONTEXT", "WEIGHT", "MEMBERS"]
        np.testing.assert_array_equal(file[0].data, data)
        for number in (1, 2):
            found = file["CONTEXT", number].data
            assert found.dtype == np.uint32
            np.testing.assert_array_equal(found, context[number - 1])
        np.testing.assert_array_equal(file["WEIGHT"].data, coadd.image("weight"))
        header, members = file[0].header, file["MEMBERS"].data
        assert (header["FILTER"], header["PRODUCT"], header["NCOMBINE"]) == ("F158", "name", 34)
        assert header["BUNIT"] == "MJy sr-1" and file["WEIGHT"].header["BUNIT"] == "MJy-2 sr2"
        assert Time(header["MJD-END"], format="mjd").isot == header["DATE-END"]
        assert list(members["BIT"]) == list(range(34)) and members["EXPOSURE"][33] == "e33"
        assert members["LEVEL"][3] == 0.75
        # 1 MJy/sr over one pixel, in AB magnitudes
        jansky = 1e6 * (0.055 / 206264.806) ** 2
        assert header["ABZP"] == pytest.approx(-2.5 * np.log10(jansky / 3631), abs=1e-4)
    assert path.stat().st_size % 2880 == 0


@pytest.mark.parametrize("plane", ["data", "weight"])
def test_a_damaged_coadd_makes_no_file(tmp_path, plane):
    """One byte of an image that is stored as it is, and of one that is packed."""
    coadd = write_coadd(tmp_path / "a_coadd.asdf", SMALL)
    block = coadd.blocks.blocks[coadd.tree["roman"][plane]["source"]]
    content = bytearray((tmp_path / "a_coadd.asdf").read_bytes())
    content[block.start + block.used // 2] ^= 1
    (tmp_path / "a_coadd.asdf").write_bytes(content)
    with pytest.raises(ProductError, match="does not match its checksum"):
        written(tmp_path / "a.fits", coadd, ["data", "weight"])
    assert [path.name for path in tmp_path.iterdir()] == ["a_coadd.asdf"]


@pytest.mark.skipif(not shutil.which("SWarp"), reason="SWarp is not installed")
def test_swarp_reads_data_and_weights(tmp_path):
    coadd = write_coadd(tmp_path / "name_coadd.asdf", SMALL)
    written(tmp_path / "a.fits", coadd, ["data", "err", "weight", "context"])
    options = (
        "-SUBTRACT_BACK N -RESAMPLE N -WRITE_XML N -VERBOSE_TYPE QUIET -WEIGHT_TYPE MAP_WEIGHT"
    )
    command = ["SWarp", "a.fits[0]", *options.split(), "-WEIGHT_IMAGE", "a.fits[2]"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    found = astropy_fits.getdata(tmp_path / "coadd.fits")
    seen = found[found != 0]
    assert seen.size > 0.9 * coadd.image("data").size
    assert np.isin(seen, coadd.image("data")).mean() > 0.99


def test_the_rules(run):
    """On request only; then the index and the coverage of all products."""
    assert not {job for job in run.jobs("-n") if job.startswith(("fits", "moc", "hips"))}
    done = run.snakemake("fits", "moc", "hips")
    assert done.returncode == 0, done.output[-3000:]
    results = run.folder / "results"
    rows = (results / "fits/fits.tsv").read_text().splitlines()
    assert rows[0].split("\t")[:2] == ["product", "filter"] and len(rows) == 7
    for row in rows[1:]:
        name, element, _, ra, dec, nx, ny, size = row.split("\t")
        path = results / f"fits/{name}_coadd.fits"
        header = astropy_fits.getheader(path)
        assert (path.stat().st_size, header["FILTER"]) == (int(size), element)
        assert (header["NAXIS1"], header["NAXIS2"]) == (int(nx), int(ny))
        x, y = WCS(header).all_world2pix(float(ra), float(dec), 0)
        assert (x, y) == pytest.approx(((int(nx) - 1) / 2, (int(ny) - 1) / 2), abs=0.01)
    areas = [
        moc.square_degrees(*moc.read(results / f"moc/{name}.fits"))
        for name in ("f129_moc", "f158_moc", "moc")
    ]
    assert 0 < max(areas[:2]) <= areas[2] < sum(areas[:2])
    rows = (results / "hips/hips.tsv").read_text().splitlines()
    assert [row.split("\t")[:2] for row in rows[1:]] == [["f129", "13"], ["f158", "13"]]
    for element in ("f129", "f158"):
        folder = results / f"hips/{element}"
        assert len((folder / "products.tsv").read_text().splitlines()) == 4
        # the coverage counts touched cells of 3.2 arcsec: (11 + 2 * 3.2)^2 for 11^2
        tiles = [astropy_fits.getdata(path) for path in folder.glob("Norder13/Dir*/*.fits")]
        seen = sum(np.isfinite(tile).sum() for tile in tiles) * 41252.96 / (12 << 44)
        known = moc.square_degrees(*moc.read(folder / "Moc.fits"))
        assert 0.4 * known < seen <= known
