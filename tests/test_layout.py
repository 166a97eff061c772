"""The naming law and the house rules, read off the tree: a step's name leads to everything that is its own."""

import ast
import inspect
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest
import yaml
from numpydoc.docscrape import NumpyDocString
from romosaic.config import load

ROOT = Path(__file__).parent.parent
STEPS = [
    "simulate",
    "associate",
    "plan",
    "flux",
    "skymatch",
    "outlier_detection",
    "resample",
    "epsf",
    "source_catalog",
    "catalog",
    "preview",
    "color",
    "overview",
    "qa",
    "fits",
    "moc",
    "hips",
    "hats",
    "verify",
    "clean_stale",
]
#: Command-line tools: what a user asks of finished products.
TOOLS = ["explain", "cutout"]
LIBRARY = sorted((ROOT / "scripts" / "romosaic").glob("*.py"))
KEYWORDS = ["output", "log", "benchmark", "conda", "threads", "resources", "message", "script"]
HEAVY = {"asdf", "astropy.table", "gwcs", "matplotlib", "pandas", "photutils", "roman_datamodels"}
LIGHT = {
    # an inner step may compile, and needs no reader of whole data models
    "compiled": (["outlier_detection", "resample"], HEAVY),
    "plain": (
        [
            *(
                "asdf_blocks",
                "associate",
                "association_file",
                "atomic",
                "exposure",
                "flux",
                "flux_file",
                "grid",
                "pixmap",
            ),
            *("plan", "product", "simulate", "skymap", "skymatch"),
            *("preview", "color", "overview", "qa", "qa_report"),
            *("fits", "fits_file", "moc", "hips", "cutout", "catalog", "hats"),
        ],
        {*HEAVY, "numba"},
    ),
}

each_tool = pytest.mark.parametrize("tool", TOOLS)
each_step = pytest.mark.parametrize("step", STEPS)


def short(path: Path) -> str:
    """Path as people write it."""
    return str(path.relative_to(ROOT))


