"""
Documents of the configuration, made from the classes of `romosaic.config_models`.

``PYTHONPATH=scripts python -m romosaic.config_docs`` (or ``make config``) writes config/config.yaml,
config/config.schema.json and the tables of config/README.md.
"""

import json
import re
import textwrap
from pathlib import Path
from typing import Any

from .config import sections
from .config_models import Config
from .config_types import Section, allowed, fields, nested

_BEGIN = "<!-- begin of the tables made by `make config` from scripts/romosaic/config_models.py -->"
_END = "<!-- end of the tables made by `make config` -->"
_HEAD = """\
# yaml-language-server: $schema=config.schema.json
# Every key with its default. Made by `make config` from scripts/romosaic/config_models.py.
# This file is always read; put your own values into a file of your own and give it to Snakemake:
#   snakemake --cores 4 --configfile my.yaml
# config/README.md says more. Above each key: its meaning, then [unit; what is allowed].
"""


def render(readme: str) -> dict[str, str]:
    """
    Make the documents.

    Parameters
    ----------
    readme : str
        Present text of config/README.md; only what is between its two markers changes.

    Returns
    -------
    dict
        Text by file name: config.yaml, config.schema.json and README.md.

    Raises
    ------
    ValueError
        When the README has lost its markers.
    """
    if readme.count(_BEGIN) != 1 or readme.count(_END) != 1:
        raise ValueError("config/README.md has lost the markers of its tables")
    before, after = readme.split(_BEGIN)[0], readme.split(_END)[1]
    return {
        "config.yaml": _yaml(),
        "config.schema.json": json.dumps(_schema(), indent=2) + "\n",
        "README.md": f"{before}{_BEGIN}\n{_tables()}\n{_END}{after}",
    }


def write(folder: Path) -> None:
    """
    Write the documents.

    Parameters
    ----------
    folder : Path
        The config folder.
    """
    for name, text in render((folder / "README.md").read_text()).items():
        (folder / name).write_text(text)


def _yaml() -> str:
    """Every key with its default below a comment."""
    lines = [_HEAD]
    lines += _entries(Config, "", [name for name in fields(Config) if name not in sections()])
    for name, kind in sections().items():
        lines += ["", *_comment(kind.__doc__ or "", ""), f"{name}:"]
        lines += _entries(kind, "  ", list(fields(kind)))
    return "\n".join(lines) + "\n"


def _entries(kind: type[Section], indent: str, names: list[str]) -> list[str]:
    lines = []
    for name in names:
        info = fields(kind)[name]
        lines += _comment(f"{info.description} {_bracket(kind, name)}", indent)
        inner = nested(info)
        for key, part in fields(inner).items() if inner is not None else ():
            default = "" if part.is_required() else f" Default: {_value(part.default)}."
            lines += _comment(
                f"{key}: {part.description}{default} {_bracket(inner, key)}", indent, 2
            )
        lines.append(f"{indent}{name}: {_value(info.default)}")
    return lines


def _bracket(kind: type[Section], name: str) -> str:
    return f"[{'; '.join(part for part in (_unit(kind, name), allowed(kind, name)) if part)}]"


def _unit(kind: type[Section], name: str) -> str:
    return (fields(kind)[name].json_schema_extra or {}).get("unit", "")


def _comment(text: str, indent: str, deeper: int = 0) -> list[str]:
    first = f"{indent}# {' ' * deeper}"
    rest = first + ("  " if deeper else "")
    return textwrap.wrap(
        text, 100, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
    )


def _value(value: Any) -> str:
    """Value as YAML of one line; text is quoted where YAML would read something else."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w+/-]*", value):
        bare = value.lower() not in ("true", "false", "yes", "no", "on", "off", "null", "y", "n")
        return value if bare else json.dumps(value)
    return json.dumps(value)


def _schema() -> dict[str, Any]:
    """JSON schema for editors."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    schema |= Config.model_json_schema() | {"title": "romosaic configuration"}
    for name in sections():
        schema["properties"][name].pop("default")  # the section's own keys say it
    return _untitled(schema)


def _untitled(schema: dict[str, Any]) -> dict[str, Any]:
    """Drop the titles that pydantic makes from the names of keys."""
    for part in (schema, *schema["$defs"].values()):
        for entry in part["properties"].values():
            entry.pop("title", None)
    return schema


def _tables() -> str:
    lines = ["", *_table(Config, [name for name in fields(Config) if name not in sections()])]
    for name, kind in sections().items():
        lines += ["", f"### {name}", "", kind.__doc__ or "", "", *_table(kind, list(fields(kind)))]
        if kind.absent:
            lines += ["", "Romancal's keys that are not here:", ""]
            lines += [f"- `{key}`: {why}" for key, why in kind.absent.items()]
    return "\n".join(lines) + "\n"


def _table(kind: type[Section], names: list[str]) -> list[str]:
    lines = ["| key | default | unit | allowed | meaning |", "|---|---|---|---|---|"]
    return lines + [row for name in names for row in _rows(kind, name, name)]


def _rows(kind: type[Section], name: str, label: str) -> list[str]:
    info = fields(kind)[name]
    default = "required" if info.is_required() else f"`{_value(info.default)}`"
    cells = [f"`{label}`", default, _unit(kind, name), allowed(kind, name), info.description]
    rows = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"]
    inner = nested(info)
    if inner is not None:
        label += "[]" if isinstance(info.default, list) else ""
        rows += [row for key in fields(inner) for row in _rows(inner, key, f"{label}.{key}")]
    return rows


if __name__ == "__main__":
    write(Path(__file__).resolve().parents[2] / "config")
