"""
Types of configuration values.

Each takes a value as YAML gives it and as Snakemake's ``--config`` gives it: inside a section
(``--config 'skymatch={nclip: 3}'``) every value arrives as text, and YAML 1.1 reads ``1e-3`` as text.
"""

import contextlib
import datetime
import math
import os
import re
import typing
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
)

from .names import FILTERS

#: Why there is no key for something that romancal interpolates.
EXACT_MAPS = "pixel maps are exact: there is nothing to set"
#: Value of `batch` for what is of no product.
REST = "rest"
BITS = "DQ flag names or bit values joined by '+', a leading '~' negates; null: ignore dq"
DETECTORS = tuple(f"WFI{number:02d}" for number in range(1, 19))


class Section(BaseModel):
    """
    A section of the configuration: known keys only.

    Attributes
    ----------
    absent : dict
        Keys that romancal has and this section has not, and why.
    """

    model_config = ConfigDict(extra="forbid", validate_default=False)
    absent: ClassVar[dict[str, str]] = {}

    def conflicts(self) -> list[tuple[tuple[str, ...], str]]:
        """
        Keys that are right alone but not together.

        Returns
        -------
        list of (keys, message)
            The keys concerned, the one to complain about first, and what is wrong.
        """
        return []


def fields(kind: type[Section]) -> dict[str, Any]:
    """
    List the keys of a section as users write them.

    Parameters
    ----------
    kind : type
        Subclass of `Section`.

    Returns
    -------
    dict
        `pydantic.fields.FieldInfo` by key.
    """
    return {info.alias or name: info for name, info in kind.model_fields.items()}


def nested(info: Any) -> type[Section] | None:
    """
    Find the class of the mappings that a key holds.

    Parameters
    ----------
    info : pydantic.fields.FieldInfo or type
        The key, or the type of its value.

    Returns
    -------
    type or None
        Subclass of `Section`, or None when the key holds no mappings.
    """
    kind = getattr(info, "annotation", info)
    if isinstance(kind, type) and issubclass(kind, Section):
        return kind
    found = (nested(inner) for inner in typing.get_args(kind))
    return next((inner for inner in found if inner is not None), None)


def allowed(kind: type[Section], name: str) -> str:
    """
    Say which values a key allows.

    Parameters
    ----------
    kind : type
        Section of the key.
    name : str
        The key as users write it.

    Returns
    -------
    str
        A phrase such as "number > 0 or null".
    """
    return _phrase(kind.model_json_schema()["properties"][name])


