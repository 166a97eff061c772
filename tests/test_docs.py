"""Every command in the documents is run, or named with what runs it; snippets of Python and YAML, too."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from romosaic.config import load

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DOCUMENTS += [ROOT / "config/README.md", ROOT / "profiles/README.md"]
PROGRAMS = ("snakemake", "make", "python", "pre-commit", "source", "git", "strun")
#: How commands begin that are not run here, and what does run them, or holds what they need to account.
ELSEWHERE = {
    "make demo": "tests/test_workflow.py::test_every_config_file_makes_a_plan",
    "make test": ".ci/run",
    "make lint": ".ci/run",
    "make slurm": ".ci/run",
    "make format": ".ci/run",  # `make lint` is the same programs, which only look
    "make venv": ".ci/run",
    "make config": "tests/test_config_docs.py",
    "make lock": "tests/test_envs.py",
    "make benchmark": "tests/benchmarks/pixel_steps.py",
    "pre-commit": "tests/test_envs.py",
    "source .venv/bin/activate": "tests/test_envs.py",
    "snakemake --profile": "tests/slurm/test_slurm.py",
    "snakemake associate --profile": "tests/slurm/test_slurm.py",
    "snakemake plan --profile": "tests/slurm/test_slurm.py",
    "snakemake -n --profile": "tests/slurm/test_slurm.py",
    "snakemake --cores 16 --sdm conda": "tests/test_envs.py",
    "snakemake --report": "tests/test_workflow.py",
    "snakemake fits": "tests/test_fits.py",
    "snakemake moc": "tests/test_moc.py",
    "python scripts/explain.py": "tests/test_explain.py",
    "python scripts/cutout.py": "tests/test_cutout.py",
    "python docs/pictures.py": "tests/test_docs.py::test_pictures_are_of_a_run",
    "strun": "tests/benchmarks/romancal_process.py",
}
#: What stands for the reader's own files, and what the survey of this test has in its place.
OWN = {
    "/data/roman/**/*_cal.asdf": "raw/*_cal.asdf",
    "associations=asn.json": "associations=raw/asn.json",
    "--cores 16": "--cores 2",
    "--cores 4": "--cores 2",
    "config/demo.yaml": "my.yaml",
}


def blocks(path: Path, *languages: str) -> list[str]:
    """Fenced blocks of a document in some languages."""
    found = re.findall(r"^( *)```(\w*)\n(.*?)^\1```$", path.read_text(), re.M | re.S)
    return [dedent(text) for _, language, text in found if language in languages]


def unrolled(line: str) -> list[str]:
    """A line of shell; of a loop of Snakemake the first command and the last."""
    if not line.startswith("for "):
        return [line]
    shown = f'snakemake() {{ echo snakemake "$@"; }}; {line}'
    done = subprocess.run(["bash", "-c", shown], capture_output=True, text=True, check=True)
    found = done.stdout.splitlines()
    return [found[0], found[-1]]


def commands(path: Path) -> list[str]:
    """Commands of a document: in blocks of shell, indented, and between backticks."""
    text = path.read_text()
    lines = "\n".join(blocks(path, "bash", "sh")).replace("\\\n", " ").splitlines()
    lines += re.findall(r"^ {4,}(\.venv/bin/.*)$", text, re.M)
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.M | re.S))
    found = []
    for line in [command for text in lines for command in unrolled(text)]:
        line = re.sub(
            r"\s+#.*|\s+2>&1.*|^\$ |^PYTHONPATH=scripts |(?<!source )\.venv/bin/", "", line
        )
        if line.startswith("--config "):
            line = f"snakemake -n --cores 4 --configfile my.yaml {line}"
        if " " in line.strip() and line.split()[0] in PROGRAMS:
            found.append(line.strip())
    return found


ALL = list(dict.fromkeys(line for path in DOCUMENTS for line in commands(path)))
HERE = [line for line in ALL if not line.startswith(tuple(ELSEWHERE))]


@pytest.fixture(scope="module")
def folder(server, survey, tmp_path_factory):
    """A survey after its run, with the files that the documents name."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "raw").mkdir()
    for path in survey.paths.values():
        shutil.copy2(path, folder / "raw")
    (folder / "results/simulate").mkdir(parents=True)
    shutil.copy2(survey.scene_path, folder / "results/simulate")  # as a demo has it
    config = {
        "exposures": ["raw"],
        "associate": {"skycells": ["000p86x51y59"]},
        "source_catalog": {"fit_psf": False},
    }
    (folder / "my.yaml").write_text(yaml.safe_dump(config))
    run(server, folder, "--cores", "2", "--configfile", "my.yaml")
    (found,) = (folder / "results/associate/associations").iterdir()
    shutil.copy(found, folder / "raw/asn.json")
    levels = "".join(f"{name}\t0\n" for name in survey.names)
    (folder / "zeros.tsv").write_text("exposure\tlevel\n" + levels)
    return folder


def run(server, folder: Path, *arguments: str) -> None:
    """Run Snakemake, which must succeed."""
    done = server.run(folder, *arguments, "-s", ROOT / "Snakefile")
    assert done.returncode == 0, done.output[-2000:]


