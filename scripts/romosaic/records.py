"""
Records of exposures: made from a header once, and known again afterwards.

A file whose status (place, size, times, inode) is what it was when its record was made is not opened. Where
the status differs, the fingerprint of the content decides whether the header is read again: a copied or touched
file is known, and one that was changed under an old date is not. The time of the last change of status, which
only the system sets, is part of the status, so that a set-back date deceives nobody.
"""

import gc
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .atomic import write_text
from .code_digest import code_digest
from .errors import ExposureError, SkymapError
from .exposure import fingerprint, read_exposure, read_record
from .footprint import closed_polygon

#: What a record holds (see `exposure.read_record`); one that lacks any is made again.
_KEYS = {
    "exposure",
    "fingerprint",
    "detector",
    "optical_element",
    "visit_id",
    "exposure_time",
    "start_time",
    "end_time",
    "shape",
    "footprint",
    "pixmap",
    "pixel_scale",
}
#: Nanoseconds after which a file can no longer be written within the same tick of the clock of its dates.
_SETTLED = 10_000_000_000
#: Fewer files than this are not worth a process.
_FEW = 16
_LEAVE_OUT = "leave it out of `exposures`, or set associate.on_bad_exposure: exclude"
_STATUS = "status.json"
_READER = "reader.txt"


@dataclass(frozen=True)
class Records:
    """
    Records of the exposures of a run.

    Attributes
    ----------
    good : dict
        See `exposure.read_record`, by exposure name in alphabetical order.
    bad : list of ExposureError
        Why the other files cannot be used.
    new : list of str
        Names of the exposures whose header was read; the others were known.
    statuses : dict
        See `status`, by exposure name, from before the file was read.
    checked : dict
        Limit of unusable pixels that the pixels were held against, by exposure name; None where they were not.
    """

    good: dict[str, dict]
    bad: list[ExposureError]
    new: list[str]
    statuses: dict[str, list]
    checked: dict[str, float | None]

    @property
    def placed(self) -> dict[str, dict]:
        """
        Records of the exposures whose place is known, by name: the good, and the bad whose header is sound.

        Those of the bad have the reason against them as ``excluded``.
        """
        bad = {e.record["exposure"]: {**e.record, "excluded": e.what} for e in self.bad if e.record}
        return self.good | bad

    def write(self, folder: Path) -> None:
        """
        Make a folder hold exactly these records, touching only files that change.

        Parameters
        ----------
        folder : Path
            Receives ``exposures/<exposure>.json``; ``status.json``; ``reader.txt``, the code that read the
            records: other code reads them again.
        """
        place = folder / "exposures"
        place.mkdir(parents=True, exist_ok=True)
        for name in self.new:
            if name in self.good:
                write_text(place / f"{name}.json", json.dumps(self.good[name], indent=1) + "\n")
        for path in place.glob("*.json"):
            if path.name.removesuffix(".json") not in self.good:
                path.unlink()
        rows = (
            f"{json.dumps(name)}: {json.dumps([*state, record['fingerprint'], self.checked[name]])}"
            for name, record in self.good.items()
            if (state := self.statuses[name])
        )
        write_text(folder / _STATUS, "{\n" + ",\n".join(rows) + "\n}\n")
        write_text(folder / _READER, code_digest("exposure"))


