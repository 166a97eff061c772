import numpy as np
import pandas
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from romosaic import catalog, hats
from romosaic.errors import ProductError
from test_catalog import META, peaks, sources, write


@pytest.fixture(scope="module")
def catalogs(tmp_path_factory):
    """Catalogs of two projection regions, one of them without sources, and of a grid of its own."""
    folder = tmp_path_factory.mktemp("products")
    grid = sources(30, seed=4)
    grid |= {"flagged_spatial_id": np.zeros(30, np.int64), "skycell": np.full(30, "")}
    products = {
        "000p86": [write(folder, "b", sources(900, 7, 1)), write(folder, "a", sources(600, 7, 2))],
        "135p90": [write(folder, "with_a_longer_name", sources(300, 0, 3))],
        "270p88": [write(folder, "empty", {})],
        "none": [write(folder, "given", grid)],
    }
    paths = [folder / f"projection_region={region}/f158_{region}.parquet" for region in products]
    for path, own in zip(paths, products.values(), strict=True):
        catalog.merge(own, path, 100)
    return paths


@pytest.fixture(scope="module")
def made(catalogs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hats") / "f158"
    assert hats.make(folder, catalogs, 250) == len(files(folder))
    return folder


def whole(folder):
    return ds.dataset(folder / "dataset").to_table()


def files(folder):
    return sorted((folder / "dataset").rglob("*.parquet"))


def test_each_source_of_the_regions_is_there_once(catalogs, made):
    keys = ["product", "label"]
    found = whole(made).select(keys).to_pandas().sort_values(keys).to_numpy()
    parts = [pq.ParquetFile(path).read(keys).to_pandas() for path in catalogs]
    np.testing.assert_array_equal(found, pandas.concat(parts).sort_values(keys).to_numpy())
    assert len(found) == 600 + 400 + 200 + 30


def test_partitions_are_those_of_hats(made):
    folder, count = made, 1230
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


def test_metadata_stand_for_all_files(made):
    folder, count = made, 1230
    metadata = pq.read_metadata(folder / "dataset/_metadata")
    assert metadata.num_rows == count
    named = {metadata.row_group(k).column(0).file_path for k in range(metadata.num_row_groups)}
    assert named == {str(path.relative_to(folder / "dataset")) for path in files(folder)}
    assert metadata.row_group(0).column(0).compression == "ZSTD"
    common = pq.read_schema(folder / "dataset/_common_metadata")
    assert common.equals(pq.read_schema(files(folder)[0]), check_metadata=True)


def test_where_a_pixel_has_too_many_sources_it_is_one_partition():
    pixels, counts = np.array([5, 6, 6, 7 << 24]), np.array([3, 1500, 2500, 2])
    found = [(part.order, part.pixel, part.rows) for part in hats.partitions(pixels, counts, 1000)]
    assert found == [(12, 5, 3), (12, 6, 4000), (0, 7, 2)]
    assert hats.partitions(pixels[:0], counts[:0], 10) == []


def test_astropy_reads_a_part_with_units_and_what_holds_for_all(catalogs, made):
    own, part = Table.read(catalogs[0]), Table.read(files(made)[0])
    assert part.colnames == own.colnames
    for name in own.colnames:
        for what in ("unit", "description"):
            assert getattr(part[name], what) == getattr(own[name], what), name
    assert part.meta == {key: META[key] for key in ("parameters", "image_flags")}
    names = {name for path in files(made) for name in Table.read(path)["product"]}
    assert names == {"a", "b", "with_a_longer_name", "given"}


def test_without_sources_the_columns_are_there(catalogs, tmp_path):
    assert hats.make(tmp_path / "f158", [catalogs[2]], 1000) == 1
    (part,) = files(tmp_path / "f158")
    table = Table.read(part)
    assert len(table) == 0 and table.colnames == Table.read(catalogs[0]).colnames


def test_pandas_reads_the_dataset(made):
    table = pandas.read_parquet(made / "dataset")
    assert len(table) == 1230 and {"ra", "product", "Norder"} <= set(table)


def test_the_table_of_all_filters(made):
    head, row = (line.split("\t") for line in hats.index([made]).splitlines())
    found = dict(zip(head, row, strict=True))
    assert (found["filter"], found["sources"]) == ("f158", "1230")
    assert int(found["order"]) > 0 and float(found["megabytes"]) > 0


def test_it_appears_whole_or_not_at_all(catalogs, made, tmp_path):
    folder = tmp_path / "f158"
    hats.make(folder, catalogs[:1], 1000)
    (folder / "stale").touch()
    bad, other = tmp_path / "bad.parquet", tmp_path / "other.parquet"
    bad.write_bytes(catalogs[0].read_bytes()[:-2000])
    catalog.merge([write(tmp_path, "p", sources(3), forced=True)], other, 100)
    for wrong, reason in ((bad, "cannot be read"), (other, "has not the columns of")):
        with pytest.raises(ProductError, match=reason) as error:
            hats.make(folder, [catalogs[0], wrong], 1000)
        assert wrong.name in str(error.value)
        assert (folder / "stale").exists()
    hats.make(folder, catalogs[::-1], 250)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["f158"]
    assert not (folder / "stale").exists()
    again = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    assert all((folder / path).read_bytes() == (made / path).read_bytes() for path in again)


def test_memory_does_not_grow_with_the_catalogs(tmp_path):
    code = "import sys; from romosaic import catalog, hats; own = sys.argv[1] + '.parquet';"
    code += "catalog.merge(sys.argv[2:3], own, 20000);"
    code += "hats.make(sys.argv[1], [own] * len(sys.argv[2:]), 20000)"
    few, many = peaks(tmp_path, code)
    assert many < few + 60
