"""Files of the flux step: valid images, whose mapped arrays equal what flux made, without asdf's plugins."""

import copy
import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from romosaic import exposure, flux, product
from romosaic.asdf_blocks import AsdfBlocks
from romosaic.checked_plane import SMALL, CheckedPlane
from romosaic.dq_list import BadPixels, DqList
from romosaic.errors import ProductError
from romosaic.flux_file import FluxExposure, open_flux, write_flux


def parts(raw, name="a", conversion=None):
    """What `write_flux` gets: blocks, Calibrated, pixel map, name."""
    record = exposure.read_record(raw)
    found = exposure.read_exposure(raw, record["fingerprint"])
    calibrated = flux.calibrate(found.arrays, conversion or found.conversion, where=name)
    return found.blocks, calibrated, exposure.pixel_map(raw, record), name


@pytest.fixture(scope="module")
def flux_file(tmp_path_factory, survey):
    """(path, Calibrated, pixel map) of one exposure, written by the flux step."""
    name = survey.names[1]
    blocks, calibrated, pixmap, _ = parts(survey.paths[name], name)
    path = tmp_path_factory.mktemp("flux") / f"{name}_flux.asdf"
    made_of = product.provenance({"max_unusable_fraction": 0.5}, [(name, "abc")])
    write_flux(path, blocks, calibrated, pixmap, name, made_of)
    return path, calibrated, pixmap


def test_open_flux_maps_what_flux_made(flux_file, survey):
    path, calibrated, pixmap = flux_file
    found = open_flux(path)
    assert found.name == survey.names[1] and found.fingerprint == "abc"
    assert found.shape == (256, 256)
    assert found.exposure_time == survey.parameters["exposure_time"]
    exposure = found.meta["exposure"]
    assert found.effective_exposure_time == exposure["effective_exposure_time"] > 0
    exposure["effective_exposure_time"] = -999999  # not known
    assert found.effective_exposure_time == found.exposure_time
    np.testing.assert_array_equal(found.data, calibrated.data)
    assert not found.data[:].flags.writeable and found.data.dtype == np.float32
    np.testing.assert_array_equal(found.dq, calibrated.dq)
    for array in (found.data, found.dq):
        assert np.asarray(array, float).dtype == float
    for name in ("var_rnoise", "var_poisson", "var_flat"):
        variance = getattr(found, name)
        assert variance.dtype == np.float16
        np.testing.assert_array_equal(variance[:], calibrated.variances[name])
    for key, value in calibrated.sky_blocks.items():
        np.testing.assert_array_equal(found.sky_blocks[key], value)
    assert found.sky_variance == calibrated.noise["sky_variance"]
    assert found.poisson_slope == calibrated.noise["poisson_slope"]
    assert found.pedestal == calibrated.noise["pedestal"]
    assert found.tree["romosaic"]["unusable"] == calibrated.unusable
    x, y = np.array([1.0, 200.0]), np.array([5.0, 30.0])
    np.testing.assert_array_equal(found.pixmap.sky(x, y), pixmap.sky(x, y))
    assert found.meta["cal_step"]["flux"] == "COMPLETE"
    assert found.meta["instrument"]["optical_element"] == "F158"


def test_small_variances_are_float32(tmp_path, survey):
    blocks, calibrated, pixmap, _ = parts(survey.paths[survey.names[0]], conversion=1e-4)
    path = tmp_path / "a_flux.asdf"
    write_flux(path, blocks, calibrated, pixmap, "a", product.provenance({}, [("a", "b")]))
    found = open_flux(path)
    for name, variance in calibrated.precise_variances.items():
        assert getattr(found, name).dtype == np.float32
        np.testing.assert_array_equal(getattr(found, name)[:], variance)
    assert np.median(found.var_rnoise[:]) < 6e-8  # nothing in float16
    assert found.sky_variance == pytest.approx(calibrated.noise["sky_variance"])


def test_unusable_pixels_are_counted_by_reason(tmp_path, survey):
    path = survey.paths[survey.names[0]]
    record = exposure.read_record(path)
    raw = exposure.read_exposure(path)
    arrays = {name: np.array(array) for name, array in raw.arrays.items()}
    flagged = np.count_nonzero(arrays["dq"] & 1)
    good = np.flatnonzero(arrays["dq"] & 1 == 0)
    arrays["data"].flat[good[:3]] = np.nan
    arrays["err"].flat[good[3:8]] = 0
    arrays["var_flat"].flat[good[8:15]] = -1
    made = flux.calibrate(arrays, raw.conversion, where="a")
    again = tmp_path / "a_flux.asdf"
    made_of = product.provenance({}, [("a", "b")])
    write_flux(again, raw.blocks, made, exposure.pixel_map(path, record), "a", made_of)
    assert open_flux(again).tree["romosaic"]["unusable"] == {
        "flagged": flagged,
        "data not finite": 3,
        "err not positive": 5,
        "var_poisson not positive": 0,
        "var_rnoise not positive": 0,
        "var_flat not positive": 7,
    }
    assert flagged > 100


