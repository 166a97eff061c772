"""Data quality (DQ) bits of Roman images: their names, and which of them make a pixel bad."""

import difflib
import re

import numpy as np

FLAGS: dict[str, int] = {
    "GOOD": 0,
    "DO_NOT_USE": 1 << 0,
    "SATURATED": 1 << 1,
    "JUMP_DET": 1 << 2,
    "DROPOUT": 1 << 3,
    "GW_AFFECTED_DATA": 1 << 4,
    "PERSISTENCE": 1 << 5,
    "AD_FLOOR": 1 << 6,
    "OUTLIER": 1 << 7,
    "UNRELIABLE_ERROR": 1 << 8,
    "NON_SCIENCE": 1 << 9,
    "DEAD": 1 << 10,
    "HOT": 1 << 11,
    "WARM": 1 << 12,
    "LOW_QE": 1 << 13,
    "TELEGRAPH": 1 << 15,
    "NONLINEAR": 1 << 16,
    "BAD_REF_PIXEL": 1 << 17,
    "NO_FLAT_FIELD": 1 << 18,
    "NO_GAIN_VALUE": 1 << 19,
    "NO_LIN_CORR": 1 << 20,
    "NO_SAT_CHECK": 1 << 21,
    "UNRELIABLE_BIAS": 1 << 22,
    "UNRELIABLE_DARK": 1 << 23,
    "UNRELIABLE_SLOPE": 1 << 24,
    "UNRELIABLE_FLAT": 1 << 25,
    "RESERVED_5": 1 << 26,
    "RESERVED_6": 1 << 27,
    "UNRELIABLE_RESET": 1 << 28,
    "RESERVED_7": 1 << 29,
    "OTHER_BAD_PIXEL": 1 << 30,
    "REFERENCE_PIXEL": 1 << 31,
}
"""Bits of the 32-bit `dq` plane of a Roman image, by the names of `roman_datamodels.dqflags.pixel`."""

_ALL_BITS = 0xFFFFFFFF


def parse_good_bits(text: str | int | None) -> int | None:
    """
    Bits that a good pixel may carry.

    The notation is that of `astropy.nddata.bitmask.interpret_bit_flags`, as romancal's `good_bits` and
    `dqbits` use it: names or numbers joined by one of ``+ , |``, the whole negated by a leading ``~``,
    and parentheses round the list.

    Parameters
    ----------
    text : str, int or None
        ``"~A+B"``: every bit is good except A and B. ``"A+B"``, ``"4+8"``, ``"12"`` or 12: only these
        bits are good. None, ``""``, ``"none"`` and ``"indef"``: every bit is good.

    Returns
    -------
    int or None
        Mask of the good bits, 0 to 2**32 - 1, or None when the DQ plane is not to be looked at.

    Raises
    ------
    ValueError
        Unknown name, mixed separators, unbalanced parentheses, an empty list after ``~``, or a number
        that is no bit. The message says what is allowed.
    """
    if text is None:
        return None
    if not isinstance(text, str):
        if isinstance(text, bool) or not isinstance(text, int | np.integer):
            raise ValueError(f"bit flags are a text or a whole number, not {text!r}")
        return _number(int(text), alone=True)
    body = text.strip()
    if body.lower() in ("", "none", "indef"):
        return None
    flip = body.startswith("~")
    names = _split(_unwrap(body[1:].strip() if flip else body, text), text)
    mask = 0
    for name in names:
        mask |= _bit(name, alone=len(names) == 1)
    return mask ^ _ALL_BITS if flip else mask


def bad_bits(good_bits: str | int | None) -> np.uint32:
    """
    Bits that make a pixel bad.

    Parameters
    ----------
    good_bits : str, int or None
        As `parse_good_bits` takes it.

    Returns
    -------
    uint32
        All that are not good; 0 when `good_bits` is None.

    Raises
    ------
    ValueError
        From `parse_good_bits`.
    """
    good = parse_good_bits(good_bits)
    return np.uint32(0 if good is None else good ^ _ALL_BITS)


def bad_mask(dq: np.ndarray, good_bits: str | int | None) -> np.ndarray:
    """
    Pixels that carry a bit that is not good.

    Parameters
    ----------
    dq : integer array, any shape
        DQ plane.
    good_bits : str, int or None
        As `parse_good_bits` takes it.

    Returns
    -------
    bool array, shape of `dq`
        True where the pixel is bad; all False when `good_bits` is None.

    Raises
    ------
    ValueError
        From `parse_good_bits`.
    """
    return (np.asarray(dq).astype(np.uint32, copy=False) & bad_bits(good_bits)) != 0


def _unwrap(body: str, text: str) -> str:
    """Strip the parentheses round a list."""
    while "(" in body or ")" in body:
        if not (body.startswith("(") and body.endswith(")")):
            raise ValueError(f"parentheses may only enclose the whole list of bit flags: {text!r}")
        body = body[1:-1].strip()
    return body


def _split(body: str, text: str) -> list[str]:
    """Names or numbers of a list with one kind of separator."""
    if "~" in body:
        raise ValueError(f"'~' negates the whole list of bit flags and stands first: {text!r}")
    separators = set(re.findall(r"[+,|]", body))
    if len(separators) > 1:
        raise ValueError(
            f"bit flags are joined by one of '+', ',' and '|', not by several: {text!r}"
        )
    names = [name.strip() for name in re.split(r"[+,|]", body)]
    if "" in names:
        raise ValueError(f"a bit flag is missing in {text!r}")
    return names


def _bit(name: str, alone: bool) -> int:
    """Value of one name or number."""
    if re.fullmatch(r"[+-]?\d+", name):
        return _number(int(name), alone)
    if name not in FLAGS:
        near = difflib.get_close_matches(name.upper(), FLAGS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"names are {', '.join(FLAGS)}"
        raise ValueError(f"unknown DQ flag {name!r}: {hint}")
    return FLAGS[name]


def _number(value: int, alone: bool) -> int:
    """Check a number: any mask when it stands alone, a single bit within a list."""
    if not 0 <= value <= _ALL_BITS:
        raise ValueError(f"bit flags lie between 0 and {_ALL_BITS}, not {value}")
    if not alone and value & (value - 1):
        raise ValueError(f"within a list a bit flag is a power of two, not {value}")
    return value
