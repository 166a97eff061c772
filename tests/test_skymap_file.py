import pickle
from pathlib import Path

import numpy as np
import pytest
from romosaic.errors import SkymapError
from romosaic.skymap import PIXEL_SCALE, SkyMap
from romosaic.skymap_file import CELL_DTYPE, REGION_DTYPE
from skymap_tables import reference_tables
from skymap_vectors import same_angle

REAL_PIECE = Path(__file__).parents[2] / "shared" / "data" / "skymap_region0.asdf"
SKY = SkyMap()
MIRRORED = SkyMap(x_east=False)


@pytest.mark.skipif(not REAL_PIECE.exists(), reason="the real reference file is not here")
def test_the_real_piece_agrees_with_the_computed_map():
    import asdf

    real = SkyMap.from_reference_file(REAL_PIECE)
    assert (len(real.tables.regions), real.x_east) == (1, True)
    with asdf.open(REAL_PIECE) as opened:
        regions = np.array(opened["roman"]["projection_regions"])
        cells = np.array(opened["roman"]["skycells"])
    made_regions, made_cells = reference_tables(SKY, [0])
    for name in REGION_DTYPE.names:
        np.testing.assert_allclose(made_regions[name], regions[name], rtol=0, atol=1e-10)
    assert made_cells["name"].tolist() == cells["name"].tolist()
    ambiguous = cells["dec_center"] > 90 - 1e-9
    for name in CELL_DTYPE.names[1:]:
        keep = ~ambiguous | (name not in ("ra_center", "orientat"))
        atol = 1e-5 if name == "orientat" else 1e-9
        same_angle(made_cells[name][keep], cells[name][keep], atol)
    check_agreement(real, [0])


def write_reference_file(path, tables, **meta):
    from astropy.time import Time
    from roman_datamodels.datamodels import SkycellsRefModel

    model = SkycellsRefModel.create_fake_data()
    model.projection_regions, model.skycells = tables
    model.meta = {
        "reftype": "SKYCELLS", "pedigree": "GROUND", "description": "cells", "author": "test",
        "useafter": Time("2025-01-01T00:00:00"), "telescope": "ROMAN", "origin": "STSCI",
        "instrument": {"name": "WFI"}, "nxy_skycell": 5000, "skycell_border_pixels": 100,
        "pixel_scale": 0.055,
    } | meta  # fmt: skip
    model.save(path)
    return path


def check_agreement(read, regions, made=SKY):
    """The map of a file and the computed one give the same cells, grids and overlaps."""
    rng = np.random.default_rng(3)
    for region in regions:
        for name in made.tables.names(
            region, rng.integers(0, len(made.tables.lattice(region)), 12)
        ):
            cell, expected = read.cell(name), made.cell(name)
            assert (cell.name, cell.region) == (name, region)
            assert (cell.row, cell.col) == (expected.row, expected.col)
            assert cell.grid == expected.grid
            ra, dec = cell.grid.corners()
            names, pixels = made.overlaps(ra, dec)
            own = [name for name in names if made.cell(name).region in regions]
            found, areas = read.overlaps(ra, dec)
            assert found == own
            np.testing.assert_allclose(areas, pixels[np.isin(names, own)], rtol=1e-9)
            x, y = rng.uniform(-500, 5500, (2, 50))
            here = np.isin(made.tables.regions.find(*cell.grid.to_sky(x, y)), regions)
            primary = made.primary_cell(*cell.grid.to_sky(x, y))
            np.testing.assert_array_equal(
                read.primary_cell(*cell.grid.to_sky(x, y)), np.where(here, primary, "")
            )
            np.testing.assert_array_equal(cell.in_core(x, y), expected.in_core(x, y))


@pytest.mark.parametrize("made", [SKY, MIRRORED], ids=["x east", "x west"])
def test_a_reference_file_gives_the_map_that_wrote_it(tmp_path, made):
    regions = [0, 1, 2, 8, 1500, 4057]
    path = write_reference_file(tmp_path / "skymap.asdf", reference_tables(made, regions))
    read = SkyMap.from_reference_file(path)
    assert (len(read.tables.regions), read.x_east, read.pitch) == (6, made.x_east, 4800)
    assert read.pixel_scale == PIXEL_SCALE
    check_agreement(read, regions, made)
    again = pickle.loads(pickle.dumps(read))
    assert again.cell("000p86x50y50") == read.cell("000p86x50y50")
    assert read.primary_cell(100.0, 20.0) == ""
    with pytest.raises(
        SkymapError, match=r"skymap\.asdf: there is no skycell 045p86x90y50"
    ) as caught:
        read.cell("045p86x90y50")
    assert "the nearest are 045p86x" in str(caught.value)


def test_what_is_no_present_sky_map_is_refused(tmp_path):
    import asdf

    missing = tmp_path / "none.asdf"
    with pytest.raises(SkymapError, match=r"none\.asdf: No such file"):
        SkyMap.from_reference_file(missing)
    text = tmp_path / "text.asdf"
    text.write_text("not a file of this kind")
    with pytest.raises(SkymapError, match="is not a sky map reference file"):
        SkyMap.from_reference_file(text)
    asdf.AsdfFile({"roman": {"meta": {}}}).write_to(tmp_path / "other.asdf")
    with pytest.raises(SkymapError, match="is not a sky map reference file"):
        SkyMap.from_reference_file(tmp_path / "other.asdf")

    table, cells = reference_tables(SKY, [1])
    with pytest.raises(SkymapError, match=r"its table has \d+"):
        write = write_reference_file(tmp_path / "cut.asdf", (table, cells[:-10]))
        SkyMap.from_reference_file(write)
    old = cells.copy()
    old["name"] = [f"{name[:6]}x{name[10:]}y{name[7:9]}" for name in cells["name"]]
    with pytest.raises(SkymapError, match="is a sky map from before July 2025"):
        SkyMap.from_reference_file(write_reference_file(tmp_path / "old.asdf", (table, old)))
    shifted = cells.copy()
    grids = [SKY.cell(name).grid.to_sky(2500.5, 2500.5) for name in cells["name"]]
    shifted["ra_center"], shifted["dec_center"] = np.array(grids).T
    with pytest.raises(SkymapError, match="do not lie where their tangent points say"):
        SkyMap.from_reference_file(write_reference_file(tmp_path / "shift.asdf", (table, shifted)))