def test_variances_that_the_exposure_lacks(tmp_path, image_model):
    import asdf

    del image_model._instance["var_rnoise"], image_model._instance["var_flat"]
    raw = tmp_path / "a_cal.asdf"
    asdf.AsdfFile({"roman": image_model._instance}).write_to(raw)
    blocks, calibrated, pixmap, _ = parts(raw)
    path = tmp_path / "a_flux.asdf"
    write_flux(path, blocks, calibrated, pixmap, "a", product.provenance({}, [("a", "b")]))
    found = open_flux(path)
    assert found.var_flat is None
    np.testing.assert_array_equal(found.var_rnoise, calibrated.variances["var_rnoise"])


def test_open_flux_refuses_other_files(tmp_path, survey):
    with pytest.raises(ProductError, match="is not a file of the flux step"):
        open_flux(survey.paths[survey.names[0]])
    with pytest.raises(ProductError, match="No such file"):
        open_flux(tmp_path / "a_flux.asdf")
    product.write_step(tmp_path / "b_flux.asdf", {"members": []})
    with pytest.raises(ProductError, match="is not a file of the flux step"):
        open_flux(tmp_path / "b_flux.asdf")


def test_open_flux_refuses_cut_files(tmp_path, flux_file):
    content = flux_file[0].read_bytes()
    path = tmp_path / "a_flux.asdf"
    for part in (0.999, 0.6, 0.1, 0.001, 0.0):
        path.write_bytes(content[: int(part * len(content))])
        with pytest.raises(ProductError) as error:
            open_flux(path)
        assert "\n" not in str(error.value) and error.value.todo == "delete it and run again"


def test_open_flux_loads_no_plugins(flux_file):
    code = (
        "import sys; from romosaic.flux_file import open_flux;"
        f"f = open_flux({str(flux_file[0])!r}); f.data[3:5].sum(); f.sky_blocks; f.pixmap; f.var_flat;"
        "assert not {'asdf', 'astropy', 'roman_datamodels', 'gwcs'} & set(sys.modules)"
    )
    folder = Path(__file__).parent.parent / "scripts"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=folder)


# --- damage ---


def flipped(path, start):
    """Turn one bit over, at a place in the file."""
    content = bytearray(path.read_bytes())
    content[start] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["data", "var_rnoise"])
def test_a_window_is_held_against_its_checksums(tmp_path, survey, monkeypatch, name):
    monkeypatch.setattr("romosaic.checked_plane.PIECE", SMALL)
    # Small variances are float32, and 256 x 256 of these are two pieces.
    blocks, calibrated, pixmap, _ = parts(survey.paths[survey.names[0]], conversion=1e-4)
    path = tmp_path / "a_flux.asdf"
    write_flux(path, blocks, calibrated, pixmap, "a", product.provenance({}, [("a", "b")]))
    found = open_flux(path)
    plane = getattr(found, name)
    assert plane[:].nbytes == 2 * SMALL
    node = (found.tree["romosaic"]["variances"] if name != "data" else found.tree["roman"])[name]
    start = found.blocks.blocks[node["source"]].start
    flipped(path, start + SMALL - 1)  # row 127, last pixel
    parts_with_it = (
        np.s_[127:128],
        np.s_[:],
        np.s_[100:200, 3:5],
        np.s_[0, 0],
        np.s_[-129],
        np.s_[::-1],
    )
    for damaged in parts_with_it:
        with pytest.raises(ProductError, match=r"is corrupt.*delete it and run again") as error:
            getattr(open_flux(path), name)[damaged]
        assert "\n" not in str(error.value)
    for whole in (np.s_[128:, :7], np.s_[-1], np.s_[7:7]):
        np.testing.assert_array_equal(getattr(open_flux(path), name)[whole], plane[whole])
    with pytest.raises(ProductError, match="is corrupt"):
        open_flux(path).verify()


