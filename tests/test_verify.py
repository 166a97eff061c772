"""What `verify` finds: every kind of file, damaged in every way, is named with the file to delete."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from rerun_survey import PRODUCTS, exposure, product
from romosaic import verify
from romosaic.asdf_blocks import AsdfBlocks
from romosaic.asdf_tree import seal, without_seal
from romosaic.errors import ProductError
from romosaic.result_files import (
    CELL,
    EXPOSURE,
    FILTER,
    FINAL,
    FINAL_OF_ALL,
    KINDS,
    PRODUCT,
    RECORDING,
    REGION,
    RUN,
    path_of,
    patterns,
)

A, C = product("A"), product("C")
#: Files of a product.
PER_PRODUCT = sum(len(files) for files in PRODUCT.values())
PATHS = {
    "flux": f"flux/{exposure('a1')}_flux.asdf",
    "sky levels": f"skymatch/{A}_skymatch.asdf",
    "outliers": f"outlier_detection/{A}_outliers.asdf",
    "coadd": f"resample/{A}_coadd.asdf",
    "catalog": f"source_catalog/{A}_cat.asdf",
    "parquet": f"source_catalog/{A}_cat.parquet",
    "segmentation": f"source_catalog/{A}_segm.asdf",
    "picture": f"preview/{A}_coadd.png",
}
each_kind = pytest.mark.parametrize("kind", PATHS)


@pytest.fixture(scope="module")
def results(finished, tmp_path_factory):
    """Results that may be damaged, if they are mended again."""
    return shutil.copytree(finished.folder / "results", tmp_path_factory.mktemp("v") / "results")


@pytest.fixture(scope="module")
def wanted(results):
    """Files of the survey; of one product and exposure, by path below the results."""
    folder = results / "associate"
    files = verify.wanted_files(
        results, sorted(folder.glob("associations/*")), sorted(folder.glob("exposures/*")), {}
    )
    assert len([file for file in files if file.inputs]) == 12 + PER_PRODUCT * len(PRODUCTS)
    return {file.path.removeprefix(f"{results}/"): file for file in files}


@pytest.fixture
def victim(results, wanted, kind):
    """One file, put back afterwards."""
    path = results / PATHS[kind]
    content = path.read_bytes()
    yield wanted[PATHS[kind]], path
    path.write_bytes(content)


def problem(file, schemas=False) -> str:
    ((_, _, found),) = verify.check_files([file], schemas=schemas)
    return found


def test_the_files_of_the_steps_are_those_of_their_rules():
    from test_layout import rules_of

    kinds = "exposure", "product", "filter", "filter}}_{{region", "cell"
    for name, made in [*zip(kinds, KINDS.values(), strict=True), ("", RUN)]:
        for step, files in made.items():
            output = "".join(rule["output"] for rule in rules_of(step).values())
            for pattern in files:
                path = path_of(pattern, f"{{{{{name}}}}}" if name else "")
                # `associate` makes a folder
                assert f'"{{OUT}}/{path}"' in output or step == "associate", path
    for step, files in (EXPOSURE | PRODUCT).items():
        assert rules_of(step)[step]["output"].count("{OUT}") == len(files)
    assert set(FINAL) < set(PRODUCT) and set(RECORDING) < {*EXPOSURE, *PRODUCT}
    assert set(FINAL_OF_ALL) < {*REGION, *FILTER, *CELL, *RUN}
    assert len(list(patterns())) == sum(
        len(files) + 2 for made in KINDS.values() for files in made.values()
    )


def test_a_finished_run_is_in_order(run):
    done = run.snakemake("verify")
    assert done.returncode == 0, done.output[-3000:]
    rows = (run.folder / "results/verify/verify.tsv").read_text().splitlines()
    assert f"verify: {len(rows) - 1} files are in order" in done.output
    assert all(row.endswith("\t") for row in rows[1:])
    assert "romosaic: verify done, in results/" in done.output and "mosaics" not in done.output
    # Every file is looked at, or lies in a folder whose files are.
    seen = {run.folder / row.split("\t")[0] for row in rows[1:]}
    made = (path for path in (run.folder / "results").rglob("*") if path.is_file())
    missed = {path for path in made if not seen & {path, path.parent}}
    others = {"logs", "benchmarks", "verify", "associate"}
    assert [path for path in missed if not others & {*path.parts} and path.name[0] != "."] == []


def test_files_of_the_run_are_looked_at(results, wanted):
    """Folders by their files, and what is made on request where it is."""
    assert {f"overview/{e}_overview.png" for e in ("f129", "f158")} < wanted.keys()
    assert {"qa/qa.tsv", "qa/seams.tsv", "qa/qa.html"} < wanted.keys()
    (catalog,) = (path for path in wanted if path.startswith("catalog/f158/"))
    assert problem(wanted[catalog]) == "" and (results / catalog).stat().st_size
    made = {path.split("/")[0] for path in wanted}
    assert not made & {"plan", "fits", "moc", "hips", "hats", "epsf"}
    folder = results / "hats/f158"
    (folder / "dataset").mkdir(parents=True)
    shutil.copy(results / catalog, folder / "dataset/Npix=1.parquet")
    (folder / "properties").write_text("cut sho")
    paths = [sorted((results / "associate").glob(f"{k}/*")) for k in ("associations", "exposures")]
    files = verify.wanted_files(results, *paths, {})
    whole, part = (file for file in files if file.step == "hats")
    assert (whole.path, part.path) == (str(folder), str(folder / "dataset"))
    assert problem(whole) == "properties is cut short or no text" and problem(part) == ""
    assert part.todo == f"delete {folder}, it is made when it is needed again"
    (folder / "dataset/Npix=1.parquet").write_bytes(b"PAR1")
    assert problem(part).startswith("Npix=1.parquet cannot be read: ")
    (folder / "dataset/Npix=1.parquet").unlink()
    assert problem(part) == "is empty"
    shutil.rmtree(results / "hats")


def spans(path) -> list[tuple[int, int]]:
    """Parts of a file whose bytes have a checksum: blocks, not the text before them."""
    if path.suffix != ".asdf":
        return [(0, path.stat().st_size)]
    blocks = AsdfBlocks.read(path).blocks
    return [(block.start, block.start + block.used) for block in blocks if block.used]


def table(path) -> dict[str, str]:
    """Values of a parquet file."""
    import pyarrow.parquet as pq

    columns = pq.read_table(path)
    return {name: repr(columns[name].to_pylist()) for name in columns.column_names}


@each_kind
def test_flipped_bits_are_found(victim, kind):
    file, path = victim
    content, rng, found = path.read_bytes(), np.random.default_rng(4), 0
    places, before = spans(path), table(path) if kind == "parquet" else None
    for _ in range(8):
        start, end = places[rng.integers(len(places))]
        damaged = bytearray(content)
        damaged[rng.integers(start, end)] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        # The pages of a parquet file have checksums: what is not found must have changed no value.
        if problem(file):
            found += 1
        else:
            assert kind == "parquet" and table(path) == before
    assert found >= (2 if kind == "parquet" else 8)
    path.write_bytes(content)
    assert problem(file) == ""


@each_kind
@pytest.mark.parametrize("left", [0.0, 0.1, 0.6, 0.999])
def test_truncated_files_are_found(victim, kind, left):
    file, path = victim
    content = path.read_bytes()
    path.write_bytes(content[: int(left * len(content))])
    assert problem(file)


@each_kind
def test_other_files_of_the_name_are_found(victim, kind, results):
    """Text, and the same file of another product or exposure."""
    file, path = victim
    path.write_text("something else\n")
    assert problem(file)
    other = PATHS[kind].replace(A, C).replace(exposure("a1"), exposure("c1"))
    shutil.copy(results / other, path)
    if kind == "picture":  # it says nothing of what it was made of
        assert problem(file) == ""
    elif kind == "parquet":
        assert "does not hold the table" in problem(file)
    else:
        assert problem(file) == "was made of other members, or of other content of theirs"


@pytest.mark.parametrize("kind", ["flux", "sky levels", "coadd"])
@pytest.mark.parametrize("flaw", [b"#ROLOSAIC ", b"#ROMOSAICX"])
def test_a_header_without_its_checksum_is_found(victim, kind, flaw):
    file, path = victim
    path.write_bytes(path.read_bytes().replace(b"#ROMOSAIC ", flaw, 1))
    assert problem(file) == "is corrupt: its header has lost its checksum"


@pytest.mark.parametrize("kind", ["flux", "coadd", "catalog", "segmentation"])
def test_what_is_not_valid_by_its_schema_is_found(victim, kind):
    file, path = victim
    assert problem(file, schemas=True) == ""
    head = AsdfBlocks.read(path).text
    assert b"telescope: " in head
    wrong = head.replace(b"telescope: ", b"telescopf: ", 1)
    # with a seal that fits, where there is one
    wrong = wrong.replace(seal(without_seal(head)), seal(without_seal(wrong)))
    path.write_bytes(wrong + path.read_bytes()[len(head) :])
    assert problem(file) == ""
    assert "is not valid by its schema" in problem(file, schemas=True)


@pytest.mark.parametrize(
    "kind", ["flux", "sky levels", "outliers", "coadd", "catalog", "segmentation"]
)
def test_other_parameters_are_found(victim, kind):
    file, path = victim
    used = AsdfBlocks.read(path).tree["romosaic"]["provenance"]["parameters"]
    assert problem(replace(file, steps={file.step: used})) == ""
    key = sorted(used)[0]
    other = replace(file, steps={file.step: used | {key: "another"}})
    assert problem(other) == f"was made with another value of {key}"


@pytest.mark.parametrize("kind", ["sky levels", "outliers", "coadd", "catalog", "segmentation"])
def test_other_parameters_of_the_steps_before_are_found(victim, kind):
    file, path = victim
    made = AsdfBlocks.read(path).tree["romosaic"]["provenance"]
    before = ["flux", "skymatch", "outlier_detection", "resample", "source_catalog"]
    assert list(made["steps"]) == before[: before.index(file.step)]
    steps = {**made["steps"], file.step: made["parameters"]}
    assert problem(replace(file, steps=steps)) == ""
    for step, used in made["steps"].items():
        key = sorted(used)[-1]
        other = replace(file, steps={**steps, step: used | {key: "another"}})
        assert problem(other) == f"was made of files of {step} with another value of {key}"


def test_all_that_is_wrong_is_told_at_once(results, wanted):
    coadd, flux = wanted[PATHS["coadd"]], wanted[PATHS["flux"]]
    absent = replace(coadd, path=f"{results}/resample/absent_coadd.asdf")
    table = [
        (coadd, 1, "is corrupt"),
        (flux, 1, "is corrupt"),
        (absent, 0, "is missing"),
        (flux, 9, ""),
    ]
    assert verify.check_files([absent]) == [(absent, 0, "is missing")]
    with pytest.raises(ProductError) as error:
        verify.refuse_problems(table)
    assert str(error.value).splitlines() == [
        "3 of 4 files are not in order",
        f"  - {coadd.path}: is corrupt -> delete it, the next run makes it again",
        f"  - {flux.path}: is corrupt -> delete it, it is made when it is needed again",
        f"  - {absent.path}: is missing -> the next run makes it again",
    ]


def test_what_it_says_to_delete_is_made_again(run):
    """Damage that leaves a file's date alone, which no run notices."""
    import os

    path = run.folder / "results" / PATHS["segmentation"]
    content, date = bytearray(path.read_bytes()), path.stat()
    content[-2000] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(date.st_atime_ns, date.st_mtime_ns))
    assert run.plan() == set()
    done = run.snakemake("verify")
    told = [line for line in done.output.splitlines() if "-> delete it" in line]
    assert done.returncode == 1 and told
    assert {line.split(":")[0].removeprefix("  - ") for line in told} == {
        f"results/{PATHS['segmentation']}"
    }
    path.unlink()
    assert run.jobs() == {f"source_catalog {A}", f"preview {A}", f"qa {A}"}
    assert run.problems() == []
