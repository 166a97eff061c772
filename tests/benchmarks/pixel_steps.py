"""
The pixel steps beside romancal's, and SWarp's: what they cost and what the products are worth.

    make benchmark                       # about 35 minutes on 2 quiet cores, 12 GB in results/benchmark
    make benchmark ARGS="--only cell"    # one skycell only
    make benchmark ARGS="--help"

simulates full-size exposures (once), installs romancal in an environment of its own (once), runs both
programs on the same files in turn and writes docs/benchmark.md. SWarp has a column where it is installed.
"""

import argparse
import shutil
from pathlib import Path

import many_members
import programs
import psutil
import report
import swarp
from benchmark_data import ROOT, Romanisim, Simulated, write_references
from scores import Judge, Products

GIVEN = ROOT.parent / "shared" / "data" / "romanisim_f158"
#: Memory that romancal takes for a member of an association, GB.
ROMANCAL_GB = 1.0
#: Exposures of a deep skycell.
MANY = 32
#: Runs with each number of threads, of few and of many exposures: what else a host does disturbs two threads
#: more than one, and short runs more than long ones.
REPEATS = 20, 5


def arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Benchmark of the pixel steps beside romancal.")
    parser.add_argument("--folder", type=Path, default=ROOT / "results" / "benchmark")
    parser.add_argument("--report", type=Path, default=ROOT / "docs" / "benchmark.md")
    parser.add_argument("--cores", type=int, default=2, help="of the survey, for both programs")
    parser.add_argument("--only", nargs="+", choices=("cell", "survey", "romanisim"))
    parser.add_argument("--romanisim", type=Path, default=GIVEN, help="images with their truth")
    parser.add_argument("--romancal-python", type=Path, help="of an environment that has romancal")
    return parser.parse_args()