@pytest.mark.parametrize("share", [0.0, 0.04, 0.9])
def test_dq_is_a_list_and_a_packed_plane(tmp_path, survey, share):
    import asdf

    blocks, calibrated, pixmap, _ = parts(survey.paths[survey.names[0]])
    rng, path, shape = np.random.default_rng(3), tmp_path / "a_flux.asdf", (1000, 1000)
    dq = np.where(rng.random(shape) < share, rng.integers(1, 1 << 31, shape), 0).astype(np.uint32)
    planes = {name: np.resize(plane, shape) for name, plane in calibrated.variances.items()}
    resized = {name: np.resize(getattr(calibrated, name), shape) for name in ("data", "err")}
    resized |= {"dq": dq.copy(), "flagged": DqList.of(dq), "variances": planes}
    larger = dataclasses.replace(calibrated, **resized)
    write_flux(path, blocks, larger, pixmap, "a", product.provenance({}, [("a", "b")]))
    found = open_flux(path)
    found.verify()
    assert not isinstance(found.dq, CheckedPlane)
    np.testing.assert_array_equal(found.dq, dq)
    block = found.blocks.blocks[found.tree["roman"]["dq"]["source"]]
    assert (block.compression == "lz4") is (share < 0.5)
    assert share or block.used < 0.01 * dq.nbytes
    with asdf.open(path, validate_checksums=True, lazy_load=False) as file:
        np.testing.assert_array_equal(file["roman"]["dq"], dq)
    if share:
        index = found.blocks.blocks[found.tree["romosaic"]["dq"]["index"]["source"]]
        flipped(path, index.start + index.used - 1)
        with pytest.raises(ProductError, match="is corrupt"):
            open_flux(path).dq[:]


def test_copied_blocks_are_checked_by_verify(tmp_path, calibration):
    import asdf

    rng, raw, path = np.random.default_rng(1), tmp_path / "a_cal.asdf", tmp_path / "a_flux.asdf"
    extra = rng.integers(0, 2**12, (300, 300))  # packed, it is not small still
    asdf.AsdfFile(
        {"roman": {"meta": {"file_date": "2027", "cal_step": {}}}, "extra": extra}
    ).write_to(raw, all_array_compression="lz4")
    made_of = product.provenance({}, [("a", "b")])
    write_flux(path, AsdfBlocks.read(raw), *calibration[1:3], "a", made_of)
    with asdf.open(path, validate_checksums=True) as file:
        np.testing.assert_array_equal(file["extra"], extra)
    found = open_flux(path)
    found.verify()
    block = next(block for block in found.blocks.blocks if block.compression)
    assert block.used > SMALL and block.checksum == bytes(16)  # ASDF: there is none
    flipped(path, block.start + block.used - 1)
    with pytest.raises(ProductError, match="is corrupt"):
        open_flux(path).verify()


@pytest.mark.parametrize("change", [lambda sums: sums[:-1], lambda sums: np.append(sums, sums[:1])])
def test_as_many_checksums_as_pieces(tmp_path, calibration, monkeypatch, change):
    monkeypatch.setattr("romosaic.checked_plane.PIECE", SMALL)
    found = open_flux(write(tmp_path / "a_flux.asdf", calibration))
    given = np.array(found.blocks.array(found.tree["checksums"]))
    assert given.size >= 2 and given.dtype == np.uint32
    array = AsdfBlocks.array

    def forged(blocks, node):
        return change(given) if node is found.tree["checksums"] else array(blocks, node)

    monkeypatch.setattr(AsdfBlocks, "array", forged)
    with pytest.raises(ProductError, match="has not one checksum for each piece"):
        found.data[:5]


def test_windows_leave_no_file_open(flux_file):
    opened = [open_flux(flux_file[0]) for _ in range(20)]
    before = len(list(Path("/proc/self/fd").iterdir()))
    for found in opened:
        assert np.isfinite(found.data[3:9]).any()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_piece_is_checked_once(flux_file, monkeypatch):
    data = open_flux(flux_file[0]).data
    data[:130]
    monkeypatch.setattr("romosaic.checked_plane.zlib", None)
    np.testing.assert_array_equal(data[3:9, 4:6], flux_file[1].data[3:9, 4:6])


# --- as other programs see them ---


@pytest.fixture(scope="module")
def calibration(survey):
    return parts(survey.paths[survey.names[2]], survey.names[2])


def write(path, calibration):
    made_of = product.provenance({}, [(calibration[3], "abc")])
    write_flux(path, *calibration, made_of)
    return path


