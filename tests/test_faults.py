"""
Faults that runs of the workflow survive: bad exposures, a full disk, kills, inputs that vanish, closed folders.

After each: no wrong product, a reason in one line, the next run completes, bit for bit as an undisturbed one.
"""

import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import conftest
import numpy as np
import pytest
import yaml
from killing import digest
from romosaic.asdf_blocks import AsdfBlocks
from romosaic.errors import ProductError
from romosaic.flux_file import open_flux
from romosaic.product import read_step

COADD, FLUX = "results/resample/p_coadd.asdf", "results/flux/{}_flux.asdf"
HEADER = b"#ASDF 1.0.0\n#ASDF_STANDARD 1.6.0\n%YAML 1.1\n--- \n"


def reasons(done) -> list[str]:
    """Why jobs failed, as the run tells it; a run that failed has no traceback beside that."""
    assert done.returncode != 0
    assert "Traceback" not in done.output, done.output[-3000:]
    return re.findall(r"failed: [^:]*: (.*)", done.output)


def products(folder: Path) -> list[str]:
    """Files that could be taken for a product or an intermediate."""
    results = folder / "results"
    found = (path for path in results.rglob("*") if path.suffix in (".asdf", ".parquet", ".png"))
    return sorted(str(p.relative_to(folder)) for p in found if not p.name.startswith("."))


def configured(raw: Path, members: list[str], **associate) -> dict:
    """Configuration of one small product of chosen exposures of a folder."""
    product = {"name": "p", "members": members}
    section = {"product_type": "custom", "products": [product], **associate}
    return {"exposures": [str(raw)], "associate": section}


@pytest.fixture(scope="module")
def names(survey):
    return survey.names[:2]


@pytest.fixture(scope="module")
def reference(snakemake, survey, names, tmp_path_factory):
    """An undisturbed run up to the coadd of two exposures: its folder and configuration."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "raw").mkdir()
    for name in names:
        shutil.copy(survey.paths[name], folder / "raw")
    config = configured(Path("raw"), names)
    done = snakemake(folder, COADD, config=config)
    assert done.returncode == 0, done.output[-3000:]
    return folder, config


@pytest.fixture
def begun(reference, tmp_path):
    """Copy of the undisturbed run, with its exposures alone."""
    folder, config = reference
    shutil.copytree(folder / "raw", tmp_path / "raw")
    return tmp_path, config


def same(folder: Path, reference: Path) -> None:
    """Hold all intermediates and products against those of the undisturbed run."""
    assert products(folder) == products(reference)
    for path in products(reference):
        assert digest(folder / path) == digest(reference / path), path
    assert hidden(folder) == []


def hidden(folder: Path) -> list[Path]:
    """What is no product yet, or never will be; not Snakemake's mark in a folder."""
    return [p for p in (folder / "results").rglob(".*") if p.name != ".snakemake_timestamp"]


def flipped(content: bytes) -> bytes:
    """Level-2 file with a bit of its largest array flipped."""
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]


def changed(path: Path, change) -> None:
    """Write a Level-2 file anew with another tree."""
    import asdf

    with asdf.open(path, memmap=False, lazy_load=False) as file:
        tree = {"roman": file.tree["roman"]}
        change(tree["roman"])
        asdf.AsdfFile(tree).write_to(path.with_suffix(".new"), all_array_compression="lz4")
    os.replace(path.with_suffix(".new"), path)


def test_a_survey_is_finished_without_its_bad_exposures(snakemake, reference, survey, tmp_path):
    """Those whose place is known are in the provenance of what they are missing from, all in the quarantine."""
    folder, _ = reference
    shutil.copytree(folder / "raw", tmp_path / "raw")
    good = survey.names[:2]
    bad = {name: tmp_path / "raw" / f"{name}_cal.asdf" for name in survey.names[2:]}
    bad |= {name: tmp_path / "raw" / f"{name}_cal.asdf" for name in ("bomb", "noise", "integers")}
    corrupt, negative = survey.names[2:]
    for path in bad.values():
        shutil.copy(survey.paths[corrupt], path)
    bad[corrupt].write_bytes(flipped(bad[corrupt].read_bytes()))
    levels = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 40))
    bad["bomb"].write_bytes(HEADER + b"a0: &a0 [x]\n" + levels.encode() + b"...\n")
    bad["noise"].write_bytes(np.random.default_rng(3).bytes(5000))

    def negative_variances(roman):
        roman["var_poisson"] = -np.asarray(roman["var_poisson"])
        roman["err"] = np.full_like(roman["err"], np.nan)

    changed(bad[negative], negative_variances)
    content = bad["integers"].read_bytes()
    bad["integers"].write_bytes(content.replace(b"datatype: float32", b"datatype: int32  ", 1))
    config = configured(Path("raw"), ["*"], on_bad_exposure="exclude")
    done = snakemake(tmp_path, config=config)
    assert done.returncode == 0, done.output[-3000:]
    results = tmp_path / "results"
    rows = (results / "associate/quarantine.tsv").read_text().splitlines()[1:]
    found = {Path(path).name: reason for path, reason in (row.split("\t") for row in rows)}
    assert found.keys() == {path.name for path in bad.values()}
    assert "does not match its checksum" in found[bad[corrupt].name]
    assert "unusable pixels" in found[bad[negative].name]
    assert "stands for over" in found["bomb_cal.asdf"]
    assert found["noise_cal.asdf"] == "is not an ASDF file"
    assert "float32" in found["integers_cal.asdf"] or "array data" in found["integers_cal.asdf"]
    assert "left out  5 exposures" in done.output
    for file in ("resample/p_coadd", "source_catalog/p_cat", "source_catalog/p_segm"):
        provenance = AsdfBlocks.read(results / f"{file}.asdf").tree["romosaic"]["provenance"]
        assert [entry["name"] for entry in provenance["inputs"]] == good
        told = {entry["expname"]: entry["reason"] for entry in provenance["excluded"]}
        assert told == found
    # The pixels are those of a survey that never had the others.
    mine, undisturbed = (AsdfBlocks.read(place / COADD) for place in (tmp_path, folder))
    assert [b.checksum for b in mine.blocks] == [b.checksum for b in undisturbed.blocks]
    again = snakemake(tmp_path, "-n", config=config)
    assert "Nothing to be done" in again.output


