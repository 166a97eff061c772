import subprocess
import sys
from pathlib import Path

import catalog_scene as scene
import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from conftest import CORNER
from romosaic import catalog
from romosaic.catalog_columns import make_table
from romosaic.catalog_parquet import arrow_table
from romosaic.catalog_rows import look
from romosaic.errors import ProductError
from romosaic.sky_columns import flagged_spatial_id
from romosaic.skymap import SkyMap
from romosaic.source_catalog import make_catalog

META = {"parameters": {"npixels": 25}, "image_flags": {"1": "bad"}, "m5sigma": 3.0}
SCRIPTS = Path(__file__).parent.parent / "scripts"
#: Half of the side of images around borders, pixels; a place on the border of two projection regions.
HALF, BORDER = 280, (22.5, 86.0)


def write(folder, name, columns, *, forced=False, row_group=10**6):
    """Write the catalog of a product."""
    table = make_table(columns, False, META, forced)
    path = folder / f"{name}_cat.parquet"
    pq.write_table(arrow_table(table, {}), path, row_group_size=row_group)
    return path


def sources(n, region=7, seed=0, skycell="135p90x51y67"):
    """Columns of n sources of a skycell, each third outside of its core."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, 5000, (2, n))
    core = np.arange(n) % 3 > 0
    return {
        "label": np.arange(1, n + 1),
        "flagged_spatial_id": flagged_spatial_id(x, y, 0.055, region, skycell, core),
        "x_centroid": x,
        "_healpix_29": rng.integers(0, np.where(np.arange(n) % 2, 2**58, 2**50)),
        "skycell": np.full(n, skycell),
        "filter": np.full(n, "F158"),
    }


@pytest.fixture(scope="module")
def products(tmp_path_factory):
    """Products of a skycell, one without sources, one on a grid of its own."""
    folder = tmp_path_factory.mktemp("products")
    grid = sources(30, seed=4)
    grid |= {"flagged_spatial_id": np.zeros(30, np.int64), "skycell": np.full(30, "")}
    return [
        write(folder, "b", sources(900, 7, 1), row_group=100),
        write(folder, "a_with_a_longer_name", sources(600, 7, 2)),
        write(folder, "empty", {}),
        write(folder, "given", grid),
    ]


@pytest.fixture(scope="module")
def merged(products, tmp_path_factory):
    path = tmp_path_factory.mktemp("catalog") / "f158_135p90.parquet"
    return path, catalog.merge(products, path, 250)


def test_each_primary_source_is_kept_once(products, merged):
    path, count = merged
    table = pq.read_table(path).to_pandas()
    assert len(table) == count == 600 + 400 + 30
    for product in products:
        own = Table.read(product)
        kept = np.sort(own["label"][own["flagged_spatial_id"] >> 59 & 1 == 0])
        rows = table[table["product"] == product.name.removesuffix("_cat.parquet")]
        np.testing.assert_array_equal(np.sort(rows["label"]), kept)
    assert set(table["product"]) == {"b", "a_with_a_longer_name", "given"}


def test_rows_are_in_order_and_in_groups_that_can_be_held(merged):
    file = pq.ParquetFile(merged[0])
    assert (np.diff(file.read()["_healpix_29"].to_numpy()) >= 0).all()
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    sizes = [group.num_rows for group in groups]
    assert max(sizes) <= 250 and min(sizes[:-1]) > 240  # there are no pixels with many
    assert groups[0].column(0).compression == "ZSTD"


def test_where_a_pixel_has_too_many_sources_it_is_one_group(tmp_path):
    columns = sources(900) | {"_healpix_29": np.repeat([5, 7 << 50, 8 << 50], [200, 500, 200])}
    columns["flagged_spatial_id"] = np.zeros(900, np.int64)
    path = tmp_path / "f158.parquet"
    assert catalog.merge([write(tmp_path, "p", columns)], path, 300) == 900
    metadata = pq.read_metadata(path)
    assert [metadata.row_group(k).num_rows for k in range(3)] == [200, 500, 200]


def test_astropy_reads_it_with_units_and_what_holds_for_all(products, merged):
    own, whole = Table.read(products[0]), Table.read(merged[0])
    assert whole.colnames == [*own.colnames, "product"]
    for name in own.colnames:
        for what in ("dtype", "unit", "description"):
            assert getattr(whole[name], what) == getattr(own[name], what), name
    assert whole.meta == {key: META[key] for key in ("parameters", "image_flags")}
    assert whole["product"].description


def test_sources_without_a_position_are_left_out(tmp_path):
    columns = sources(9, skycell="")
    columns["_healpix_29"][3:5] = -1
    columns["flagged_spatial_id"][:] = 0
    path = write(tmp_path, "r_f158", columns)
    assert catalog.merge([path], tmp_path / "all.parquet", 1000) == 7
    assert pq.read_table(tmp_path / "all.parquet")["_healpix_29"].to_pandas().min() >= 0


def test_without_sources_the_columns_are_there(products, tmp_path):
    path = tmp_path / "f158_135p90.parquet"
    assert catalog.merge([products[2]], path, 1000) == 0
    table = Table.read(path)
    assert len(table) == 0 and table.colnames == [*Table.read(products[0]).colnames, "product"]


def test_the_regions_of_a_filter_are_read_as_one(products, tmp_path):
    """Though names of products have other lengths in them, and one is empty."""
    parts = {"135p90": products[:2], "270p88": products[2:3], "none": products[3:]}
    for region, paths in parts.items():
        path = tmp_path / f"f158/projection_region={region}/f158_{region}.parquet"
        catalog.merge(paths, path, 1000)
        # alone it is what it is among the others
        assert Table.read(path).colnames[-1] == "product"
    table = pandas.read_parquet(tmp_path / "f158")
    assert table.groupby("projection_region", observed=True).size().to_dict() == {
        "135p90": 1000,
        "none": 30,
    }
    assert set(table["skycell"][table["projection_region"] == "none"]) == {""}


def test_it_appears_whole_or_not_at_all(products, merged, tmp_path):
    path = tmp_path / "f158_135p90.parquet"
    catalog.merge(products[:1], path, 1000)
    before = path.read_bytes()
    bad, other = tmp_path / "bad_cat.parquet", write(tmp_path, "other", sources(3), forced=True)
    bad.write_bytes(products[0].read_bytes()[:-2000])
    for wrong, reason in ((bad, "cannot be read"), (other, "has not the columns of b_cat.parquet")):
        with pytest.raises(ProductError, match=reason) as error:
            catalog.merge([products[0], wrong], path, 1000)
        assert wrong.name in str(error.value)
        assert path.read_bytes() == before
    assert catalog.merge(products[::-1], path, 250) == merged[1]
    assert path.read_bytes() == merged[0].read_bytes()
    assert {entry.name for entry in tmp_path.iterdir()} == {path.name, bad.name, other.name}


def peaks(folder, code, counts=(4, 20)):
    """Peak memory of processes that get so many catalogs of 20,000 sources, MB; all of twenty are 125 MB."""
    first = write(folder, "p", sources(20_000))
    paths = [folder / f"p{k}_cat.parquet" for k in range(max(counts))]
    for path in paths:
        path.hardlink_to(first)
    code += "; import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    found = []
    for count in counts:
        command = [sys.executable, "-c", code, folder / "made", *paths[:count]]
        run = subprocess.run(command, cwd=SCRIPTS, capture_output=True, text=True, check=True)
        found.append(int(run.stdout) / 1000)
    return found


def test_memory_does_not_grow_with_the_products(tmp_path):
    code = (
        "import sys; from romosaic import catalog; catalog.merge(sys.argv[2:], sys.argv[1], 20000)"
    )
    few, many = peaks(tmp_path, code)
    assert many < few + 60


def test_only_files_that_hold_some_of_a_range_are_opened(tmp_path):
    """Of a skycell whose first and last sources are far apart on the curve, too."""
    near = {"_healpix_29": np.full(9, 5 << 40), "flagged_spatial_id": np.zeros(9, np.int64)}
    far = near | {"_healpix_29": np.repeat([0, 9 << 40], [4, 5])}
    paths = [write(tmp_path, "near", sources(9) | near), write(tmp_path, "far", sources(9) | far)]
    places = look(paths)
    schema = pq.read_schema(paths[0]).append(pa.field("product", pa.string()))
    paths[1].unlink()
    ranges = list(places.ranges(9))
    assert len(places.gather(*ranges[1], schema)) == 9
    with pytest.raises(ProductError, match="far_cat"):
        places.gather(*ranges[0], schema)


def test_sources_around_a_corner_of_four_cells_are_each_there_once(tmp_path):
    """Catalogs of the four cells, made as the workflow makes them, hold every source in exactly one core."""
    sky, rng = SkyMap(), np.random.default_rng(8)
    truth = scene.lattice(rng, 2 * HALF, 35, 300, 4000, edge=20)
    # Sources on the borders too, which run through the middle.
    for axis in (0, 1):
        near = np.abs(truth[:, axis] - HALF) < 17
        truth[near, axis] = HALF - 0.5 + rng.uniform(-0.5, 0.5, np.count_nonzero(near))
    data, err, _ = scene.observe(rng, scene.render((2 * HALF, 2 * HALF), truth))
    names = sky.cells_overlapping(
        *(np.array([v]) + o for v, o in zip(CORNER, _square(), strict=True))
    )
    paths, seen = [], np.zeros(len(truth), int)
    assert len(names) == 4
    for name in names:
        cell = sky.cell(name)
        # The corner of the cores lies between pixels, in the middle of the image.
        left, low = (round(v + 0.5) - HALF for v in _corner(cell))
        table = measured(cell, left, low, data, err)
        table["x_centroid"] -= left
        table["y_centroid"] -= low
        matched = scene.match(table, truth)[1]
        seen[np.unique(matched)] += 1
        paths.append(tmp_path / f"{name}_cat.parquet")
        pq.write_table(arrow_table(table, {}), paths[-1])
    assert seen.min() >= 1 and seen.max() == 4 and np.count_nonzero(seen > 1) > 0.3 * len(truth)
    catalog.merge(paths, tmp_path / "f158.parquet", 1000)
    table = Table.read(tmp_path / "f158.parquet")
    matched = scene.match(table, truth)[1]
    np.testing.assert_array_equal(np.sort(matched), np.arange(len(truth)))
    assert len(table) == len(truth)
    assert set(table["skycell"]) == set(names)


def test_sources_around_the_border_of_two_regions_are_each_there_once(tmp_path):
    """Their pixels lie otherwise: each has its own image of the same sky."""
    sky, rng = SkyMap(), np.random.default_rng(9)
    first, second = (sky.cell(name) for name in ("000p86x49y71", "045p86x49y29"))
    frame, pixel = first.grid, 0.055 / 3600 / np.cos(np.radians(BORDER[1]))
    middle = frame.to_pixel(*BORDER)
    truth = scene.lattice(rng, 2 * HALF, 35, 300, 4000, edge=20)
    truth = truth[np.hypot(truth[:, 0] - HALF, truth[:, 1] - HALF) < HALF - 20]
    ra, dec = frame.to_sky(truth[:, 0] - HALF + middle[0], truth[:, 1] - HALF + middle[1])
    # Sources at the border too, as near as the noise of their positions allows.
    near = np.abs(ra - BORDER[0]) < 17 * pixel
    aside = rng.uniform(0.5, 2, np.count_nonzero(near)) * pixel
    ra[near] = BORDER[0] + np.where(ra[near] < BORDER[0], -aside, aside)
    paths, seen = {}, 0
    for cell in (first, second):
        left, low = (round(float(v)) - HALF for v in cell.grid.to_pixel(*BORDER))
        x, y = cell.grid.to_pixel(ra, dec)
        own = np.stack([x - left, y - low, truth[:, 2]], axis=1)
        data, err, _ = scene.observe(rng, scene.render((2 * HALF, 2 * HALF), own))
        table = measured(cell, left, low, data, err)
        seen += len(table)
        region = cell.name[:6]
        paths[region] = tmp_path / f"f158/projection_region={region}/f158_{region}.parquet"
        pq.write_table(arrow_table(table, {}), tmp_path / f"{cell.name}_cat.parquet")
        catalog.merge([tmp_path / f"{cell.name}_cat.parquet"], paths[region], 1000)
    assert seen > 1.9 * len(truth)
    table = pandas.read_parquet(tmp_path / "f158")
    x, y = frame.to_pixel(table["ra"].to_numpy(), table["dec"].to_numpy())
    x0, y0 = frame.to_pixel(ra, dec)
    places = {"x_centroid": x, "y_centroid": y}
    matched = scene.match(places, np.stack([x0, y0], axis=1))[1]
    np.testing.assert_array_equal(np.sort(matched), np.arange(len(truth)))
    assert len(table) == len(truth)
    east = table["projection_region"] == "045p86"
    assert (east == (table["ra"] >= BORDER[0])).all() and 0.3 < east.mean() < 0.7


def measured(cell, left, low, data, err):
    """Catalog of a cell that holds an image at a place, as far as it is within the cell."""
    planes = [np.zeros((5000, 5000), np.float32) for _ in range(3)]
    ny, nx = data.shape
    rows, cols = slice(max(low, 0), min(low + ny, 5000)), slice(max(left, 0), min(left + nx, 5000))
    part = slice(rows.start - low, rows.stop - low), slice(cols.start - left, cols.stop - left)
    for plane, values in zip(planes, (data, err, np.ones_like(data)), strict=True):
        plane[rows, cols] = values[part]
    options = {"cell": cell, "optical_element": "F158"}
    return make_catalog(*planes, cell.grid, scene.parameters(fit_psf=False), **options)[0]


def _square():
    """A few arcseconds around a place."""
    return np.array([-1, 1, 1, -1]) * 0.02, np.array([-1, -1, 1, 1]) * 0.001


def _corner(cell):
    """Pixel position of the corner, to the nearest border of cores."""
    x, y = cell.grid.to_pixel(*CORNER)
    return (99.5 if v < 2500 else 4899.5 for v in (x, y))