def test_flux_files_are_valid_images(tmp_path, calibration):
    import asdf
    import roman_datamodels.datamodels as rdm

    path = write(tmp_path / f"{calibration[3]}_flux.asdf", calibration)
    assert list(tmp_path.iterdir()) == [path]
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
            np.testing.assert_array_equal(model[name], plane)
        x, y = model.meta.wcs(10.0, 20.0), calibration[2].sky(10.0, 20.0)
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-10)


def test_flux_files_calibrate_to_themselves(tmp_path, calibration):
    # The file is a calibrated Level-2 image: the workflow takes it as input, and changes nothing.
    path = write(tmp_path / "again_cal.asdf", calibration)
    found = exposure.read_exposure(path)
    assert found.conversion == 1.0
    again = flux.calibrate(found.arrays, found.conversion, where=path)
    np.testing.assert_array_equal(again.data, calibration[1].data)
    np.testing.assert_array_equal(again.dq, calibration[1].dq)
    assert exposure.read_record(path)["optical_element"] == "F158"


def test_a_flux_file_of_a_flux_file_has_one_section_of_ours(tmp_path, calibration):
    path = write(tmp_path / "again_cal.asdf", calibration)
    blocks, *rest = parts(path, "again")
    made = tmp_path / "again_flux.asdf"
    write_flux(made, blocks, *rest, product.provenance({}, [("again", "xyz")]))
    assert made.read_bytes().count(b"\nromosaic:") == 1
    assert open_flux(made).fingerprint == "xyz" and open_flux(made).name == "again"
    # No block of the section that was replaced is left behind.
    assert len(AsdfBlocks.read(made).blocks) == len(AsdfBlocks.read(path).blocks)


def test_flux_files_keep_what_flux_does_not_change(tmp_path, survey, calibration):
    """Tags, tables of the WCS and the other arrays of the exposure, and no array twice."""
    import asdf

    path = write(tmp_path / f"{calibration[3]}_flux.asdf", calibration)
    with asdf.open(survey.paths[calibration[3]]) as raw, asdf.open(path) as made:
        before, after = raw["roman"], made["roman"]
        assert set(after) == set(before) and set(after["meta"]) == set(before["meta"])
        changed = {"data", "err", "dq", "var_poisson", "var_rnoise", "var_flat", "meta"}
        for name in set(before) - changed:
            np.testing.assert_array_equal(after[name], before[name])
        for name in set(before["meta"]) - {"cal_step", "filename", "file_date", "wcs"}:
            assert after["meta"][name] == before["meta"][name], name
        assert after["meta"]["file_date"] > before["meta"]["file_date"]
        # no array; pixel map; list of dq; checksums
        n_own = len(calibration[1].sky_blocks) - 1 + 2 + 2 + 1
    assert len(AsdfBlocks.read(path).blocks) == len(calibration[0].blocks) + n_own


def test_a_failing_flux_write_leaves_nothing(tmp_path, calibration, monkeypatch):
    def fail(path, *args, **options):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("romosaic.flux_file.write_copy", fail)
    with pytest.raises(ProductError, match="No space left"):
        write(tmp_path / "a_flux.asdf", calibration)
    assert list(tmp_path.iterdir()) == []


def test_dq_of_earlier_versions_is_read(tmp_path, calibration, monkeypatch):
    """They have the plane alone, as it is."""
    monkeypatch.setattr("romosaic.flux_file.pack_array", lambda array: array)
    found = open_flux(write(tmp_path / "a_flux.asdf", calibration))
    tree = copy.deepcopy(found.tree)
    del tree["romosaic"]["dq"]
    again = FluxExposure(found.path, found.blocks, tree)
    assert isinstance(again.dq, CheckedPlane)
    np.testing.assert_array_equal(again.dq, found.dq)
    one, other = (BadPixels.of(member.dq, np.uint32(1)) for member in (again, found))
    assert one.columns.size > 0
    np.testing.assert_array_equal(one.columns, other.columns)
    np.testing.assert_array_equal(one.starts, other.starts)


def test_pixel_maps_of_earlier_versions_are_read(tmp_path, calibration):
    """Their coefficients are lists in the tree."""
    found = open_flux(write(tmp_path / "a_flux.asdf", calibration))
    tree = copy.deepcopy(found.tree)
    for way in ("forward", "backward"):
        series = tree["romosaic"]["pixmap"][way]
        series["coefficients"] = found.blocks.array(series["coefficients"]).tolist()
    again = FluxExposure(found.path, found.blocks, tree).pixmap
    for way in ("forward", "backward"):
        new, old = getattr(found.pixmap, way), getattr(again, way)
        assert old.domain == new.domain
        np.testing.assert_array_equal(old.coefficients, new.coefficients)
