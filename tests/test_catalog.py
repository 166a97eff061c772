import subprocess
import sys
from pathlib import Path

import catalog_scene as scene
import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from conftest import CORNER
from romosaic import catalog
from romosaic.catalog_columns import make_table
from romosaic.catalog_parquet import arrow_table
from romosaic.errors import ProductError
from romosaic.sky_columns import flagged_spatial_id
from romosaic.skymap import SkyMap
from romosaic.source_catalog import Parameters, make_catalog

META = {"parameters": {"npixels": 25}, "image_flags": {"1": "bad"}, "m5sigma": 3.0}
SCRIPTS = Path(__file__).parent.parent / "scripts"


def write(folder, name, columns, *, forced=False, row_group=10**6):
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
    """Products of two regions, one without sources, one on a grid of its own."""
    folder = tmp_path_factory.mktemp("products")
    grid = sources(30, seed=4)
    grid |= {"flagged_spatial_id": np.zeros(30, np.int64), "skycell": np.full(30, "")}
    return [
        write(folder, "b", sources(900, 7, 1), row_group=100),
        write(folder, "a_with_a_longer_name", sources(600, 7, 2)),
        write(folder, "empty", {}),
        write(folder, "c", sources(300, 1234, 3)),
        write(folder, "given", grid),
    ]


@pytest.fixture(scope="module")
def merged(products, tmp_path_factory):
    folder = tmp_path_factory.mktemp("catalog") / "f158"
    return folder, catalog.merge(products, folder, 250)


def whole(folder):
    return ds.dataset(folder / "dataset").to_table()


def files(folder):
    return sorted((folder / "dataset").rglob("*.parquet"))


def test_each_primary_source_is_kept_once(products, merged):
    folder, count = merged
    table = whole(folder)
    assert len(table) == count == 600 + 400 + 200 + 30
    for path in products:
        own = Table.read(path)
        kept = np.sort(own["label"][own["flagged_spatial_id"] >> 59 & 1 == 0])
        rows = table.filter(ds.field("product") == path.name.removesuffix("_cat.parquet"))
        np.testing.assert_array_equal(np.sort(rows["label"].to_numpy()), kept)
    assert set(table["product"].to_pylist()) == {"b", "a_with_a_longer_name", "c", "given"}


def test_partitions_are_those_of_hats(products, merged):
    folder, count = merged
    lines = (folder / "partition_info.csv").read_text().splitlines()
    pairs = [tuple(map(int, line.split(","))) for line in lines[1:]]
    assert lines[0] == "Norder,Npix" and len({order for order, _ in pairs}) > 1
    listed = [
        folder / f"dataset/Norder={order}/Dir={pixel // 10000 * 10000}/Npix={pixel}.parquet"
        for order, pixel in pairs
    ]
    assert sorted(listed) == files(folder)
    sizes = {}
    for (order, pixel), path in zip(pairs, listed, strict=True):
        places = pq.read_table(path)["_healpix_29"].to_numpy()
        assert (places >> 2 * (29 - order) == pixel).all() and (np.diff(places) >= 0).all()
        sizes[order, pixel] = len(places)
    assert 0 < max(sizes.values()) <= 250 and sum(sizes.values()) == count
    # none could be larger: its parent has too many
    places = np.concatenate([pq.read_table(path)["_healpix_29"].to_numpy() for path in listed])
    for order, pixel in pairs:
        if order:
            assert (places >> 2 * (30 - order) == pixel >> 2).sum() > 250
    known = dict(line.split("=") for line in (folder / "hats.properties").read_text().splitlines())
    assert (known["hats_nrows"], known["hats_max_rows"]) == (str(count), "250")
    assert known["hats_order"] == str(max(order for order, _ in pairs))
    assert known["hats_col_ra"] == "ra" and known["dataproduct_type"] == "object"


def test_metadata_stand_for_all_files(merged):
    folder, count = merged
    metadata = pq.read_metadata(folder / "dataset/_metadata")
    assert metadata.num_rows == count
    named = {metadata.row_group(k).column(0).file_path for k in range(metadata.num_row_groups)}
    assert named == {str(path.relative_to(folder / "dataset")) for path in files(folder)}
    assert metadata.row_group(0).column(0).compression == "ZSTD"
    common = pq.read_schema(folder / "dataset/_common_metadata")
    assert common.equals(pq.read_schema(files(folder)[0]), check_metadata=True)


def test_where_a_point_has_too_many_sources_it_is_one_partition():
    cells = np.repeat([5, 6, 7 << 28], [3, 4000, 2])
    found = [(part.order, part.pixel, part.rows) for part in catalog.partitions(cells, 1000)]
    assert found == [(14, 5, 3), (14, 6, 4000), (0, 7, 2)]
    assert catalog.partitions(np.empty(0, np.int64), 10) == []


def test_astropy_reads_a_part_with_units_and_what_holds_for_all(products, merged):
    own, part = Table.read(products[0]), Table.read(files(merged[0])[0])
    assert part.colnames == [*own.colnames, "product"]
    for name in own.colnames:
        for what in ("dtype", "unit", "description"):
            assert getattr(part[name], what) == getattr(own[name], what), name
    assert part.meta == {key: META[key] for key in ("parameters", "image_flags")}
    assert part["product"].description


