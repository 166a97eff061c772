"""
The configuration: validation, and the input files it names.

The keys themselves are declared in `romosaic.config_models`. Snakemake reads this module at every
start, also in each cluster job: it imports pydantic and nothing else of weight.
"""

import difflib
import glob
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .config_models import Config
from .config_types import Section, allowed, fields, nested
from .errors import ConfigError, RomosaicError
from .names import ASSOCIATION, SUFFIX

_LISTED_PROBLEMS = 100
#: How the names of input files end, by the key that lists them.
_ENDINGS = {"exposures": SUFFIX, "associations": ASSOCIATION}


def load(raw: dict | None, where: object = "config/config.yaml") -> dict[str, Any]:
    """
    Validate a configuration and fill in the defaults.

    Parameters
    ----------
    raw : dict or None
        As YAML or Snakemake gives it; None for an empty file.
    where : str or path, optional
        What to call the configuration in messages.

    Returns
    -------
    dict
        Every key of `romosaic.config_models.Config`; values are JSON types without NaN or infinity
        (a NaN `fillval` is the text "NaN"). `load(load(raw)) == load(raw)`.

    Raises
    ------
    ConfigError
        With all problems, one line each: the key, the bad value and what is allowed.
    """
    if not isinstance(raw, dict | None):
        raise ConfigError(where, [f"{_shown(raw)} is no configuration; allowed: keys and values"])
    raw, problems, wrong = _with_text_keys(raw or {}), [], set()
    try:
        config = Config.model_validate(raw)
    except ValidationError as failure:
        for error in failure.errors(include_url=False):
            problems.append(_problem(error, raw))
            wrong.add(error["loc"][: 2 if error["loc"][0] in sections() else 1])
        config = Config.model_validate(_without(raw, wrong))
    problems += _conflicts(config, wrong)
    if problems:
        raise ConfigError(where, list(dict.fromkeys(problems)))
    return config.model_dump(by_alias=True)


def with_source(error: RomosaicError, given: Mapping) -> RomosaicError:
    """
    Let an error name ``--config`` where its problems are those of keys that came by it.

    Parameters
    ----------
    error : RomosaicError
        Others than `ConfigError` stay as they are.
    given : mapping
        What came by ``--config``.
    """
    found = {
        problem.startswith(tuple(_starts(given))) for problem in getattr(error, "problems", ())
    }
    if True in found:
        error.where = f"{error.where}, --config" if False in found else "--config"
    return error


def _starts(tree: Mapping, section: str = "") -> Iterator[str]:
    """How problems of these keys begin: of a section, those that are not of its keys."""
    for key, value in tree.items():
        yield f"{section}{key}:"
        if isinstance(value, Mapping):
            yield from _starts(value, f"{section}{key}.")
        else:
            yield from (f"{section}{key}.", f"{section}{key}[")


def sections() -> dict[str, type[Section]]:
    """
    List the sections of the configuration.

    Returns
    -------
    dict
        Class by name, in the order of the pipeline.
    """
    return {
        name: kind for name, info in fields(Config).items() if (kind := nested(info)) is not None
    }


def _problem(error: Any, raw: dict) -> str:
    """One line for one of pydantic's errors about `raw`."""
    kind, last, holder = Config, "", Config
    path = ""
    for part in error["loc"]:
        if isinstance(part, int):
            path += f"[{part}]"
            continue
        path += f".{part}" if path else str(part)
        info = fields(kind).get(part) if kind is not None else None
        holder, last = kind, part
        kind = nested(info) if info is not None else None
    if error["type"] == "extra_forbidden" and last in holder.absent:
        return f"{path}: romancal's, not known here: {holder.absent[last]} -> leave it out"
    if error["type"] == "extra_forbidden":
        return f"{path}: unknown key{_suggestion(str(last), holder, path)}"
    if error["type"] == "missing":
        return f"{path}: missing; allowed: {allowed(holder, last)}"
    value = _shown(_given(raw, error))
    if path in sections():
        hint = _missing_space(_given(raw, error)) or "; allowed: its keys, indented below"
        return f"{path}: {value} is not a section{hint}"
    reason = str(error.get("ctx", {}).get("error", ""))
    reason = f" ({reason})" if reason else _near_choice(error)
    return f"{path}: {value} is not allowed{reason}; allowed: {allowed(holder, last)}"


def _given(raw: Any, error: Any) -> Any:
    """Return the bad value as the user wrote it, before any conversion."""
    try:
        for part in error["loc"]:
            if isinstance(raw, str):  # stands for a list of one
                break
            raw = raw[part]
    except (KeyError, IndexError, TypeError):
        return error["input"]
    return error["input"] if isinstance(raw, dict) else raw


