"""
Many runs of Snakemake for the price of one start.

Starting Python and importing what a step needs costs more than the work of a step on a small survey. A server
imports the packages and the library once and forks a process for each run of Snakemake, and for each script
that a run starts: the workflow, its rules and its scripts are the real ones, in processes of their own. For a
copy of the workflow the library is imported anew.
"""

import gc
import importlib
import io
import itertools
import json
import os
import runpy
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).parent.parent
PACKAGES = ["snakemake.cli", "nbformat", "pydantic", "numba", "scipy.sparse.linalg"]
PACKAGES += ["scipy.ndimage", "asdf"]
PACKAGES += ["gwcs", "roman_datamodels.datamodels", "astropy.table", "pyarrow.parquet", "pandas"]
PACKAGES += ["matplotlib.figure", "matplotlib.backends.backend_agg", "photutils.segmentation"]
PACKAGES += ["photutils.psf", "photutils.aperture", "photutils.background", "snakemake.script"]


class Server:
    """
    Client's side; ends the server when it is closed.

    Parameters
    ----------
    address : Path
        Socket to make.
    """

    def __init__(self, address: Path) -> None:
        self.address, self.numbers = str(address), itertools.count()
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        command = [sys.executable, __file__, self.address]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"ready\n"

    def run(self, folder: Path, *arguments: object) -> SimpleNamespace:
        """Run Snakemake with these arguments in a folder; returns returncode and output (both streams)."""
        output = folder / f"output{next(self.numbers)}.txt"
        argv = [str(argument) for argument in arguments]
        request = {"do": "run", "argv": argv, "folder": str(folder), "output": str(output)}
        request["code"] = str(Path(argv[argv.index("-s") + 1]).parent)
        code = ask(self.address, request)
        return SimpleNamespace(returncode=code, output=output.read_text())

    def close(self) -> None:
        """End the server."""
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()


def ask(address: str, request: dict) -> int:
    """Let the server do something; returns the exit code, -9 when there is none."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        connection.sendall(json.dumps(request).encode() + b"\n")
        answer = connection.makefile().readline()
    return int(answer) if answer else -9


def serve(address: str) -> None:
    """Answer requests until terminated."""
    for name in PACKAGES:
        importlib.import_module(name)
    warm()
    gc.freeze()  # what all share is not copied
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            if os.fork() == 0:  # nobody's child: nobody has to wait for it
                answer(connection, address)
            os._exit(0)
        os.wait()
        connection.close()


def warm() -> None:
    """Have loaded what the first start of Snakemake and the first use of a data model load."""
    import asdf
    import roman_datamodels.datamodels as rdm
    from snakemake import cli

    cli.get_argument_parser()
    sys.path.insert(0, str(ROOT / "scripts"))
    from romosaic import inputs, product_index  # noqa: F401
    from romosaic.code_digest import code_digest

    for step in sorted((ROOT / "scripts").glob("*.py")):
        importlib.import_module(f"romosaic.{step.stem}")
        code_digest(step.stem)  # keeps what it parsed
    sys.path.remove(str(ROOT / "scripts"))
    file = asdf.AsdfFile({"roman": rdm.MosaicModel.create_fake_data()._instance})
    content = io.BytesIO()
    file.write_to(content, all_array_compression="lz4")
    content.seek(0)
    with asdf.open(content) as opened:
        rdm.open(opened).validate()


def answer(connection: socket.socket, address: str) -> None:
    """Do what is asked, answer with the exit code, and end the process."""
    request = json.loads(connection.makefile().readline())
    if Path(request["code"]) != ROOT:
        for name in [name for name in sys.modules if name.partition(".")[0] == "romosaic"]:
            del sys.modules[name]
    os.chdir(request["folder"])
    stream = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    code = 1
    try:
        if request["do"] == "run":
            os.truncate(request["output"], 0)
            run_snakemake(request, address)
        else:
            sys.argv = [request["script"]]
            runpy.run_path(request["script"], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(f"{code}\n".encode())
        os._exit(code)


def run_snakemake(request: dict, address: str) -> None:
    """Run Snakemake in this process; its scripts are run by the server."""
    from snakemake import cli

    # What Snakemake starts in place of Python is watched and timed as Python would be.
    client = [sys.executable, "-I", "-S", __file__, address, request["output"], request["code"]]
    sys.executable = shlex.join(client)
    sys.argv = ["snakemake", *request["argv"]]
    cli.main(request["argv"])


if __name__ == "__main__":
    if len(sys.argv) == 2:
        serve(sys.argv[1])
    _, address, output, code, script = sys.argv
    job = {"do": "script", "script": script, "folder": os.getcwd(), "output": output, "code": code}
    sys.exit(ask(address, job))
