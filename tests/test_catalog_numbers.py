"""
One small scene has one catalog, whatever versions of Python, numpy and photutils measure it.

The expected numbers are in tests/data; `PYTHONPATH=scripts:tests python tests/test_catalog_numbers.py` writes
them anew when an algorithm has changed.
"""

import json
from functools import cache
from pathlib import Path

import catalog_scene as scene
import numpy as np
import pytest
from romosaic.source_catalog import make_catalog

EXPECTED = Path(__file__).parent / "data" / "catalog_numbers.json"
OPTIONS = {
    "segmentation": {"method": "segmentation"},
    "stars": {"method": "both"},
    "deblended": {"deblend": True},
}
WHOLE = ("label", "segment_area", "image_flags", "warning_flags", "psf_flags")
REAL = (
    *("x_centroid", "y_centroid", "x_centroid_win", "x_centroid_err", "x_psf", "y_psf"),
    *("segment_flux", "kron_flux", "kron_flux_err", "aper04_flux", "aper04_flux_err"),
    *("psf_flux", "psf_flux_err", "psf_gof", "semimajor", "ellipticity", "fwhm", "sharpness"),
)
SIZE = 160


@cache
def planes():
    """Single stars, and pairs that overlap, in numbers of numpy's frozen generator."""
    rng = np.random.RandomState(17)
    singles = scene.lattice(rng, SIZE, 36, 300, 4000)
    partners = singles[::2] + np.array([7.0, 2.0, 0.0])
    return scene.observe(rng, scene.render((SIZE, SIZE), np.concatenate([singles, partners])))


def numbers(case: str) -> dict[str, list]:
    """Columns of the catalog of a case."""
    table, _ = make_catalog(
        *planes(), scene.grid(SIZE), scene.parameters(**OPTIONS[case]), psf=scene.psf()
    )
    return {name: np.asarray(table[name]).tolist() for name in (*WHOLE, *REAL)}


@pytest.mark.parametrize("case", OPTIONS)
def test_numbers_are_those_of_every_python(case):
    expected, found = json.loads(EXPECTED.read_text())[case], numbers(case)
    for name in WHOLE:
        assert found[name] == expected[name], name
    for name in REAL:
        # Columns are float32, 6e-8; sums of some hundred pixels and fits that end at 1e-6 of a pixel make
        # a hundred times as much of it. Another algorithm, or another pixel in a sum, is 1e-4 and more.
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-5, err_msg=name)


if __name__ == "__main__":
    EXPECTED.write_text(json.dumps({case: numbers(case) for case in OPTIONS}) + "\n")
