"""Which files a run makes of an exposure and of a product, by step: where they lie below `output_dir`."""

from collections.abc import Iterator
from pathlib import Path

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
#: By step of a product, its rule that is of all products: the log and the benchmark are named as it is.
OF_ALL = {"qa": "qa_table", "fits": "fits"}
#: Steps whose files are what a run is for; those of the others serve to make them.
FINAL = ("resample", "source_catalog", "preview", "qa")
#: Steps whose files hold the parameters that they were made with.
RECORDING = ("flux", "skymatch", "outlier_detection", "resample", "source_catalog")


def final_files(product: str) -> list[str]:
    """List what a run is asked to make of a product, below `output_dir`."""
    return [pattern.format(product) for step in FINAL for pattern in PRODUCT[step]]


def product_names(folder: str | Path) -> list[str]:
    """List the products that a run has found, sorted; `folder` is its `output_dir`."""
    ending = "_asn.json"
    listed = (Path(folder) / "associate/associations").glob(f"*{ending}")
    return sorted(path.name.removesuffix(ending) for path in listed)


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


def patterns() -> Iterator[tuple[str, str, bool]]:
    """
    Yield all kinds of files that belong to one exposure or one product.

    Yields
    ------
    (step, pattern, of_exposure)
        Step that makes the file; path below `output_dir` with ``{}`` for the name; whether the name is that
        of an exposure. Logs and benchmarks are among them.
    """
    for files, of_exposure in ((EXPOSURE, True), (PRODUCT | EXPORT, False)):
        for step, outputs in files.items():
            for pattern in (*outputs, f"logs/{step}/{{}}.log", f"benchmarks/{step}/{{}}.tsv"):
                yield step, pattern, of_exposure