def test_commands_are_found():
    """The search itself: what the README must have."""
    wanted = {"make demo", "snakemake --cores 16 --configfile my.yaml"}
    assert wanted <= set(ALL)
    assert len(HERE) > 10


@pytest.mark.parametrize("line", HERE)
def test_commands_run(line, server, folder):
    for own, ours in OWN.items():
        line = line.replace(own, ours)
    line = line.removesuffix("...")
    program, *arguments = shlex.split(line)
    assert program == "snakemake", f"name the test that runs `{line}` in ELSEWHERE"
    if "_coadd.asdf" in line:
        found = next((folder / "results/resample").glob("*_coadd.asdf"))
        arguments = ["-n", f"results/resample/{found.name}"]
    if "--configfile" not in arguments and "--config" not in arguments:
        arguments += ["--configfile", "my.yaml"]
    if "--cores" not in arguments:
        arguments = ["--cores", "2", *arguments]
    # what changes a parameter would run for long: planned, which checks it as a whole
    if "--config" in arguments and not (
        arguments[0] in ("clean_stale", "verify") or arguments[-1].startswith("batch=")
    ):
        arguments = ["-n", *arguments]
    run(server, folder, *arguments)


@pytest.mark.parametrize("line", [line for line in ALL if line not in HERE])
def test_others_are_run_elsewhere(line):
    where = next(ELSEWHERE[start] for start in ELSEWHERE if line.startswith(start))
    file, _, name = where.partition("::")
    text = (ROOT / file).read_text()
    assert f"def {name}(" in text if name else text
    if line.startswith("make ") and re.match(r"make [a-z]+", line):
        assert f"\n{line.split()[1]}:" in (ROOT / "Makefile").read_text()
    if line.startswith("python "):
        assert "<" in line or (ROOT / line.split()[1]).is_file()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_snippets_of_python_run(path, folder, monkeypatch):
    monkeypatch.chdir(folder)
    (coadd,) = Path("results/resample").glob("*_coadd.asdf")
    product, namespace = coadd.name.removesuffix("_coadd.asdf"), {}
    for text in blocks(path, "python"):
        text = text.replace("results/demo", "results").replace("<product>", product)
        exec(compile(text, str(path), "exec"), namespace)


@pytest.mark.parametrize("path", DOCUMENTS[:-1], ids=lambda path: str(path.relative_to(ROOT)))
def test_snippets_of_yaml_are_valid(path):
    for text in blocks(path, "yaml"):
        load(yaml.safe_load(text), str(path))


def test_pictures_are_of_a_run(folder, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    import pictures

    monkeypatch.setattr(pictures, "DOCS", tmp_path)
    given = pictures.read(folder / "results")
    pictures.draw_seams(*given, load({})["resample"])
    assert (tmp_path / "skymatch.png").stat().st_size > 5000


def anchors(path: Path) -> set[str]:
    """Anchors of the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in headings}


def test_links_lead_to_headings():
    dead = []
    for path in DOCUMENTS:
        for file, anchor in re.findall(r"\]\(([^)#\s:]*)#([^)\s]+)\)", path.read_text()):
            target = path.parent / file if file else path
            if target.suffix == ".md" and anchor not in anchors(target):
                dead.append(f"{path.name}: {file}#{anchor}")
    assert dead == []


def test_the_picture_of_a_terminal_is_of_what_stood_there(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    import terminal_picture

    state = "romosaic: {} of 4 products | 9 jobs"
    program = "import sys, time\nprint('Config file')\n"
    for done in range(4):
        program += f"sys.stderr.write('\\n{state.format(done)}\\n  flux <x>\\x1b[2A\\r')\n"
        program += "sys.stderr.flush(); time.sleep(0.05); sys.stderr.write('\\x1b[J')\n"
    program += "print('romosaic: 4 of 4 products')"
    monkeypatch.setattr(terminal_picture, "DOCS", tmp_path)
    monkeypatch.setattr("sys.argv", ["terminal_picture.py", sys.executable, "-c", program])
    terminal_picture.main()
    root = ElementTree.parse(tmp_path / "terminal.svg").getroot()
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[1:] == [state.format(2), "  flux <x>", None, "romosaic: 4 of 4 products"]


def test_row_of_the_catalog_is_of_its_columns():
    """Columns and units of the row in the README are the catalog's, and its numbers belong together."""
    from romosaic.catalog_columns import make_table

    text = (ROOT / "README.md").read_text().partition("### A row of the catalog")[2]
    text = text.partition("\n## ")[0]
    rows = [re.split(r" *\| *", line)[1:4] for line in re.findall(r"^\| `.*$", text, re.M)]
    table, values = make_table({}, True, {}), {}
    for names, given, unit in rows:
        for name, value in zip(re.findall(r"`(\w+)`", names), given.split(", "), strict=True):
            values[name] = value
            assert str(table[name].unit or "") == unit, name
    assert len(values) == 21
    flux = float(values["kron_flux"])
    assert abs(31.4 - 2.5 * np.log10(flux) - float(values["kron_abmag"])) < 1e-3
    word = int(values["flagged_spatial_id"])
    # clear of bit 59, and of the skycell 000p86x51y59 that the product's name says
    assert not word >> 59 & 1 and (word >> 32 & 127, word >> 39 & 127) == (51, 59)
