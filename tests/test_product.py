"""Writers: a file appears whole or not at all, is valid by its schema, and says what it was made of."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from romosaic import exposure, flux, product
from romosaic.errors import ProductError

SCRIPTS = Path(__file__).parent.parent / "scripts"


def leftovers(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- atomic ---


def test_the_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "folder" / "a.asdf"
    with product.atomic(path) as temporary:
        assert temporary.parent == path.parent and temporary.suffix == ".asdf"
        assert temporary != path and temporary.name.startswith(".")
        temporary.write_bytes(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole" and leftovers(path.parent) == ["a.asdf"]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(1)])
def test_a_failure_leaves_nothing(tmp_path, error):
    path = tmp_path / "a.asdf"
    with pytest.raises(type(error)), product.atomic(path) as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert leftovers(tmp_path) == []
    path.write_bytes(b"old")
    with pytest.raises(type(error)), product.atomic(path) as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert path.read_bytes() == b"old" and leftovers(tmp_path) == ["a.asdf"]


def test_a_block_that_writes_nothing_is_a_failure(tmp_path):
    with pytest.raises(ProductError, match="cannot be written"), product.atomic(tmp_path / "a"):
        pass
    assert leftovers(tmp_path) == []


def test_killed_in_mid_write(tmp_path):
    path = tmp_path / "a.asdf"
    path.write_bytes(b"old")
    code = (
        "import time\n"
        "from romosaic.product import atomic\n"
        f"with atomic({str(path)!r}) as temporary:\n"
        "    with open(temporary, 'wb') as stream:\n"
        "        stream.write(b'half' * 100000)\n"
        "        stream.flush()\n"
        "        print('written', flush=True)\n"
        "        time.sleep(60)\n"
    )
    run = subprocess.Popen([sys.executable, "-c", code], cwd=SCRIPTS, stdout=subprocess.PIPE)
    assert run.stdout.readline() == b"written\n"
    run.send_signal(signal.SIGKILL)
    run.wait(10)
    run.stdout.close()
    assert path.read_bytes() == b"old"
    # What is left is hidden, and is no product by its name.
    rest = [name for name in leftovers(tmp_path) if name != "a.asdf"]
    assert len(rest) == 1 and rest[0].startswith(".")
    assert [p.name for p in tmp_path.glob("[!.]*.asdf")] == ["a.asdf"]
    # And the next run is not disturbed.
    with product.atomic(path) as temporary:
        temporary.write_bytes(b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("place", ["file/a.asdf", "file/below/a.asdf"])
def test_a_folder_that_cannot_be_made(tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(ProductError) as error, product.atomic(tmp_path / place):
        pytest.fail("nothing can be written")
    line = str(error.value)
    assert line.startswith(f"{tmp_path / place}: cannot be written (") and "\n" not in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ProductError, match="Permission denied"):
            product.write_text(tmp_path / "a.txt", "x")
    finally:
        tmp_path.chmod(0o700)


def test_a_full_disk(tmp_path):
    # A limit on the size of files fails in the same place of a write, and needs no disk to fill.
    path = tmp_path / "a.asdf"
    code = (
        "import resource, numpy as np\n"
        "from romosaic.product import write_step\n"
        "from romosaic.errors import ProductError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n"
        f"    write_step({str(path)!r}, {{'x': np.ones(50_000)}})\n"
        "except ProductError as error:\n"
        "    print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, capture_output=True, text=True)
    assert run.stdout == (
        f"{path}: cannot be written (File too large) -> check space and permissions\n"
    )
    assert leftovers(tmp_path) == []


def test_a_folder_in_the_place_of_the_file(tmp_path):
    (tmp_path / "a.asdf").mkdir()
    with pytest.raises(ProductError, match="cannot be written"):
        product.write_text(tmp_path / "a.asdf", "x")
    assert leftovers(tmp_path) == ["a.asdf"]


# --- text ---


def test_the_same_text_keeps_its_age(tmp_path):
    path = tmp_path / "a.txt"
    product.write_text(path, "α\n")
    os.utime(path, (1, 1))
    product.write_text(path, "α\n")
    assert path.stat().st_mtime == 1
    product.write_text(path, "β\n")
    assert path.stat().st_mtime > 1e9 and path.read_text("utf-8") == "β\n"
    assert leftovers(tmp_path) == ["a.txt"]


# --- provenance and intermediate files ---


def test_provenance():
    made = product.provenance({"snr": [5.0, 4.0], "mode": None}, [("a", "1f"), ("b", "2f")])
    assert set(made) == {"versions", "parameters", "inputs"}
    assert made["inputs"] == [
        {"name": "a", "fingerprint": "1f"},
        {"name": "b", "fingerprint": "2f"},
    ]
    assert made["parameters"] == {"snr": [5.0, 4.0], "mode": None}
    assert made["versions"]["numpy"] == np.__version__
    assert {"romosaic", "python", "asdf", "roman_datamodels"} <= set(made["versions"])
    json.dumps(made)
    # Two runs on the same input say the same.
    assert made == product.provenance({"snr": [5.0, 4.0], "mode": None}, [("a", "1f"), ("b", "2f")])


def test_step_files_round_trip(tmp_path):
    path = tmp_path / "a_outliers.asdf"
    tree = {
        "status": "COMPLETE",
        "members": [
            {"exposure": "a", "flagged": np.arange(7, dtype=np.uint32), "level": 0.25},
            {"exposure": "b", "flagged": np.empty(0, np.uint32), "level": float("nan")},
        ],
        "provenance": product.provenance({}, []),
    }
    product.write_step(path, tree)
    found = product.read_step(path)
    assert found["status"] == "COMPLETE" and found["provenance"] == tree["provenance"]
    for own, other in zip(found["members"], tree["members"], strict=True):
        assert own["exposure"] == other["exposure"]
        assert own["flagged"].dtype == np.uint32 and own["flagged"].flags.writeable
        np.testing.assert_array_equal(own["flagged"], other["flagged"])
        np.testing.assert_equal(own["level"], other["level"])
    # Arrays are in memory: the file may be replaced.
    path.unlink()
    assert found["members"][0]["flagged"].sum() == 21


def test_step_files_that_are_damaged(tmp_path):
    path = tmp_path / "a_outliers.asdf"
    product.write_step(path, {"flagged": np.arange(1000, dtype=np.uint32)})
    content = path.read_bytes()
    for bad, what in (
        (content[:-5], "cut short"),
        (content[:-5] + b"x" + content[-4:], "checksum"),
        (content.replace(b"romosaic:", b"xomosaic:"), "not a file of this workflow"),
        (content.replace(b"source: 0", b"source: 1"), "has no block 1"),
        (b"", "is empty"),
    ):
        path.write_bytes(bad)
        with pytest.raises(ProductError, match=what) as error:
            product.read_step(path)
        assert "\n" not in str(error.value)
    with pytest.raises(ProductError, match="No such file"):
        product.read_step(tmp_path / "b.asdf")


# --- files of the flux step ---


@pytest.fixture(scope="module")
def calibration(survey):
    """Parts of a flux file: model, Calibrated, pixel map, name."""
    name = survey.names[2]
    model, conversion = exposure.read_exposure(survey.paths[name])
    calibrated = flux.calibrate(exposure.arrays(model), conversion, where=name)
    return model, calibrated, exposure.pixel_map(name, model), name


def write(path, calibration):
    made_of = product.provenance({}, [(calibration[3], "abc")])
    product.write_flux(path, *calibration, made_of)
    return path


def test_flux_files_are_valid_images(tmp_path, calibration):
    import asdf
    import roman_datamodels.datamodels as rdm

    path = write(tmp_path / f"{calibration[3]}_flux.asdf", calibration)
    assert leftovers(tmp_path) == [path.name]
    with asdf.open(path, validate_checksums=True, lazy_load=False) as file:
        file.validate()
    with rdm.open(path) as model:
        assert isinstance(model, rdm.ImageModel)
        model.validate()
        assert model.meta.cal_step.flux == "COMPLETE" and model.meta.filename == path.name
        assert model.meta.cal_step.flat_field == "COMPLETE"
        calibrated = calibration[1]
        np.testing.assert_array_equal(model.data, calibrated.data)
        np.testing.assert_array_equal(model.dq, calibrated.dq)
        for name in ("err", "var_poisson", "var_rnoise", "var_flat"):
            plane = calibrated.err if name == "err" else calibrated.variances[name]
            assert model[name].dtype == np.float16
            np.testing.assert_allclose(np.asarray(model[name], float), plane, rtol=6e-4, atol=1e-7)
        x, y = model.meta.wcs(10.0, 20.0), calibration[2].sky(10.0, 20.0)
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-10)


def test_flux_files_calibrate_to_themselves(tmp_path, calibration):
    # The file is a calibrated Level-2 image: the workflow takes it as input, and changes nothing.
    path = write(tmp_path / "again_cal.asdf", calibration)
    model, conversion = exposure.read_exposure(path)
    assert conversion == 1.0
    again = flux.calibrate(exposure.arrays(model), conversion, where=path)
    np.testing.assert_array_equal(again.data, calibration[1].data)
    np.testing.assert_array_equal(again.dq, calibration[1].dq)
    assert exposure.read_record(path)["optical_element"] == "F158"


def test_errors_beyond_float16_stay_finite(tmp_path, calibration):
    import roman_datamodels.datamodels as rdm

    model, calibrated, pixmap, name = calibration
    calibrated.err[0, 0] = calibrated.variances["var_poisson"][0, 0] = 1e6
    path = write(tmp_path / "a_flux.asdf", (model, calibrated, pixmap, name))
    with rdm.open(path) as found:
        assert found.err[0, 0] == found.var_poisson[0, 0] == 65504


def test_a_failing_flux_write_leaves_nothing(tmp_path, calibration, monkeypatch):
    import asdf

    def fail(self, stream, *args, **kwargs):
        Path(stream).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(asdf.AsdfFile, "write_to", fail)
    with pytest.raises(ProductError, match="No space left"):
        write(tmp_path / "a_flux.asdf", calibration)
    assert leftovers(tmp_path) == []


# --- products ---


@pytest.fixture
def mosaic():
    import roman_datamodels.datamodels as rdm

    model = rdm.MosaicModel.create_fake_data(shape=(30, 40))
    model.data = np.arange(1200, dtype=np.float32).reshape(30, 40)
    return model


def test_products_open_and_are_valid(tmp_path, mosaic):
    import asdf
    import roman_datamodels.datamodels as rdm

    path = tmp_path / "r00001_p_full_135p90x51y67_f158_coadd.asdf"
    before = time.time()
    product.write_model(path, mosaic, product.provenance({"pixfrac": 1.0}, [("a", "b")]))
    with rdm.open(path) as model:
        model.validate()
        assert isinstance(model, rdm.MosaicModel) and model.meta.filename == path.name
        assert abs(model.meta.file_date.unix - before) < 60
    with asdf.open(path, validate_checksums=True) as file:
        assert file["romosaic"]["provenance"]["inputs"] == [{"name": "a", "fingerprint": "b"}]
        assert file["romosaic"]["provenance"]["parameters"] == {"pixfrac": 1.0}
        np.testing.assert_array_equal(file["roman"]["data"], mosaic.data)


def test_a_model_that_is_not_valid_is_not_written(tmp_path, mosaic):
    mosaic._instance["data"] = np.zeros((3, 3, 3), np.float64)
    with pytest.raises(ProductError, match="would not be valid") as error:
        product.write_model(tmp_path / "a_coadd.asdf", mosaic, product.provenance({}, []))
    assert "\n" not in str(error.value) and leftovers(tmp_path) == []
