"""
Make the virtual environment from the lock, unless it already follows it: `make_venv.py .venv`.

Runs under the user's own Python with the standard library only. The environment carries a stamp,
written last: where it stands and the lock it was made from. Without the right stamp (interrupted,
moved, lock changed) it is made anew.
"""

import importlib.util
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

FIRST, LAST = (3, 11), (3, 14)  # the lock is resolved for these
LOCK = Path(__file__).resolve().parent / "requirements.txt"
ADVICE = "see 'When set-up fails' in envs/README.md"


def main(venv: Path, lock: Path = LOCK) -> None:
    """
    Bring `venv` in step with `lock`; exit with one line that says what to do where that is impossible.

    Parameters
    ----------
    venv : Path
        Folder of the virtual environment, replaced when it does not follow the lock.
    lock : Path
        Pinned requirements with hashes.
    """
    if is_current(venv, lock):
        return
    problem = python_problem()
    if problem:
        sys.exit(f"romosaic: {problem}")
    start = time.monotonic()
    total = len(set(re.findall(r"^([\w.-]+)==", lock.read_text(), re.MULTILINE)))
    version = platform.python_version()
    say(f"making {venv} from envs/requirements.txt (Python {version}, {total} packages; only once)")
    shutil.rmtree(venv, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    install(venv, lock, total)
    compile_all(venv)
    stamp_path(venv).write_text(stamp(venv, lock))
    say(f"{venv} is ready ({time.monotonic() - start:.0f} s)")


def stamp_path(venv: Path) -> Path:
    """Return where the stamp of an environment is kept."""
    return venv / "romosaic.stamp"


def stamp(venv: Path, lock: Path) -> str:
    """Return what the stamp of a finished environment says."""
    return f"{venv.resolve()}\n{lock.read_text()}"


def is_current(venv: Path, lock: Path) -> bool:
    """Tell whether an environment is complete, in its place and made from this lock."""
    path = stamp_path(venv)
    return (
        path.is_file()
        and path.read_text() == stamp(venv, lock)
        and (venv / "bin" / "python").exists()
    )


def python_problem() -> str:
    """Return why this Python cannot make the environment, or an empty string."""
    version = sys.version_info[:2]
    if not FIRST <= version <= LAST:
        return (
            f"needs Python 3.{FIRST[1]} to 3.{LAST[1]}, but {sys.executable} is"
            f" {platform.python_version()} -> name another one, as in: make test PYTHON=python3.12"
        )
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        return (
            f"{sys.executable} has no venv module or no ensurepip"
            f" -> install it (Debian, Ubuntu: apt install python3.{version[1]}-venv)"
        )
    return ""


def source_packages() -> list:
    """
    Return the packages of the lock that have no wheel for this Python and machine.

    Every other package must come as a wheel, so that a machine without a compiler, or one too old for the
    wheels, is told so at once.
    """
    packages = ["connection-pool"]  # plain Python, published as source only
    if sys.version_info >= (3, 14):
        packages.append("immutables")  # C: needs a compiler
    if sys.platform == "linux" and platform.machine() == "aarch64":
        packages.append("drizzle")  # C: needs a compiler
    return packages


def install(venv: Path, lock: Path, total: int) -> None:
    """Install the lock, saying how far it is; exit with one line when pip fails."""
    # --no-compile: pip compiles one file after the other, compile_all uses every core
    command = [str(venv / "bin" / "python"), "-m", "pip", "install", "--require-hashes"]
    command += ["--disable-pip-version-check", "--no-compile", "--progress-bar", "off"]
    command += ["--only-binary", ":all:", "--no-binary", ",".join(source_packages())]
    log = venv / "pip.log"
    fetched, last_error = 0, ""
    with open(log, "w") as stream:
        pip = subprocess.Popen(
            [*command, "--requirement", str(lock)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
        )
        for line in pip.stdout:
            stream.write(line)
            if line.startswith(("Collecting ", "Processing ")):
                fetched += 1
                if fetched % 25 == 0:
                    say(f"{fetched} of about {total} packages fetched")
            elif line.startswith("Installing collected"):
                say("installing and compiling them, which takes about a minute")
            elif line.lower().startswith("error:"):
                last_error = line.split(":", 1)[1].strip()
    if pip.wait():
        sys.exit(f"romosaic: pip failed: {last_error or 'no reason given'} -> {ADVICE}; log: {log}")


def compile_all(venv: Path) -> None:
    """Compile the installed modules on all cores (not their tests): each job of a workflow imports them."""
    site = next(venv.glob("lib/python3*/site-packages"))
    command = [str(venv / "bin" / "python"), "-m", "compileall", "-q", "-j", "0"]
    # Files that no Python can compile (templates) do not matter: the exit code is not looked at.
    subprocess.run(
        [*command, "-x", r"/tests?/|/templates?/", str(site)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )


def say(message: str) -> None:
    """Print one line of progress at once."""
    print(f"romosaic: {message}", flush=True)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit("romosaic: set-up interrupted; the next make starts it afresh")
