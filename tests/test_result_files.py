"""Which files a run makes, and where."""

import re
from pathlib import Path

import pytest
from romosaic.result_files import DEPTH, KINDS, RUN

ROOT = Path(__file__).parent.parent


def outputs() -> set[str]:
    """Outputs of all rules, below `output_dir`."""
    text = "".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    return set(re.findall(r'f"\{OUT\}/([^"]+)"', text))


def test_there_are_outputs():
    assert {"flux/{{exposure}}_flux.asdf", "clean_stale/clean_stale.tsv"} <= outputs()
    assert len(outputs()) > 40


@pytest.mark.parametrize("path", sorted(outputs()))
def test_no_file_lies_deeper_than_is_looked_for_what_killed_jobs_have_left(path):
    assert path.count("/") <= DEPTH


def test_files_of_a_kind_lie_in_the_folder_of_their_step():
    for table in (*KINDS.values(), RUN):
        for step, paths in table.items():
            assert {path.split("/")[0] for path in paths} == {step}