@pytest.fixture
def small_disk(tmp_path):
    """Folder ``results`` on a disk of its own, of 4 MB, and how to mount it otherwise."""
    folder = tmp_path / "results"
    folder.mkdir()

    def mount(*options):
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "romosaic", folder]
        return subprocess.run(command, capture_output=True, text=True)

    if os.geteuid() or mount("size=2500k").returncode:
        pytest.skip(
            "only root may mount a small disk; test_product limits the size of files instead"
        )
    yield lambda *options: mount("remount", *options)
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk(snakemake, begun, reference, names, small_disk):
    folder, config = begun
    failed = snakemake(folder, COADD, config=config)
    lines = reasons(failed)
    assert lines and all("No space left on device" in line for line in lines), failed.output[-3000:]
    wanted = {COADD, *(FLUX.format(name) for name in names)}
    assert {line.split(": ")[0] for line in lines} <= wanted
    for path in products(folder):  # what is there is whole
        assert digest(folder / path) == digest(reference[0] / path)
    assert small_disk("size=200m").returncode == 0
    done = snakemake(folder, COADD, config=config)
    assert done.returncode == 0, done.output[-3000:]
    same(folder, reference[0])


def associated(folder: Path, reference: Path) -> None:
    """Hold the associations and records against those of the undisturbed run."""
    for place in ("associations", "exposures"):
        made, known = (f / "results/associate" / place for f in (folder, reference))
        assert [path.name for path in made.iterdir()] == [path.name for path in known.iterdir()]
        for path in known.iterdir():
            assert (made / path.name).read_bytes() == path.read_bytes()


def test_a_disk_that_is_full_to_the_last_byte(snakemake, begun, reference, small_disk):
    """Not even a log can be written."""
    folder, config = begun
    ballast = folder / "results/ballast"
    stream = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    with pytest.raises(OSError, match="No space left"):
        while True:
            os.write(stream, bytes(4096))
    os.close(stream)
    failed = snakemake(folder, "associate", config=config)
    assert len(reasons(failed)) == 1 and "the disk is full" in reasons(failed)[0]
    (line,) = re.findall("^romosaic: .* -> .*", failed.output, re.M)
    assert "No space left on device" in line and " -> check space and permissions" in line
    ballast.unlink()
    assert snakemake(folder, "associate", config=config).returncode == 0
    associated(folder, reference[0])


