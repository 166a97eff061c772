"""Users' associations: what is taken, and what is refused with one line."""

import json
from pathlib import Path

import pytest
from romosaic import user_association
from romosaic.errors import AssociationError

MEMBERS = ["a_cal.asdf", "b_cal.asdf"]


def content(members=MEMBERS, name="mosaic", **header):
    rows = [{"expname": member, "exptype": "science"} for member in members]
    return {"asn_type": "image", **header, "products": [{"name": name, "members": rows}]}


def written(folder, value):
    path = folder / "x_asn.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def refusal(folder, value):
    """The one line that refuses an association."""
    path = written(folder, value)
    with pytest.raises(AssociationError) as caught:
        user_association.read_association(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    assert " -> " in line
    return line.removeprefix(f"{path}: ")


def test_an_association_is_taken_as_it_is(tmp_path):
    value = content(["sub/a_cal.asdf", "./b_cal.asdf"], target="none", extra={"kept": [1]})
    assert user_association.read_association(written(tmp_path, value)) == value


def test_a_byte_order_mark_does_no_harm(tmp_path):
    path = written(tmp_path, "\ufeff" + json.dumps(content()))
    assert user_association.read_association(path) == content()


@pytest.mark.parametrize(
    "value, reason",
    [
        ("{not json", "is not JSON"),
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ([], "has no products"),
        ({}, "has no products"),
        ({"products": []}, "has no products"),
        ({"products": {"name": "x"}}, "has no products"),
        ({"products": ["x"]}, "unusable name (None)"),
        ({"products": [{"members": []}]}, "unusable name (None)"),
        ({"products": [{"name": "x"}]}, "malformed member in product x"),
        ({"products": [{"name": "x", "members": None}]}, "malformed member in product x"),
        ({"products": [{"name": "x", "members": ["a"]}]}, "malformed member in product x"),
        ({"products": [{"name": "x", "members": [{"expname": "a"}]}]}, "malformed member"),
        ({"products": [{"name": "x", "members": [{"exptype": "science"}]}]}, "malformed member"),
        (content([]), "has no science member in product mosaic"),
        (content([""]), "without a file name: ''"),
        (content(["."]), "without a file name: '.'"),
        (content([7]), "without a file name: 7"),
        (content(["a\0b"]), "without a file name"),
        (content(["/data/a_cal.asdf"]), "outside its folder: /data/a_cal.asdf"),
        (content(["../a_cal.asdf"]), "outside its folder: ../a_cal.asdf"),
        (content(["sub/../../a_cal.asdf"]), "outside its folder"),
        (content(["a_cal.asdf", "b_cal.asdf", "a_cal.asdf"]), "members twice: a "),
        (content(["a_cal.asdf", "sub/a_cal.asdf"]), "members twice: a "),
        (content(["a_cal.asdf", "a.asdf"]), "members twice: a "),
    ],
)
def test_what_is_refused(tmp_path, value, reason):
    assert reason in refusal(tmp_path, value)


@pytest.mark.parametrize(
    "name", ["", "a/b", "../a", ".hidden", "a b", "{product}", "*", "a\n", "x" * 151, 5, None]
)
def test_product_names_must_do_as_file_names_and_wildcards(tmp_path, name):
    assert f"unusable name ({name!r})" in refusal(tmp_path, content(name=name))


def test_a_product_may_not_come_twice(tmp_path):
    value = content()
    value["products"] *= 2
    assert "has a product twice: mosaic" in refusal(tmp_path, value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(AssociationError, match=r"no_asn.json: No such file or directory"):
        user_association.read_association(tmp_path / "no_asn.json")


def test_only_science_members_are_used():
    product = content()["products"][0]
    product["members"] += [
        {"expname": "../sky_cal.asdf", "exptype": "background"},
        {"expname": "c_cal.asdf", "exptype": "SCIENCE"},
    ]
    names = [member["expname"] for member in user_association.science_members(product)]
    assert names == [*MEMBERS, "c_cal.asdf"]
    files = user_association.member_files("folder/x_asn.json", {"products": [product]})
    assert files == [Path("folder") / name for name in names]


def test_a_product_without_science_members_is_empty(tmp_path):
    value = content()
    value["products"][0]["members"] = [{"expname": "a_cal.asdf", "exptype": "background"}]
    assert "has no science member in product mosaic" in refusal(tmp_path, value)


def test_missing_members_are_all_named(tmp_path):
    path = written(tmp_path, content(["a_cal.asdf", "b_cal.asdf", "c_cal.asdf"]))
    (tmp_path / "b_cal.asdf").touch()
    (tmp_path / "c_cal.asdf").mkdir()
    files = user_association.member_files(path, user_association.read_association(path))
    with pytest.raises(AssociationError) as caught:
        user_association.refuse_missing(path, files)
    expected = f"members that do not exist: {tmp_path}/a_cal.asdf, {tmp_path}/c_cal.asdf -> "
    assert expected in str(caught.value)
    user_association.refuse_missing(path, files, expected={"a", "c"})