def test_without_sources_the_columns_are_there(products, tmp_path):
    assert catalog.merge([products[2]], tmp_path / "f158", 1000) == 0
    (part,) = files(tmp_path / "f158")
    table = Table.read(part)
    assert len(table) == 0 and table.colnames == [*Table.read(products[0]).colnames, "product"]


def test_pandas_reads_the_dataset(products, merged):
    import pandas

    table = pandas.read_parquet(merged[0] / "dataset")
    assert len(table) == merged[1] and {"ra", "product", "Norder"} <= set(table)


def test_it_appears_whole_or_not_at_all(products, merged, tmp_path):
    folder = tmp_path / "f158"
    catalog.merge(products[:1], folder, 1000)
    (folder / "stale").touch()
    bad, other = tmp_path / "bad_cat.parquet", write(tmp_path, "other", sources(3), forced=True)
    bad.write_bytes(products[0].read_bytes()[:-2000])
    for wrong, reason in ((bad, "cannot be read"), (other, "has not the columns of b_cat.parquet")):
        with pytest.raises(ProductError, match=reason) as error:
            catalog.merge([products[0], wrong], folder, 1000)
        assert wrong.name in str(error.value)
        assert (folder / "stale").exists()
    assert catalog.merge(products, folder, 250) == merged[1]
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["f158"]
    assert not (folder / "stale").exists()
    again = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    assert all((folder / path).read_bytes() == (merged[0] / path).read_bytes() for path in again)


def test_memory_does_not_grow_with_the_products(tmp_path):
    """The peak of a process of its own; all of the forty would be 250 MB."""
    first = write(tmp_path, "p", sources(20_000))
    paths = [tmp_path / f"p{k}_cat.parquet" for k in range(40)]
    for path in paths:
        path.hardlink_to(first)
    code = (
        "import resource, sys; from romosaic import catalog;"
        "catalog.merge(sys.argv[2:], sys.argv[1], 20000);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peak = []
    for count in (4, 40):
        command = [sys.executable, "-c", code, tmp_path / "f158", *paths[:count]]
        run = subprocess.run(command, cwd=SCRIPTS, capture_output=True, text=True, check=True)
        peak.append(int(run.stdout) / 1000)
    assert peak[1] < peak[0] + 60


def test_sources_around_a_corner_of_four_cells_are_each_there_once(tmp_path):
    """Catalogs of the four cells, made as the workflow makes them, hold every source in exactly one core."""
    sky, half = SkyMap(), 280
    rng = np.random.default_rng(8)
    truth = scene.lattice(rng, 2 * half, 35, 300, 4000, edge=20)
    # Sources on the borders too, which run through the middle.
    for axis in (0, 1):
        near = np.abs(truth[:, axis] - half) < 17
        truth[near, axis] = half - 0.5 + rng.uniform(-0.5, 0.5, np.count_nonzero(near))
    data, err, _ = scene.observe(rng, scene.render((2 * half, 2 * half), truth))
    names = sky.cells_overlapping(
        *(np.array([v]) + o for v, o in zip(CORNER, _square(), strict=True))
    )
    paths, seen = [], np.zeros(len(truth), int)
    assert len(names) == 4
    for name in names:
        cell = sky.cell(name)
        # The corner of the cores lies between pixels, in the middle of the image.
        left, low = (round(v + 0.5) - half for v in _corner(cell))
        planes = [np.zeros((5000, 5000), np.float32) for _ in range(3)]
        rows, cols = (slice(max(v, 0), min(v + 2 * half, 5000)) for v in (low, left))
        part = slice(rows.start - low, rows.stop - low), slice(cols.start - left, cols.stop - left)
        for plane, values in zip(planes, (data, err, np.ones_like(data)), strict=True):
            plane[rows, cols] = values[part]
        options = {"cell": cell, "optical_element": "F158"}
        table, _ = make_catalog(*planes, cell.grid, Parameters(fit_psf=False), **options)
        table["x_centroid"] -= left
        table["y_centroid"] -= low
        matched = scene.match(table, truth)[1]
        seen[np.unique(matched)] += 1
        paths.append(tmp_path / f"{name}_cat.parquet")
        pq.write_table(arrow_table(table, {}), paths[-1])
    assert seen.min() >= 1 and seen.max() == 4 and np.count_nonzero(seen > 1) > 0.3 * len(truth)
    catalog.merge(paths, tmp_path / "f158", 1000)
    (part,) = files(tmp_path / "f158")
    table = Table.read(part)
    rows, matched = scene.match(table, truth)
    np.testing.assert_array_equal(np.sort(matched), np.arange(len(truth)))
    assert len(table) == len(truth)
    assert set(table["skycell"]) == set(names)


def _square():
    """A few arcseconds around a place."""
    return np.array([-1, 1, 1, -1]) * 0.02, np.array([-1, -1, 1, 1]) * 0.001


def _corner(cell):
    """Pixel position of the corner, to the nearest border of cores."""
    x, y = cell.grid.to_pixel(*CORNER)
    return (99.5 if v < 2500 else 4899.5 for v in (x, y))