def test_a_folder_that_cannot_be_written(snakemake, begun, reference, small_disk):
    folder, config = begun
    assert small_disk("ro").returncode == 0
    failed = snakemake(folder, "associate", config=config)
    assert reasons(failed) == []  # Snakemake is the first to meet it
    assert "results/logs" in failed.output and "Read-only file system" in failed.output
    assert small_disk("rw").returncode == 0
    assert snakemake(folder, "associate", config=config).returncode == 0
    associated(folder, reference[0])


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    """Start Snakemake in a process group of its own, with the configuration that `snakemake` left."""
    command = [sys.executable, "-m", "snakemake", "-s", conftest.ROOT / "Snakefile", "-d", folder]
    command += ["--cores", "1", *arguments, "--configfile", folder / "config.yaml"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with open(folder / "output.txt", "w") as output:
        return subprocess.Popen(
            [str(part) for part in command],
            **{"stdout": output, "stderr": output, "env": environment},
            start_new_session=True,
        )


def wait_for(folder: Path, pattern: str, process: subprocess.Popen | None) -> None:
    """Wait until a file of a name is there, as far as the process has not ended, if one is given."""
    end = time.monotonic() + 60
    while not any((folder / "results").glob(pattern)):
        ended = process and process.poll() is not None
        assert not ended and time.monotonic() < end, (folder / "output.txt").read_text()[-3000:]
        time.sleep(0.002)


def test_snakemake_and_its_jobs_are_killed(snakemake, begun, reference):
    folder, config = begun
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    moments = ["associate/exposures/*.json", "flux/.*.asdf", "skymatch/*.asdf", "resample/.*.asdf"]
    for pattern in moments:
        process = start(folder, COADD, "--rerun-incomplete")
        wait_for(folder, pattern, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for path in products(folder):
            assert digest(folder / path) == digest(reference[0] / path)
        assert COADD not in products(folder)
        assert snakemake(folder, "--unlock", config=config).returncode == 0
        assert hidden(folder) == []
    # and of a job that this run does not make again
    left = f".x_coadd.romosaic-{platform.node()}-{2**40}.asdf"
    (folder / "results" / "resample" / left).write_bytes(b"half")
    done = snakemake(folder, COADD, "--rerun-incomplete", config=config)
    assert done.returncode == 0, done.output[-3000:]
    same(folder, reference[0])


def test_a_job_that_outlives_its_snakemake(snakemake, begun, reference):
    """It ends with the parameters that it was started with, and nobody has noted which these were."""
    folder, config = begun
    other = config | {"resample": {**config.get("resample", {}), "fillval": 7.0}}
    (folder / "config.yaml").write_text(yaml.safe_dump(other))
    process = start(folder, COADD)
    wait_for(folder, "resample/.*.asdf", process)
    process.kill()
    process.wait()
    assert snakemake(folder, "--unlock", config=config).returncode == 0
    wait_for(folder, COADD.removeprefix("results/"), None)
    assert digest(folder / COADD) != digest(reference[0] / COADD)
    done = snakemake(folder, COADD, "--rerun-incomplete", config=config)
    assert done.returncode == 0, done.output[-3000:]
    assert f"a run was killed while it made {COADD} -> made again" in done.output
    same(folder, reference[0])


def test_an_exposure_that_vanishes_while_others_are_worked_on(snakemake, begun, reference, names):
    folder, config = begun
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    gone = folder / "raw" / f"{names[1]}_cal.asdf"
    targets = [FLUX.format(name) for name in names]
    process = start(folder, *targets)
    wait_for(folder, "associate/associations/*_asn.json", process)
    gone.rename(folder / "elsewhere")
    assert process.wait(600) != 0
    output = (folder / "output.txt").read_text()
    assert gone.name in output and "Traceback" not in output, output[-3000:]
    assert targets[1] not in products(folder)
    (folder / "elsewhere").rename(gone)
    done = snakemake(folder, *targets, "--rerun-incomplete", config=config)
    assert done.returncode == 0, done.output[-3000:]
    assert products(folder) == targets
    for path in targets:
        assert digest(folder / path) == digest(reference[0] / path)


# --- damaged intermediates ---


def flux_content(path: Path):
    """Everything that a flux file holds: images as steps read them, the others checked as by `verify`."""
    found = open_flux(path)
    images = [getattr(found, name)[:] for name in ("data", "dq", "var_rnoise", "var_poisson")]
    found.verify()
    return found.tree, [bytes(found.blocks.stored(block)) for block in found.blocks.blocks], images


def refusal(read, path: Path, expected) -> str | None:
    """Message of the error that a reader of a damaged file gives; None where the damage changes nothing."""
    try:
        found = read(path)
    except ProductError as error:
        assert "\n" not in str(error) and str(error).startswith(f"{path}: ")
        return str(error)
    np.testing.assert_equal(found, expected)
    return None


@pytest.mark.parametrize(
    ("pattern", "read"),
    [
        ("flux/*_flux", flux_content),
        ("skymatch/p_skymatch", read_step),
        ("outlier_detection/p_outliers", read_step),
    ],
)
def test_damaged_intermediates_are_found(reference, tmp_path, pattern, read):
    source = sorted((reference[0] / "results").glob(f"{pattern}.asdf"))[0]
    content, path, expected = source.read_bytes(), tmp_path / source.name, read(source)
    rng = np.random.default_rng(20)
    for end in rng.integers(0, len(content), 20):
        path.write_bytes(content[:end])
        assert refusal(read, path, expected), end
    headers = [found.start() for found in re.finditer(b"\xd3BLK", content)]
    tree = content.index(b"%YAML"), headers[0]
    for at in [*rng.integers(*tree, 25), *rng.integers(headers[0], len(content), 50)]:
        bad = bytearray(content)
        bad[at] ^= 1 << rng.integers(8)
        path.write_bytes(bad)
        # Of a block's header some bits have no meaning; all others count.
        sizes = (6 + int.from_bytes(content[start + 4 : start + 6]) for start in headers)
        harmless = any(0 <= at - start < n for start, n in zip(headers, sizes, strict=True))
        assert refusal(read, path, expected) or harmless, at
