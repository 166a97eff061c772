"""Digest of a step's code: what must change it, and what must not."""

import pytest
from romosaic.code_digest import code_digest, modules

STEP = '''"""Docstring of the module."""

import json
from typing import TYPE_CHECKING

import numpy as np

from . import shapes
from .helper import LIMIT, half as halved

if TYPE_CHECKING:
    from .typed import Thing

VALUE = 3
"""What the value is for."""


class Box:
    """Docstring of a class."""

    side: float = 1.0
    """Docstring of an attribute."""

    def area(self, thing: "Thing") -> float:
        """Docstring of a method."""
        # a comment
        return self.side**2


def run(x):
    """Docstring of a function."""
    from romosaic import late
    import romosaic.later

    return halved(x) + VALUE, f"{x!r:>5} {LIMIT}"
'''
HELPER = """from romosaic.deep import DEPTH

LIMIT = "a string that counts"


def half(x):
    return x / 2 + DEPTH
"""


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "romosaic"
    folder.mkdir()
    files = {name: f"VALUE_OF_{name} = 1\n" for name in ("deep", "late", "later", "shapes")}
    files |= {"step": STEP, "helper": HELPER, "typed": "T = 1\n", "config": "C = 1\n"}
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    (tmp_path / "step.py").write_text("from romosaic import step, scripted\n")
    (folder / "scripted.py").write_text("from .step import run\n")  # a circle
    return folder


def edit(package, name, old, new):
    path = package / f"{name}.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_modules_are_those_that_are_imported(package):
    expected = ["deep", "helper", "late", "later", "scripted", "shapes", "step"]
    assert modules("step", package) == expected


def test_digest_is_stable_and_short(package):
    digest = code_digest("step", package)
    assert len(digest) == 16 and int(digest, 16) >= 0
    assert code_digest("step", str(package)) == digest


@pytest.mark.parametrize(
    "old, new",
    [
        ("# a comment", "# another comment"),
        ("        # a comment\n", ""),
        ('"""Docstring of the module."""', '"""Another."""'),
        ('"""Docstring of the module."""\n', ""),
        ('"""Docstring of a class."""', ""),
        ('"""Docstring of an attribute."""', '"""Longer.\n\n    And longer.\n    """'),
        ('"""What the value is for."""\n', ""),
        ('"""Docstring of a method."""', '"""Other."""'),
        ('"""Docstring of a function."""', ""),
        ("VALUE = 3", "VALUE = (\n    3\n)"),
        ("VALUE = 3", "VALUE = 0x3"),
        ("self.side**2", "(self.side) ** 2"),
        ('f"{x!r:>5} {LIMIT}"', "f'{x!r:>5} {LIMIT}'"),
        ("from .typed import Thing", "from .typed import Thing as Thing  # for annotations"),
    ],
)
def test_comments_docstrings_and_layout_do_not_count(package, old, new):
    before = code_digest("step", package)
    edit(package, "step", old, new)
    assert code_digest("step", package) == before


@pytest.mark.parametrize(
    "name, old, new",
    [
        ("step", "VALUE = 3", "VALUE = 4"),
        ("step", "VALUE = 3", "VALUE = 3.0"),
        ("step", "VALUE = 3", "VALUE = True"),
        ("step", "self.side**2", "self.side**3"),
        ("step", "{x!r:>5}", "{x!s:>5}"),
        ("step", "{x!r:>5}", "{x!r:>6}"),
        ("step", "side: float = 1.0", "side: int = 1.0"),
        ("step", "def area(self, thing", "def area(self, other"),
        ("helper", "x / 2 + DEPTH", "x / 2 - DEPTH"),
        ("helper", '"a string that counts"', '"another string"'),
        ("deep", "= 1", "= 2"),
        ("late", "= 1", "= 2"),
        ("later", "= 1", "= 2"),
        ("shapes", "= 1", "= 2"),
        ("scripted", "run", "Box"),
        ("../step", "import step, scripted", "import scripted, step"),
    ],
)
def test_code_of_the_step_and_its_imports_counts(package, name, old, new):
    before = code_digest("step", package)
    edit(package, name, old, new)
    assert code_digest("step", package) != before


def test_comments_of_the_script_do_not_count(package):
    before = code_digest("step", package)
    edit(package, "../step", "import step, scripted", "import step, scripted  # in this order")
    assert code_digest("step", package) == before


@pytest.mark.parametrize("name", ["config", "typed"])
def test_code_of_other_modules_does_not_count(package, name):
    before = code_digest("step", package)
    edit(package, name, "= 1", "= 2")
    assert code_digest("step", package) == before


def test_code_that_moves_to_another_module_counts(package):
    before = code_digest("step", package)
    (package / "extra.py").write_text("")
    edit(package, "helper", "from romosaic.deep", "from romosaic import extra\nfrom romosaic.deep")
    assert code_digest("step", package) != before


PIXEL_STEPS = ["flux", "skymatch", "outlier_detection", "resample", "source_catalog", "catalog"]
LOOKS = ["preview", "color", "overview", "qa"]


@pytest.mark.parametrize("step", ["associate", *PIXEL_STEPS, *LOOKS])
def test_steps_of_the_project(step):
    used = modules(step)
    assert step in used and "errors" in used
    # A new key in the configuration, or another simulator, must not remake anybody's products.
    assert not {name for name in used if name.startswith(("config", "simulate", "scene"))}
    assert "code_digest" not in used or step == "associate"


@pytest.mark.parametrize("step", PIXEL_STEPS)
def test_pixel_steps_do_not_hang_on_the_pictures_or_each_other(step):
    others = {*PIXEL_STEPS, "associate", *LOOKS, "pictures", "small_image"} - {step}
    assert not others & set(modules(step))


@pytest.mark.parametrize(
    ("step", "others"),
    [
        *((step, {"sky", "halves"}) for step in ("plan", "simulate", "skymatch")),
        *((step, {"sky", "halves", "exposure"}) for step in ("source_catalog", "preview")),
        *((step, {"sky", "exposure"}) for step in ("skymatch", "outlier_detection", "resample")),
        *((step, {"product", "flux_file"}) for step in ("associate", "plan", "simulate")),
        ("catalog", {"sky", "halves", "exposure", "product"}),
    ],
)
def test_steps_do_not_hang_on_what_they_do_not_use(step, others):
    used = set(modules(step))
    assert used and not others & used
    # what is named above is there
    assert others <= {*modules("flux"), *modules("resample")}
