"""What a run has made, or why it has not, in a few lines for the terminal."""

from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path

from .config_types import REST
from .progress import Job, Progress, read_costs, why_failed
from .result_files import final_files, product_names
from .run_lines import clock, count

#: Warnings and failures that are written out.
SHOWN = 5


def summary(
    folder: str | Path,
    progress: Progress | None = None,
    batch: str | None = None,
    targets: Collection = (),
    part: Callable[[], Collection | None] = lambda: None,
) -> str:
    """
    Say what lies in a folder of results, what to look at, and what the run has cost.

    A run that was asked for some targets says which files these are instead.

    Parameters
    ----------
    folder : str or path
        The run's `output_dir`.
    progress : Progress, optional
        The run that has ended; its costs and warnings are told.
    batch : str, optional
        The part of a survey that it was, as in the configuration.
    targets : collection of Snakemake's jobs, optional
        What was asked for; rule ``all`` or none for the whole.
    part : callable, optional
        Gives the products of that part of a survey, None without parts: asked for the whole only.

    Returns
    -------
    str
        Lines without an end of line; empty when there is nothing to show.
    """
    folder, steps = Path(folder), sorted({job.rule.name for job in targets})
    whole = "all" in steps or not steps
    names = part() if whole else None
    if whole:
        lines = _products(folder)
    else:
        lines = [f"romosaic: {', '.join(steps)} done, in {folder}/"]
        files = sorted(str(path) for job in targets for path in job.output)
        lines += [f"  file      {path}" for path in files[:SHOWN]]
        lines += [f"  and {len(files) - SHOWN} more"] * (len(files) > SHOWN)
    if not lines and (names is None or names):
        return ""
    lines += _costs(progress, folder) if progress else []
    lines += _left_out(folder)
    if progress and progress.warnings:
        lines.append(f"  warnings  {len(progress.warnings)}, in {folder}/logs/")
        lines += [f"            {text}" for text in progress.warnings[:SHOWN]]
    if whole and batch not in (None, REST):
        has = "" if names is None else f" with {count(len(names), 'product')}"
        lines.append(
            f"  next      this was part {batch}{has}; after the last part --config batch={REST}"
        )
    return "\n".join(lines)


def _products(folder: Path) -> list[str]:
    """Say where the products are; nothing when there is no mosaic."""
    names = product_names(folder)
    made = [name for name in names if (folder / f"resample/{name}_coadd.asdf").exists()]
    if not made:
        return []
    lines = [
        f"romosaic: {len(made)} of {count(len(names), 'product')} in {folder}/",
        f"  mosaics   {folder}/resample/*_coadd.asdf  (roman_datamodels.open)",
        f"  catalogs  {folder}/source_catalog/*_cat.parquet  (astropy.table.Table.read)",
        f"  pictures  {folder}/preview/*_coadd.png",
    ]
    pictures = [folder / f"preview/{name}_coadd.png" for name in made]
    pictures = [path for path in pictures if path.exists()]
    if pictures:
        # The picture with the most in it takes the most bytes.
        lines.append(f"  look at   {max(pictures, key=lambda path: path.stat().st_size)}")
    if (folder / "qa/qa.html").exists():
        lines.append(f"  quality   {folder}/qa/qa.html")
    return lines


def failures(folder: str | Path, progress: Progress, keep_going: bool = False) -> str:
    """
    Say which jobs of a run have failed, why, what stands all the same, and what to do.

    Parameters
    ----------
    folder : str or path
        The run's `output_dir`.
    progress : Progress
        The run that has ended.
    keep_going : bool, optional
        Whether it made all that did not depend on what had failed.

    Returns
    -------
    str
        Lines without an end of line.
    """
    folder, failed = Path(folder), list(progress.failed.values())
    names, open_ = product_names(folder), progress.unfinished()
    there = [n for n in names if all((folder / path).exists() for path in final_files(n))]
    whole = [name for name in there if name not in open_]  # not what is of an earlier run
    state = (
        f"{len(whole)} of {count(len(names), 'product')} finished, in {folder}/" if names else ""
    )
    what = f"{count(len(failed), 'job')} failed" if failed else "stopped"
    lines = ["; ".join(filter(None, [f"romosaic: {what}", state]))]
    for job in failed[:SHOWN]:
        reason, *_ = why_failed(job).splitlines()
        logs = " and ".join(filter(None, [job.log, job.cluster_log]))
        lines += [f"  failed    {_title(job)}", f"  reason    {reason}", f"  log       {logs}"]
    if len(failed) > SHOWN:
        lines.append(f"  and {len(failed) - SHOWN} more, see {folder}/logs/")
    lines += _left_out(folder)
    mend = "mend the cause and give the same command again: it" if failed else "the same command"
    lines.append(f"  next      {mend} goes on from here")
    if any(job.rule in ("associate", "flux") for job in failed):
        lines.append("            associate.on_bad_exposure: exclude does without bad exposures")
    others = progress.total - len(progress.done) > len(failed)
    if failed and others and not keep_going:
        lines.append(
            "            with --keep-going, what does not depend on a failure is made all the same"
        )
    return "\n".join(lines)


def _costs(progress: Progress, folder: Path) -> list[str]:
    """Time and memory of the jobs of a run."""
    jobs = [job for job in progress.done.values() if job.rule != "all"]
    costs = read_costs(jobs)
    if not costs:
        return []
    steps: dict[str, float] = {}
    for job, seconds, _ in costs:
        steps[job.rule] = steps.get(job.rule, 0.0) + seconds
    most = sorted(steps.items(), key=lambda item: -item[1])[:3]
    largest, _, memory = max(costs, key=lambda row: row[2])
    shares = ", ".join(f"{step} {clock(seconds)}" for step, seconds in most)
    lines = [
        f"  time      {clock(progress.elapsed)} for {count(len(jobs), 'job')}",
        f"  CPU       {clock(sum(steps.values()))}: {shares}",
        f"  memory    at most {memory / 1000:.1f} GB: {_title(largest)}",
        f"  costs     {folder}/benchmarks/*/*.tsv",
    ]
    again = Counter(job.rule for job in progress.failures if job.again)
    if again:
        counts = ", ".join(f"{step} {number}" for step, number in again.items())
        lines.append(f"  repeated  after a failure: {counts}")
    return lines


def _left_out(folder: Path) -> list[str]:
    quarantine = folder / "associate/quarantine.tsv"
    bad = len(quarantine.read_text().splitlines()) - 1 if quarantine.exists() else 0
    return [f"  left out  {count(bad, 'exposure')}, see {quarantine}"] if bad > 0 else []


def _title(job: Job) -> str:
    return f"{job.rule} {job.name}".strip()
