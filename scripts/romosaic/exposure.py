"""
Exposures: read and validate calibrated Level-2 files (`_cal.asdf`).

`read_record` holds a header against the schema and follows its WCS, for which it needs asdf's plugins: many
headers share their start. `read_exposure` reads the pixels of a file whose header is known. Both take a file as
hostile until it has proved itself.
"""

import json
import re
import warnings
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from .asdf_blocks import AsdfBlocks
from .asdf_plugins import load_plugins, schema_error
from .errors import ExposureError, ProductError, RomosaicError, first_line
from .names import FILTERS, NAME, exposure_name
from .pixmap import TOLERANCE, PixelMap

_FETCH = "fetch the file again"
_LEAVE_OUT = "leave it out of `exposures`, or set associate.on_bad_exposure: exclude"
#: Images that the workflow uses; the variances may be missing, but for var_poisson.
IMAGES = ("data", "err", "dq", "var_poisson", "var_rnoise", "var_flat")
#: Vertices of a footprint between the corners of the detector, on each edge: distortion bends it.
_VERTICES = 4
#: Keys of meta.observation that make the visit's number, with their widths.
_VISIT = {
    "program": 5,
    "execution_plan": 2,
    "pass": 3,
    "segment": 3,
    "observation": 3,
    "visit": 3,
}


def fingerprint(path: str | Path) -> str:
    """Identity of a Level-2 file's content (see `AsdfBlocks.fingerprint`); raises ExposureError."""
    try:
        return AsdfBlocks.read(path).fingerprint()
    except ProductError as error:
        raise ExposureError(error.where, error.what, error.todo) from error


def read_record(path: str | Path) -> dict:
    """
    Read what the workflow needs to know of an exposure before it touches a pixel.

    Parameters
    ----------
    path : str or path
        Level-2 file.

    Returns
    -------
    dict
        exposure, fingerprint, detector, optical_element, visit_id, exposure_time (s), start_time, end_time
        (ISO, UTC), shape [ny, nx], footprint {ra, dec} (degrees), pixel_scale (arcsec, at the middle of the
        detector), pixmap (of `pixel_map`, as text, or None); plain types, no time stamp of the run.

    Raises
    ------
    ExposureError
        The file cannot be used: cut short, not ASDF, not a Level-2 image by the schema, a spectrum, without
        photometry or without a WCS that can be followed.
    """
    path = Path(path)
    if not re.fullmatch(NAME, exposure_name(path)):
        raise ExposureError(
            path, "has a name that cannot be used", "rename it (letters, digits, . _ + -)"
        )
    try:
        blocks = AsdfBlocks.read(path)
        roman = _image_tree(path, blocks)
        meta = roman["meta"]
        record = {
            "exposure": exposure_name(path),
            "fingerprint": blocks.fingerprint(),
            "detector": str(meta["instrument"]["detector"]),
            "optical_element": str(meta["instrument"]["optical_element"]).upper(),
            "visit_id": _visit_id(meta["observation"]),
            "exposure_time": float(meta["exposure"]["exposure_time"]),
            "start_time": _time(meta["exposure"]["start_time"]),
            "end_time": _time(meta["exposure"]["end_time"]),
            "shape": [int(n) for n in roman["data"]["shape"]],
        }
        if not 0 < record["exposure_time"] < np.inf:
            raise ValueError(f"exposure_time {record['exposure_time']}")
        _conversion(path, meta)
    except ProductError as error:
        raise ExposureError(error.where, error.what, error.todo) from error
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ExposureError(path, f"has no usable header ({error!r})", _LEAVE_OUT) from error
    with _opened(path) as wcs:
        record |= _on_sky(path, wcs, record["shape"])
        record["pixmap"] = _series(path, wcs, record["shape"])
    return record


def _image_tree(path: Path, blocks: AsdfBlocks) -> dict:
    tree = blocks.tree
    roman = tree.get("roman") if isinstance(tree, dict) else None
    meta = roman.get("meta") if isinstance(roman, dict) else None
    if not isinstance(meta, dict):
        raise ExposureError(path, "is not a Roman file (no roman.meta)", _LEAVE_OUT)
    element = str(_section(meta, "instrument").get("optical_element")).upper()
    if element in ("PRISM", "GRISM"):
        raise ExposureError(
            path, f"is a {element} exposure: romosaic makes mosaics of images", _LEAVE_OUT
        )
    if element not in FILTERS:
        raise ExposureError(
            path, f"has optical_element {element}, not one of {' '.join(FILTERS)}", _LEAVE_OUT
        )
    shape = _section(roman, "data").get("shape")
    plane = isinstance(shape, list) and len(shape) == 2 and all(_whole(n) for n in shape)
    if not plane or "dq" not in roman or "err" not in roman:
        raise ExposureError(path, "is not a calibrated Level-2 image (data, err, dq)", _LEAVE_OUT)
    if meta.get("wcs") is None:
        raise ExposureError(path, "has no WCS (meta.wcs is null)", _LEAVE_OUT)
    return roman


