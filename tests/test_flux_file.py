"""Files of the flux step: mapped arrays equal what flux made, without asdf's plugins."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from romosaic import exposure, flux, product
from romosaic.errors import ProductError


@pytest.fixture(scope="module")
def flux_file(tmp_path_factory, survey):
    """(path, Calibrated, pixel map) of one exposure, written by the flux step."""
    name = survey.names[1]
    model, conversion = exposure.read_exposure(survey.paths[name])
    calibrated = flux.calibrate(exposure.arrays(model), conversion, where=name)
    pixmap = exposure.pixel_map(name, model)
    path = tmp_path_factory.mktemp("flux") / f"{name}_flux.asdf"
    made_of = product.provenance({"max_unusable_fraction": 0.5}, [(name, "abc")])
    product.write_flux(path, model, calibrated, pixmap, name, made_of)
    return path, calibrated, pixmap


def test_open_flux_maps_what_flux_made(flux_file, survey):
    path, calibrated, pixmap = flux_file
    found = exposure.open_flux(path)
    assert found.name == survey.names[1] and found.fingerprint == "abc"
    assert found.shape == (256, 256)
    assert found.exposure_time == survey.parameters["exposure_time"]
    for array, expected in ((found.data, calibrated.data), (found.dq, calibrated.dq)):
        assert isinstance(array, np.memmap) and not array.flags.writeable
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)
    for name in ("var_rnoise", "var_poisson", "var_flat"):
        variance = getattr(found, name)
        assert isinstance(variance, np.memmap) and variance.dtype == np.float16
        np.testing.assert_array_equal(variance, calibrated.variances[name].astype(np.float16))
    for key, value in calibrated.sky_blocks.items():
        np.testing.assert_array_equal(found.sky_blocks[key], value)
    assert found.sky_variance == calibrated.noise["sky_variance"]
    assert found.poisson_slope == calibrated.noise["poisson_slope"]
    assert found.pedestal == calibrated.noise["pedestal"]
    x, y = np.array([1.0, 200.0]), np.array([5.0, 30.0])
    np.testing.assert_array_equal(found.pixmap.sky(x, y), pixmap.sky(x, y))
    assert found.meta["cal_step"]["flux"] == "COMPLETE"
    assert found.meta["instrument"]["optical_element"] == "F158"


def test_small_variances_are_float32(tmp_path, survey):
    model, _ = exposure.read_exposure(survey.paths[survey.names[0]])
    calibrated = flux.calibrate(exposure.arrays(model), 1e-4, where="a")
    pixmap = exposure.pixel_map("a", model)
    path = tmp_path / "a_flux.asdf"
    product.write_flux(path, model, calibrated, pixmap, "a", product.provenance({}, [("a", "b")]))
    found = exposure.open_flux(path)
    for name, variance in calibrated.variances.items():
        assert getattr(found, name).dtype == np.float32
        np.testing.assert_array_equal(getattr(found, name), variance)
    assert np.median(found.var_rnoise) < 6e-8  # nothing in float16
    assert found.sky_variance == pytest.approx(calibrated.noise["sky_variance"])


def test_variances_that_the_exposure_lacks(tmp_path, image_model):
    import asdf

    del image_model._instance["var_rnoise"], image_model._instance["var_flat"]
    raw = tmp_path / "a_cal.asdf"
    asdf.AsdfFile({"roman": image_model._instance}).write_to(raw)
    model, conversion = exposure.read_exposure(raw)
    calibrated = flux.calibrate(exposure.arrays(model), conversion, where="a")
    pixmap = exposure.pixel_map("a", model)
    path = tmp_path / "a_flux.asdf"
    product.write_flux(path, model, calibrated, pixmap, "a", product.provenance({}, [("a", "b")]))
    found = exposure.open_flux(path)
    assert found.var_flat is None
    np.testing.assert_array_equal(
        found.var_rnoise, calibrated.variances["var_rnoise"].astype(np.float16)
    )


def test_open_flux_refuses_other_files(tmp_path, survey):
    with pytest.raises(ProductError, match="is not a file of the flux step"):
        exposure.open_flux(survey.paths[survey.names[0]])
    with pytest.raises(ProductError, match="No such file"):
        exposure.open_flux(tmp_path / "a_flux.asdf")
    product.write_step(tmp_path / "b_flux.asdf", {"members": []})
    with pytest.raises(ProductError, match="is not a file of the flux step"):
        exposure.open_flux(tmp_path / "b_flux.asdf")


def test_open_flux_refuses_cut_files(tmp_path, flux_file):
    content = flux_file[0].read_bytes()
    path = tmp_path / "a_flux.asdf"
    for part in (0.999, 0.6, 0.1, 0.001, 0.0):
        path.write_bytes(content[: int(part * len(content))])
        with pytest.raises(ProductError) as error:
            exposure.open_flux(path)
        assert "\n" not in str(error.value)


def test_open_flux_loads_no_plugins(flux_file):
    code = (
        "import sys; from romosaic.exposure import open_flux;"
        f"f = open_flux({str(flux_file[0])!r}); f.data[3:5].sum(); f.sky_blocks; f.pixmap; f.var_flat;"
        "assert not {'asdf', 'astropy', 'roman_datamodels', 'gwcs'} & set(sys.modules)"
    )
    folder = Path(__file__).parent.parent / "scripts"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=folder)
