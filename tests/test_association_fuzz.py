"""Fuzzed associations: whatever a file says, it is taken as it is or refused with one line that names it."""

import json
import string

import pytest
from asn_records import CELLS, REGULAR, VISIT, by_name, record
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from romosaic.association import resolve_association
from romosaic.association_file import read_grid
from romosaic.errors import RomosaicError
from romosaic.skymap import SkyMap
from romosaic.user_association import member_files, read_association

SKY = SkyMap()
RECORDS = by_name(*(record(number=number) for number in (1, 2, 3)))
FILES = [f"r{VISIT}_{number:04d}_wfi01_f158_cal.asdf" for number in (1, 2, 3)]
FEW = settings(
    max_examples=150,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

numbers = st.integers() | st.floats() | st.sampled_from([0, -1, 1e308, 10**400, True])
texts = st.text(max_size=8) | st.sampled_from(["none", "..", "/", "a/../../b", "\0", *CELLS[:2]])
values = st.recursive(
    st.none() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
members = st.fixed_dictionaries(
    {"expname": st.sampled_from([*FILES, "../x_cal.asdf", ""]) | values},
    optional={"exptype": st.sampled_from(["science", "SCIENCE", "background"]) | values},
)
products = st.fixed_dictionaries(
    {"name": st.text(string.ascii_letters + "._/-", max_size=5) | values},
    optional={"members": st.lists(members | values, max_size=3) | values, "excluded": values},
)
good_members = st.lists(st.sampled_from(FILES), min_size=1, max_size=3, unique=True).map(
    lambda files: [{"expname": file, "exptype": "science"} for file in files]
)
good_products = st.fixed_dictionaries({"name": st.just("m"), "members": good_members})


@st.composite
def grid_numbers(draw):
    """Numbers of a skycell, some of them lost or exchanged."""
    info = SKY.cell(CELLS[0]).grid.to_wcs_info()
    for key in draw(st.lists(st.sampled_from(sorted(info)), max_size=3)):
        info[key] = draw(values)
    for key in draw(st.lists(st.sampled_from(sorted(info)), max_size=1)):
        info.pop(key)
    return info


def refused(path, act):
    """Result of reading; None where it is refused, with one line."""
    try:
        return act()
    except RomosaicError as error:
        line = str(error)
        assert "\n" not in line and line.startswith(f"{path}: ") and " -> " in line
        return None


@FEW
@given(
    content=values
    | st.fixed_dictionaries(
        {"products": st.lists(products | values, max_size=3) | values},
        optional={"target": values, "skycell_wcs_info": values},
    ),
    outside=st.booleans(),
)
def test_any_json_is_taken_or_refused(tmp_path, content, outside):
    path = tmp_path / "x_asn.json"
    path.write_text(json.dumps(content))
    found = refused(path, lambda: read_association(path, outside))
    if found is not None:
        assert found["products"]
        for file in member_files(path, found):
            assert outside or tmp_path in file.resolve().parents


@FEW
@given(content=st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_any_bytes_are_refused(tmp_path, content):
    path = tmp_path / "x_asn.json"
    path.write_bytes(content)
    assert refused(path, lambda: read_association(path)) is None


@FEW
@given(
    product=good_products,
    header=st.fixed_dictionaries(
        {},
        optional={
            "target": st.sampled_from([*CELLS, "M 31", "none"]) | values,
            "skycell_wcs_info": grid_numbers() | values,
            "program": values,
        },
    ),
)
def test_any_header_gives_a_usable_grid_or_is_refused(tmp_path, product, header):
    path = tmp_path / "x_asn.json"
    path.write_text(json.dumps({**header, "products": [product]}))

    def act():
        return resolve_association(path, read_association(path), RECORDS, SKY, REGULAR)

    found = refused(path, act)
    if found is not None:
        settled, notes = found
        assert list(settled) == ["m"] and all("\n" not in note for note in notes)
        path.write_text(json.dumps(settled["m"]))
        grid = read_grid(path)
        assert grid.nx > 0 and grid.ny > 0 and 0 < grid.scale < 1
        assert [m["expname"] for m in settled["m"]["products"][0]["members"]] == [
            m["expname"] for m in product["members"]
        ]


def test_the_fuzz_reaches_what_is_taken(tmp_path):
    """A fuzz that only ever meets refusals would test nothing."""
    path = tmp_path / "x_asn.json"
    rows = [{"expname": file, "exptype": "science"} for file in FILES]
    content = {"target": CELLS[0], "products": [{"name": "m", "members": rows}]}
    path.write_text(json.dumps(content))
    settled, _ = resolve_association(path, read_association(path), RECORDS, SKY, REGULAR)
    assert settled["m"]["skycell_wcs_info"]["name"] == CELLS[0]
    with pytest.raises(RomosaicError, match="has no products"):
        path.write_text("{}")
        read_association(path)
