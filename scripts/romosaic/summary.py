"""What a run has made, in a few lines for the terminal."""

from pathlib import Path


def summary(folder: str | Path) -> str:
    """
    Say what lies in a folder of results, and what to look at.

    Parameters
    ----------
    folder : str or path
        The run's `output_dir`.
    """
    folder = Path(folder)
    names = sorted(p.name[:-9] for p in (folder / "associate/associations").glob("*_asn.json"))
    made = [name for name in names if (folder / f"resample/{name}_coadd.asdf").exists()]
    if not made:
        return ""
    lines = [
        f"romosaic: {len(made)} of {len(names)} products in {folder}/",
        f"  mosaics    {folder}/resample/*_coadd.asdf        roman_datamodels.open(...)",
        f"  catalogs   {folder}/source_catalog/*_cat.parquet astropy.table.Table.read(...)",
        f"  pictures   {folder}/preview/*_coadd.png",
    ]
    pictures = sorted((folder / "preview").glob("*_coadd.png"), key=lambda p: -p.stat().st_size)
    if pictures:
        lines.append(f"  look at    {pictures[0]}")
    quarantine = folder / "associate/quarantine.tsv"
    bad = len(quarantine.read_text().splitlines()) - 1 if quarantine.exists() else 0
    if bad:
        lines.append(f"  left out   {bad} exposures, see {quarantine}")
    return "\n".join(lines)