def _section(tree: dict, key: str) -> dict:
    """Part of a tree; empty where the file has something else in its place."""
    section = tree.get(key)
    return section if isinstance(section, dict) else {}


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _time(value: object) -> str:
    """Time as the file has it; raises ValueError for anything that is not one."""
    datetime.fromisoformat(str(value))
    return str(value)


def _visit_id(observation: dict) -> str:
    """Visit number PPPPPCCAAASSSOOOVVV (program, plan, pass, segment, observation, visit)."""
    return "".join(f"{int(observation[key]):0{width}d}" for key, width in _VISIT.items())


def _conversion(path: Path, meta: dict) -> float:
    """MJy/sr per unit of the data; 1 when the exposure is calibrated already."""
    if str(_section(meta, "cal_step").get("flux")) == "COMPLETE":
        return 1.0
    value = _section(meta, "photometry").get("conversion_megajanskys")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    # Beyond these limits squares leave float32.
    if not number or not 1e-15 <= value <= 1e15:
        raise ExposureError(
            path,
            f"has no photometry (meta.photometry.conversion_megajanskys is {value})",
            f"run the photom step of the Level-2 pipeline, or {_LEAVE_OUT}",
        )
    return float(value)


def _on_sky(path: Path, wcs, shape: list[int]) -> dict:
    """Sky positions along the detector's outline, and the side of its middle pixel, from the exact WCS."""
    from .footprint import detector_outline
    from .grid import unit_vector

    middle_x, middle_y = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    x, y = detector_outline(shape[1], shape[0], _VERTICES)
    x = np.append(x, middle_x + np.array([0.0, 1.0, 0.0]))
    y = np.append(y, middle_y + np.array([0.0, 0.0, 1.0]))
    try:
        ra, dec = _outermost(wcs, x, y, shape)
    except Exception as error:  # a damaged WCS may raise anything
        raise _unreadable_wcs(path, error) from error
    if not (np.all(np.isfinite(ra)) and np.all(np.isfinite(dec))):
        raise ExposureError(path, "has a WCS that gives no sky positions", _LEAVE_OUT)
    here, right, up = unit_vector(ra[-3:], dec[-3:]).T
    # The geometric mean of the steps along x and y, as romancal takes it.
    side = np.sqrt(np.linalg.norm(right - here) * np.linalg.norm(up - here))
    return {
        "footprint": {"ra": [float(v) for v in ra[:-3]], "dec": [float(v) for v in dec[:-3]]},
        "pixel_scale": float(np.degrees(side) * 3600),
    }


def _unreadable_wcs(path: Path, error: Exception) -> ExposureError:
    return ExposureError(path, f"has an unreadable WCS ({type(error).__name__})", _LEAVE_OUT)


def _series(path: Path, wcs, shape: list[int]) -> str | None:
    """Pixel map as text; None where no series follows the WCS: `flux` makes the large table that it takes."""
    from .pixmap_fit import fit_series

    series, _ = _fitted(path, fit_series, wcs, shape)
    if not series.error <= TOLERANCE:
        return None
    return json.dumps(series.to_tree(), default=np.ndarray.tolist)


def _fitted(path: Path, fit, wcs, shape: list[int]):
    """Result of one of the fits of `pixmap_fit`, with errors that name the file."""
    try:
        return fit(wcs, tuple(shape))
    except RomosaicError as error:
        raise ExposureError(path, f"has a WCS that {error.what}", error.todo) from error
    except Exception as error:  # a damaged WCS may raise anything
        raise _unreadable_wcs(path, error) from error


def _outermost(wcs, x, y, shape) -> tuple[np.ndarray, np.ndarray]:
    """Sky positions of an outline, or of the outermost pixel centres where the WCS goes no further."""
    try:
        sky = wcs(x, y)
    except ValueError:  # a table that is asked for what lies beyond it
        sky = (np.nan, np.nan)
    if np.all(np.isfinite(sky)):
        return sky
    return wcs(np.clip(x, 0, shape[1] - 1), np.clip(y, 0, shape[0] - 1))


def wcs_function(wcs):
    """Return (x, y) -> (ra, dec) of a gwcs, 0-based pixels to degrees, also beyond its bounding box."""
    # Asked for once: gwcs puts it together anew at every call.
    transform = wcs.forward_transform
    with_units = transform.uses_quantity

    def function(x, y):
        if with_units:
            from astropy import units

            x, y = x * units.pix, y * units.pix
        sky = transform(x, y, with_bounding_box=False)
        ra, dec = (a.to_value("deg") if with_units else a for a in sky)
        return np.asarray(ra, float), np.asarray(dec, float)

    return function