def _phrase(schema: dict[str, Any]) -> str:
    if "allowed" in schema:
        return schema["allowed"]
    if "anyOf" in schema:
        return " or ".join(_phrase(part) for part in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    kind = schema.get("type", "section")
    if kind == "array":
        return f"list of {_phrase(schema['items'])}"
    names = {"boolean": "true or false", "null": "null", "string": "text"}
    return names.get(kind, kind) + _limits(schema)


def _limits(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f" from {low} to {high}"
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    limits = [f"{sign} {schema[name]}" for name, sign in signs.items() if name in schema]
    return f" {' and '.join(limits)}" if limits else ""


def key(default: Any, meaning: str, *, unit: str = "", allowed: str = "", **limits: Any) -> Any:
    """
    Declare a key: the only place where its default, meaning, unit and limits are written.

    Parameters
    ----------
    default : object
        Default; ``...`` for a key that must be given.
    meaning : str
        What the key does, one or two sentences.
    unit : str, optional
        Unit of the value.
    allowed : str, optional
        What is allowed, when the type does not say it all.
    **limits
        Further arguments of `pydantic.Field`.
    """
    extra = {name: text for name, text in (("unit", unit), ("allowed", allowed)) if text}
    return Field(default, description=meaning, json_schema_extra=extra or None, **limits)


def _flag(value: Any) -> bool:
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    if isinstance(value, str):
        value = words.get(value.strip().lower(), value)
    if not isinstance(value, bool):
        raise ValueError
    return value


def _real(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    try:
        number = float(value)
    except (ValueError, OverflowError):
        number = math.inf
    if not math.isfinite(number):
        raise ValueError
    return number


def _whole(value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,4000}\s*", value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    number = _real(value)
    if not number.is_integer():
        raise ValueError
    return int(number)


def _nothing(value: Any) -> Any:
    if isinstance(value, str) and value.strip().lower() in ("", "null", "none", "~"):
        return None
    return value


def _listed(value: Any) -> Any:
    value = _nothing(value)
    if value is None:
        return []
    return [value] if isinstance(value, str | os.PathLike) else value


def _numbers(value: Any) -> Any:
    """Read romancal's form "5.0 4.0" of two numbers, too."""
    return re.split(r"[\s,]+", value.strip()) if isinstance(value, str) else value


def _falling(pair: list[float]) -> list[float]:
    if min(pair) <= 0 or pair[1] > pair[0]:
        raise ValueError
    return pair


def _rising(pair: list[float]) -> list[float]:
    if pair[0] >= pair[1]:
        raise ValueError
    return pair


def _on_sky(place: list[float]) -> list[float]:
    if not 0 <= place[0] < 360 or abs(place[1]) > 90:
        raise ValueError
    return place


def _upper(value: Any) -> Any:
    return value.strip().upper() if isinstance(value, str) else value


def _bits(value: Any) -> str | None:
    if value in ("~DO_NOT_USE", None):
        return value
    from .dq import parse_good_bits  # numpy: not needed for the default

    return None if parse_good_bits(value) is None else str(value)


def _fill(value: Any) -> float | str:
    if isinstance(value, str) and value.strip().lower() in ("nan", ".nan"):
        return "NaN"
    if isinstance(value, float) and math.isnan(value):
        return "NaN"  # not a JSON number, and not equal to itself: Snakemake would rerun for ever
    if isinstance(value, str) and value.strip().lower() == "indef":
        return 0.0  # as romancal reads it
    return _real(value)


def _instant(value: Any) -> str:
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = datetime.datetime.fromisoformat(value.strip())
    if not isinstance(value, datetime.date):
        raise ValueError
    if not isinstance(value, datetime.datetime):
        value = datetime.datetime(value.year, value.month, value.day)
    if value.tzinfo is not None:
        value = value.astimezone(datetime.UTC).replace(tzinfo=None)
    return value.isoformat()


def _folder(value: Any) -> str:
    if not isinstance(value, str | os.PathLike) or not str(value).strip():
        raise ValueError
    path = os.path.normpath(os.path.expanduser(str(value).strip()))
    if path in (".", "/") or re.search(r"[{}*?\n]", path):
        raise ValueError("results get a folder of their own")
    return path


def _batch(value: Any) -> str:
    text = value.strip().lower() if isinstance(value, str) else ""
    found = re.fullmatch(r"(\d{1,9}) */ *(\d{1,9})", text)
    if found and 1 <= int(found[1]) <= int(found[2]):
        return f"{int(found[1])}/{int(found[2])}"
    if text != REST:
        raise ValueError
    return text


def _number(kind: type, **limits: Any) -> Any:
    return Annotated[kind, Field(**limits), BeforeValidator(_whole if kind is int else _real)]


def whole(**limits: int) -> Any:
    """Type of a whole number within limits (ge, gt, le, lt)."""
    return _number(int, **limits)


def real(**limits: float) -> Any:
    """Type of a finite number within limits (ge, gt, le, lt)."""
    return _number(float, **limits)


def optional(kind: Any) -> Any:
    """Type of a value that may be null."""
    return Annotated[kind | None, BeforeValidator(_nothing)]


def listed(kind: Any) -> Any:
    """Type of a list; a single text stands for a list of one, null for an empty list."""
    return Annotated[list[kind], BeforeValidator(_listed)]


def two(kind: Any) -> Any:
    """Type of two numbers of a kind."""
    return Annotated[list[kind], Field(min_length=2, max_length=2), BeforeValidator(_numbers)]


def pair(order: Callable) -> Any:
    """Type of two numbers that a check allows."""
    return Annotated[two(Real), AfterValidator(order)]


Flag = Annotated[bool, BeforeValidator(_flag)]
Real = real()
Positive = real(gt=0)
NonNegative = real(ge=0)
Text = Annotated[str, Field(strict=True, min_length=1)]
Texts = Annotated[
    listed(Text),
    WithJsonSchema({"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "string"}]}),
]
Folder = Annotated[str, BeforeValidator(_folder), WithJsonSchema({"type": "string"})]
_PARTS = {"type": "string", "pattern": f"^([1-9][0-9]*/[1-9][0-9]*|{REST})$"}
Batch = Annotated[str, BeforeValidator(_batch), WithJsonSchema(_PARTS)]
Instant = Annotated[str, BeforeValidator(_instant), WithJsonSchema({"type": "string"})]
Falling, Rising, SkyPosition = pair(_falling), pair(_rising), pair(_on_sky)
Filter = Annotated[Literal[FILTERS], BeforeValidator(_upper)]
Detector = Annotated[Literal[DETECTORS], BeforeValidator(_upper)]
Skycell = Annotated[str, Field(strict=True, pattern=r"^[0-9]{3}[pm][0-9]{2}x[0-9]{2}y[0-9]{2}$")]
Visit = Annotated[str, Field(strict=True, pattern=r"^[0-9]{19}$")]
Bits = Annotated[
    str | None,
    PlainValidator(_bits),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]}),
]
Fill = Annotated[
    float | str,
    PlainValidator(_fill),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"const": "NaN"}]}),
]
