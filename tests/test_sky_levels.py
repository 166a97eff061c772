"""The user's table of sky levels: forms that are read, and everything that is wrong in it by name."""

import pytest
from romosaic.errors import ConfigError
from romosaic.sky_levels import read_levels

RUN = {f"e{k}" for k in range(10)}
LEVELS = {"e0": 0.25, "e1": -0.5, "e2": 0.0}


@pytest.mark.parametrize(
    "text",
    [
        "e0 0.25\ne1 -5e-1\ne2 0\n",
        "exposure\tlevel\ne0\t0.25\n\ne1\t-0.5\ne2\t0",
        "filename,level\r\ne0_cal.asdf, 0.25\r\n/far/away/e1_cal.asdf,-0.5\r\ne2.asdf,0\r\n",
        "\ufeff# levels of today\n'e0';0.25  # good\n  e1;-0.5\ne2;0",
        '# %ECSV 1.0\n# ---\n# datatype:\nexposure level\ne0 0.25\n"e1" -0.5\ne2 0.0\n',
    ],
    ids=["plain", "tsv", "csv", "comments", "ecsv"],
)
def test_forms(tmp_path, text):
    path = tmp_path / "levels"
    path.write_text(text, encoding="utf-8", newline="")
    assert read_levels(path, RUN) == LEVELS


def problems(tmp_path, text):
    path = tmp_path / "levels.tsv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        read_levels(path, RUN)
    assert str(path) in str(caught.value)
    return caught.value.problems


@pytest.mark.parametrize(
    "line", ["e1 nan", "e1 inf", "e1 1e39", "e1", "e1 0.1 0.2", "e1 0.1x", ",0.1", "e1 None"]
)
def test_lines_without_a_finite_level_are_named(tmp_path, line):
    (problem,) = problems(tmp_path, f"e0 0.1\n{line}\ne2 0.2\n")
    assert problem.startswith(f"line 2 ({line}): not an exposure and a finite level")


def test_a_bad_first_line_is_no_head(tmp_path):
    for line in ("e0 nan", "e0 0.1x", "e0"):
        assert problems(tmp_path, f"{line}\ne1 0.1\n")[0].startswith(f"line 1 ({line})")


def test_all_problems_are_told_at_once(tmp_path):
    found = problems(tmp_path, "e0 0.1\ne0_cal.asdf 0.2\nf1 0.1\nf2 0.1\ne3 x y\n")
    assert [problem.split(" -> ")[0] for problem in found] == [
        "line 5 (e3 x y): not an exposure and a finite level",
        "lists e0 more than once",
        "lists f1, f2, not in this run",
    ]
    many = "".join(f"x{k} 1\n" for k in range(1000))
    assert problems(tmp_path, many)[0].startswith("lists x0, x1, x10, x100, x101 and 995 more, not")


def test_tables_that_cannot_be_read(tmp_path):
    for text in ("", "# nothing\n", "exposure level\n"):
        assert problems(tmp_path, text)[0].startswith("has no levels")
    assert "cannot be read: it is no text" in problems(tmp_path, b"e0 \xff\xfe\n")[0]
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_levels(tmp_path / "none", RUN)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_levels(tmp_path, RUN)