def read_records(
    files: dict[str, Path], folder: Path, workers: int = 1, limit: float | None = None
) -> Records:
    """
    Read the records of exposures, taking those that are known from a folder.

    Parameters
    ----------
    files : dict
        Level-2 files by exposure name.
    folder : Path
        Has what `Records.write` left, if anything.
    workers : int, optional
        Processes that read headers.
    limit : float, optional
        Pixels are read, too: an exposure is bad whose bytes do not match their checksums, or of whose pixels a
        larger share than this is unusable.
    """
    known = _json(folder / _STATUS) if _same_reader(folder) else None
    found: dict[str, tuple[list, dict | ExposureError, bool]] = {}
    jobs, checked = [], dict.fromkeys(files, limit)
    for name, path in sorted(files.items()):
        record = None if known is None else _known_record(folder, name)
        state = status(path) if record else []
        row = known.get(name) if state else None
        same = isinstance(row, list) and row[:-1] == [*state, record["fingerprint"]]
        if same and limit in (None, row[-1]):
            found[name], checked[name] = (state, record, False), row[-1]
        else:
            jobs.append((name, path, record, limit))
    found.update(zip((job[0] for job in jobs), _read_all(jobs, workers), strict=True))
    results = {name: result for name, (_, result, _) in sorted(found.items())}
    return Records(
        good={name: result for name, result in results.items() if isinstance(result, dict)},
        bad=[result for result in results.values() if isinstance(result, ExposureError)],
        new=[name for name, (_, _, read) in sorted(found.items()) if read],
        statuses={name: state for name, (state, _, _) in found.items()},
        checked=checked,
    )


def status(path: Path) -> list:
    """
    What tells a file from itself after any change; empty for one that is missing or was just written.

    Returns
    -------
    list
        Path, size (bytes), times of the last change of content and of status (ns), inode, device.
    """
    try:
        found = path.stat()
    except OSError:
        return []
    if time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) < _SETTLED:
        return []
    times = [found.st_mtime_ns, found.st_ctime_ns]
    return [str(path.absolute()), found.st_size, *times, found.st_ino, found.st_dev]


def _same_reader(folder: Path) -> bool:
    mark = folder / _READER
    return mark.exists() and mark.read_bytes() == code_digest("exposure").encode()


def _json(path: Path) -> dict:
    """Content of a JSON file of this module; empty when there is none or it is damaged."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _known_record(folder: Path, name: str) -> dict | None:
    """Record of an earlier run; None when there is none or it is damaged."""
    record = _json(folder / "exposures" / f"{name}.json")
    return record if record.keys() >= _KEYS and record["exposure"] == name else None


def _read_all(jobs: list[tuple], workers: int) -> list[tuple]:
    """`_read_one` for all jobs, in their order."""
    if workers < 2 or len(jobs) < _FEW:
        return [_read_one(job) for job in jobs]
    # The first one here: what its reading imports is shared with the workers. Those are forked, because a
    # started interpreter would run the job's script again; frozen, what they inherit is not searched for
    # garbage, a third of the time otherwise.
    first = _read_one(jobs[0])
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=gc.freeze) as pool:
        size = max(1, min(100, len(jobs) // (8 * workers)))
        return [first, *pool.map(_read_one, jobs[1:], chunksize=size)]


def _read_one(job: tuple) -> tuple[list, dict | ExposureError, bool]:
    """Status, record or reason against it, and whether the header was read."""
    _, path, known, limit = job
    state, record = status(path), None
    try:
        same = bool(known) and known["fingerprint"] == fingerprint(path)
        found = known if same else read_record(path)
        closed_polygon(found["footprint"]["ra"], found["footprint"]["dec"])
        record = found
        if limit is not None:
            _check_pixels(path, record["fingerprint"], limit)
        return state, record, not same
    except ExposureError as error:
        error.record = record
        return state, error, True
    except SkymapError as error:
        what = f"has a WCS without a usable footprint: it {error.what}"
        return state, ExposureError(path, what, _LEAVE_OUT), True
    except MemoryError:
        raise
    except Exception as error:  # one odd header among thousands must not end the run untold
        what = f"has no usable header ({type(error).__name__}: {error})"
        return state, ExposureError(path, what, _LEAVE_OUT), True


def _check_pixels(path: Path, known: str, limit: float) -> None:
    """Refuse an exposure that `flux` would refuse."""
    from .flux import check_usable

    check_usable(read_exposure(path, known).arrays, where=str(path), max_unusable_fraction=limit)