@contextmanager
def _opened(path: Path):
    """Hold a file against the schema of Level-2 images; gives its WCS as `wcs_function` makes it."""
    load_plugins()
    import asdf
    import roman_datamodels.datamodels as rdm

    # Renamed files are fine, and so are older tags than the newest.
    with warnings.catch_warnings(), asdf.config_context() as settings, ExitStack() as files:
        warnings.simplefilter("ignore")
        settings.validate_on_read = False  # done here
        try:
            file = files.enter_context(asdf.open(path, lazy_tree=True))
            wrong = schema_error(file, asdf.util.load_yaml(path, tagged=True))
            model = None if wrong else rdm.open(file)
        except MemoryError:
            raise
        except Exception as error:  # asdf, the schema and the data models raise many kinds
            raise _invalid(path, error) from error
        if wrong:
            raise _invalid(path, wrong)
        if not isinstance(model, rdm.ImageModel):
            what = f"is a {type(model).__name__}, not a Level-2 image"
            raise ExposureError(path, what, _LEAVE_OUT)
        # asdf leaves what it cannot convert as a plain tree, and the schema sees its tag only.
        if not callable(model.meta.wcs):
            raise ExposureError(path, "has an unreadable WCS", _LEAVE_OUT)
        yield wcs_function(model.meta.wcs)


def _invalid(path: Path, error: Exception) -> ExposureError:
    return ExposureError(path, f"is not a valid Level-2 file: {first_line(error)}", _FETCH)


@dataclass(frozen=True)
class Exposure:
    """
    A Level-2 file whose bytes are those that were written.

    Attributes
    ----------
    blocks : AsdfBlocks
        Its structure.
    conversion : float
        MJy/sr per unit of the data; 1 for an exposure that is calibrated already.
    arrays : dict of (ny, nx) arrays
        data, err, dq and the variances that it has: read-only maps, or unpacked.
    """

    blocks: AsdfBlocks
    conversion: float
    arrays: dict[str, np.ndarray]


def read_exposure(path: str | Path, known: str | None = None) -> Exposure:
    """
    Read a Level-2 file whose header is known, after checking its checksums.

    Parameters
    ----------
    path : str or path
        Level-2 file.
    known : str, optional
        Fingerprint in the record of the exposure: the file must still be the one that was recorded, and so
        valid by the schema.

    Raises
    ------
    ExposureError
        The file has another content than the known one, bytes that do not match their checksum, or arrays that
        are not images of one shape.
    """
    path = Path(path)
    try:
        blocks = AsdfBlocks.read(path)
        if known is not None and blocks.fingerprint() != known:
            raise ExposureError(path, "has changed since associate read it", "run again")
        roman = _image_tree(path, blocks)
        conversion = _conversion(path, roman["meta"])
        blocks.verify()
        return Exposure(blocks, conversion, _arrays(path, blocks, roman))
    except ProductError as error:
        raise ExposureError(error.where, error.what, error.todo) from error
    except MemoryError as error:  # a damaged size of a compressed block asks for the impossible
        raise ExposureError(
            path, "needs more memory than there is", "give flux more mem_mb, or " + _FETCH
        ) from error


def _arrays(path: Path, blocks: AsdfBlocks, roman: dict) -> dict[str, np.ndarray]:
    """Images of a Level-2 tree, held against the shape of the data."""
    found = {}
    for name in IMAGES:
        node = roman.get(name)
        if node is None:
            continue
        if not isinstance(node, dict) or node.get("shape") != roman["data"]["shape"]:
            raise ExposureError(path, f"has a damaged array {name}", _FETCH)
        found[name] = blocks.array(node)
        if found[name].dtype.kind != ("u" if name == "dq" else "f"):
            raise ExposureError(path, f"has a damaged array {name}", _FETCH)
    if "var_poisson" not in found:
        raise ExposureError(path, "is not a calibrated Level-2 image (var_poisson)", _LEAVE_OUT)
    return found


def pixel_map(path: str | Path, record: dict) -> PixelMap:
    """
    Pixel map of an exposure: from its record or, where that has none, made anew from the WCS.

    Parameters
    ----------
    path : str or path
        Level-2 file of the record.
    record : dict
        From `read_record`.

    Raises
    ------
    ExposureError
        As `read_record`.
    """
    if record["pixmap"] is not None:
        return PixelMap.from_tree(json.loads(record["pixmap"]))
    with _opened(Path(path)) as wcs:
        return _fitted(Path(path), PixelMap.fit, wcs, record["shape"])
