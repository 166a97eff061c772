"""What a run has made, in a few lines for the terminal."""

from pathlib import Path


def summary(folder: str | Path) -> str:
    """
    Say what lies in a folder of results, and what to look at.

    Parameters
    ----------
    folder : str or path
        The run's `output_dir`.

    Returns
    -------
    str
        Lines without an end of line; empty when there is no mosaic.
    """
    folder = Path(folder)
    ending = "_asn.json"
    listed = (folder / "associate/associations").glob(f"*{ending}")
    names = sorted(path.name.removesuffix(ending) for path in listed)
    made = [name for name in names if (folder / f"resample/{name}_coadd.asdf").exists()]
    if not made:
        return ""
    lines = [
        f"romosaic: {len(made)} of {_count(len(names), 'product')} in {folder}/",
        f"  mosaics   {folder}/resample/*_coadd.asdf  (roman_datamodels.open)",
        f"  catalogs  {folder}/source_catalog/*_cat.parquet  (astropy.table.Table.read)",
        f"  pictures  {folder}/preview/*_coadd.png",
    ]
    pictures = [folder / f"preview/{name}_coadd.png" for name in made]
    pictures = [path for path in pictures if path.exists()]
    if pictures:
        # The picture with the most in it takes the most bytes.
        lines.append(f"  look at   {max(pictures, key=lambda path: path.stat().st_size)}")
    quarantine = folder / "associate/quarantine.tsv"
    bad = len(quarantine.read_text().splitlines()) - 1 if quarantine.exists() else 0
    if bad > 0:
        lines.append(f"  left out  {_count(bad, 'exposure')}, see {quarantine}")
    return "\n".join(lines)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
