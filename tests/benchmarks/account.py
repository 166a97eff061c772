"""
Stands in the place of bash while Snakemake runs: runs the real bash and notes what each job's process cost.

Snakemake starts the script of a job as `bash -c "... python .snakemake/scripts/tmp<random>.<step>.py"`.
What the system's own accounting says at the end of that bash (wait4) is its and its children's time, from
start to end. A line per job goes to the file ROMOSAIC_BENCHMARK_LOG: step, seconds, CPU seconds, peak
memory (MB), CPU seconds of this program itself. ROMOSAIC_BENCHMARK_BASH is the real bash.
"""

import json
import os
import re
import resource
import sys
import time

arguments = sys.argv[1:]
start = time.perf_counter()
bash = os.environ["ROMOSAIC_BENCHMARK_BASH"]
_, status, use = os.wait4(os.posix_spawn(bash, ["bash", *arguments], os.environ), 0)
wall = time.perf_counter() - start
step = re.search(r"\.snakemake/scripts/tmp\w+\.(\w+)\.py", " ".join(arguments))
own = resource.getrusage(resource.RUSAGE_SELF)
row = {
    "step": step[1] if step else "shell",
    "wall": wall,
    "core": use.ru_utime + use.ru_stime,
    "memory": use.ru_maxrss * 1024 / 1e6,
    "own": own.ru_utime + own.ru_stime,
}
with open(os.environ["ROMOSAIC_BENCHMARK_LOG"], "a") as file:
    file.write(json.dumps(row) + "\n")
sys.exit(os.waitstatus_to_exitcode(status) % 256)
