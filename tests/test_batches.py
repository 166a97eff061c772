"""A survey in parts: each part makes its own products, the rest what is of no product, together the whole."""

import re
import shutil

import pytest
from rerun_survey import BASE, PRODUCTS, fluxes, jobs_of
from romosaic import product_index
from romosaic.config import load
from romosaic.product_index import Product

ALL = jobs_of(*PRODUCTS)
REST = [
    "catalog f129_none",
    "catalog f158_none",
    "overview f129",
    "overview f158",
    "qa of all products",
]


def part(run, batch: str, *arguments: str):
    """Jobs of a part."""
    return run.jobs(*arguments, "--config", f"batch={batch}")


def every_job(run) -> list[str]:
    """Jobs of the last run, those of filters and of the run among them."""
    logs = (run.folder / ".snakemake" / "log").glob("*.log")
    text = max(logs, key=lambda path: path.stat().st_mtime_ns).read_text()
    return sorted(re.findall(r"^Job \d+: (.*)", text, re.M))


def survey(cells: int, filters: int = 2, regular: int = 3) -> dict[str, Product]:
    """Products of skycells in some filters, and on grids of their own, in the order of their names."""
    found = {}
    for number in range(cells):
        for element in range(filters):
            # neighbours do not follow each other by name: the visit comes first
            cell = f"000p86x{number // 5:02d}y{number % 5:02d}"
            found[f"v{number % 3}_{cell}_{element}"] = Product(f"F{element}", cell, "grid", 1)
    for number in range(regular):
        found[f"own{number}"] = Product("F0", "", f'{{"nx": {number // 2}}}', 1)
    return dict(sorted(found.items()))


@pytest.mark.parametrize("cells", [0, 1, 40])
@pytest.mark.parametrize("parts", [1, 2, 7, 100])
def test_each_product_is_in_one_part(cells, parts):
    products = survey(cells, regular=3 * bool(cells))
    found = [product_index.batch(products, f"{k}/{parts}") for k in range(1, parts + 1)]
    assert sorted(name for names in found for name in names) == list(products)
    places = [{products[n].skycell or products[n].grid for n in names} for names in found]
    assert sum(map(len, places)) == len(set().union(*places)), "products of a place are together"
    # as even as whole places are: at most one more or less
    sizes = [len(names) for names in found]
    assert max(sizes) <= len(products) / parts + 2


@pytest.mark.parametrize(
    ("given", "value"), [(" 02 / 10", "2/10"), ("1/1", "1/1"), ("Rest", "rest"), ("null", None)]
)
def test_parts_are_named(given, value):
    assert load({"batch": given})["batch"] == value


def test_parts_are_pieces_of_sky():
    products = survey(40)
    cells = [
        products[name].skycell
        for k in range(1, 5)
        for name in product_index.batch(products, f"{k}/4")
    ]
    cells = [cell for cell in cells if cell]
    assert cells == sorted(cells)


def chosen(run, batch: str) -> list[str]:
    """Products of a part."""
    return product_index.batch(product_index.read(run.folder / "results/associate"), batch)


def test_parts_plan_what_the_whole_does(run):
    for folder in (run.folder / "results").iterdir():
        if folder.name not in ("associate", "logs", "benchmarks"):
            shutil.rmtree(folder)
    whole, parts = run.jobs("-n"), [part(run, batch, "-n") for batch in ("1/2", "2/2")]
    assert whole == fluxes(*BASE) | ALL == set.union(*parts)
    for number, jobs in enumerate(parts, 1):
        made = {job for job in jobs if not job.startswith("flux")}
        assert made == jobs_of(*chosen(run, f"{number}/2"))
    assert part(run, "7/7", "-n") == set(), "fewer products than parts"


def test_a_run_in_parts_is_the_run_at_once(run):
    last = chosen(run, "2/2")
    for name in last:
        run.delete(f"[!abl]*/{name}*")  # not associations, benchmarks, logs
    for pattern in ("overview/*", "qa/qa.*", "qa/seams.tsv"):
        run.delete(pattern)
    shutil.rmtree(run.folder / "results" / "catalog")
    refused = run.snakemake("--config", "batch=rest")
    (line,) = [line for line in refused.output.splitlines() if line.startswith("romosaic:")]
    assert refused.returncode == 1 and "3 of 6 products in results/ are not whole" in line
    assert "Nothing to be done" in run.snakemake("--config", "batch=1/2").output
    done = run.snakemake("--config", "batch=2/2")
    assert done.returncode == 0, done.output[-3000:]
    assert set(every_job(run)) == jobs_of(*last)
    assert "6 of 6 products" in done.output and "this was part 2/2" in done.output
    # what is left is the same whether products are looked at again or not
    assert part(run, "rest", "-n") == run.jobs("-n") == set()
    coverage = run.snakemake("moc", "-n", "--config", "batch=rest").output
    assert (
        "moc_filter" in coverage
        and "resample" not in coverage.split("Job stats")[1].split("total")[0]
    )
    done = run.snakemake("--config", "batch=rest")
    assert done.returncode == 0 and every_job(run) == REST
    assert "this was part" not in done.output
    assert "Nothing to be done" in run.snakemake("-n").output
    exports = {f"fits {product}" for product in PRODUCTS} | {"fits "}
    assert part(run, "rest", "fits", "-n") == exports
    run.configure("resample", pixfrac=0.9)
    assert part(run, "rest", "-n") == set(), "what there is of products is taken as it is"
    assert run.jobs("-n") == jobs_of(*PRODUCTS, start="resample")
