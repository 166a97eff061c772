"""Digest of a step's code, so that changed code reruns the step and a changed comment does not."""

import ast
import hashlib
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).parent


def code_digest(step: str) -> str:
    """
    Digest of the module of a step and of every module of the package that it imports.

    Snakemake sees changes of a script, not of what the script imports. The digest is taken of the syntax
    trees without docstrings: layout and comments do not count.

    Parameters
    ----------
    step : str
        Name of the step.

    Returns
    -------
    str
        Sixteen hexadecimal digits.
    """
    script = _PACKAGE.parent / f"{step}.py"
    seen, waiting = set(), {step, *(_imports(script) if script.exists() else ())}
    while waiting:
        name = waiting.pop()
        seen.add(name)
        waiting |= _imports(_PACKAGE / f"{name}.py") - seen
    digest = hashlib.sha256()
    for name in sorted(seen):
        digest.update(_code(_PACKAGE / f"{name}.py").encode())
    return digest.hexdigest()[:16]


@cache
def _tree(path: Path) -> ast.Module:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and body:
            first = body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = body[1:] or [ast.Pass()]
    return tree


@cache
def _code(path: Path) -> str:
    return ast.dump(_tree(path))


@cache
def _imports(path: Path) -> frozenset[str]:
    """Modules of the package that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.ImportFrom):
            module = (node.module or "").removeprefix("romosaic").removeprefix(".")
            inside = node.level == 1 or (node.module or "").split(".")[0] == "romosaic"
            if inside and module:
                names.add(module)
            elif inside:
                names.update(alias.name for alias in node.names)
    return frozenset(name for name in names if (_PACKAGE / f"{name}.py").exists())