def _near_choice(error: Any) -> str:
    if error["type"] != "literal_error" or not isinstance(error["input"], str):
        return ""
    choices = re.findall(r"'([^']*)'", error["ctx"]["expected"])
    near = difflib.get_close_matches(error["input"], choices, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _missing_space(text: Any) -> str:
    """What to write where YAML has taken a key and its value for one word."""
    key, colon, value = text.partition(":") if isinstance(text, str) else ("", "", "")
    wrong = colon and re.fullmatch(r"\w+", key) and value.strip() == value
    return f"; YAML wants a space after a colon -> write {key}: {value}" if wrong else ""


def _suggestion(name: str, holder: type[Section], path: str) -> str:
    """The nearest known key, of the same section or of another one."""
    if hint := _missing_space(name):
        return hint
    own, prefix = list(fields(holder)), path[: -len(name)]
    elsewhere = {f"{part}.{key}": key for part, kind in sections().items() for key in fields(kind)}
    if name in elsewhere and not prefix:
        part, key = name.split(".")
        return f"; write {key} below {part}"
    same = [full for full, key in elsewhere.items() if key == name.lower()]
    same += [key for key in fields(Config) if key == name.lower() and prefix]
    close = [prefix + near for near in difflib.get_close_matches(name.lower(), own, n=1)]
    if not (same or close):
        near = difflib.get_close_matches(name.lower(), set(elsewhere.values()), n=1, cutoff=0.75)
        close = [full for full, key in elsewhere.items() if key in near]
    if same or close:
        return f"; did you mean {' or '.join(same or close)}?"
    return f"; known keys: {', '.join(own)}"


def _conflicts(config: Config, wrong: set[tuple]) -> list[str]:
    """Keys that contradict each other, unless one of them is wrong by itself."""
    problems = []
    for name in sections():
        for keys, message in getattr(config, name).conflicts():
            if (name,) not in wrong and not any((name, key) in wrong for key in keys):
                problems.append(f"{name}.{keys[0]}: {message}")
    return problems


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _with_text_keys(inner) for name, inner in value.items()}
    return [_with_text_keys(inner) for inner in value] if isinstance(value, list | tuple) else value


def _without(raw: dict, wrong: set[tuple]) -> dict:
    kept = {}
    for name, value in raw.items():
        if (name,) in wrong:
            continue
        if isinstance(value, dict):
            value = {key: inner for key, inner in value.items() if (name, key) not in wrong}
        kept[name] = value
    return kept


def input_files(
    config: dict[str, Any], key: str, where: object = "config/config.yaml"
) -> list[Path]:
    """
    List the exposures or the associations that a configuration names.

    Parameters
    ----------
    config : dict
        From `load`.
    key : {'exposures', 'associations'}
        Which of them.
    where : str or path, optional
        What to call the configuration in messages.

    Returns
    -------
    list of Path
        Sorted, each file once, absolute or relative as given. An entry is a glob, a file, a folder
        (its ``*_cal.asdf`` or ``*_asn.json``), or a text file of such entries relative to its own folder.

    Raises
    ------
    ConfigError
        With all problems: entries that match nothing, two files with one name, names that no product
        could carry.
    """
    ending = _ENDINGS[key]
    problems: list[str] = []
    found: dict[str, str] = {}
    for entry in config.get(key, []):
        for path in _expand(entry, ending, f"{key}: {entry!r}", problems):
            found.setdefault(os.path.normpath(path), path)
    named: dict[str, str] = {}
    for path in sorted(found.values()):
        name = os.path.basename(path)
        name = name.removesuffix(ending).removesuffix(os.path.splitext(ending)[1])
        other = named.setdefault(name, path)
        if other != path and not _same(other, path):
            problems.append(
                f"{key}: {other} and {path} are two files with one name, {name} -> keep one of them"
            )
        elif other == path and not re.fullmatch(r"\w[\w.+-]*", name, re.ASCII):
            problems.append(
                f"{key}: {path}: the name {name!r} is not allowed; allowed: letters, digits and ._+-"
            )
    if problems:
        more = len(problems) - _LISTED_PROBLEMS
        rest = [f"{key}: and {more} more problems"] if more > 0 else []
        raise ConfigError(where, problems[:_LISTED_PROBLEMS] + rest)
    return [Path(path) for path in named.values()]


def _same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:  # a broken link
        return False


def _expand(
    entry: str, ending: str, label: str, problems: list[str], in_list: bool = False
) -> list[str]:
    """Files of one entry; what is wrong with it is added to `problems`."""
    path, suffix = os.path.expanduser(entry.removeprefix("@")), os.path.splitext(ending)[1]
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        mode = 0
    if mode and (entry.startswith("@") or path.endswith((".txt", ".lst"))):
        if in_list:
            problems.append(f"{label} is a list within a list -> name its files here")
            return []
        return list(_from_list(path, ending, label, problems))
    if stat.S_ISDIR(mode):
        names = [name for name in os.listdir(path) if name.endswith(ending) and name[0] != "."]
        if not names:
            problems.append(
                f"{label}: no *{ending} in this folder -> give a glob such as **/*{ending}"
            )
        return [os.path.join(path, name) for name in names]
    if mode:
        if not path.endswith(suffix):
            problems.append(f"{label} is no {suffix} file")
            return []
        return [path]
    if not glob.has_magic(path):
        problems.append(f"{label}: no such file or folder")
        return []
    matches = glob.glob(path, recursive=True)
    files = [match for match in matches if match.endswith(suffix)]
    if not files:
        what = f"{len(matches)} names, none of them a {suffix} file" if matches else "nothing"
        problems.append(f"{label} matches {what}")
    return files


def _from_list(path: str, ending: str, label: str, problems: list[str]) -> Iterator[str]:
    """Files of the entries of a text file."""
    try:
        with open(path, encoding="utf-8-sig") as stream:
            lines = stream.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is no text"
        problems.append(f"{label}: cannot be read: {reason}")
        return
    empty = True
    for number, line in enumerate(lines, 1):
        entry = re.sub(r"(^|\s)#.*", "", line).strip()
        if not entry:
            continue
        empty = False
        inner = os.path.join(os.path.dirname(path), os.path.expanduser(entry))
        yield from _expand(inner, ending, f"{label}, line {number}: {entry!r}", problems, True)
    if empty:
        problems.append(f"{label}: the list is empty")