def side_by_side(cores: int, members: int) -> int:
    """Processes of romancal that the memory holds."""
    available = psutil.virtual_memory().available / 1e9
    return max(1, min(cores, int(available // (ROMANCAL_GB * members))))


class Benchmark:
    """One run of everything; results by set of exposures, as `report` takes them."""

    def __init__(self, options: argparse.Namespace):
        self.options, self.folder = options, options.folder.resolve()
        self.references = write_references(self.folder / "references")
        python = options.romancal_python
        self.python = python or programs.make_romancal(self.folder / "venv-romancal")
        self.results: dict[str, dict] = {}

    def ours(self, data, cores: int) -> programs.Run:
        """Run the workflow."""
        print(f"benchmark: romosaic on {data.name}, {cores} cores", flush=True)
        folder = self.folder / "romosaic" / f"{data.name}-{cores}"
        return programs.run_romosaic(data, folder, cores, self.references)

    def theirs(self, data, ours: programs.Run, processes: int) -> programs.Run:
        """Run romancal on the associations of a run of the workflow."""
        print(f"benchmark: romancal on {data.name}, {processes} processes", flush=True)
        folder, asns = self.folder / "romancal" / data.name, ours.folder / "associate/associations"
        return programs.run_romancal(data, self.python, asns, folder, processes, self.references)

    def judge(self, data, ours: programs.Run, theirs: programs.Run) -> dict[str, dict]:
        """Scores of both programs."""
        print(f"benchmark: products of {data.name} against the truth", flush=True)
        self.judging = Judge(data, ours.folder)
        found = {}
        for program, products in (
            ("romosaic", Products.of_romosaic(ours.folder)),
            ("romancal", Products.of_romancal(theirs.folder)),
        ):
            found[program] = {"sky": self.judging.sky(products)}
            found[program]["outliers"] = self.judging.outliers(products)
            found[program] |= self.worth(products.images, products.levels)
        return found

    def worth(self, images, levels) -> dict:
        """Scores of coadds alone."""
        noise, pulls = self.judging.noise(images)
        return self.stars(self.judging, images, levels) | {"noise": noise, "pulls": pulls}

    @staticmethod
    def stars(judge: Judge, images, levels) -> dict:
        """Scores of stars."""
        return {"stars": judge.stars(images), "kept": judge.kept(images, levels)}

    def warm_up(self) -> None:
        """Compile the kernels."""
        data = Simulated(self.folder, "warm-up")
        data.make(self.options.cores)
        self.ours(data, self.options.cores)

    def cell(self) -> None:
        """One skycell, one process at a time; ours with two threads, too."""
        data = Simulated(self.folder, "cell")
        data.make(self.options.cores)
        ours, threaded = self.ours(data, 1), self.ours(data, 2)
        theirs = self.theirs(data, ours, 1)
        scores = self.judge(data, ours, theirs)
        self.results["cell"] = {
            **{"data": data, "romosaic": ours, "threaded": threaded, "romancal": theirs},
            **{"scores": scores, "right": self.judging.scene.right},
        }
        self.results["cell"] |= {"threads": self.threads(ours), "repeats": REPEATS}
        if swarp.version():
            print("benchmark: SWarp on cell", flush=True)
            runs = swarp.run_swarp(ours.folder, self.folder / "swarp")
            levels = Products.of_romosaic(ours.folder).levels  # what SWarp's members are less
            self.results["cell"]["SWarp"] = runs
            for kernel, (_, path) in runs.items():
                scores[f"SWarp, {kernel}"] = self.worth(
                    lambda product, path=path: swarp.images(path), levels
                )

    def threads(self, ours: programs.Run) -> dict[int, dict[int, dict[str, float]]]:
        """Wall seconds of steps, the least of `REPEATS` runs, by number of exposures and of threads."""
        found = {}
        for number, repeats in zip((ours.steps["flux"].jobs, MANY), REPEATS, strict=True):
            print(f"benchmark: threads on {number} exposures of a skycell", flush=True)
            least = found[number] = {1: {}, 2: {}}
            given = ours.folder, number, self.folder / "many"
            for threads in (1, 2) * repeats:
                for step, (_, wall, *_) in many_members.measure_steps(*given, threads, "resample"):
                    least[threads][step] = min(wall, least[threads].get(step, wall))
            shutil.rmtree(self.folder / "many")
        return found

    def survey(self) -> None:
        """Four skycells: both programs as fast as the cores allow."""
        data = Simulated(self.folder, "survey")
        data.make(self.options.cores)
        ours = self.ours(data, self.options.cores)
        processes = side_by_side(self.options.cores, 8)
        theirs = self.theirs(data, ours, processes)
        self.results["survey"] = {"data": data, "romosaic": ours, "romancal": theirs}
        self.results["survey"] |= {"processes": processes, "cores": self.options.cores}
        # Four times as many stars as one skycell holds.
        judge, scores = Judge(data, ours.folder), {}
        for program, products in (
            ("romosaic", Products.of_romosaic(ours.folder)),
            ("romancal", Products.of_romancal(theirs.folder)),
        ):
            scores[program] = self.stars(judge, products.images, products.levels)
        self.results["survey"] |= {"scores": scores, "right": judge.scene.right}

    def romanisim(self) -> None:
        """Small images of the real simulator: quality only."""
        if not self.options.romanisim.is_dir():
            print("benchmark: no images of romanisim, left out", flush=True)
            return
        data = Romanisim(self.options.romanisim.resolve())
        ours = self.ours(data, self.options.cores)
        theirs = self.theirs(data, ours, side_by_side(self.options.cores, 4))
        scores = self.judge(data, ours, theirs)
        self.results["romanisim"] = {"data": data, "scores": scores}
        self.results["romanisim"]["right"] = self.judging.scene.right


def main() -> None:
    """Run what is asked for and write the report."""
    options = arguments()
    benchmark = Benchmark(options)
    benchmark.warm_up()
    for name in options.only or ("cell", "romanisim", "survey"):
        getattr(benchmark, name)()
        # After each set: what is measured is kept, whatever becomes of the next one.
        text = report.write(benchmark.results, benchmark.python, swarp.version())
        options.report.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