def project_files() -> list[Path]:
    """Files that git tracks or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = (ROOT / name for name in names.splitlines())
    return sorted(path for path in paths if path.is_file() and not path.is_symlink())


def python_files() -> list[Path]:
    return [path for path in project_files() if path.suffix == ".py"]


def rules(text: str) -> dict[str, dict[str, str]]:
    """Rules and checkpoints of a rule file: name -> keyword -> its text."""
    found = {}
    for block in re.split(r"^(?=rule |checkpoint )", text, flags=re.MULTILINE)[1:]:
        name = re.match(r"\w+ (\w+):", block)[1]
        parts = re.split(r"^    (\w+):", block, flags=re.MULTILINE)
        found[name] = dict(zip(parts[1::2], parts[2::2], strict=True))
    return found


def rules_of(step: str) -> dict[str, dict[str, str]]:
    return rules((ROOT / "rules" / f"{step}.smk").read_text())


def lines_of_code(text: str) -> int:
    """Lines that hold code: no blank lines, comments or module docstring."""
    tree = ast.parse(text)
    first = tree.body[0]
    docstring = range(first.lineno, first.end_lineno + 1) if ast.get_docstring(tree) else ()
    empty = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    used = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in empty | {tokenize.ENDMARKER}:
            used.update(range(token.start[0], token.end[0] + 1))
    return len(used - set(docstring))


def names_used(tree: ast.AST) -> set[str]:
    """Variables read or written and packages imported."""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]


def public(body: list[ast.stmt], prefix: str = "") -> list[tuple[str, ast.stmt]]:
    """Public functions, classes and methods."""
    found = []
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            found.append((prefix + node.name, node))
            if isinstance(node, ast.ClassDef):
                found += public(node.body, f"{node.name}.")
    return found


# ---- the naming law ----


def test_rule_files_are_the_steps():
    files = {path.stem for path in (ROOT / "rules").glob("*.smk")}
    assert files == {*STEPS, "common"}


def test_scripts_are_the_steps_and_the_tools():
    assert {path.stem for path in (ROOT / "scripts").glob("*.py")} == {*STEPS, *TOOLS}


def test_snakefile_includes_the_steps_in_order():
    included = re.findall(r'^include: "rules/(\w+)\.smk"', (ROOT / "Snakefile").read_text(), re.M)
    assert included == ["common", *STEPS]


@each_step
def test_step_has_its_files(step):
    wanted = [
        f"rules/{step}.smk",
        f"scripts/{step}.py",
        f"scripts/romosaic/{step}.py",
        f"tests/test_{step}.py",
    ]
    assert [name for name in wanted if not (ROOT / name).is_file()] == []


@each_step
def test_step_has_its_section_of_the_configuration(step):
    assert isinstance(load({})[step], dict)
    assert step in yaml.safe_load((ROOT / "config" / "config.yaml").read_text())


@each_step
def test_readme_table_names_the_step_and_its_files(step):
    text = (ROOT / "README.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith(f"| `{step}` |")]
    assert len(rows) == 1
    wanted = [
        f"(rules/{step}.smk)",
        f"(scripts/{step}.py)",
        f"(scripts/romosaic/{step}.py)",
        f"(tests/test_{step}.py)",
        "(config/README.md",
    ]
    assert [name for name in wanted if name not in rows[0]] == []


@each_tool
def test_tool_has_its_files_and_no_rule(tool):
    wanted = [f"scripts/{tool}.py", f"scripts/romosaic/{tool}.py", f"tests/test_{tool}.py"]
    assert [name for name in wanted if not (ROOT / name).is_file()] == []
    rows = [
        line
        for line in (ROOT / "README.md").read_text().splitlines()
        if line.startswith(f"| [`{tool}`](scripts/{tool}.py)")
    ]
    assert len(rows) == 1
    assert [name for name in wanted[1:] if f"({name})" not in rows[0]] == []
    assert tool not in load({})


# ---- rules ----


@each_step
def test_rules_are_complete(step):
    found = rules_of(step)
    assert next(iter(found)) == step
    # only simulated exposures come from nothing
    wanted = KEYWORDS if step == "simulate" else ["input", *KEYWORDS]
    for name, keywords in found.items():
        assert name == step or name.startswith(f"{step}_")
        assert [word for word in wanted if word not in keywords] == [], name
        assert not {"run", "shell", "notebook", "wrapper"} & set(keywords), name
        assert "mem_mb" in keywords["resources"], name
        assert keywords["message"].strip().strip('"'), name


@each_step
def test_rules_use_the_names_of_their_step(step):
    for name, keywords in rules_of(step).items():
        outputs = re.findall(r'f"(\{OUT\}/[^"]*)"', keywords["output"])
        assert outputs, name
        assert all(re.match(rf"\{{OUT\}}/{step}(/|$)", path) for path in outputs), name
        assert f'f"{{OUT}}/logs/{step}/' in keywords["log"], name
        assert f'f"{{OUT}}/benchmarks/{step}/' in keywords["benchmark"], name
        assert keywords["script"].strip() == f'"../scripts/{step}.py"', name
        assert keywords["conda"].strip() == '"../envs/environment.yaml"', name
        captions = re.findall(r'caption="([^"]*)"', keywords["output"])
        assert set(captions) <= {f"report/{step}.rst"}, name


def test_steps_with_something_to_show_have_a_caption():
    """The report embeds what it shows: pictures, not gigabytes of arrays."""
    captions = {path.stem: path for path in (ROOT / "rules" / "report").glob("*.rst")}
    shown = {
        step
        for step in STEPS
        if any("report(" in keywords["output"] for keywords in rules_of(step).values())
    }
    assert set(captions) - {"workflow"} == shown > set()
    assert [name for name, path in captions.items() if len(path.read_text().split()) < 8] == []


# ---- scripts and library ----


@each_step
def test_script_reads_calls_writes(step):
    text = (ROOT / "scripts" / f"{step}.py").read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    assert lines_of_code(text) <= 25
    assert functions(tree) == []
    assert {"snakemake", "romosaic"} <= names_used(tree)
    assert "snakemake.log[0]" in text  # messages and traceback go where the rule says


@each_tool
def test_tool_reads_calls_prints(tool):
    text = (ROOT / "scripts" / f"{tool}.py").read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    assert lines_of_code(text) <= 30
    assert functions(tree) == []
    assert "snakemake" not in names_used(tree)
    assert "with told():" in text  # a failure is one line, and no log is kept


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.stem)
def test_library_stands_on_its_own(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "no module docstring"
    assert "snakemake" not in names_used(tree)
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Global)], "module state"


@pytest.mark.parametrize(("names", "heavy"), LIGHT.values(), ids=LIGHT)
def test_modules_start_light(names, heavy):
    code = f"import sys, {', '.join(f'romosaic.{name}' for name in names)}; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=ROOT / "scripts", capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert heavy & set(run.stdout.split()) == set()


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.stem)
def test_public_names_have_docstrings(path):
    named = public(ast.parse(path.read_text()).body)
    assert [name for name, node in named if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.stem)
def test_parameters_are_documented(path):
    """All or none; none only where there are three or fewer."""
    problems = []
    for name, node in public(ast.parse(path.read_text()).body):
        if isinstance(node, ast.ClassDef) or not ast.get_docstring(node):
            continue
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        given = {argument.arg for argument in arguments} - {"self", "cls"}
        described = NumpyDocString(inspect.cleandoc(ast.get_docstring(node)))["Parameters"]
        documented = {name.strip() for entry in described for name in entry.name.split(",")}
        if given - documented and (documented or len(given) > 3):
            problems.append(f"{name}: {', '.join(sorted(given - documented))}")
    assert problems == []


# ---- size and hygiene ----


def test_the_library_imports_itself_by_relative_names():
    """Of one module imported under two names there would be two copies."""
    absolute = [
        short(path)
        for path in LIBRARY
        if re.search(r"^\s*(from|import) romosaic\b", path.read_text(), re.MULTILINE)
    ]
    assert absolute == []


def test_files_are_short():
    paths = [p for p in project_files() if p.suffix in {".py", ".smk"} or p.name == "Snakefile"]
    counts = {short(path): len(path.read_text().splitlines()) for path in paths}
    assert {name: count for name, count in counts.items() if count >= 400} == {}


def test_functions_are_short():
    long = {}
    for path in python_files():
        for node in functions(ast.parse(path.read_text())):
            if node.end_lineno - node.lineno + 1 >= 60:
                long[f"{short(path)}:{node.lineno}"] = node.name
    assert long == {}


def test_files_are_small():
    large = {short(path): path.stat().st_size for path in project_files()}
    assert {name: size for name, size in large.items() if size > 1_000_000} == {}


FORBIDDEN = {
    "path of a machine": r"(?<![\w.~}-])/(?:root|home|Users|work|tmp)/\w",
    "host of a registry": r"(?:pypi|pythonhosted|anaconda|npmjs)\.(?:org|com)",
    "unfinished work": r"\b(?:TO[D]O|FIX[M]E|X[X]X|NotImplemented[E]rror)\b",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_nothing_of_this_kind_is_kept(what):
    found = []
    for path in project_files():
        try:
            lines = path.read_text().splitlines()
        except UnicodeDecodeError:
            continue  # pictures and data
        found += [
            f"{short(path)}:{number}"
            for number, line in enumerate(lines, 1)
            if re.search(FORBIDDEN[what], line)
        ]
    assert found == []


def test_links_of_the_documents_lead_somewhere():
    dead = []
    for path in project_files():
        if path.suffix == ".md":
            for target in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
                if "://" not in target and not (path.parent / target).exists():
                    dead.append(f"{short(path)}: {target}")
    assert dead == []


def test_the_only_link_is_that_of_the_profile():
    listed = subprocess.run(
        ["git", "ls-files", "-s"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    links = [line.split("\t")[1] for line in listed.stdout.splitlines() if line[:6] == "120000"]
    assert links == ["slurm"]


def test_slurm_profile_is_found_by_its_name():
    assert (ROOT / "slurm").is_symlink()
    assert (ROOT / "slurm").resolve() == (ROOT / "profiles" / "slurm").resolve()
    # it is always loaded, and its keys beat those of the profile that is asked for
    assert not (ROOT / "profiles" / "default").exists()
