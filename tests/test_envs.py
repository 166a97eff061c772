"""The lock, the conda environment and the set-up of the virtual environment."""

import importlib.util
import re
import subprocess
import sys
from importlib.metadata import distribution, distributions
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ENVS = Path(__file__).parent.parent / "envs"
LOCK = (ENVS / "requirements.txt").read_text()
SOURCE = (ENVS / "requirements.in").read_text()
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]


def load(name: str) -> ModuleType:
    """Import a script of envs/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ENVS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_environment = load("make_environment")
make_venv = load("make_venv")


def pins(python: str) -> dict[str, str]:
    """Version of each package that the lock gives a Python version."""
    kept = make_environment.for_python(make_environment.locked(LOCK), python)
    found = {}
    for requirement, _ in kept:
        name = canonicalize_name(requirement.name)
        assert name not in found, f"{name} twice for Python {python}"
        found[name] = re.fullmatch(r"==([\w.]+)", str(requirement.specifier))[1]
    return found


# ---- requirements.txt ----


def test_each_line_of_the_lock_is_pinned_with_hashes():
    blocks = re.split(r"\n(?=[a-zA-Z0-9])", LOCK)[1:]
    assert len(blocks) > 100
    for block in blocks:
        assert re.match(r"[\w.-]+==[\w.]+( ; .*)? \\\n", block), block[:80]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block[:80]


def test_lock_names_no_index_and_no_address():
    assert "://" not in LOCK
    assert not re.search(r"^\s*-", LOCK.replace("    --hash", ""), re.MULTILINE)


@pytest.mark.parametrize("python", PYTHONS)
def test_lock_satisfies_every_direct_dependency(python):
    found = pins(python)
    lines = [line.split("#")[0].strip() for line in SOURCE.splitlines()]
    here = {"python_version": python, "python_full_version": f"{python}.0"}
    for direct in (Requirement(line) for line in lines if line):
        if direct.marker is not None and not direct.marker.evaluate(here):
            continue
        assert direct.specifier.contains(found[canonicalize_name(direct.name)]), str(direct)


def test_each_direct_dependency_has_its_reason():
    lines = [line for line in SOURCE.splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not re.search(r" # [\w`]", line)] == []


def test_installed_packages_are_those_of_the_lock():
    found = pins(f"{sys.version_info.major}.{sys.version_info.minor}")
    names = make_environment.direct(SOURCE)
    assert {n: distribution(n).version for n in names} == {n: found[n] for n in names}


# ---- environment.yaml ----


def conda_pins() -> dict[str, str]:
    environment = yaml.safe_load((ENVS / "environment.yaml").read_text())
    lines = (Requirement(line) for line in environment["dependencies"][-1]["pip"])
    return {canonicalize_name(line.name): str(line.specifier).removeprefix("==") for line in lines}


def test_environment_is_in_step_with_the_lock():
    text = (ENVS / "environment.yaml").read_text()
    assert text == make_environment.environment(SOURCE, LOCK), "run make lock"


def test_environment_has_the_versions_of_the_lock():
    locked = pins(make_environment.PYTHON)
    environment = yaml.safe_load((ENVS / "environment.yaml").read_text())
    assert f"python={make_environment.PYTHON}" in environment["dependencies"]
    assert conda_pins().items() <= locked.items()


def test_environment_is_closed_and_for_run_time_only():
    """Whatever the installed packages ask for is in it, what only the tests need is not."""
    given = conda_pins()
    machine = {"python_version": "3.12", "python_full_version": "3.12.0", "extra": ""}
    wanted = set(make_environment.direct(SOURCE))
    for package in distributions():  # a package that this machine does not need is not installed
        if canonicalize_name(package.name) not in given:
            continue
        for need in map(Requirement, package.requires or []):
            if need.marker is None or need.marker.evaluate(machine):
                wanted.add(canonicalize_name(need.name))
    assert wanted <= set(given)
    assert not {"pytest", "ruff", "snakefmt", "sphinx", "hypothesis"} & set(given)


def test_changed_pin_reaches_the_environment():
    changed = re.sub(r"^asdf==[\d.]+", "asdf==9.9.9", LOCK, flags=re.MULTILINE)
    assert "- asdf==9.9.9\n" in make_environment.environment(SOURCE, changed)


def test_dependency_that_is_not_locked_is_told():
    with pytest.raises(SystemExit, match=r"not-there.*make lock"):
        make_environment.environment("not-there  # why\n" + SOURCE, LOCK)


# ---- .venv ----


@pytest.fixture
def finished(tmp_path):
    """An environment as a finished set-up leaves it, and its lock."""
    lock = tmp_path / "requirements.txt"
    lock.write_text("numpy==1.0 \\\n    --hash=sha256:0\n")
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    make_venv.stamp_path(venv).write_text(make_venv.stamp(venv, lock))
    return venv, lock


def test_finished_environment_is_kept(finished, capsys):
    venv, lock = finished
    (venv / "mine").touch()
    make_venv.main(venv, lock)
    assert (venv / "mine").exists()
    assert capsys.readouterr().out == ""


def unfinished(venv: Path, lock: Path) -> Path:
    make_venv.stamp_path(venv).unlink()
    return venv


def lock_changed(venv: Path, lock: Path) -> Path:
    lock.write_text("numpy==2.0 \\\n    --hash=sha256:0\n")
    return venv


def moved(venv: Path, lock: Path) -> Path:
    return venv.rename(venv.with_name("elsewhere"))


def python_gone(venv: Path, lock: Path) -> Path:
    (venv / "bin" / "python").unlink()
    (venv / "bin" / "python").symlink_to(venv / "gone")
    return venv


@pytest.mark.parametrize("spoil", [unfinished, lock_changed, moved, python_gone])
def test_environment_is_made_anew_when(spoil, finished):
    venv, lock = finished
    assert make_venv.is_current(venv, lock)
    assert not make_venv.is_current(spoil(venv, lock), lock)


@pytest.mark.parametrize("version", [(3, 10), (3, 15)])
def test_unfit_python_is_told_in_one_line(version, monkeypatch, finished):
    venv, lock = finished
    monkeypatch.setattr(sys, "version_info", (*version, 0))
    with pytest.raises(SystemExit, match=r"^romosaic: needs Python 3\.11 to 3\.14, but .*$"):
        make_venv.main(unfinished(venv, lock), lock)
    assert venv.exists()  # nothing is removed before it can be replaced


def test_python_without_ensurepip_is_told_in_one_line(monkeypatch, finished):
    venv, lock = finished
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name != "ensurepip")
    with pytest.raises(SystemExit, match=r"^romosaic: .* no ensurepip -> .*-venv\)$"):
        make_venv.main(unfinished(venv, lock), lock)


def test_failing_pip_is_told_in_one_line_and_leaves_no_stamp(finished, monkeypatch):
    venv, lock = finished
    lock.write_text("romosaic-has-no-such-dependency==1.0 \\\n    --hash=sha256:" + 64 * "0" + "\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(SystemExit, match=r"^romosaic: pip failed: No matching distribution.*$"):
        make_venv.main(venv, lock)
    assert not make_venv.stamp_path(venv).exists()


def test_what_is_silent_for_long_is_told_first(finished, capsys):
    venv, lock = finished
    (venv / "bin" / "python").unlink()
    (venv / "bin" / "python").write_text("#!/bin/sh\necho Installing collected packages: numpy\n")
    (venv / "bin" / "python").chmod(0o755)
    make_venv.install(venv, lock, 1)
    said = "romosaic: installing and compiling them, which takes about a minute\n"
    assert capsys.readouterr().out == said


def test_make_lists_its_commands():
    run = subprocess.run(["make"], cwd=ENVS.parent, capture_output=True, text=True, check=True)
    for command in ["demo", "test", "lint", "format", "lock", "config", "clean", "help"]:
        assert re.search(rf"^  {command} +\w", run.stdout, re.MULTILINE)
