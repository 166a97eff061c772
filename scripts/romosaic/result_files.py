"""Which files a run makes, by step: where they lie below `output_dir`, and of what they are."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from .color_filters import choose_filters
from .names import ASSOCIATION
from .product_index import Product

#: Folders within folders that files lie in, at most.
DEPTH = 3
#: By step, files of an exposure; ``{}`` stands for its name.
EXPOSURE = {"flux": ("flux/{}_flux.asdf",)}
#: By step, files of a product; ``{}`` stands for its name.
PRODUCT = {
    "skymatch": ("skymatch/{}_skymatch.asdf",),
    "outlier_detection": ("outlier_detection/{}_outliers.asdf",),
    "resample": ("resample/{}_coadd.asdf",),
    "source_catalog": (
        "source_catalog/{}_cat.asdf",
        "source_catalog/{}_cat.parquet",
        "source_catalog/{}_segm.asdf",
    ),
    "preview": (
        "preview/{}_coadd.png",
        "preview/{}_planes.png",
        "preview/{}_thumbnail.jpg",
        "preview/{}_small.asdf",
    ),
    "qa": ("qa/{}_qa.json",),
}
#: By step, files of a product that are made on request.
EXPORT = {"fits": ("fits/{}_coadd.fits",)}
#: By step, files and folders of a filter; ``{}`` stands for its name in small letters.
FILTER = {
    "epsf": ("epsf/{}_epsf.asdf",),
    "overview": ("overview/{}_overview.png",),
    "moc": ("moc/{}_moc.fits",),
    "hips": ("hips/{}",),
    "hats": ("hats/{}",),
}
#: By step, files of a filter in a projection region; ``{}`` stands for both with ``_`` between, stars for each.
REGION = {"catalog": ("catalog/*/projection_region=*/{}.parquet",)}
#: By step, files of a skycell; ``{}`` stands for its name.
CELL = {"color": ("color/{}_color.png", "color/{}_thumbnail.jpg")}
#: By step, files of the run.
RUN = {
    "associate": ("associate/quarantine.tsv",),
    "plan": ("plan/plan.tsv", "plan/plan.png"),
    "qa": ("qa/qa.tsv", "qa/seams.tsv", "qa/qa.html"),
    "fits": ("fits/fits.tsv",),
    "moc": ("moc/moc.fits",),
    "hips": ("hips/hips.tsv",),
    "hats": ("hats/hats.tsv",),
}
#: Those that there are many of, by what they are of.
KINDS = {
    "exposure": EXPOSURE,
    "product": PRODUCT | EXPORT,
    "filter": FILTER,
    "region": REGION,
    "cell": CELL,
}
#: By step, its rule that is of the whole run: the log and the benchmark are named as it is.
OF_ALL = {step: step for step in RUN} | {"qa": "qa_table"}
#: Steps whose files are what a run is for; those of the others serve to make them.
FINAL = ("resample", "source_catalog", "preview", "qa")
#: Steps whose files of filters, skycells and the run each run makes, too.
FINAL_OF_ALL = ("associate", "catalog", "overview", "color", "qa")
#: Steps whose files hold the parameters that they were made with.
RECORDING = ("flux", "skymatch", "outlier_detection", "resample", "source_catalog")


def final_files(product: str) -> list[str]:
    """List what a run is asked to make of a product, below `output_dir`."""
    return [path_of(pattern, product) for step in FINAL for pattern in PRODUCT[step]]


def product_names(folder: str | Path) -> list[str]:
    """List the products that a run has found, sorted; `folder` is its `output_dir`."""
    listed = (Path(folder) / "associate/associations").glob(f"*{ASSOCIATION}")
    return sorted(path.name.removesuffix(ASSOCIATION) for path in listed)


def unfinished(folder: str | Path) -> str:
    """
    Say what a run has not made of its products.

    Parameters
    ----------
    folder : str or path
        The run's `output_dir`.

    Returns
    -------
    str
        How many products lack a final file, and the first of them; empty when all are whole.
    """
    names = product_names(folder)
    lacking = [
        name for name in names if not all(Path(folder, path).exists() for path in final_files(name))
    ]
    if not names:
        return f"{folder}/ has no products"
    if not lacking:
        return ""
    return (
        f"{len(lacking)} of {len(names)} products in {folder}/ are not whole, such as {lacking[0]}"
    )


def path_of(pattern: str, name: str) -> str:
    """Path of the file of a pattern that is of what has this name."""
    for part in name.split("_"):
        pattern = pattern.replace("*", part, 1)
    return pattern.replace("{}", name)


def names(
    products: Mapping[str, Product], exposures: Iterable[str], colors: Iterable[str] = ()
) -> dict[str, set[str]]:
    """
    Names of what a run makes files of.

    Parameters
    ----------
    products : mapping
        `Product` by name.
    exposures : iterable of str
        Names of the exposures.
    colors : iterable of str, optional
        Filters of the colour pictures, see `color_filters.choose_filters`.

    Returns
    -------
    dict of sets
        By kind, those of `KINDS`.
    """
    elements = {product.optical_element.lower() for product in products.values()}
    cells: dict[str, set[str]] = {}
    for product in products.values():
        cells.setdefault(product.skycell, set()).add(product.optical_element)
    cells.pop("", None)  # other grids
    return {
        "exposure": set(exposures),
        "product": set(products),
        "filter": elements,
        "region": {f"{p.optical_element.lower()}_{p.region}" for p in products.values()},
        "cell": {cell for cell, own in cells.items() if choose_filters([*own], [*colors])},
    }


def patterns() -> Iterator[tuple[str, str, str]]:
    """
    Yield all kinds of files that belong to one exposure, product, filter, projection region or skycell.

    Yields
    ------
    (step, pattern, kind)
        Step that makes the file; path below `output_dir` with ``{}`` for the name; of what the name is, one of
        `KINDS`. Logs and benchmarks are among them.
    """
    for kind, files in KINDS.items():
        for step, outputs in files.items():
            for pattern in (*outputs, f"logs/{step}/{{}}.log", f"benchmarks/{step}/{{}}.tsv"):
                yield step, pattern, kind
