"""The products of a run as the rules see them: filter, skycell, grid."""

import json
from dataclasses import replace

from romosaic import product_index
from romosaic.skymap import SkyMap

CELL = SkyMap().cell("000p86x51y59").grid


def write(folder, name, element, grid, regular=False):
    """Association and record of a product, its grid under the key of skycells or of regular grids."""
    info = grid.to_wcs_info()
    own = (
        {"skycell_wcs_info": "none", "output_grid": info} if regular else {"skycell_wcs_info": info}
    )
    content = own | {"products": [{"members": [{"expname": f"{name}_cal.asdf"}]}]}
    for path, text in {
        f"associations/{name}_asn.json": content,
        f"exposures/{name}.json": {"optical_element": element},
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(json.dumps(text))


def test_grids_of_numbers_are_no_skycells(tmp_path):
    """Of several such grids none is the place of a colour picture."""
    elsewhere = replace(CELL, x0=CELL.x0 + 70, skycell=None)
    write(tmp_path, "cell", "F158", CELL)
    write(tmp_path, "numbers", "F129", elsewhere)
    write(tmp_path, "regular", "F106", replace(elsewhere, x_east=False), regular=True)
    found = product_index.read(tmp_path)
    assert {name: product.skycell for name, product in found.items()} == {
        "cell": "000p86x51y59",
        "numbers": "",
        "regular": "",
    }
    regions = {name: product.region for name, product in found.items()}
    assert regions == {"cell": "000p86", "numbers": "none", "regular": "none"}
    assert json.loads(found["numbers"].grid) == elsewhere.to_wcs_info()
    assert len({product.grid for product in found.values()}) == 3


def test_the_partner_lies_on_the_same_grid(tmp_path):
    for name, element, grid in (
        ("a_f158", "F158", CELL),
        ("a_f129", "F129", replace(CELL, skycell=None)),
        ("b_f129", "F129", CELL),
    ):
        write(tmp_path, name, element, grid)
    found = product_index.read(tmp_path)
    assert product_index.partner(found, "a_f158", "F129") == "b_f129"
    assert product_index.partner(found, "a_f158", "F106") is None
