"""DQ names and good-bit expressions agree with roman_datamodels and astropy."""

import numpy as np
import pytest
from romosaic.dq import FLAGS, bad_mask, parse_good_bits

ALL = 0xFFFFFFFF


def test_flags_are_those_of_roman_datamodels():
    dqflags = pytest.importorskip("roman_datamodels.dqflags")
    assert {flag.name: int(flag) for flag in dqflags.pixel} == FLAGS


@pytest.mark.parametrize(
    ("text", "mask"),
    [
        ("~DO_NOT_USE", ALL ^ 1),
        ("~DO_NOT_USE+NON_SCIENCE", ALL ^ 513),
        ("~(DO_NOT_USE + NON_SCIENCE)", ALL ^ 513),
        ("DO_NOT_USE", 1),
        ("DO_NOT_USE|JUMP_DET", 5),
        ("4+8", 12),
        ("4,8", 12),
        ("4, 4", 4),
        ("12", 12),
        ("~12", ALL ^ 12),
        (12, 12),
        (0, 0),
        ("0", 0),
        ("~0", ALL),
        ("GOOD", 0),
        ("~REFERENCE_PIXEL", ALL ^ (1 << 31)),
        (None, None),
        ("", None),
        (" None ", None),
        ("INDEF", None),
    ],
)
def test_parse_good_bits(text, mask):
    assert parse_good_bits(text) == mask


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("~DO_NOT_USED", "DO_NOT_USE"),
        ("do_not_use", "DO_NOT_USE"),
        ("4+8,16", "one of"),
        ("(4+8", "parentheses"),
        ("4+(8)", "parentheses"),
        ("~", "missing"),
        ("4++8", "missing"),
        ("12+1", "power of two"),
        ("4+~8", "stands first"),
        ("-2", "between"),
        (1 << 32, "between"),
        (1.5, "whole number"),
        (True, "whole number"),
    ],
)
def test_wrong_expressions_say_what_is_allowed(text, says):
    with pytest.raises(ValueError, match=says):
        parse_good_bits(text)


@pytest.mark.parametrize(
    "text", ["~DO_NOT_USE", "~DO_NOT_USE+NON_SCIENCE", "4+8", "4,8", "12", 12, 0, "~0", None]
)
def test_bad_mask_agrees_with_astropy(text):
    bitmask = pytest.importorskip("astropy.nddata.bitmask")
    names = bitmask.extend_bit_flag_map("TEST_DQ", **{k: v for k, v in FLAGS.items() if v})
    dq = np.r_[np.uint32(1) << np.arange(31, dtype=np.uint32), [0, 3, 12, 13]].astype(np.uint32)
    dq = dq.reshape(5, 7)
    expected = bitmask.bitfield_to_boolean_mask(
        dq.astype(np.int64), ignore_flags=text, flag_name_map=names
    )
    np.testing.assert_array_equal(bad_mask(dq, text), expected)


def test_highest_bit_counts():
    dq = np.array([0, 1 << 31], np.uint32)
    assert bad_mask(dq, "4").tolist() == [False, True]
    assert bad_mask(dq, "~REFERENCE_PIXEL").tolist() == [False, True]
    assert bad_mask(dq, "~DO_NOT_USE").tolist() == [False, False]
