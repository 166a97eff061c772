"""The user's own sky levels: a table of exposures and levels, read without trust."""

import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from .errors import ConfigError
from .names import exposure_name

#: Largest level that single precision, in which it is subtracted, can hold.
_LARGEST = 3.4e38
_LISTED = 5


def read_levels(path: str | Path, exposures: Collection[str]) -> dict[str, float]:
    """
    Read a table of sky levels.

    A line holds an exposure, by its name or file, and its level in MJy/sr, separated by blanks, a tab, a comma
    or a semicolon. Empty lines, comments (#) and a first line of column names are passed over, so that .tsv,
    .csv, .ecsv and plain text will all do.

    Parameters
    ----------
    path : str or path
        The table.
    exposures : collection of str
        Names of the exposures of the run.

    Returns
    -------
    dict
        Level by exposure name.

    Raises
    ------
    ConfigError
        With all problems: lines that are not of this form, levels that are not finite numbers, exposures that
        are listed twice or are not in the run; the table cannot be read or is empty.
    """
    rows, problems = _rows(path)
    counts = Counter(name for name, _ in rows)
    twice = [name for name, count in counts.items() if count > 1]
    unknown = sorted(counts.keys() - set(exposures))
    if twice:
        problems.append(f"lists {_shown(twice)} more than once -> keep one line of each")
    if unknown:
        problems.append(f"lists {_shown(unknown)}, not in this run -> take out, or mend the name")
    if not rows and not problems:
        problems.append(
            "has no levels -> give lines such as `r0000101001001001001_0001_wfi01_f158 0.25`"
        )
    if problems:
        raise ConfigError(path, problems)
    return dict(rows)


def _rows(path: str | Path) -> tuple[list[tuple[str, float]], list[str]]:
    """Names and levels of the lines that are in order, and what is wrong with the others."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ConfigError(path, [f"cannot be read: {reason} -> check skymatch.skylist"]) from error
    rows: list[tuple[str, float]] = []
    wrong: list[str] = []
    head = True
    for number, line in enumerate(lines, 1):
        cells = [cell.strip("\"'") for cell in re.split(r"[\s,;]+", line.split("#")[0].strip())]
        if cells == [""]:
            continue
        names, head = head, False
        try:
            level = float(cells[1]) if len(cells) == 2 and cells[0] else None
        except ValueError:
            if names and cells[1].isidentifier():
                continue
            level = None
        if level is None or not abs(level) <= _LARGEST:
            wrong.append(f"line {number} ({line.strip()[:60]})")
        else:
            rows.append((exposure_name(cells[0]), level))
    if wrong:
        what = f"{_shown(wrong)}: not an exposure and a finite level"
        return rows, [f"{what} -> write both, such as `r0000101001001001001_0001_wfi01_f158 0.25`"]
    return rows, []


def _shown(things: list[str]) -> str:
    more = f" and {len(things) - _LISTED} more" if len(things) > _LISTED else ""
    return ", ".join(things[:_LISTED]) + more
